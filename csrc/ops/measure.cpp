#include "ops/measure.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "dispatch/table.h"

namespace engine {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

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
