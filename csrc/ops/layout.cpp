#include "ops/layout.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "core/parallel.h"
#include "core/status.h"
#include "dispatch/table.h"

namespace engine {

namespace {

// A copy as nested loops over at most kMaxRank merged axes, ordered by dst's strides.
struct Loops {
    int n = 0;
    int64_t size[Dims::kMaxRank], src[Dims::kMaxRank], dst[Dims::kMaxRank];
};

Loops plan(const Dims& shape, const Dims& src, const Dims& dst) {
    int axes[Dims::kMaxRank];
    int n = 0;
    for (int i = 0; i < shape.n; ++i) {
        if (shape[i] == 1) continue;
        int at = n++;  // insertion sort, widest stride of dst outermost
        for (; at > 0 && std::llabs(dst[axes[at - 1]]) < std::llabs(dst[i]); --at)
            axes[at] = axes[at - 1];
        axes[at] = i;
    }
    Loops loops;
    for (int i = 0; i < n; ++i) {
        const int64_t size = shape[axes[i]], s = src[axes[i]], d = dst[axes[i]];
        int last = loops.n - 1;
        if (last >= 0 && loops.src[last] == s * size && loops.dst[last] == d * size) {
            loops.size[last] *= size;
            loops.src[last] = s;
            loops.dst[last] = d;
        } else {
            loops.size[loops.n] = size, loops.src[loops.n] = s, loops.dst[loops.n] = d;
            ++loops.n;
        }
    }
    if (loops.n == 0) loops.size[0] = 1, loops.src[0] = loops.dst[0] = 1, loops.n = 1;
    return loops;
}

// Innermost two axes: rows of memcpy, or a transpose in blocks that keep both sides in cache.
template <class T>
void copy_plane(const T* src, T* dst, int64_t rows, int64_t src_row, int64_t dst_row,
                int64_t columns, int64_t src_column, int64_t dst_column) {
    if (src_column == 1 && dst_column == 1) {
        for (int64_t i = 0; i < rows; ++i)
            std::memcpy(dst + i * dst_row, src + i * src_row,
                        static_cast<size_t>(columns) * sizeof(T));
        return;
    }
    constexpr int64_t kBlock = 16;
    for (int64_t i0 = 0; i0 < rows; i0 += kBlock)
        for (int64_t j0 = 0; j0 < columns; j0 += kBlock) {
            const int64_t i1 = std::min(rows, i0 + kBlock), j1 = std::min(columns, j0 + kBlock);
            for (int64_t i = i0; i < i1; ++i)
                for (int64_t j = j0; j < j1; ++j)
                    dst[i * dst_row + j * dst_column] = src[i * src_row + j * src_column];
        }
}

template <class T>
void copy_loops(const T* src, T* dst, const Loops& loops) {
    if (loops.n == 1) {
        const int64_t from = loops.src[0], to = loops.dst[0];
        constexpr int64_t kLine = 64, kElements = kLine / static_cast<int64_t>(sizeof(T));
        const int64_t lines = loops.size[0] / kElements;
        if (from == 1 && to == 1 && lines * kLine >= kStreamBytes &&
            reinterpret_cast<uintptr_t>(dst) % kLine == 0) {
            parallel_for(lines, 1024, [&](int64_t begin, int64_t end, int) {
                kernels().copy_rows({reinterpret_cast<const char*>(src + begin * kElements),
                                     reinterpret_cast<char*>(dst + begin * kElements), 0, 0,
                                     (end - begin) * kLine, 1, true});
            });
            const int64_t done = lines * kElements;
            return copy_plane(src + done, dst + done, 1, 0, 0, loops.size[0] - done, 1, 1);
        }
        parallel_for(loops.size[0], 16384, [&](int64_t begin, int64_t end, int) {
            copy_plane(src + begin * from, dst + begin * to, 1, 0, 0, end - begin, from, to);
        });
        return;
    }
    // The plane: dst's innermost axis and, so that one of the two runs along src's memory, the axis
    // with src's smallest stride (else the next axis out).
    const int inner = loops.n - 1;
    int other = -1;
    for (int i = 0; i < inner; ++i)
        if (other < 0 || std::llabs(loops.src[i]) <= std::llabs(loops.src[other])) other = i;
    const int64_t rows = other >= 0 ? loops.size[other] : 1;
    const int64_t src_row = other >= 0 ? loops.src[other] : 0,
                  dst_row = other >= 0 ? loops.dst[other] : 0;
    int outer[Dims::kMaxRank], m = 0;
    int64_t planes = 1;
    for (int i = 0; i < inner; ++i)
        if (i != other) outer[m++] = i, planes *= loops.size[i];
    const int64_t columns = loops.size[inner];
    // With a single plane the rows are what is shared out.
    const int64_t splits = planes == 1 ? std::max<int64_t>(1, rows / 64) : 1;
    parallel_for(planes * splits,
                 std::max<int64_t>(1, 16384 * splits / std::max<int64_t>(1, rows * columns)),
                 [&](int64_t begin, int64_t end, int) {
                     for (int64_t item = begin; item < end; ++item) {
                         int64_t index = item / splits, s = 0, d = 0;
                         for (int i = m - 1; i >= 0; --i) {
                             const int64_t position = index % loops.size[outer[i]];
                             index /= loops.size[outer[i]];
                             s += position * loops.src[outer[i]];
                             d += position * loops.dst[outer[i]];
                         }
                         const int64_t first = rows * (item % splits) / splits;
                         const int64_t last = rows * (item % splits + 1) / splits;
                         copy_plane(src + s + first * src_row, dst + d + first * dst_row,
                                    last - first, src_row, dst_row, columns, loops.src[inner],
                                    loops.dst[inner]);
                     }
                 });
}

void copy_same_dtype(const Array& src, const Array& dst) {
    if (src.numel() == 0) return;
    const Loops loops = plan(src.shape(), src.strides(), dst.strides());
    switch (size_of(src.dtype())) {
        case 1: copy_loops(src.ptr<uint8_t>(), dst.ptr<uint8_t>(), loops); break;
        case 4: copy_loops(src.ptr<uint32_t>(), dst.ptr<uint32_t>(), loops); break;
        default: copy_loops(src.ptr<uint64_t>(), dst.ptr<uint64_t>(), loops); break;
    }
}

template <class To, class From>
To convert(From value) {
    if constexpr (std::is_same_v<To, bool>) return value != 0;
    if constexpr (std::is_floating_point_v<From> && !std::is_floating_point_v<To>) {
        // Out of range is undefined in C++: made a plain 0.
        constexpr double low = static_cast<double>(std::numeric_limits<To>::min());
        constexpr double high = static_cast<double>(std::numeric_limits<To>::max());
        const double wide = static_cast<double>(value);
        return wide > low - 1 && wide < high + 1 ? static_cast<To>(value) : To(0);
    }
    return static_cast<To>(value);
}

template <class To, class From>
void convert_run(const Array& src, const Array& dst) {
    const From* from = src.ptr<From>();
    To* to = dst.ptr<To>();
    parallel_for(src.numel(), 65536, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) to[i] = convert<To, From>(from[i]);
    });
}

