// Types, allocator, arrays, threads and dispatch.
#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <set>
#include <thread>

#include "core/array.h"
#include "core/cpu.h"
#include "core/memory.h"
#include "core/parallel.h"
#include "core/status.h"
#include "core/types.h"
#include "dispatch/table.h"
#include "tests/test.h"

using engine::Dims;
using engine::Kind;

TEST(dims_count_elements_and_refuse_overflow) {
    CHECK_EQUAL(engine::numel({2, 3, 4}), 24);
    CHECK_EQUAL(engine::numel(Dims{}), 1);
    CHECK_EQUAL(engine::numel({int64_t{1} << 40, 0, int64_t{1} << 40}), 0);
    CHECK_THROWS(engine::numel({int64_t{1} << 40, int64_t{1} << 40}), Kind::memory);
    CHECK_THROWS(engine::numel({2, -1}), Kind::value);
    CHECK_THROWS((Dims{1, 2, 3, 4, 5, 6, 7, 8, 9}), Kind::value);
    CHECK_EQUAL(engine::to_string({8, 32}), "(8, 32)");
    CHECK_EQUAL(engine::to_string({8}), "(8,)");
}

TEST(dtypes_have_names_and_sizes) {
    for (const char* name : {"float32", "int64", "int32", "uint8", "bool"})
        CHECK_EQUAL(std::string(engine::name_of(engine::dtype_from_name(name))), name);
    CHECK_EQUAL(engine::size_of(engine::DType::i64), 8u);
    CHECK_THROWS(engine::dtype_from_name("float64"), Kind::type);
}

TEST(allocator_aligns_reuses_and_refuses) {
    engine::empty_cache();
    for (size_t bytes :
         {size_t{0}, size_t{1}, size_t{63}, size_t{65}, size_t{4097}, size_t{1} << 20}) {
        engine::Workspace block(bytes);
        CHECK_EQUAL(reinterpret_cast<uintptr_t>(block.data()) % engine::kAlignment, 0u);
        std::memset(block.data(), 1, bytes);
    }
    void* first;
    {
        engine::Workspace block(100000);
        first = block.data();
    }
    CHECK(engine::memory_stats().cached >= 100000);
    CHECK_EQUAL(engine::Workspace(100000).data(), first);
    CHECK_EQUAL(engine::memory_stats().in_use, 0);
    engine::empty_cache();
    CHECK_EQUAL(engine::memory_stats().cached, 0);
    CHECK_THROWS(engine::Workspace(size_t{1} << 60), Kind::memory);
}

TEST(arrays_know_their_layout) {
    CHECK_EQUAL(engine::canonical_strides({2, 3, 4, 5}) == (Dims{60, 1, 15, 3}), true);
    CHECK_EQUAL(engine::canonical_strides({2, 3, 4}) == (Dims{12, 4, 1}), true);
    const engine::Array wide = engine::empty({2, 8, 3, 5});
    CHECK(wide.is_canonical() && wide.is_dense());
    CHECK_EQUAL(engine::pixel_stride(wide), 8);
    const engine::Array slice = wide.view({2, 3, 3, 5}, wide.strides(), 2);
    CHECK(!slice.is_canonical());
    CHECK_EQUAL(engine::pixel_stride(slice), 8);
    for (int64_t i = 0; i < wide.numel(); ++i) wide.f32()[i] = static_cast<float>(i);
    const engine::Array dense = engine::contiguous(slice);
    CHECK(dense.is_canonical());
    CHECK_EQUAL(engine::pixel_stride(dense), 3);
    for (int64_t pixel = 0; pixel < 2 * 3 * 5; ++pixel)
        for (int64_t c = 0; c < 3; ++c)
            CHECK_EQUAL(dense.f32()[pixel * 3 + c], static_cast<float>(pixel * 8 + c + 2));
    const engine::Array transposed = wide.view({2, 8, 5, 3}, {120, 1, 8, 40}, 0);
    CHECK_EQUAL(engine::pixel_stride(transposed), -1);
}

