#include "ops/indexing.h"

#include <algorithm>
#include <cstring>

#include "core/parallel.h"
#include "core/status.h"
#include "dispatch/table.h"
#include "ops/layout.h"

namespace engine {

namespace {

constexpr int64_t kManyRows = 16;
constexpr int64_t kMaxAxis = int64_t{1} << 26;

int64_t bytes_of(const Array& a) { return static_cast<int64_t>(size_of(a.dtype())); }

int expect_axis(const char* op, int64_t axis, const Dims& shape) {
    ENGINE_CHECK(shape.n > 0 && axis >= -shape.n && axis < shape.n, Kind::index, "[", op,
                 "] expected an axis between ", -shape.n, " and ", shape.n - 1, " for shape ",
                 to_string(shape), ", got ", axis, ": choose one of the array's axes");
    return static_cast<int>(axis < 0 ? axis + shape.n : axis);
}

// The axes from outermost to innermost in a canonical array.
Dims physical_order(int rank) {
    if (rank == 4) return {0, 2, 3, 1};
    Dims order;
    for (int i = 0; i < rank; ++i) order.push_back(i);
    return order;
}

// A canonical array as [outer][axis][inner].
struct Split {
    int64_t outer = 1, inner = 1;
    Split(const Dims& shape, int axis) {
        bool passed = false;
        for (int64_t i : physical_order(shape.n)) {
            if (i == axis)
                passed = true;
            else
                (passed ? inner : outer) *= shape[static_cast<int>(i)];
        }
    }
};

// The index as int64, canonical, every entry in [0, size).
Array expect_index(const char* op, const Array& index, int64_t size) {
    ENGINE_CHECK(index.dtype() == DType::i64 || index.dtype() == DType::i32, Kind::type, "[", op,
                 "] expected an index of dtype int64 or int32, got ", name_of(index.dtype()),
                 ": convert it with .long()");
    const Array wide = contiguous(index.dtype() == DType::i64 ? index : cast(index, DType::i64));
    const int64_t* p = wide.ptr<int64_t>();
    const int64_t count = wide.numel();
    for (int64_t i = 0; i < count; ++i)
        ENGINE_CHECK(p[i] >= 0 && p[i] < size, Kind::index, "[", op, "] expected indices in [0, ",
                     size, "), got ", p[i],
                     ": negative indices are not wrapped, and the axis has size ", size);
    return wide;
}

void expect_sizes(const char* op, const Dims& shape) {
    for (int64_t size : shape)
        ENGINE_CHECK(size >= 0, Kind::value, "[", op, "] expected a shape of sizes >= 0, got ",
                     to_string(shape), ": pass the shape of the forward input");
}

SumType expect_sum_type(const char* op, const Array& a) {
    ENGINE_CHECK(a.dtype() == DType::f32 || a.dtype() == DType::i64 || a.dtype() == DType::i32,
                 Kind::type, "[", op, "] expected src of dtype float32, int64 or int32, got ",
                 name_of(a.dtype()), ": convert it first");
    return a.dtype() == DType::f32   ? SumType::f32
           : a.dtype() == DType::i64 ? SumType::i64
                                     : SumType::i32;
}

Array zeros(const Dims& shape, DType dtype) {
    Array out = empty(shape, dtype);
    std::memset(out.raw(), 0, static_cast<size_t>(out.numel()) * size_of(dtype));
    return out;
}

// Fills the lines of `lines` (all axes of the index but `axis`, in physical order) and calls the
// kernel over them.
void over_lines(const Array& src, const Array& dst, const Array& index, int axis,
                void (*kernel)(const LinesArgs&), SumType type) {
    LinesArgs lines{};
    lines.src = src.raw(), lines.dst = dst.raw(), lines.index = index.ptr<int64_t>();
    lines.element_size = bytes_of(src), lines.type = type;
    int64_t count = 1;
    for (int64_t i : physical_order(index.rank())) {
        const int a = static_cast<int>(i);
        if (a == axis) continue;
        const int64_t d = lines.rank++;
        lines.shape[d] = index.dim(a);
        lines.src_stride[d] = src.stride(a), lines.dst_stride[d] = dst.stride(a),
        lines.index_stride[d] = index.stride(a);
        count *= index.dim(a);
    }
    lines.length = index.dim(axis);
    lines.src_step = src.stride(axis), lines.dst_step = dst.stride(axis),
    lines.index_step = index.stride(axis);
    parallel_for(count, grain_of(4 * lines.length), [&](int64_t begin, int64_t end, int) {
        LinesArgs a = lines;
        a.begin = begin, a.end = end;
        kernel(a);
    });
}

enum class PadMode { constant, reflect, replicate };

struct Padding {
    PadMode mode;
    int64_t left, right, top, bottom;
};

Padding expect_padding(const char* op, const Dims& pads, const std::string& mode) {
    ENGINE_CHECK(pads.n == 4, Kind::value, "[", op,
                 "] expected pads (left, right, top, bottom), got ", to_string(pads),
                 ": give four numbers");
    ENGINE_CHECK(mode == "constant" || mode == "reflect" || mode == "replicate", Kind::value, "[",
                 op, "] expected mode constant, reflect or replicate, got '", mode,
                 "': use one of these");
    const PadMode kind = mode == "constant"  ? PadMode::constant
                         : mode == "reflect" ? PadMode::reflect
                                             : PadMode::replicate;
    for (int64_t pad : pads) {
        ENGINE_CHECK(pad >= -kMaxAxis && pad <= kMaxAxis, Kind::value, "[", op,
                     "] expected pads of at most ", kMaxAxis, ", got ", to_string(pads),
                     ": use smaller ones");
        ENGINE_CHECK(pad >= 0 || kind == PadMode::constant, Kind::value, "[", op,
                     "] expected pads >= 0 with mode '", mode, "', got ", to_string(pads),
                     ": crop by slicing, or use mode constant");
    }
    return {kind, pads[0], pads[1], pads[2], pads[3]};
}

int64_t padded_size(const char* op, const char* axis, PadMode mode, int64_t in, int64_t before,
                    int64_t after) {
    if (mode == PadMode::reflect)
        ENGINE_CHECK(before < in && after < in, Kind::value, "[", op,
                     "] expected reflect padding smaller than the ", axis, " ", in, ", got ",
                     before, " and ", after, ": use less padding or mode replicate");
    if (mode == PadMode::replicate)
        ENGINE_CHECK(in > 0, Kind::value, "[", op, "] expected a ", axis,
                     " of at least 1 to replicate, got 0: use mode constant");
    const int64_t out = in + before + after;
    ENGINE_CHECK(in >= 0 && out > 0 && out <= 2 * kMaxAxis && in <= kMaxAxis, Kind::value, "[", op,
                 "] expected an output ", axis, " between 1 and ", 2 * kMaxAxis, ", got ", out,
                 " from ", in, " with pads ", before, " and ", after, ": change the pads");
    return out;
}

std::vector<int32_t> pad_map(PadMode mode, int64_t in, int64_t before, int64_t out) {
    std::vector<int32_t> map(static_cast<size_t>(out));
    for (int64_t o = 0; o < out; ++o) {
        int64_t i = o - before;
        if (mode == PadMode::reflect)
            i = i < 0 ? -i : i >= in ? 2 * (in - 1) - i : i;
        else if (mode == PadMode::replicate)
            i = std::clamp<int64_t>(i, 0, in - 1);
        else if (i < 0 || i >= in)
            i = -1;
        map[static_cast<size_t>(o)] = static_cast<int32_t>(i);
    }
    return map;
}

}  // namespace

Array concat(const std::vector<Array>& arrays, int64_t axis_given) {
    const char* op = "concat";
    ENGINE_CHECK(!arrays.empty(), Kind::value, "[", op,
                 "] expected at least one array, got an empty list: leave out the call");
    const Array& first = arrays[0];
    const int axis = expect_axis(op, axis_given, first.shape());
    Dims shape = first.shape();
    shape[axis] = 0;
    for (const Array& a : arrays) {
        ENGINE_CHECK(a.dtype() == first.dtype(), Kind::type, "[", op,
                     "] expected arrays of one dtype, got ", name_of(first.dtype()), " and ",
                     name_of(a.dtype()), ": convert them first");
        bool fits = a.rank() == first.rank();
        for (int i = 0; fits && i < a.rank(); ++i) fits = i == axis || a.dim(i) == first.dim(i);
        ENGINE_CHECK(fits, Kind::value, "[", op, "] expected shapes equal in all axes but ", axis,
                     ", got ", to_string(first.shape()), " and ", to_string(a.shape()),
                     ": reshape or slice one of them");
        shape[axis] += a.dim(axis);
    }
    const Array out = empty(shape, first.dtype());
    if (out.numel() == 0) return out;
    const Split split(shape, axis);
    const int64_t size = bytes_of(out), row_bytes = shape[axis] * split.inner * size;
    const bool channels = shape.n == 4 && axis == 1;
    std::vector<Array> sources;
    std::vector<CopyRowsArgs> copies;
    int64_t offset = 0;
    for (const Array& a : arrays) {
        if (a.numel() == 0) continue;
        // A slice of the channels of a wider array is read where it is.
        sources.push_back(channels ? as_pixels(a) : contiguous(a));
        const Array& source = sources.back();
        CopyRowsArgs c{};
        c.bytes = a.dim(axis) * split.inner * size;
        c.src = source.ptr<char>(), c.src_step = channels ? pixel_stride(source) * size : c.bytes;
        c.dst = out.ptr<char>() + offset, c.dst_step = row_bytes;
        copies.push_back(c);
        offset += c.bytes;
    }
    constexpr int64_t kLine = 64;
    for (CopyRowsArgs& c : copies)
        c.stream = out.numel() * size >= kStreamBytes && c.bytes % kLine == 0 &&
                   row_bytes % kLine == 0 && reinterpret_cast<uintptr_t>(c.dst) % kLine == 0;
    const auto inputs = static_cast<int64_t>(copies.size());
    const auto copy_part = [&](int64_t input, int64_t begin, int64_t end) {
        CopyRowsArgs c = copies[static_cast<size_t>(input)];
        c.src += begin * c.src_step, c.dst += begin * c.dst_step;
        c.rows = end - begin;
        kernels().copy_rows(c);
    };
    if (split.outer >= kManyRows) {
        // A block of rows at a time, so that the parts of a row meet in cache.
        const int64_t block = std::max<int64_t>(1, 65536 / row_bytes);
        parallel_for(split.outer, grain_of(row_bytes / 4), [&](int64_t begin, int64_t end, int) {
            for (; begin < end; begin += block)
                for (int64_t i = 0; i < inputs; ++i)
                    copy_part(i, begin, std::min(end, begin + block));
        });
    } else {
        parallel_for(split.outer * inputs, grain_of(row_bytes / 4 / inputs),
                     [&](int64_t begin, int64_t end, int) {
                         for (int64_t item = begin; item < end; ++item)
                             copy_part(item % inputs, item / inputs, item / inputs + 1);
                     });
    }
    return out;
}

Array index_select(const Array& given, int64_t axis_given, const Array& index_given) {
    const char* op = "index_select";
    const int axis = expect_axis(op, axis_given, given.shape());
    expect_rank(op, "index", index_given, 1);
    const Array index = expect_index(op, index_given, given.dim(axis));
    Dims shape = given.shape();
    shape[axis] = index.dim(0);
    const Array out = empty(shape, given.dtype());
    if (out.numel() == 0) return out;
    const Array a = contiguous(given);
    const Split split(shape, axis);
    const int64_t bytes = split.inner * bytes_of(a), count = index.dim(0), length = a.dim(axis);
    // Few rows: the index is shared out too.
    const int64_t part = split.outer >= kManyRows ? count : std::max<int64_t>(1, 65536 / bytes);
    const int64_t parts = (count + part - 1) / part;
    parallel_for(split.outer * parts, grain_of(part * split.inner),
                 [&](int64_t begin, int64_t end, int) {
                     for (int64_t item = begin; item < end; ++item) {
                         const int64_t o = item / parts, j = item % parts * part;
                         TakeRowsArgs t{};
                         t.src = a.ptr<char>() + o * length * bytes;
                         t.dst = out.ptr<char>() + (o * count + j) * bytes;
                         t.index = index.ptr<int64_t>() + j;
                         t.axis = length, t.count = std::min(part, count - j), t.bytes = bytes;
                         t.begin = 0, t.end = 1;
                         kernels().take_rows(t);
                     }
                 });
    return out;
}

Array index_add(const Dims& shape, int64_t axis_given, const Array& index_given,
                const Array& src_given) {
    const char* op = "index_add";
    expect_sizes(op, shape);
    const int axis = expect_axis(op, axis_given, shape);
    expect_rank(op, "index", index_given, 1);
    const SumType type = expect_sum_type(op, src_given);
    Dims expected = shape;
    expected[axis] = index_given.dim(0);
    ENGINE_CHECK(src_given.shape() == expected, Kind::value, "[", op, "] expected src of shape ",
                 to_string(expected), " for shape ", to_string(shape), " and ", index_given.dim(0),
                 " indices, got ", to_string(src_given.shape()),
                 ": pass the gradient of index_select's result");
    const Array index = expect_index(op, index_given, shape[axis]);
    const Array out = zeros(shape, src_given.dtype());
    if (src_given.numel() == 0) return out;
    const Array src = contiguous(src_given);
    const Split split(shape, axis);
    const int64_t width = split.outer >= kManyRows ? split.inner : 256;
    const int64_t blocks = (split.inner + width - 1) / width, count = index.dim(0);
    parallel_for(split.outer * blocks, grain_of(count * std::min(width, split.inner)),
                 [&](int64_t begin, int64_t end, int) {
                     for (int64_t item = begin; item < end; ++item) {
                         AddRowsArgs a{};
                         a.src = src.raw(), a.dst = out.raw(), a.index = index.ptr<int64_t>();
                         a.type = type;
                         a.axis = shape[axis], a.count = count, a.inner = split.inner;
                         a.begin = item / blocks, a.end = a.begin + 1;
                         a.inner_begin = item % blocks * width,
                         a.inner_end = std::min(split.inner, a.inner_begin + width);
                         kernels().add_rows(a);
                     }
                 });
    return out;
}

Array gather(const Array& a, int64_t axis_given, const Array& index_given) {
    const char* op = "gather";
    const int axis = expect_axis(op, axis_given, a.shape());
    bool fits = index_given.rank() == a.rank();
    for (int i = 0; fits && i < a.rank(); ++i) fits = i == axis || index_given.dim(i) <= a.dim(i);
    ENGINE_CHECK(fits, Kind::value, "[", op, "] expected an index of rank ", a.rank(),
                 ", at most as large as the input outside axis ", axis, ", got ",
                 to_string(index_given.shape()), " for input ", to_string(a.shape()),
                 ": expand or slice the index");
    const Array index = expect_index(op, index_given, a.dim(axis));
    const Array out = empty(index.shape(), a.dtype());
    if (out.numel() == 0) return out;
    over_lines(a, out, index, axis, kernels().gather_lines, SumType::f32);
    return out;
}

Array scatter_add(const Dims& shape, int64_t axis_given, const Array& index_given,
                  const Array& src) {
    const char* op = "scatter_add";
    expect_sizes(op, shape);
    const int axis = expect_axis(op, axis_given, shape);
    const SumType type = expect_sum_type(op, src);
    bool fits = index_given.rank() == shape.n && src.rank() == shape.n;
    for (int i = 0; fits && i < shape.n; ++i)
        fits = index_given.dim(i) <= src.dim(i) && (i == axis || index_given.dim(i) <= shape[i]);
    ENGINE_CHECK(fits, Kind::value, "[", op, "] expected an index of rank ", shape.n,
                 ", at most as large as src and, outside axis ", axis,
                 ", as the output, got index ", to_string(index_given.shape()), ", src ",
                 to_string(src.shape()), " and output ", to_string(shape),
                 ": expand or slice the index");
    const Array index = expect_index(op, index_given, shape[axis]);
    const Array out = zeros(shape, src.dtype());
    if (index.numel() == 0) return out;
    over_lines(src, out, index, axis, kernels().scatter_add_lines, type);
    return out;
}

Array pad(const Array& given, const Dims& pads, const std::string& mode, double value) {
    const char* op = "pad";
    expect_rank(op, "input", given, 4);
    const Padding p = expect_padding(op, pads, mode);
    const int64_t out_h = padded_size(op, "height", p.mode, given.dim(2), p.top, p.bottom);
    const int64_t out_w = padded_size(op, "width", p.mode, given.dim(3), p.left, p.right);
    const Array out = empty({given.dim(0), given.dim(1), out_h, out_w}, given.dtype());
    if (out.numel() == 0) return out;
    const Array a = as_pixels(given);
    const std::vector<int32_t> y_map = pad_map(p.mode, a.dim(2), p.top, out_h);
    const std::vector<int32_t> x_map = pad_map(p.mode, a.dim(3), p.left, out_w);
    const Array fill_value = full({}, value, a.dtype());
    const int64_t size = bytes_of(a), channels = a.dim(1), ld = pixel_stride(a);
    parallel_for(
        a.dim(0) * out_h, grain_of(out_w * channels), [&](int64_t begin, int64_t end, int) {
            PadArgs args{};
            args.src = a.ptr<char>(), args.dst = out.ptr<char>();
            args.src_pixel = ld * size, args.dst_pixel = channels * size,
            args.pixel_bytes = channels * size;
            args.element_size = size;
            args.in_h = a.dim(2), args.in_w = a.dim(3), args.out_h = out_h, args.out_w = out_w;
            args.y_map = y_map.data(), args.x_map = x_map.data();
            std::memcpy(args.value, fill_value.raw(), static_cast<size_t>(size));
            args.row_begin = begin, args.row_end = end;
            kernels().pad_forward(args);
        });
    return out;
}

Array pad_backward(const Array& dy_given, const Dims& x_shape, const Dims& pads,
                   const std::string& mode) {
    const char* op = "pad_backward";
    expect_f32(op, "dy", dy_given);
    expect_rank(op, "dy", dy_given, 4);
    ENGINE_CHECK(x_shape.n == 4, Kind::value, "[", op, "] expected x_shape (N, C, H, W), got ",
                 to_string(x_shape), ": pass the shape of the forward input");
    const Padding p = expect_padding(op, pads, mode);
    const int64_t in_h = x_shape[2], in_w = x_shape[3], channels = x_shape[1];
    const int64_t out_h = padded_size(op, "height", p.mode, in_h, p.top, p.bottom);
    const int64_t out_w = padded_size(op, "width", p.mode, in_w, p.left, p.right);
    const Dims expected{x_shape[0], channels, out_h, out_w};
    ENGINE_CHECK(dy_given.shape() == expected, Kind::value, "[", op, "] expected dy of shape ",
                 to_string(expected), " for x_shape ", to_string(x_shape), " and pads ",
                 to_string(pads), ", got ", to_string(dy_given.shape()),
                 ": pass the arguments of the forward call");
    const Array dx = empty(x_shape);
    if (dx.numel() == 0) return dx;
    const Array dy = as_pixels(dy_given);
    const std::vector<int32_t> y_map = pad_map(p.mode, in_h, p.top, out_h);
    const std::vector<int32_t> x_map = pad_map(p.mode, in_w, p.left, out_w);
    // The output rows that read each input row.
    std::vector<int32_t> y_begin(static_cast<size_t>(in_h) + 1, 0), y_list(y_map.size());
    for (int32_t i : y_map)
        if (i >= 0) ++y_begin[static_cast<size_t>(i) + 1];
    for (size_t i = 1; i < y_begin.size(); ++i) y_begin[i] += y_begin[i - 1];
    std::vector<int32_t> next(y_begin.begin(), y_begin.end() - 1);
    for (size_t o = 0; o < y_map.size(); ++o)
        if (y_map[o] >= 0)
            y_list[static_cast<size_t>(next[static_cast<size_t>(y_map[o])]++)] =
                static_cast<int32_t>(o);
    const int64_t ld = pixel_stride(dy);
    parallel_for(x_shape[0] * in_h, grain_of(2 * in_w * channels),
                 [&](int64_t begin, int64_t end, int) {
                     PadBackwardArgs a{};
                     a.dy = dy.f32(), a.dx = dx.f32();
                     a.dy_ld = ld, a.dx_ld = channels, a.channels = channels;
                     a.in_h = in_h, a.in_w = in_w, a.out_h = out_h, a.out_w = out_w;
                     a.y_begin = y_begin.data(), a.y_list = y_list.data(), a.x_map = x_map.data();
                     a.row_begin = begin, a.row_end = end;
                     kernels().pad_backward(a);
                 });
    return dx;
}

}  // namespace engine