template <class F>
void with_dtype(DType dtype, F&& f) {
    switch (dtype) {
        case DType::f32: f(float()); break;
        case DType::i64: f(int64_t()); break;
        case DType::i32: f(int32_t()); break;
        case DType::u8: f(uint8_t()); break;
        case DType::b8: f(bool()); break;
    }
}

// The byte range an array touches, for overlap tests.
std::pair<const char*, const char*> span(const Array& a) {
    int64_t low = 0, high = 0;
    for (int i = 0; i < a.rank(); ++i) {
        const int64_t reach = (a.dim(i) - 1) * a.stride(i);
        (reach < 0 ? low : high) += reach;
    }
    const auto size = static_cast<int64_t>(size_of(a.dtype()));
    const char* base = a.ptr<char>();
    return {base + low * size, base + (high + 1) * size};
}

}  // namespace

bool can_stream(const Array& a, int64_t channels) {
    return channels % kernels().lanes == 0 && pixel_stride(a) % kernels().lanes == 0 &&
           reinterpret_cast<uintptr_t>(a.raw()) % kAlignment == 0;
}

bool streams(const Array& a, int64_t channels) {
    const auto bytes = static_cast<int64_t>(sizeof(float)) * a.numel();
    return bytes >= kStreamBytes && can_stream(a, channels);
}

bool streams(const float* to, int64_t row, int64_t rows, int64_t columns, int64_t least) {
    const int64_t floats = kAlignment / sizeof(float);
    return rows * columns * static_cast<int64_t>(sizeof(float)) >= least && columns % floats == 0 &&
           row % floats == 0 && reinterpret_cast<uintptr_t>(to) % kAlignment == 0;
}

Array copy(const Array& a) {
    Array out = empty(a.shape(), a.dtype());
    copy_same_dtype(a, out);
    return out;
}

Array contiguous(const Array& a) { return a.is_canonical() ? a : copy(a); }

