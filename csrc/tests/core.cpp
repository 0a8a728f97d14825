// Types, allocator, arrays, threads and dispatch.
#include <atomic>
#include <cstring>
#include <set>

#include "core/array.h"
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

TEST(every_slot_of_the_table_is_filled) {
    const engine::KernelTable& table = engine::kernels();
    CHECK(table.lanes >= 4);
#define KERNEL(name, Args) CHECK(table.name != nullptr);
#include "dispatch/kernels.def"
#undef KERNEL
    CHECK_THROWS(engine::set_isa("pentium"), Kind::value);
}