TEST(parallel_for_covers_each_item_once) {
    const int before = engine::num_threads();
    for (int threads : {1, 2, 3, 7}) {
        engine::set_num_threads(threads);
        for (int64_t items : {0, 1, 2, 3, 6, 7, 1000}) {
            engine_test::describe(threads, " threads, ", items, " items");
            std::vector<std::atomic<int>> seen(static_cast<size_t>(items));
            engine::parallel_for(items, [&](int64_t begin, int64_t end, int thread) {
                if (thread < 0 || thread >= threads) std::abort();
                for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
            });
            for (const std::atomic<int>& count : seen) CHECK_EQUAL(count.load(), 1);
        }
    }
    CHECK_THROWS(engine::set_num_threads(0), Kind::value);
    engine::set_num_threads(before);
}

TEST(a_thread_may_limit_its_own_regions) {
    const int before = engine::num_threads();
    engine::set_num_threads(3);
    CHECK_EQUAL(engine::limit_threads(1), 0);
    CHECK_EQUAL(engine::num_threads(), 1);
    int calls = 0;  // serial: nobody else touches it
    engine::parallel_for(1000, [&](int64_t begin, int64_t end, int thread) {
        ++calls;
        CHECK_EQUAL(begin, 0);
        CHECK_EQUAL(end, 1000);
        CHECK_EQUAL(thread, 0);
    });
    CHECK_EQUAL(calls, 1);
    int elsewhere = 0;
    std::thread([&] { elsewhere = engine::num_threads(); }).join();
    CHECK_EQUAL(elsewhere, 3);
    CHECK_EQUAL(engine::limit_threads(7), 1);
    CHECK_EQUAL(engine::num_threads(), 3);
    CHECK_THROWS(engine::limit_threads(-1), Kind::value);
    CHECK_EQUAL(engine::limit_threads(0), 7);
    engine::set_num_threads(before);
}

// Waits until all threads of a region have come; false after two seconds (a system that runs only
// one of them).
static bool meet(std::atomic<int>& present, int threads) {
    ++present;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(2);
    while (present < threads) {
        if (std::chrono::steady_clock::now() > deadline) return false;
        std::this_thread::yield();
    }
    return true;
}

TEST(a_thread_begins_with_its_own_part_and_goes_through_it_in_order) {
    const int before = engine::num_threads();
    for (int threads : {2, 3}) {
        engine::set_num_threads(threads);
        constexpr int64_t kItems = 1000;
        for (int round = 0; round < 20; ++round) {
            std::atomic<int> present{0};
            std::atomic<bool> met{true};
            std::vector<std::vector<int64_t>> starts(static_cast<size_t>(threads));
            engine::parallel_for(kItems, [&](int64_t begin, int64_t, int thread) {
                auto& own = starts[static_cast<size_t>(thread)];
                own.push_back(begin);
                if (own.size() == 1 && !meet(present, threads)) met = false;
            });
            if (!met) continue;
            for (int thread = 0; thread < threads; ++thread) {
                engine_test::describe("thread ", thread, " of ", threads);
                const int64_t first = kItems * thread / threads;
                const int64_t end = kItems * (thread + 1) / threads;
                const auto& own = starts[static_cast<size_t>(thread)];
                CHECK_EQUAL(own[0], first);
                for (size_t i = 1; i < own.size() && own[i] >= first && own[i] < end; ++i)
                    CHECK(own[i] > own[i - 1]);
            }
        }
    }
    engine::set_num_threads(before);
}

TEST(a_late_thread_leaves_its_work_to_others) {
    const int before = engine::num_threads();
    engine::set_num_threads(2);
    // Whoever computes item 500 stays there until everything outside its chunk is done.
    std::atomic<int64_t> done{0};
    std::atomic<bool> helped{true};
    engine::parallel_for(1000, [&](int64_t begin, int64_t end, int) {
        if (begin <= 500 && 500 < end) {
            const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
            while (done < 1000 - (end - begin) && helped)
                if (std::chrono::steady_clock::now() > deadline) helped = false;
        }
        done += end - begin;
    });
    CHECK(helped);
    CHECK_EQUAL(done.load(), 1000);
    engine::set_num_threads(before);
}

