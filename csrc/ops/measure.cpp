#include "ops/measure.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "core/memory.h"
#include "core/parallel.h"
#include "core/status.h"
#include "dispatch/table.h"

namespace engine {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

void stream_pass(const std::vector<Array>& sources, const std::vector<Array>& results,
                 int64_t count, bool past_caches, int64_t fetch_ahead) {
    const char* op = "stream_pass";
    constexpr int64_t kFarthest = 1 << 16;
    ENGINE_CHECK(sources.size() <= 4 && results.size() <= 3, Kind::value, "[", op,
                 "] expected at most 4 sources and 3 results, got ", sources.size(), " and ",
                 results.size(), ": split the pass");
    ENGINE_CHECK(fetch_ahead >= 0 && fetch_ahead <= kFarthest, Kind::value, "[", op,
                 "] expected fetch_ahead between 0 and ", kFarthest, ", got ", fetch_ahead,
                 ": 512 is usual");
    for (const std::vector<Array>* list : {&sources, &results})
        for (const Array& a : *list) {
            expect_f32(op, list == &sources ? "source" : "result", a);
            ENGINE_CHECK(a.is_dense() && count >= 0 && count <= a.numel(), Kind::value, "[", op,
                         "] expected dense arrays of at least ", count, " elements, got shape ",
                         to_string(a.shape()), ": make them contiguous and of one size");
            ENGINE_CHECK(list == &sources || !past_caches ||
                             reinterpret_cast<uintptr_t>(a.f32()) % kAlignment == 0,
                         Kind::value, "[", op,
                         "] expected aligned results with past_caches: pass whole arrays");
        }
    for (const Array& a : results) a.mark_written();
    constexpr int64_t kBlock = 4096;
    std::vector<float> sinks(static_cast<size_t>(num_threads()) * 16, 0.0f);
    parallel_for((count + kBlock - 1) / kBlock, 4, [&](int64_t begin, int64_t end, int thread) {
        StreamPassArgs a{};
        a.sources = static_cast<int>(sources.size()), a.results = static_cast<int>(results.size());
        for (size_t i = 0; i < sources.size(); ++i) a.src[i] = sources[i].f32() + begin * kBlock;
        for (size_t i = 0; i < results.size(); ++i) a.dst[i] = results[i].f32() + begin * kBlock;
        a.count = std::min(count, end * kBlock) - begin * kBlock;
        a.past_caches = past_caches, a.fetch_ahead = fetch_ahead;
        a.sink = &sinks[static_cast<size_t>(thread) * 16];
        kernels().stream_pass(a);
    });
}

double measure_peak(int threads) {
    double best = 0;
    for (int repeat = 0; repeat < 5; ++repeat) {
        std::atomic<int> ready{0};
        std::vector<double> rate(static_cast<size_t>(threads), 0.0);
        auto work = [&](int t) {
            double flops = 0;
            float sink = 0;
            kernels().peak({1 << 14, &flops, &sink});  // warm up
            ready.fetch_add(1);
            while (ready.load() < threads) std::this_thread::yield();
            const auto start = Clock::now();
            kernels().peak({1 << 21, &flops, &sink});
            rate[static_cast<size_t>(t)] = flops / seconds_since(start) * 1e-9;
        };
        std::vector<std::thread> team;
        for (int t = 1; t < threads; ++t) team.emplace_back(work, t);
        work(0);
        for (auto& thread : team) thread.join();
        double total = 0;
        for (double r : rate) total += r;
        best = std::max(best, total);
    }
    return best;
}

double measure_ping_pong() {
    if (std::thread::hardware_concurrency() < 2) return 0;
    constexpr int kRounds = 20000;
    alignas(64) std::atomic<int> ball{0};
    // Bounded on both sides: a partner that is never scheduled must not hang the caller.
    auto wait_for = [&](int value, Clock::time_point deadline) {
        for (int spin = 0; ball.load(std::memory_order_acquire) != value; ++spin)
            if ((spin & 4095) == 4095 && Clock::now() > deadline) return false;
        return true;
    };
    const auto deadline = Clock::now() + std::chrono::seconds(2);
    std::thread partner([&] {
        for (int i = 0; i < kRounds; ++i) {
            if (!wait_for(2 * i + 1, deadline)) return;
            ball.store(2 * i + 2, std::memory_order_release);
        }
    });
    const auto start = Clock::now();
    bool whole = true;
    for (int i = 0; i < kRounds && whole; ++i) {
        ball.store(2 * i + 1, std::memory_order_release);
        whole = wait_for(2 * i + 2, deadline);
    }
    const double elapsed = seconds_since(start);
    partner.join();
    return whole ? elapsed / (2.0 * kRounds) * 1e9 : 0;
}

}  // namespace engine