Array cast(const Array& a, DType dtype) {
    if (a.dtype() == dtype) return a;
    const Array src = a.is_dense() ? a : contiguous(a);
    Array out = empty_like(src, dtype);
    with_dtype(src.dtype(), [&](auto from) {
        with_dtype(dtype, [&](auto to) { convert_run<decltype(to), decltype(from)>(src, out); });
    });
    return out;
}

void copy_into(const Array& dst, const Array& src) {
    Array from = src.shape() == dst.shape() ? src : expand(src, dst.shape());
    if (from.dtype() != dst.dtype()) from = cast(from, dst.dtype());
    if (from.numel() == 0) return;
    if (from.storage() == dst.storage()) {
        const auto a = span(from), b = span(dst);
        if (a.first < b.second && b.first < a.second) from = copy(from);
    }
    copy_same_dtype(from, dst);
    dst.mark_written();
}

void fill(const Array& a, double value) { copy_into(a, full({}, value, a.dtype())); }

Array full(const Dims& shape, double value, DType dtype) {
    Array out = empty(shape, dtype);
    const int64_t count = out.numel();
    with_dtype(dtype, [&](auto zero) {
        using T = decltype(zero);
        T* p = out.ptr<T>();
        const T converted = convert<T, double>(value);
        parallel_for(count, 65536, [&](int64_t begin, int64_t end, int) {
            std::fill(p + begin, p + end, converted);
        });
    });
    return out;
}

Array arange(double start, double stop, double step, DType dtype) {
    ENGINE_CHECK(step != 0 && std::isfinite(start) && std::isfinite(stop) && std::isfinite(step),
                 Kind::value, "[arange] expected finite start, stop and a step other than 0, got ",
                 start, ", ", stop, ", ", step);
    const double length = std::ceil((stop - start) / step);
    ENGINE_CHECK(length < 1e15, Kind::memory, "[arange] ", length,
                 " elements do not fit into memory");
    const auto count = static_cast<int64_t>(std::max(0.0, length));
    Array out = empty({count}, dtype);
    with_dtype(dtype, [&](auto zero) {
        using T = decltype(zero);
        T* p = out.ptr<T>();
        for (int64_t i = 0; i < count; ++i)
            p[i] = convert<T, double>(start + static_cast<double>(i) * step);
    });
    return out;
}

Array permute(const Array& a, const Dims& axes) {
    ENGINE_CHECK(axes.n == a.rank(), Kind::value, "[permute] expected ", a.rank(),
                 " axes for shape ", to_string(a.shape()), ", got ", to_string(axes));
    Dims shape, strides;
    bool seen[Dims::kMaxRank] = {};
    for (int64_t axis : axes) {
        if (axis < 0) axis += a.rank();
        ENGINE_CHECK(axis >= 0 && axis < a.rank() && !seen[axis], Kind::value,
                     "[permute] expected each axis of shape ", to_string(a.shape()), " once, got ",
                     to_string(axes));
        seen[axis] = true;
        shape.push_back(a.dim(static_cast<int>(axis)));
        strides.push_back(a.stride(static_cast<int>(axis)));
    }
    return a.view(shape, strides, a.offset());
}

Array slice(const Array& a, const Dims& starts, const Dims& stops, const Dims& steps) {
    ENGINE_CHECK(starts.n == a.rank() && stops.n == a.rank() && steps.n == a.rank(), Kind::value,
                 "[slice] expected one start, stop and step per axis of shape ",
                 to_string(a.shape()));
    Dims shape, strides;
    int64_t offset = a.offset();
    for (int i = 0; i < a.rank(); ++i) {
        const int64_t size = a.dim(i), step = steps[i];
        ENGINE_CHECK(step != 0, Kind::value, "[slice] expected a step other than 0");
        const int64_t count =
            std::max<int64_t>(0, step > 0 ? (stops[i] - starts[i] + step - 1) / step
                                          : (starts[i] - stops[i] - step - 1) / -step);
        ENGINE_CHECK(count == 0 || (starts[i] >= 0 && starts[i] < size &&
                                    starts[i] + (count - 1) * step >= 0 &&
                                    starts[i] + (count - 1) * step < size),
                     Kind::index, "[slice] range ", starts[i], ":", stops[i], ":", step,
                     " leaves axis ", i, " of size ", size);
        shape.push_back(count);
        strides.push_back(a.stride(i) * step);
        if (count > 0) offset += starts[i] * a.stride(i);
    }
    return a.view(shape, strides, offset);
}

