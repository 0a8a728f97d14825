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

// One pass over arrays of `count` floats. Integers add up in vectors without leave to reorder.
void read_once(const float* a, int64_t count) {
    std::atomic<uint32_t> sink{0};
    parallel_for(count, [&](int64_t begin, int64_t end, int) {
        uint32_t sum = 0;
        const auto* bits = reinterpret_cast<const uint32_t*>(a);
        for (int64_t i = begin; i < end; ++i) sum += bits[i];
        sink.fetch_add(sum, std::memory_order_relaxed);
    });
}

void triad_once(float* a, const float* b, const float* c, int64_t count) {
    parallel_for(count, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) a[i] = b[i] + 3.0f * c[i];
    });
}

}  // namespace

double measure_bandwidth(const std::string& kind, int64_t bytes) {
    ENGINE_CHECK(kind == "read" || kind == "triad", Kind::value,
                 "[measure_bandwidth] expected kind read or triad, got '", kind, "'");
    ENGINE_CHECK(bytes >= 4096, Kind::value,
                 "[measure_bandwidth] expected at least 4096 bytes, got ", bytes,
                 ": arrays must be larger than the caches to say something about memory");
    const auto size = static_cast<size_t>(bytes);
    const int64_t count = bytes / 4;
    Workspace a(size), b(size), c(size);
    for (const Workspace* w : {&a, &b, &c})
        parallel_for(count, [&](int64_t begin, int64_t end, int) {
            std::fill(w->f32() + begin, w->f32() + end, 1.0f);
        });
    double rates[5];
    for (double& rate : rates) {
        const auto start = Clock::now();
        if (kind == "read") {
            for (const Workspace* w : {&a, &b, &c}) read_once(w->f32(), count);
        } else {
            triad_once(a.f32(), b.f32(), c.f32(), count);
        }
        rate = 3.0 * static_cast<double>(bytes) / seconds_since(start) * 1e-9;
    }
    std::sort(std::begin(rates), std::end(rates));
    return rates[2];
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
