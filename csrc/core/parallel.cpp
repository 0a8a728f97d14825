// The only file that knows OpenMP.
#include "core/parallel.h"

#include <omp.h>
#include <pthread.h>
#ifdef __linux__
#include <sched.h>
#endif

#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
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

std::atomic<int> thread_count{0};

// After fork() the child has one thread, yet the OpenMP runtime still believes in its old team and
// would wait for it for ever. A thread born in the child has no such memory: it runs the regions.
thread_local bool born_before_fork = false;

class Surrogate {
  public:
    void run(int64_t items, int threads, detail::RangeFunction function, void* context);

  private:
    void serve();
    std::mutex caller_, mutex_;
    std::condition_variable wake_, done_;
    bool started_ = false, pending_ = false;
    int64_t items_ = 0;
    int threads_ = 0;
    detail::RangeFunction function_ = nullptr;
    void* context_ = nullptr;
};

void run_team(int64_t items, int threads, detail::RangeFunction function, void* context) {
#pragma omp parallel num_threads(threads)
    {
        // The runtime may grant fewer threads than asked for (limits): split by what came.
        const int64_t team = omp_get_num_threads(), thread = omp_get_thread_num();
        const int64_t begin = items * thread / team, end = items * (thread + 1) / team;
        if (begin < end) function(context, begin, end, static_cast<int>(thread));
    }
}

void Surrogate::run(int64_t items, int threads, detail::RangeFunction function, void* context) {
    std::lock_guard<std::mutex> one_caller(caller_);
    std::unique_lock<std::mutex> lock(mutex_);
    if (!started_) {
        std::thread([this] { serve(); }).detach();
        started_ = true;
    }
    items_ = items, threads_ = threads, function_ = function, context_ = context;
    pending_ = true;
    wake_.notify_one();
    done_.wait(lock, [this] { return !pending_; });
}

void Surrogate::serve() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
        wake_.wait(lock, [this] { return pending_; });
        run_team(items_, threads_, function_, context_);
        pending_ = false;
        done_.notify_one();
    }
}

Surrogate* surrogate = nullptr;

void after_fork_in_child() {
    born_before_fork = true;
    surrogate = new Surrogate;  // an older one, of a fork before this, died with its thread
}

}  // namespace

int num_threads() {
    int count = thread_count.load(std::memory_order_relaxed);
    if (count == 0) {
        count = default_threads();
        thread_count.store(count, std::memory_order_relaxed);
        pthread_atfork(nullptr, nullptr, after_fork_in_child);
    }
    return count;
}

void set_num_threads(int count) {
    ENGINE_CHECK(count >= 1 && count <= kMaxThreads, Kind::value,
                 "[set_num_threads] expected between 1 and ", kMaxThreads, " threads, got ", count);
    num_threads();  // registers the fork handler
    thread_count.store(count, std::memory_order_relaxed);
}

void detail::run_parallel(int64_t items, int threads, RangeFunction function, void* context) {
    if (omp_in_parallel())
        function(context, 0, items, 0);
    else if (born_before_fork)
        surrogate->run(items, threads, function, context);
    else
        run_team(items, threads, function, context);
}

}  // namespace engine