Array expand(const Array& a, const Dims& shape) {
    const int lead = shape.n - a.rank();
    ENGINE_CHECK(lead >= 0, Kind::value, "[expand] expected at least ", a.rank(),
                 " axes for shape ", to_string(a.shape()), ", got ", to_string(shape));
    Dims sizes, strides;
    for (int i = 0; i < shape.n; ++i) {
        const int64_t have = i < lead ? 1 : a.dim(i - lead);
        const int64_t want = shape[i] == -1 && i >= lead ? have : shape[i];
        ENGINE_CHECK(want >= 0 && (have == want || have == 1), Kind::value, "[expand] shape ",
                     to_string(a.shape()), " does not broadcast to ", to_string(shape), ": axis ",
                     i, " has ", have, ", expected ", want, " or 1");
        sizes.push_back(want);
        strides.push_back(have == want && i >= lead ? a.stride(i - lead) : 0);
    }
    (void)numel(sizes);  // overflow check
    return a.view(sizes, strides, a.offset());
}

namespace {

// Strides of `a` seen with `shape`, when no copy is needed.
bool view_strides(const Array& a, const Dims& shape, Dims* out) {
    // Groups of old axes against groups of new axes with the same number of elements.
    out->n = shape.n;
    int o = 0;
    Dims old_size, old_stride;
    for (int i = 0; i < a.rank(); ++i)
        if (a.dim(i) != 1) old_size.push_back(a.dim(i)), old_stride.push_back(a.stride(i));
    int i = 0;
    while (i < shape.n) {
        if (shape[i] == 1) {
            (*out)[i++] = 1;
            continue;
        }
        if (o >= old_size.n) return false;
        int64_t have = old_size[o], want = shape[i];
        const int first_old = o, first_new = i;
        while (have != want) {
            if (have < want) {
                if (++o >= old_size.n) return false;
                have *= old_size[o];
            } else {
                if (++i >= shape.n) return false;
                want *= shape[i];
            }
        }
        for (int k = first_old; k < o; ++k)
            if (old_stride[k] != old_stride[k + 1] * old_size[k + 1]) return false;
        int64_t step = old_stride[o];
        for (int k = i; k >= first_new; --k) {
            (*out)[k] = step;
            step *= shape[k];
        }
        ++i, ++o;
    }
    return o == old_size.n;
}

}  // namespace

Array reshape(const Array& a, const Dims& wanted) {
    Dims shape = wanted;
    int unknown = -1;
    int64_t known = 1;
    for (int i = 0; i < shape.n; ++i) {
        ENGINE_CHECK(shape[i] >= -1, Kind::value, "[reshape] expected sizes >= 0 or one -1, got ",
                     to_string(wanted));
        if (shape[i] == -1) {
            ENGINE_CHECK(unknown < 0, Kind::value, "[reshape] expected at most one -1, got ",
                         to_string(wanted));
            unknown = i;
        } else {
            ENGINE_CHECK(!__builtin_mul_overflow(known, shape[i], &known), Kind::value,
                         "[reshape] shape ", to_string(wanted), " is too large");
        }
    }
    const int64_t count = a.numel();
    if (unknown >= 0) {
        ENGINE_CHECK(known > 0 && count % known == 0, Kind::value, "[reshape] shape ",
                     to_string(wanted), " is invalid for input of size ", count, " (shape ",
                     to_string(a.shape()), ")");
        shape[unknown] = count / known;
        known *= shape[unknown];
    }
    ENGINE_CHECK(known == count, Kind::value, "[reshape] shape ", to_string(wanted),
                 " is invalid for input of size ", count, " (shape ", to_string(a.shape()), ")");
    if (shape == a.shape()) return a;
    if (count == 0) return a.view(shape, canonical_strides(shape), a.offset());
    Dims strides;
    if (view_strides(a, shape, &strides)) {
        Array out = a.view(shape, strides, a.offset());
        // A rank-4 view whose channels are not adjacent is legal; kernels copy where they must.
        return out;
    }
    Array out = empty(shape, a.dtype());
    // Write through a view of the output with the input's shape when that exists (flatten), else
    // via a row-major buffer.
    Dims back;
    if (view_strides(out, a.shape(), &back)) {
        copy_same_dtype(a, out.view(a.shape(), back, 0));
        return out;
    }
    Array flat = empty({count}, a.dtype());
    Dims row_major;
    view_strides(flat, a.shape(), &row_major);
    copy_same_dtype(a, flat.view(a.shape(), row_major, 0));
    view_strides(flat, shape, &row_major);
    copy_same_dtype(flat.view(shape, row_major, 0), out);
    return out;
}

}  // namespace engine
