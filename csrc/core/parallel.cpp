// Two ways to run a parallel region, behind one function:
//  * the engine's own pool (default): a range is cut into chunks that threads claim, each its own
//  part
//    first. A thread that the system has not scheduled leaves its chunks to the others, so a busy
//    machine costs throughput, not a scheduler tick per region; idle workers sleep after 50 us.
//  * OpenMP (ENGINE_THREADING=openmp): for programs that bind or share OpenMP's threads.
// This is the only file that knows either.
#include "core/parallel.h"

#include <omp.h>
#include <pthread.h>
#ifdef __linux__
#include <sched.h>
#endif

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <memory>
#include <mutex>
#include <thread>

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

// ---- the pool
// ----------------------------------------------------------------------------------------

// Chunks a thread's part is cut into: what another thread can take over when this one is late.
constexpr int64_t kChunksPerPart = 4;
constexpr auto kSpin = std::chrono::microseconds(50);

void pause_briefly() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

thread_local bool inside_region = false;

class Pool {
  public:
    void run(int64_t items, int threads, detail::RangeFunction function, void* context);

  private:
    // One part's claims: region number (40 bits), next chunk (12), number of chunks (12). A claim
    // that succeeds proves that the region is still the one it names, since a region does not end
    // before all its chunks are done; only then are the fields below read.
    struct alignas(64) Claims {
        std::atomic<uint64_t> word{0};
    };

    void grow(int threads);
    void serve(int thread);
    void work(int thread, uint64_t region, int parts);
    static int64_t chunks_of(int64_t items, int64_t parts, int64_t part) {
        const int64_t size = items * (part + 1) / parts - items * part / parts;
        return size < kChunksPerPart ? size : kChunksPerPart;
    }

    std::mutex caller_;
    int workers_ = 0;
    std::unique_ptr<Claims[]> claims_{new Claims[kMaxThreads]};

    // The region: written by the caller between regions.
    int64_t items_ = 0;
    detail::RangeFunction function_ = nullptr;
    void* context_ = nullptr;
    alignas(64) std::atomic<int64_t> left_{0};     // chunks not done yet
    alignas(64) std::atomic<uint64_t> region_{0};  // number << 16 | threads

    std::mutex sleep_mutex_;
    std::condition_variable wake_;
    std::atomic<int> sleepers_{0};
};

void Pool::grow(int threads) {
    for (; workers_ < threads - 1; ++workers_)
        std::thread([this, thread = workers_ + 1] { serve(thread); }).detach();
}

// Claims and runs chunks, the thread's own part first.
void Pool::work(int thread, uint64_t region, int parts) {
    const uint64_t number = region >> 16;
    for (int step = 0; step < parts; ++step) {
        const int part = (thread + step) % parts;
        std::atomic<uint64_t>& word = claims_[static_cast<size_t>(part)].word;
        uint64_t claim = word.load(std::memory_order_acquire);
        for (;;) {
            const uint64_t next = claim >> 12 & 0xFFF, count = claim & 0xFFF;
            if (claim >> 24 != (number & 0xFFFFFFFFFF) || next >= count) break;
            if (!word.compare_exchange_weak(claim, claim + (1 << 12), std::memory_order_acq_rel))
                continue;
            const int64_t first = items_ * part / parts, size = items_ * (part + 1) / parts - first;
            const auto i = static_cast<int64_t>(next), n = static_cast<int64_t>(count);
            function_(context_, first + size * i / n, first + size * (i + 1) / n, thread);
            left_.fetch_sub(1, std::memory_order_acq_rel);
            claim = word.load(std::memory_order_acquire);
        }
    }
}

void Pool::serve(int thread) {
    inside_region = true;  // a region opened from within one runs serially
    uint64_t seen = 0;
    for (;;) {
        uint64_t region = region_.load(std::memory_order_acquire);
        if (region == seen) {
            const auto deadline = std::chrono::steady_clock::now() + kSpin;
            do {
                pause_briefly();
                region = region_.load(std::memory_order_acquire);
            } while (region == seen && std::chrono::steady_clock::now() < deadline);
        }
        if (region == seen) {
            std::unique_lock<std::mutex> lock(sleep_mutex_);
            sleepers_.fetch_add(1);
            wake_.wait(lock, [&] { return region_.load() != seen; });
            sleepers_.fetch_sub(1);
            continue;
        }
        seen = region;
        const int parts = static_cast<int>(region & 0xFFFF);
        if (thread < parts) work(thread, region, parts);
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
    items_ = items, function_ = function, context_ = context;
    const uint64_t number = (region_.load(std::memory_order_relaxed) >> 16) + 1;
    int64_t chunks = 0;
    for (int part = 0; part < threads; ++part) chunks += chunks_of(items, threads, part);
    left_.store(chunks, std::memory_order_relaxed);
    for (int part = 0; part < threads; ++part)
        claims_[static_cast<size_t>(part)].word.store(
            number << 24 | static_cast<uint64_t>(chunks_of(items, threads, part)),
            std::memory_order_release);
    const uint64_t region = number << 16 | static_cast<uint64_t>(threads);
    region_.store(region);
    if (sleepers_.load() > 0) {
        {
            std::lock_guard<std::mutex> lock(sleep_mutex_);
        }
        wake_.notify_all();
    }
    inside_region = true;
    work(0, region, threads);
    inside_region = false;
    // Somebody is still at a claimed chunk: usually for a moment, but he may have lost his core.
    for (int spin = 0; left_.load(std::memory_order_acquire) > 0; ++spin)
        if (spin < 1000)
            pause_briefly();
        else
            std::this_thread::yield();
}

Pool* pool = nullptr;  // never destroyed: workers may sleep in it until the process ends

// ---- OpenMP
// ------------------------------------------------------------------------------------------

void run_openmp(int64_t items, int threads, detail::RangeFunction function, void* context) {
#pragma omp parallel num_threads(threads)
    {
        // The runtime may grant fewer threads than asked for (limits): split by what came.
        const int64_t team = omp_get_num_threads(), thread = omp_get_thread_num();
        const int64_t begin = items * thread / team, end = items * (thread + 1) / team;
        if (begin < end) function(context, begin, end, static_cast<int>(thread));
    }
}

// ---- choice
// ------------------------------------------------------------------------------------------

std::atomic<int> thread_count{0};
bool use_openmp = false;

// A child of fork() has one thread. The old pool's workers are not in it, and the OpenMP runtime
// would wait for its old team for ever: both are left for a new pool.
void after_fork_in_child() {
    pool = new Pool;
    use_openmp = false;
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
    return count;
}

void set_num_threads(int count) {
    ENGINE_CHECK(count >= 1 && count <= kMaxThreads, Kind::value,
                 "[set_num_threads] expected between 1 and ", kMaxThreads, " threads, got ", count);
    initialise();
    thread_count.store(count, std::memory_order_relaxed);
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
