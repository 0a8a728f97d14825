#include "ops/eltwise.h"

#include <cmath>
#include <initializer_list>
#include <string>

#include "core/status.h"
#include "dispatch/table.h"
#include "ops/layout.h"
#include "ops/reduce.h"
#include "ops/strided_loop.h"

namespace engine {

namespace {

constexpr int64_t cheap = kCheapGrain, heavy = kHeavyGrain;

struct UnaryTraits {
    DType result;
    const char* saved;
    int64_t grain;
};
constexpr DType f32 = DType::f32, b8 = DType::b8;
constexpr UnaryTraits kUnaryTraits[] = {
#define ROW(name, result, saved, cost) {result, #saved, cost},
    ENGINE_UNARY_OPS(ROW)
#undef ROW
};

struct BinaryTraits {
    const char* name;
    DType result;
    int64_t grain;
};
constexpr BinaryTraits kBinaryTraits[] = {
#define ROW(name, result, cost) {#name, result, cost},
    ENGINE_BINARY_OPS(ROW)
#undef ROW
};

const UnaryTraits& traits(UnaryOp op) { return kUnaryTraits[static_cast<int>(op)]; }
const BinaryTraits& traits(BinaryOp op) { return kBinaryTraits[static_cast<int>(op)]; }
const char* name_of(UnaryOp op) { return kUnaryOps[static_cast<int>(op)].name; }
const char* name_of(BinaryOp op) { return traits(op).name; }
using engine::name_of;

bool same_layout(const Array& a, const Array& b) {
    return a.shape() == b.shape() && a.strides() == b.strides();
}

// `a` broadcast and copied into the layout of `like`.
Array in_layout_of(const Array& like, const Array& a) {
    Array dense = empty_like(like, a.dtype());
    copy_into(dense, a);
    return dense;
}

// Kernels want a step of 0 or 1: an operand with another one is copied. True when something
// changed.
template <int N>
bool make_rows(StridedLoop<N>& loop, const Array* (&operands)[N], Array (&storage)[N]) {
    bool changed = false;
    for (int k = 1; k < N; ++k) {
        if (!operands[k] || loop.step(k) == 0 || loop.step(k) == 1) continue;
        storage[k] = in_layout_of(*operands[0], *operands[k]);
        operands[k] = &storage[k];
        changed = true;
    }
    return changed;
}

// Prepares a loop whose operands all have rows the kernels can walk. The output must be walkable().
template <int N>
StridedLoop<N> rows_of(const Array* (&operands)[N], Array (&storage)[N]) {
    StridedLoop<N> loop(operands[0]->shape(), operands);
    if (make_rows(loop, operands, storage)) loop = StridedLoop<N>(operands[0]->shape(), operands);
    return loop;
}

// Whether kernels can write their rows of adjacent elements straight to `a`.
bool walkable(const Array& a) { return a.is_dense() || (pixel_stride(a) >= 0 && a.dim(1) > 1); }

// Whether kernels write rows of `n` adjacent elements of `dst` past the caches: it is large, and
// none of the operands, which would be in a cache by then.
bool streams_rows(const Array& dst, int64_t n, std::initializer_list<const Array*> operands) {
    if (dst.dtype() != f32 || !dst.is_dense() || n % kernels().lanes != 0 ||
        dst.numel() * static_cast<int64_t>(sizeof(float)) < kStreamBytes ||
        reinterpret_cast<uintptr_t>(dst.raw()) % kAlignment != 0)
        return false;
    for (const Array* a : operands)
        if (a && a->storage() == dst.storage()) return false;
    return true;
}

// Checks where a result is wanted; false: it has to be copied there.
bool writes_there(const char* op, const Array& out, const Dims& shape, DType dtype) {
    (void)destination(op, &out, shape, dtype, Walk::elements);
    return walkable(out);
}

// ---- unary ----

void unary_into(UnaryOp op, const Array& x, const Array& y, double p0, double p1) {
    UnaryArgs args{
        op, x.f32(), y.raw(), 0, 1, 0, 0, static_cast<float>(p0), static_cast<float>(p1), false};
    const int64_t grain = traits(op).grain;
    const auto size = static_cast<int64_t>(size_of(y.dtype()));
    if (same_layout(x, y) && y.is_dense()) {
        args.stream = streams_rows(y, kBlock, {&x});
        run_flat(y.numel(), grain, [&](int64_t begin, int64_t end) {
            UnaryArgs part = args;
            part.src += begin;
            part.dst = static_cast<char*>(part.dst) + begin * size;
            part.n = end - begin;
            kernels().eltwise_unary(part);
        });
        return;
    }
    const Array* operands[2] = {&y, &x};
    Array storage[2];
    StridedLoop<2> loop = rows_of(operands, storage);
    if (loop.step(1) == 0) {  // a row of one value: only an expanded x has it
        storage[1] = in_layout_of(y, x);
        operands[1] = &storage[1];
        loop = StridedLoop<2>(y.shape(), operands);
    }
    args.src = operands[1]->f32();
    args.src_row = loop.row(1);
    args.dst_row = loop.row(0);
    args.stream = streams_rows(y, loop.size(), {&x});
    loop.run(grain, [&](const int64_t* offsets, int64_t n, int64_t rows) {
        UnaryArgs part = args;
        part.src += offsets[1];
        part.dst = static_cast<char*>(part.dst) + offsets[0] * size;
        part.n = n;
        part.rows = rows;
        kernels().eltwise_unary(part);
    });
}

// Integers keep their type where the result is one.
bool integer_unary(UnaryOp op, const Array& x, Array& y) {
    switch (op) {
        case UnaryOp::relu:
        case UnaryOp::neg:
        case UnaryOp::abs:
        case UnaryOp::square:
        case UnaryOp::sign:
        case UnaryOp::floor:
        case UnaryOp::ceil:
        case UnaryOp::round: break;
        default: return false;
    }
    if (x.dtype() != DType::i64 && x.dtype() != DType::i32) return false;
    const Array source = x.dtype() == DType::i64 ? contiguous(x) : cast(x, DType::i64);
    y = empty(x.shape(), DType::i64);
    const auto* src = source.ptr<int64_t>();
    auto* dst = y.ptr<int64_t>();
    const int64_t count = y.numel();
    for (int64_t i = 0; i < count; ++i) {
        // unsigned, so that overflow wraps instead of being undefined
        const auto v = src[i];
        const auto u = static_cast<uint64_t>(v);
        switch (op) {
            case UnaryOp::relu: dst[i] = v > 0 ? v : 0; break;
            case UnaryOp::neg: dst[i] = static_cast<int64_t>(-u); break;
            case UnaryOp::abs: dst[i] = v < 0 ? static_cast<int64_t>(-u) : v; break;
            case UnaryOp::square: dst[i] = static_cast<int64_t>(u * u); break;
            case UnaryOp::sign: dst[i] = (v > 0) - (v < 0); break;
            default: dst[i] = v;
        }
    }
    return true;
}

// Powers that are cheaper and more exact as another operation.
UnaryOp simpler(UnaryOp op, double p0) {
    if (op != UnaryOp::pow_scalar) return op;
    if (p0 == 2.0) return UnaryOp::square;
    if (p0 == 0.5) return UnaryOp::sqrt;
    if (p0 == -1.0) return UnaryOp::reciprocal;
    if (p0 == -0.5) return UnaryOp::rsqrt;
    return op;
}

}  // namespace

const UnaryOpInfo kUnaryOps[] = {
#define f32_name "float32"
#define b8_name "bool"
#define ROW(name, result, saved, cost) {#name, result##_name, #saved},
    ENGINE_UNARY_OPS(ROW)
#undef ROW
#undef f32_name
#undef b8_name
        {nullptr, nullptr, nullptr}};

UnaryOp unary_op_from_name(std::string_view name) {
#define ROW(op, ...) \
    if (name == #op) return UnaryOp::op;
    ENGINE_UNARY_OPS(ROW)
#undef ROW
    std::string known;
#define ROW(op, ...) known += " " #op;
    ENGINE_UNARY_OPS(ROW)
#undef ROW
    fail(Kind::value, "[unary] expected one of", known, ", got '", name, "'");
}

BinaryOp binary_op_from_name(std::string_view name) {
#define ROW(op, ...) \
    if (name == #op) return BinaryOp::op;
    ENGINE_BINARY_OPS(ROW)
#undef ROW
    std::string known;
#define ROW(op, ...) known += " " #op;
    ENGINE_BINARY_OPS(ROW)
#undef ROW
    fail(Kind::value, "[binary] expected one of", known, ", got '", name, "'");
}

Array unary(UnaryOp op, const Array& x, double p0, double p1, const Array* out) {
    op = simpler(op, p0);
    ENGINE_CHECK(op != UnaryOp::softplus || p0 != 0.0, Kind::value,
                 "[softplus] expected beta other than 0, got 0");
    if (out) {
        if (x.dtype() == f32 && writes_there(name_of(op), *out, x.shape(), traits(op).result)) {
            expect_apart(name_of(op), "input", x, *out, Aliasing::same_view);
            unary_into(op, x, *out, p0, p1);
        } else {
            const Array y = unary(op, x, p0, p1);
            (void)destination(name_of(op), out, y.shape(), y.dtype(), Walk::elements);
            copy_into(*out, y);
        }
        out->mark_written();
        return *out;
    }
    if (x.dtype() != f32) {
        Array y;
        if (integer_unary(op, x, y)) return y;
        return unary(op, cast(x, f32), p0, p1);
    }
    Array y = empty_like(x, traits(op).result);
    unary_into(op, x, y, p0, p1);
    return y;
}

Array unary_backward(UnaryOp op, const Array& dy, const Array* x, const Array* y, double p0,
                     double p1) {
    const UnaryTraits& t = traits(op);
    const char kind = t.saved[0] == 'n' && t.saved[2] == '_' ? '!' : t.saved[0];
    ENGINE_CHECK(kind != '!', Kind::type, "[", name_of(op),
                 "] has no gradient: its result is bool");
    if (op == UnaryOp::pow_scalar && p0 == 2.0) op = UnaryOp::square;
    const Array* saved = kind == 'x' ? x : kind == 'y' ? y : nullptr;
    ENGINE_CHECK(saved || kind == 'n', Kind::value, "[", name_of(op), "] backward needs ", t.saved,
                 ", got None: keep it in the forward pass");
    expect_f32(name_of(op), "dy", dy);
    if (saved) {
        expect_f32(name_of(op), t.saved, *saved);
        ENGINE_CHECK(saved->shape() == dy.shape(), Kind::value, "[", name_of(op),
                     "] expected dy of shape ", to_string(saved->shape()), " as ", t.saved,
                     ", got ", to_string(dy.shape()));
    }
    // dx takes the layout of what was kept: the next backward step reads it beside arrays like it.
    Array dx = empty_like(saved ? *saved : dy);
    UnaryBackwardArgs args{op,
                           dy.f32(),
                           saved ? saved->f32() : nullptr,
                           dx.f32(),
                           0,
                           1,
                           0,
                           0,
                           0,
                           static_cast<float>(p0),
                           static_cast<float>(p1),
                           false};
    if (same_layout(dy, dx) && (!saved || same_layout(*saved, dx))) {
        args.stream = streams_rows(dx, kBlock, {});
        run_flat(dx.numel(), t.grain, [&](int64_t begin, int64_t end) {
            UnaryBackwardArgs part = args;
            part.dy += begin;
            if (part.saved) part.saved += begin;
            part.dx += begin;
            part.n = end - begin;
            kernels().eltwise_unary_backward(part);
        });
        return dx;
    }
    const Array* operands[3] = {&dx, &dy, saved};
    Array storage[3];
    StridedLoop<3> loop = rows_of(operands, storage);
    for (int k = 1; k < 3; ++k)  // this kernel has no step 0
        if (operands[k] && loop.step(k) == 0) {
            storage[k] = in_layout_of(dx, *operands[k]);
            operands[k] = &storage[k];
            loop = StridedLoop<3>(dx.shape(), operands);
        }
    args.dy = operands[1]->f32();
    args.saved = operands[2] ? operands[2]->f32() : nullptr;
    args.dx_row = loop.row(0);
    args.dy_row = loop.row(1);
    args.saved_row = loop.row(2);
    args.stream = streams_rows(dx, loop.size(), {});
    loop.run(t.grain, [&](const int64_t* offsets, int64_t n, int64_t rows) {
        UnaryBackwardArgs part = args;
        part.dx += offsets[0];
        part.dy += offsets[1];
        if (part.saved) part.saved += offsets[2];
        part.n = n;
        part.rows = rows;
        kernels().eltwise_unary_backward(part);
    });
    return dx;
}

// ---- binary ----

Dims broadcast_shapes(const char* op, const Dims& a, const Dims& b) {
    const Dims& longer = a.n >= b.n ? a : b;
    const Dims& shorter = a.n >= b.n ? b : a;
    Dims shape = longer;
    const int shift = longer.n - shorter.n;
    for (int i = 0; i < shorter.n; ++i) {
        int64_t& size = shape[i + shift];
        if (size == shorter[i] || shorter[i] == 1) continue;
        ENGINE_CHECK(size == 1, Kind::value, "[", op, "] expected shapes that broadcast, got ",
                     to_string(a), " and ", to_string(b),
                     ": sizes must be equal or 1, aligned at the last axis");
        size = shorter[i];
    }
    return shape;
}

namespace {

DType type_of(const Operand& a) { return a.array ? a.array->dtype() : a.type; }

// float32 when an operand or the operation is; else int64; bool only among bools.
DType compute_type(BinaryOp op, DType a, DType b) {
    if (a == f32 || b == f32 || op == BinaryOp::div) return f32;
    if (a == b8 && b == b8 && op != BinaryOp::pow) return b8;
    return DType::i64;
}

int64_t int_pow(int64_t base, int64_t exponent) {
    if (exponent < 0) return base == 1 ? 1 : base == -1 ? (exponent % 2 ? -1 : 1) : 0;
    uint64_t result = 1, factor = static_cast<uint64_t>(base);
    for (; exponent; exponent >>= 1, factor *= factor)
        if (exponent & 1) result *= factor;
    return static_cast<int64_t>(result);
}

// One element of an operation on integers (T = int64_t) or bools (T = uint8_t, bytes 0 and 1).
template <BinaryOp op, class T>
inline T scalar_op(T a, T b) {
    constexpr bool is_bool = sizeof(T) == 1;
    const auto ua = static_cast<uint64_t>(a), ub = static_cast<uint64_t>(b);
    switch (op) {
        case BinaryOp::add: return is_bool ? T(a | b) : static_cast<T>(ua + ub);
        case BinaryOp::sub: return static_cast<T>(ua - ub);
        case BinaryOp::mul: return is_bool ? T(a & b) : static_cast<T>(ua * ub);
        case BinaryOp::div: return 0;  // computed in float32
        case BinaryOp::pow: return static_cast<T>(int_pow(a, b));
        case BinaryOp::maximum: return a > b ? a : b;
        case BinaryOp::minimum: return a < b ? a : b;
        case BinaryOp::eq: return a == b;
        case BinaryOp::ne: return a != b;
        case BinaryOp::lt: return a < b;
        case BinaryOp::le: return a <= b;
        case BinaryOp::gt: return a > b;
        case BinaryOp::ge: return a >= b;
        case BinaryOp::logical_and: return a && b;
        case BinaryOp::logical_or: return a || b;
    }
    return 0;
}

template <BinaryOp op, class T, class Result>
void scalar_rows(const StridedLoop<3>& loop, const T* a, const T* b, Result* dst) {
    const int64_t a_step = loop.step(1), b_step = loop.step(2), dst_step = loop.step(0);
    loop.run(kCheapGrain, [&](const int64_t* offsets, int64_t n, int64_t rows) {
        for (int64_t r = 0; r < rows; ++r) {
            const T* pa = a + offsets[1] + r * loop.row(1);
            const T* pb = b + offsets[2] + r * loop.row(2);
            Result* pd = dst + offsets[0] + r * loop.row(0);
            for (int64_t i = 0; i < n; ++i)
                pd[i * dst_step] =
                    static_cast<Result>(scalar_op<op, T>(pa[i * a_step], pb[i * b_step]));
        }
    });
}

template <class T>
void scalar_binary(BinaryOp op, const Array* a, T a_value, const Array* b, T b_value,
                   const Array& dst) {
    const Array* operands[3] = {&dst, a, b};
    const StridedLoop<3> loop(dst.shape(), operands);
    const T* pa = a ? a->ptr<T>() : &a_value;
    const T* pb = b ? b->ptr<T>() : &b_value;
    switch (op) {
#define RESULT_f32 T
#define RESULT_b8 uint8_t
#define CASE(name, result, cost)                                                                   \
    case BinaryOp::name:                                                                           \
        scalar_rows<BinaryOp::name, T, RESULT_##result>(loop, pa, pb, dst.ptr<RESULT_##result>()); \
        break;
        ENGINE_BINARY_OPS(CASE)
#undef CASE
#undef RESULT_f32
#undef RESULT_b8
    }
}

// Both float32 (or null = the number); dst has adjacent elements: walkable().
void float_binary(BinaryOp op, const Array* a, double a_number, const Array* b, double b_number,
                  const Array& dst) {
    const auto a_value = static_cast<float>(a_number), b_value = static_cast<float>(b_number);
    const int64_t grain = traits(op).grain;
    const auto size = static_cast<int64_t>(size_of(dst.dtype()));
    BinaryArgs args{op,
                    a ? a->f32() : &a_value,
                    b ? b->f32() : &b_value,
                    dst.raw(),
                    0,
                    1,
                    0,
                    0,
                    0,
                    a != nullptr,
                    b != nullptr,
                    false};
    if (dst.is_dense() && (!a || same_layout(*a, dst)) && (!b || same_layout(*b, dst))) {
        args.stream = streams_rows(dst, kBlock, {a, b});
        run_flat(dst.numel(), grain, [&](int64_t begin, int64_t end) {
            BinaryArgs part = args;
            part.a += begin * part.a_step;
            part.b += begin * part.b_step;
            part.dst = static_cast<char*>(part.dst) + begin * size;
            part.n = end - begin;
            kernels().eltwise_binary(part);
        });
        return;
    }
    const Array* operands[3] = {&dst, a, b};
    Array storage[3];
    const StridedLoop<3> loop = rows_of(operands, storage);
    if (operands[1]) args.a = operands[1]->f32();
    if (operands[2]) args.b = operands[2]->f32();
    args.a_step = operands[1] ? static_cast<int32_t>(loop.step(1)) : 0;
    args.b_step = operands[2] ? static_cast<int32_t>(loop.step(2)) : 0;
    args.dst_row = loop.row(0);
    args.a_row = loop.row(1);
    args.b_row = loop.row(2);
    args.stream = streams_rows(dst, loop.size(), {a, b});
    loop.run(grain, [&](const int64_t* offsets, int64_t n, int64_t rows) {
        BinaryArgs part = args;
        part.dst = static_cast<char*>(part.dst) + offsets[0] * size;
        part.a += offsets[1];
        part.b += offsets[2];
        part.n = n;
        part.rows = rows;
        kernels().eltwise_binary(part);
    });
}

Array result_like(const Dims& shape, const Array* a, const Array* b, DType dtype) {
    if (a && a->shape() == shape && a->is_dense()) return empty_like(*a, dtype);
    if (b && b->shape() == shape && b->is_dense()) return empty_like(*b, dtype);
    return empty(shape, dtype);
}

void binary_into(BinaryOp op, DType type, const Operand& a, const Operand& b, const Array& dst) {
    Array a_cast, b_cast;
    const Array* pa = a.array;
    const Array* pb = b.array;
    if (pa && pa->dtype() != type) pa = &(a_cast = cast(*pa, type));
    if (pb && pb->dtype() != type) pb = &(b_cast = cast(*pb, type));
    if (type == f32)
        float_binary(op, pa, a.value, pb, b.value, dst);
    else if (type == b8)
        scalar_binary<uint8_t>(op, pa, a.whole != 0, pb, b.whole != 0, dst);
    else
        scalar_binary<int64_t>(op, pa, a.whole, pb, b.whole, dst);
}

void check_types(BinaryOp op, DType type) {
    ENGINE_CHECK(type != b8 || op != BinaryOp::sub, Kind::type,
                 "[sub] expected numbers, got bool arrays: use ne for their difference");
}

}  // namespace

Array binary(BinaryOp op, const Operand& a, const Operand& b, const Array* out) {
    ENGINE_CHECK(a.array || b.array, Kind::type, "[", name_of(op),
                 "] expected at least one Array, got two numbers");
    const DType result = traits(op).result;
    if (out) {
        const DType type = compute_type(op, type_of(a), type_of(b));
        check_types(op, type);
        Dims shape = a.array ? a.array->shape() : b.array->shape();
        if (a.array && b.array) shape = broadcast_shapes(name_of(op), shape, b.array->shape());
        if (writes_there(name_of(op), *out, shape, result == b8 ? b8 : type)) {
            for (const Operand& operand : {a, b})
                if (operand.array)
                    expect_apart(name_of(op), "its operands", *operand.array, *out,
                                 Aliasing::same_view);
            binary_into(op, type, a, b, *out);
        } else {
            copy_into(*out, binary(op, a, b));
        }
        out->mark_written();
        return *out;
    }
    // The common case first: float32, one shape, one layout.
    if (a.array && a.array->dtype() == f32 &&
        (b.array ? b.array->dtype() == f32 && same_layout(*a.array, *b.array) : true) &&
        a.array->is_dense()) {
        Array dst = empty_like(*a.array, result);
        float_binary(op, a.array, 0.0, b.array, b.value, dst);
        return dst;
    }
    const DType type = compute_type(op, type_of(a), type_of(b));
    check_types(op, type);
    Dims shape = a.array ? a.array->shape() : b.array->shape();
    if (a.array && b.array) shape = broadcast_shapes(name_of(op), shape, b.array->shape());
    Array dst = result_like(shape, a.array, b.array, result == b8 ? b8 : type);
    binary_into(op, type, a, b, dst);
    return dst;
}

void binary_in_place(BinaryOp op, const Array& a, const Operand& b) {
    const DType type = compute_type(op, a.dtype(), type_of(b));
    check_types(op, type);
    const DType result = traits(op).result == b8 ? b8 : type;
    ENGINE_CHECK(result == a.dtype(), Kind::type, "[", name_of(op), "_] a result of dtype ",
                 name_of(result), " cannot be stored in an array of dtype ", name_of(a.dtype()),
                 ": use ", name_of(op), " and keep its result");
    if (b.array) {
        const Dims shape = broadcast_shapes(name_of(op), a.shape(), b.array->shape());
        ENGINE_CHECK(shape == a.shape(), Kind::value, "[", name_of(op), "_] expected a shape that ",
                     "broadcasts to ", to_string(a.shape()), ", got ", to_string(b.array->shape()));
    }
    const Operand left{&a, 0.0, a.dtype()};
    const bool overlaps = b.array && b.array->storage() == a.storage() &&
                          !(same_layout(a, *b.array) && a.offset() == b.array->offset());
    if (a.is_dense() && !overlaps) {
        binary_into(op, type, left, b, a);
    } else {
        Array result_array = empty(a.shape(), a.dtype());
        binary_into(op, type, left, b, result_array);
        copy_into(a, result_array);
    }
    a.mark_written();
}

Array where(const Array& condition, const Operand& a, const Operand& b) {
    DType type = compute_type(BinaryOp::maximum, type_of(a), type_of(b));
    Dims shape = condition.shape();
    if (a.array) shape = broadcast_shapes("where", shape, a.array->shape());
    if (b.array) shape = broadcast_shapes("where", shape, b.array->shape());
    Array mask, a_cast, b_cast;
    const Array* pc = &condition;
    if (pc->dtype() != b8) pc = &(mask = cast(condition, b8));
    const Array* pa = a.array;
    const Array* pb = b.array;
    if (pa && pa->dtype() != type) pa = &(a_cast = cast(*pa, type));
    if (pb && pb->dtype() != type) pb = &(b_cast = cast(*pb, type));
    Array dst = result_like(shape, pa, pb, type);

    if (type != f32) {
        const Array* operands[4] = {&dst, pc, pa, pb};
        const StridedLoop<4> loop(shape, operands);
        const auto select_rows = [&](auto zero_value) {
            using T = decltype(zero_value);
            const T a_value = static_cast<T>(a.whole), b_value = static_cast<T>(b.whole);
            const T* sa = pa ? pa->ptr<T>() : &a_value;
            const T* sb = pb ? pb->ptr<T>() : &b_value;
            const auto* sc = pc->ptr<uint8_t>();
            T* d = dst.ptr<T>();
            loop.run(kCheapGrain, [&](const int64_t* o, int64_t n, int64_t rows) {
                for (int64_t r = 0; r < rows; ++r)
                    for (int64_t i = 0; i < n; ++i) {
                        const bool chosen = sc[o[1] + r * loop.row(1) + i * loop.step(1)] != 0;
                        d[o[0] + r * loop.row(0) + i * loop.step(0)] =
                            chosen ? sa[o[2] + r * loop.row(2) + i * loop.step(2)]
                                   : sb[o[3] + r * loop.row(3) + i * loop.step(3)];
                    }
            });
        };
        if (type == b8)
            select_rows(uint8_t{0});
        else
            select_rows(int64_t{0});
        return dst;
    }

    const auto a_value = static_cast<float>(a.value), b_value = static_cast<float>(b.value);
    const Array* operands[4] = {&dst, pc, pa, pb};
    Array storage[4];
    const StridedLoop<4> loop = rows_of(operands, storage);
    const WhereArgs args{operands[1]->ptr<uint8_t>(),
                         operands[2] ? operands[2]->f32() : &a_value,
                         operands[3] ? operands[3]->f32() : &b_value,
                         dst.f32(),
                         0,
                         1,
                         loop.row(1),
                         loop.row(2),
                         loop.row(3),
                         loop.row(0),
                         static_cast<int32_t>(loop.step(1)),
                         operands[2] ? static_cast<int32_t>(loop.step(2)) : 0,
                         operands[3] ? static_cast<int32_t>(loop.step(3)) : 0};
    loop.run(kCheapGrain, [&](const int64_t* offsets, int64_t n, int64_t rows) {
        WhereArgs part = args;
        part.dst += offsets[0];
        part.condition += offsets[1];
        part.a += offsets[2];
        part.b += offsets[3];
        part.n = n;
        part.rows = rows;
        kernels().eltwise_where(part);
    });
    return dst;
}

// ---- prelu ----

namespace {

// The weight as an array that broadcasts against x: (1, C, 1, ...) or one element.
Array prelu_weight(const Array& x, const Array& weight) {
    expect_f32("prelu", "x", x);
    expect_f32("prelu", "weight", weight);
    const int64_t count = weight.numel();
    const int64_t channels = x.rank() >= 2 ? x.dim(1) : 1;
    ENGINE_CHECK(weight.rank() <= 1 && (count == 1 || count == channels), Kind::value,
                 "[prelu] expected weight of shape (1,) or (", channels, ",) for x of shape ",
                 to_string(x.shape()), ", got ", to_string(weight.shape()),
                 ": set num_parameters to 1 or to the number of channels");
    Dims shape, strides;
    shape.n = strides.n = x.rank();
    for (int i = 0; i < x.rank(); ++i) shape[i] = 1, strides[i] = 0;
    if (count > 1) shape[1] = count, strides[1] = weight.stride(0);
    return weight.view(shape, strides, weight.offset());
}

}  // namespace

Array prelu(const Array& x, const Array& weight) {
    const Array w = prelu_weight(x, weight);
    Array y = empty_like(x);
    const Array* operands[3] = {&y, &x, &w};
    Array storage[3];
    StridedLoop<3> loop = rows_of(operands, storage);
    if (loop.step(1) == 0) {
        storage[1] = in_layout_of(y, x);
        operands[1] = &storage[1];
        loop = StridedLoop<3>(y.shape(), operands);
    }
    const PreluArgs args{operands[1]->f32(),
                         operands[2]->f32(),
                         y.f32(),
                         0,
                         1,
                         loop.row(1),
                         loop.row(2),
                         loop.row(0),
                         static_cast<int32_t>(loop.step(2))};
    loop.run(kCheapGrain, [&](const int64_t* offsets, int64_t n, int64_t rows) {
        PreluArgs part = args;
        part.y += offsets[0];
        part.x += offsets[1];
        part.weight += offsets[2];
        part.n = n;
        part.rows = rows;
        kernels().eltwise_prelu(part);
    });
    return y;
}

std::pair<Array, Array> prelu_backward(const Array& dy, const Array& x, const Array& weight) {
    const Array w = prelu_weight(x, weight);
    expect_f32("prelu", "dy", dy);
    ENGINE_CHECK(dy.shape() == x.shape(), Kind::value, "[prelu] expected dy of shape ",
                 to_string(x.shape()), ", got ", to_string(dy.shape()));
    Array dx = empty_like(x), terms = empty_like(x);
    const Array* operands[5] = {&dx, &terms, &dy, &x, &w};
    Array storage[5];
    StridedLoop<5> loop = rows_of(operands, storage);
    for (int k = 2; k < 4; ++k)
        if (loop.step(k) == 0) {
            storage[k] = in_layout_of(dx, *operands[k]);
            operands[k] = &storage[k];
            loop = StridedLoop<5>(dx.shape(), operands);
        }
    const PreluBackwardArgs args{operands[2]->f32(),
                                 operands[3]->f32(),
                                 operands[4]->f32(),
                                 dx.f32(),
                                 terms.f32(),
                                 0,
                                 1,
                                 loop.row(2),
                                 loop.row(3),
                                 loop.row(4),
                                 loop.row(0),
                                 loop.row(1),
                                 static_cast<int32_t>(loop.step(4))};
    loop.run(kCheapGrain, [&](const int64_t* offsets, int64_t n, int64_t rows) {
        PreluBackwardArgs part = args;
        part.dx += offsets[0];
        part.dweight_terms += offsets[1];
        part.dy += offsets[2];
        part.x += offsets[3];
        part.weight += offsets[4];
        part.n = n;
        part.rows = rows;
        kernels().eltwise_prelu_backward(part);
    });
    Array dweight = sum_to(terms, w.shape());
    return {dx, dweight.view(weight.shape(), canonical_strides(weight.shape()), 0)};
}

}  // namespace engine
