// Two ways to run a parallel region, behind one function:
//  * the engine's own pool (default): a range is cut into one part per thread and each part into
//    chunks, which threads claim, their own part first and in order. A thread that the system has
//    not scheduled leaves its last chunks to the others, so a busy machine costs throughput, not a
//    scheduler tick per region; idle workers sleep after 100 us.
//  * OpenMP (ENGINE_THREADING=openmp): for programs that bind or share OpenMP's threads.
// This is the only file that knows either.
#include "core/parallel.h"

#include <omp.h>
#include <pthread.h>
#ifdef __linux__
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <memory>
#include <mutex>
#include <thread>

#include "core/cpu.h"
#include "core/env.h"
#include "core/status.h"

namespace engine {

namespace {

constexpr int kMaxThreads = 4096;

int cores_by_affinity() {
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
    int cores = static_cast<int>(std::thread::hardware_concurrency());
    return cores > 0 ? cores : 1;
}

// CPUs the cgroup (version 2, then 1) grants this process, 0 when it sets no limit.
int cores_by_cgroup() {
    double quota = 0, period = 0;
    if (FILE* file = std::fopen("/sys/fs/cgroup/cpu.max", "r")) {
        if (std::fscanf(file, "%lf %lf", &quota, &period) != 2) quota = 0;  // "max 100000"
        std::fclose(file);
    } else {
        FILE* q = std::fopen("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "r");
        FILE* p = std::fopen("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "r");
        if (!q || !p || std::fscanf(q, "%lf", &quota) != 1 || std::fscanf(p, "%lf", &period) != 1)
            quota = 0;
        if (q) std::fclose(q);
        if (p) std::fclose(p);
    }
    if (quota <= 0 || period <= 0) return 0;
    int cores = static_cast<int>(quota / period + 0.999);
    return cores > 0 ? cores : 1;
}

int default_threads() {
    for (const char* name : {"ENGINE_NUM_THREADS", "OMP_NUM_THREADS"}) {
        int count = env_int(name, 0);
        if (count > 0) return count < kMaxThreads ? count : kMaxThreads;
    }
    int cores = cores_by_affinity();
    int granted = cores_by_cgroup();
    return granted > 0 && granted < cores ? granted : cores;
}

// ---- the pool ----------------------------------------------------------------------------------

// Chunks a thread's part is cut into: what another thread can take over when this one is late.
constexpr int64_t kChunksPerPart = 4;
// How long a worker waits awake for the next region: longer than what lies between two ops of a
// network called from Python, short enough that other libraries' threads find the core free.
constexpr auto kSpin = std::chrono::microseconds(100);
// After so much of it a worker that was woken has time to look after its processors.
constexpr auto kSettled = std::chrono::microseconds(10);

void pause_briefly() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

thread_local bool inside_region = false;

// Where a worker wakes up. Left to itself the system often wakes it on the waker's own processor,
// and there it waits until the waker has computed everything alone: measured on two cores in half
// of all regions after a pause of 3 ms. So the worker takes the processor of its last caller out of
// its set before it sleeps, when nobody waits for it, and returns to the caller's set in a moment
// without work. Only when the waker runs elsewhere by then does it have to place the sleeper itself
// (12 us of its time; both together 19 us, after a pause of 50 ms).
class Placement {
  public:
#ifdef __linux__
    // By the worker itself, once.
    void settle() { worker_ = own_id(); }
    // By the worker, before it sleeps.
    void keep_off(int caller, int processor) {
        caller_ = caller;
        place(processor);
    }
    // By the waker, while the worker sleeps.
    void keep_off_here(int caller) {
        const int here = sched_getcpu();
        if (here == avoided_) return;
        caller_ = caller;
        place(here);
    }
    // By the worker, when it runs.
    void restore() {
        cpu_set_t all;
        if (avoided_ >= 0 && sched_getaffinity(caller_, sizeof all, &all) == 0)
            sched_setaffinity(worker_, sizeof all, &all);
        avoided_ = -1;
    }
    static int own_id() { return static_cast<int>(syscall(SYS_gettid)); }
    static int processor() { return sched_getcpu(); }

  private:
    void place(int processor) {
        cpu_set_t all;
        if (processor < 0 || sched_getaffinity(caller_, sizeof all, &all) != 0) return;
        cpu_set_t others = all;
        CPU_CLR(processor, &others);
        const bool alone = CPU_COUNT(&others) == 0;
        if (sched_setaffinity(worker_, sizeof all, alone ? &all : &others) == 0)
            avoided_ = alone ? -1 : processor;
    }

    int worker_ = 0;
    int caller_ = 0;
    int avoided_ = -1;
#else
    void settle() {}
    void keep_off(int, int) {}
    void keep_off_here(int) {}
    void restore() {}
    static int own_id() { return 0; }
    static int processor() { return -1; }
#endif
};

thread_local int caller_id = 0;

class Pool {
  public:
    void run(int64_t items, int threads, detail::RangeFunction function, void* context);

  private:
    // What belongs to one thread of the team. `claim` names a region (48 bits), the first chunk of
    // the thread's part that nobody has taken (8) and the end of those (8): the owner takes from
    // the front, others from the back. A word of an older region means that all chunks are there.
    // A claim that succeeds proves that its region has not ended, since a region ends only after
    // all its chunks; only then are the function and its context read.
    struct alignas(64) Seat {
        std::atomic<uint64_t> claim{0};
        alignas(64) std::atomic<bool> asleep{false};
        std::mutex mutex;
        std::condition_variable bell;
        Placement placement;  // guarded by the mutex
    };
    // Written by the caller between regions; one cache line, so that joining costs one transfer.
    struct alignas(64) Region {
        std::atomic<uint64_t> id{0};  // number << 16 | threads
        std::atomic<int64_t> items{0};
        detail::RangeFunction function = nullptr;
        void* context = nullptr;
        std::atomic<uint32_t> float_mode{0};
        std::atomic<int> caller{0};  // who calls, and on which processor
        std::atomic<int> processor{-1};
    };

    void grow(int threads);
    void serve(int thread);
    void wake(int thread, int threads);
    uint64_t spin(uint64_t seen, std::chrono::microseconds most);
    void work(int thread, uint64_t id);
    static int64_t chunks_of(int64_t items, int64_t parts, int64_t part) {
        const int64_t size = items * (part + 1) / parts - items * part / parts;
        return size < kChunksPerPart ? size : kChunksPerPart;
    }

    Region region_;
    alignas(64) std::atomic<int64_t> done_{0};  // chunks of all regions so far
    alignas(64) std::mutex caller_;
    int64_t expected_ = 0;  // done_ when the region has ended
    int seats_taken_ = 0;
    std::unique_ptr<Seat> seats_[kMaxThreads];
};

void Pool::grow(int threads) {
    const int before = seats_taken_;
    for (; seats_taken_ < threads; ++seats_taken_) seats_[seats_taken_].reset(new Seat);
    for (int thread = before > 0 ? before : 1; thread < threads; ++thread)
        std::thread([this, thread] { serve(thread); }).detach();
}

// Waits awake for a region other than `seen`; returns the last one seen.
uint64_t Pool::spin(uint64_t seen, std::chrono::microseconds most) {
    const auto deadline = std::chrono::steady_clock::now() + most;
    uint64_t id;
    do {
        pause_briefly();
        id = region_.id.load();
    } while (id == seen && std::chrono::steady_clock::now() < deadline);
    return id;
}

// Claims and runs chunks, the thread's own part first.
void Pool::work(int thread, uint64_t id) {
    const uint64_t number = id >> 16;
    const int parts = static_cast<int>(id & 0xFFFF);
    for (int step = 0; step < parts; ++step) {
        const int part = (thread + step) % parts;
        std::atomic<uint64_t>& word = seats_[part]->claim;
        uint64_t claim = word.load(std::memory_order_acquire);
        int64_t ran = 0;
        for (;;) {
            const uint64_t current = claim >> 16;
            if (current > number) break;
            // A late thread may read the number of the next region here; then its claim fails.
            const int64_t items = region_.items.load(std::memory_order_relaxed);
            const auto n = static_cast<uint64_t>(chunks_of(items, parts, part));
            const uint64_t next = current < number ? 0 : claim >> 8 & 0xFF;
            const uint64_t end = current < number ? n : claim & 0xFF;
            if (next >= end) break;
            const bool own = step == 0;
            const uint64_t taken =
                own ? number << 16 | (next + 1) << 8 | end : number << 16 | next << 8 | (end - 1);
            if (!word.compare_exchange_weak(claim, taken, std::memory_order_acq_rel)) continue;
            const auto chunk = static_cast<int64_t>(own ? next : end - 1);
            const int64_t first = items * part / parts, size = items * (part + 1) / parts - first;
            const auto of = static_cast<int64_t>(n);
            region_.function(region_.context, first + size * chunk / of,
                             first + size * (chunk + 1) / of, thread);
            ++ran;
            claim = word.load(std::memory_order_acquire);
        }
        if (ran) done_.fetch_add(ran, std::memory_order_acq_rel);
    }
}

// Threads wake each other along a tree, so that no caller pays for all of a large team.
void Pool::wake(int thread, int threads) {
    if (thread >= threads) return;
    Seat& seat = *seats_[thread];
    if (!seat.asleep.load() || !seat.asleep.exchange(false)) return;
    {
        std::lock_guard<std::mutex> lock(seat.mutex);
        seat.placement.keep_off_here(region_.caller.load(std::memory_order_relaxed));
    }
    seat.bell.notify_one();
}

void Pool::serve(int thread) {
    inside_region = true;  // a region opened from within one runs serially
    Seat& seat = *seats_[thread];
    seat.placement.settle();
    uint32_t mode = float_mode();
    uint64_t seen = 0;
    for (;;) {
        uint64_t id = region_.id.load();
        if (id == seen) id = spin(seen, kSettled);
        if (id == seen) {
            std::lock_guard<std::mutex> lock(seat.mutex);
            seat.placement.restore();
        }
        if (id == seen) id = spin(seen, kSpin - kSettled);
        if (id == seen) {
            std::unique_lock<std::mutex> lock(seat.mutex);
            seat.placement.keep_off(region_.caller.load(std::memory_order_relaxed),
                                    region_.processor.load(std::memory_order_relaxed));
            for (;;) {
                seat.asleep.store(
                    true);  // before the look at the region: who changes it looks here
                id = region_.id.load();
                if (id != seen) break;
                seat.bell.wait(lock);
            }
            seat.asleep.store(false);
        }
        seen = id;
        const int threads = static_cast<int>(id & 0xFFFF);
        if (thread >= threads) continue;
        wake(2 * thread + 1, threads);
        wake(2 * thread + 2, threads);
        const uint32_t wanted = region_.float_mode.load(std::memory_order_relaxed);
        if (wanted != mode) set_float_mode(mode = wanted);
        work(thread, id);
    }
}

void Pool::run(int64_t items, int threads, detail::RangeFunction function, void* context) {
    // The pool serves one region at a time; a second caller does its work alone.
    std::unique_lock<std::mutex> only(caller_, std::try_to_lock);
    if (!only.owns_lock()) {
        function(context, 0, items, 0);
        return;
    }
    grow(threads);
    for (int part = 0; part < threads; ++part) expected_ += chunks_of(items, threads, part);
    region_.items.store(items, std::memory_order_relaxed);
    region_.function = function;
    region_.context = context;
    region_.float_mode.store(float_mode(), std::memory_order_relaxed);
    if (caller_id == 0) caller_id = Placement::own_id();
    region_.caller.store(caller_id, std::memory_order_relaxed);
    region_.processor.store(Placement::processor(), std::memory_order_relaxed);
    const uint64_t id = ((region_.id.load(std::memory_order_relaxed) >> 16) + 1) << 16 |
                        static_cast<uint64_t>(threads);
    region_.id.store(id);
    wake(1, threads);
    wake(2, threads);
    inside_region = true;
    work(0, id);
    inside_region = false;
    // Somebody is still at a claimed chunk: usually for a moment, but he may have lost his core.
    for (int spin = 0; done_.load(std::memory_order_acquire) != expected_; ++spin)
        if (spin < 1000)
            pause_briefly();
        else
            std::this_thread::yield();
}

Pool* pool = nullptr;  // never destroyed: workers may sleep in it until the process ends

// ---- OpenMP -------------------------------------------------------------------------------------

void run_openmp(int64_t items, int threads, detail::RangeFunction function, void* context) {
    const uint32_t mode = float_mode();
#pragma omp parallel num_threads(threads)
    {
        // These threads serve others too: their mode is given back.
        const FloatMode as_the_caller(mode);
        // The runtime may grant fewer threads than asked for (limits): split by what came.
        const int64_t team = omp_get_num_threads(), thread = omp_get_thread_num();
        const int64_t begin = items * thread / team, end = items * (thread + 1) / team;
        if (begin < end) function(context, begin, end, static_cast<int>(thread));
    }
}

// ---- choice -------------------------------------------------------------------------------------

std::atomic<int> thread_count{0};
thread_local int own_limit = 0;
bool use_openmp = false;

// A child of fork() has one thread. The old pool's workers are not in it, and the OpenMP runtime
// would wait for its old team for ever: both are left for a new pool.
void after_fork_in_child() {
    pool = new Pool;
    use_openmp = false;
    caller_id = 0;
}

void initialise() {
    static const bool once = [] {
        const std::string way = env_string("ENGINE_THREADING", "pool");
        ENGINE_CHECK(way == "pool" || way == "openmp", Kind::value,
                     "expected ENGINE_THREADING to be 'pool' or 'openmp', got '", way, "'");
        use_openmp = way == "openmp";
        pool = new Pool;
        pthread_atfork(nullptr, nullptr, after_fork_in_child);
        return true;
    }();
    (void)once;
}

}  // namespace

int num_threads() {
    int count = thread_count.load(std::memory_order_relaxed);
    if (count == 0) {
        initialise();
        count = default_threads();
        thread_count.store(count, std::memory_order_relaxed);
    }
    return own_limit > 0 && own_limit < count ? own_limit : count;
}

void set_num_threads(int count) {
    ENGINE_CHECK(count >= 1 && count <= kMaxThreads, Kind::value,
                 "[set_num_threads] expected between 1 and ", kMaxThreads, " threads, got ", count);
    initialise();
    thread_count.store(count, std::memory_order_relaxed);
}

int limit_threads(int most) {
    ENGINE_CHECK(most >= 0, Kind::value,
                 "[limit_threads] expected at least 1 thread, or 0 for no limit, got ", most);
    const int before = own_limit;
    own_limit = most;
    return before;
}

void detail::run_parallel(int64_t items, int threads, RangeFunction function, void* context) {
    if (inside_region || (use_openmp && omp_in_parallel()))
        function(context, 0, items, 0);
    else if (use_openmp)
        run_openmp(items, threads, function, context);
    else
        pool->run(items, threads, function, context);
}

}  // namespace engine