TEST(workers_sleep_and_wake_and_regions_follow_each_other) {
    const int before = engine::num_threads();
    for (int round = 0; round < 400; ++round) {
        const int threads = 1 + round * 7 % 5;
        engine::set_num_threads(threads);
        if (round % 20 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
        std::atomic<int64_t> sum{0};
        engine::parallel_for(round, [&](int64_t begin, int64_t end, int) {
            for (int64_t i = begin; i < end; ++i) sum += i;
        });
        CHECK_EQUAL(sum.load(), int64_t{round} * (round - 1) / 2);
    }
    engine::set_num_threads(before);
}

TEST(workers_compute_in_the_callers_floating_point_mode) {
    const int before = engine::num_threads();
    const uint32_t mode = engine::float_mode();
    engine::set_num_threads(2);
    for (int round = 0; round < 3; ++round) {
        std::vector<float> halves(64);
        auto halve = [&](int64_t begin, int64_t end, int) {
            volatile float smallest = 1.17549435e-38f;
            for (int64_t i = begin; i < end; ++i) halves[static_cast<size_t>(i)] = smallest * 0.5f;
            std::this_thread::sleep_for(std::chrono::microseconds(100));  // lets the other come
        };
        engine::parallel_for(64, halve);
        for (float half : halves) CHECK_EQUAL(half, 5.87747175e-39f);
        {
            const engine::FlushDenormals flush;
            engine::parallel_for(64, halve);
        }
        for (float half : halves) CHECK_EQUAL(half, 0.0f);
        CHECK_EQUAL(engine::float_mode(), mode);
    }
    engine::set_num_threads(before);
}

TEST(large_blocks_share_memory_and_never_overlap) {
    engine::empty_cache();
    engine::reset_peak();
    constexpr size_t kMiB = size_t{1} << 20;
    {
        // What one large block leaves serves several smaller ones and the other way round.
        void* whole;
        {
            engine::Workspace block(12 * kMiB);
            whole = block.data();
        }
        {
            engine::Workspace a(3 * kMiB), b(5 * kMiB + 64), c(3 * kMiB);
            CHECK_EQUAL(a.data(), whole);
            CHECK(engine::memory_stats().in_use + engine::memory_stats().cached <= 12 * 1048576);
        }
        CHECK_EQUAL(engine::Workspace(12 * kMiB).data(), whole);
        CHECK_EQUAL(engine::Workspace(40 * kMiB).data(), whole);  // grown at the end
    }
    std::vector<std::unique_ptr<engine::Workspace>> held;
    uint64_t state = 1;
    for (int step = 0; step < 600; ++step) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        const size_t at = state >> 33 & 15;
        if (held.size() > at && (state >> 60 & 1)) {
            held.erase(held.begin() + static_cast<std::ptrdiff_t>(at));
            continue;
        }
        held.emplace_back(new engine::Workspace((200 << 10) + (state >> 40) % kMiB));
        auto* bytes = static_cast<unsigned char*>(held.back()->data());
        CHECK_EQUAL(reinterpret_cast<uintptr_t>(bytes) % engine::kAlignment, 0u);
        bytes[0] = bytes[held.back()->bytes() - 1] = static_cast<unsigned char>(step);
        if (held.size() > 24) held.erase(held.begin());
        std::set<std::pair<char*, char*>> ranges;
        for (const auto& block : held) {
            char* begin = static_cast<char*>(block->data());
            ranges.insert({begin, begin + block->bytes()});
        }
        for (auto range = ranges.begin(); std::next(range) != ranges.end(); ++range)
            CHECK(range->second <= std::next(range)->first);
    }
    held.clear();
    CHECK_EQUAL(engine::memory_stats().in_use, 0);
    CHECK(engine::memory_stats().cached > 0);
    engine::empty_cache();
    CHECK_EQUAL(engine::memory_stats().cached, 0);
    engine::Workspace again(2 * kMiB);  // memory given back is there again
    std::memset(again.data(), 1, again.bytes());
}

TEST(every_slot_of_the_table_is_filled) {
    const engine::KernelTable& table = engine::kernels();
    CHECK(table.lanes >= 4);
#define KERNEL(name, Args) CHECK(table.name != nullptr);
#include "dispatch/kernels.def"
#undef KERNEL
    CHECK_THROWS(engine::set_isa("pentium"), Kind::value);
}
