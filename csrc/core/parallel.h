// Threads. What is computed per item never depends on how many threads there are, so results are
// bit-identical for any thread count.
#pragma once

#include <cstdint>
#include <type_traits>

namespace engine {

// Threads a parallel region uses: ENGINE_NUM_THREADS, else OMP_NUM_THREADS, else the cores that
// affinity and the cgroup quota leave.
int num_threads();
// Throws Error(value) unless count >= 1.
void set_num_threads(int count);
// The most threads that regions of the calling thread use from now on, 0 for no limit of its own;
// returns the limit before. For threads that already run side by side, such as a loader's workers.
// Throws Error(value) unless most >= 0.
int limit_threads(int most);

// The grain of items of so many simple operations each: joining costs 1 to 2 us, and 0.1 ms when
// the others sleep.
constexpr int64_t grain_of(int64_t operations, int64_t enough = int64_t{1} << 14) {
    return operations < 1 ? enough : operations < enough ? enough / operations : 1;
}
// The same of multiply-adds and additions in tiles of registers.
constexpr int64_t product_grain(int64_t flops) { return grain_of(flops, int64_t{1} << 18); }

namespace detail {
using RangeFunction = void (*)(void* context, int64_t begin, int64_t end, int thread);
void run_parallel(int64_t items, int threads, RangeFunction function, void* context);
}  // namespace detail

// Calls f(begin, end, thread) with contiguous ranges that cover [0, items); thread t of T owns
// [items*t/T, items*(t+1)/T) and goes through it in order, so the same thread owns the same rows in
// every layer; only the end of a late thread's part is taken over by others. All threads compute in
// the caller's floating-point mode. f must not throw. At most items / grain threads take part:
// choose it by grain_of or product_grain.
template <class F>
void parallel_for(int64_t items, int64_t grain, F&& f) {
    if (items <= 0) return;
    int64_t threads = num_threads();
    if (grain > 1 && items / grain < threads) threads = items / grain;
    if (items < threads) threads = items;
    if (threads <= 1) {
        f(int64_t{0}, items, 0);
        return;
    }
    detail::run_parallel(
        items, static_cast<int>(threads),
        [](void* context, int64_t begin, int64_t end, int thread) {
            (*static_cast<std::remove_reference_t<F>*>(context))(begin, end, thread);
        },
        const_cast<void*>(static_cast<const void*>(&f)));
}

template <class F>
void parallel_for(int64_t items, F&& f) {
    parallel_for(items, 1, static_cast<F&&>(f));
}

}  // namespace engine
