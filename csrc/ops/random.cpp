#include "ops/random.h"

#include <cmath>

#include "core/parallel.h"
#include "core/status.h"
#include "dispatch/table.h"
#include "ops/eltwise.h"
#include "ops/layout.h"

namespace engine {

namespace {

constexpr int64_t kElements = 1024;  // per unit of work: a multiple of the kernel's block
constexpr int64_t kUnits = 8;        // per thread at least

Dims row_major(const Dims& shape) {
    Dims strides = shape;
    int64_t step = 1;
    for (int i = shape.n - 1; i >= 0; --i) {
        strides[i] = step;
        step *= shape[i];
    }
    return strides;
}

bool in_logical_order(const Array& a) {
    const Dims wanted = row_major(a.shape());
    for (int i = 0; i < a.rank(); ++i)
        if (a.dim(i) != 1 && a.stride(i) != wanted[i]) return false;
    return true;
}

// Runs the kernel over n elements in logical order.
void generate(const RandomArgs& args, int64_t n) {
    parallel_for((n + kElements - 1) / kElements, kUnits, [&](int64_t begin, int64_t end, int) {
        RandomArgs part = args;
        part.first = begin * kElements;
        part.n = (end * kElements < n ? end * kElements : n) - part.first;
        part.dst += part.first;
        if (part.src) part.src += part.first;
        kernels().random_fill(part);
    });
}

// A new canonical array filled in logical order.
Array filled(RandomArgs args, const Dims& shape) {
    Array out = empty(shape);
    if (in_logical_order(out)) {
        args.dst = out.f32();
        generate(args, out.numel());
        return out;
    }
    const Array ordered = empty(shape).view(shape, row_major(shape), 0);
    args.dst = ordered.f32();
    generate(args, ordered.numel());
    copy_into(out, ordered);
    return out;
}

RandomArgs stream(RandomArgs::Kind kind, uint64_t seed, uint64_t offset) {
    RandomArgs args{};
    args.kind = kind;
    args.seed = seed;
    args.offset = offset;
    return args;
}

}  // namespace

Array uniform(const Dims& shape, double low, double high, uint64_t seed, uint64_t offset) {
    ENGINE_CHECK(low <= high && std::isfinite(low) && std::isfinite(high), Kind::value,
                 "[uniform] expected finite low <= high, got ", low, " and ", high);
    RandomArgs args = stream(RandomArgs::uniform, seed, offset);
    args.a = static_cast<float>(low);
    args.b = static_cast<float>(high);
    args.largest = args.a < args.b ? std::nextafter(args.b, args.a) : args.a;
    return filled(args, shape);
}

Array normal(const Dims& shape, double mean, double std, uint64_t seed, uint64_t offset) {
    ENGINE_CHECK(std >= 0.0, Kind::value, "[normal] expected std >= 0, got ", std);
    RandomArgs args = stream(RandomArgs::normal, seed, offset);
    args.a = static_cast<float>(mean);
    args.b = static_cast<float>(std);
    return filled(args, shape);
}

DropMode drop_mode_from_name(std::string_view name) {
    if (name == "element") return DropMode::element;
    if (name == "channel") return DropMode::channel;
    if (name == "row") return DropMode::row;
    fail(Kind::value, "[dropout] expected mode 'element', 'channel' or 'row', got '", name, "'");
}

Array dropout(const Array& x, double p, uint64_t seed, uint64_t offset, DropMode mode) {
    expect_f32("dropout", "x", x);
    ENGINE_CHECK(p >= 0.0 && p <= 1.0, Kind::value,
                 "[dropout] expected a probability p in 0 .. 1, got ", p);
    RandomArgs args = stream(RandomArgs::keep, seed, offset);
    args.drop_below = static_cast<int32_t>(std::ceil(p * 16777216.0));
    args.scale = p < 1.0 ? static_cast<float>(1.0 / (1.0 - p)) : 0.f;

    if (mode == DropMode::element && in_logical_order(x)) {
        Array y = empty_like(x);
        args.kind = RandomArgs::dropout;
        args.src = x.f32();
        args.dst = y.f32();
        generate(args, x.numel());
        return y;
    }
    Dims shape = x.shape();
    if (mode != DropMode::element) {
        const int drawn = mode == DropMode::channel ? 2 : 1;
        ENGINE_CHECK(x.rank() >= drawn, Kind::value, "[dropout] expected at least ", drawn,
                     drawn == 2 ? " axes (N, C, ...)" : " axis (N, ...)", ", got shape ",
                     to_string(x.shape()));
        for (int i = drawn; i < shape.n; ++i) shape[i] = 1;
    }
    const Array factors = filled(args, shape);
    return binary(BinaryOp::mul, {&x, 0.0, DType::f32}, {&factors, 0.0, DType::f32});
}

}  // namespace engine
