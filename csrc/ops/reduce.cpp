#include "ops/reduce.h"

#include <algorithm>
#include <limits>

#include "core/parallel.h"
#include "core/status.h"
#include "dispatch/table.h"
#include "ops/layout.h"

namespace engine {

namespace {

constexpr int64_t kChunk = 32768;   // elements per chunk when one output alone feeds all threads
constexpr int64_t kMaxChunks = 64;  // of one output
constexpr int64_t kPiece = 16384;   // elements of a contiguous run that are reduced in one call
constexpr int64_t kColumns = 512;   // outputs held on the stack
constexpr int64_t kRowBatch = 256;  // outputs held on the stack
constexpr int64_t kGrain = 32768;

const char* const kNames[] = {"sum", "mean", "max", "min", "prod"};

const char* name_of(ReduceOp op) { return kNames[static_cast<int>(op)]; }
using engine::name_of;

double identity(ReduceOp op) {
    switch (op) {
        case ReduceOp::max: return -std::numeric_limits<double>::infinity();
        case ReduceOp::min: return std::numeric_limits<double>::infinity();
        case ReduceOp::prod: return 1.0;
        default: return 0.0;
    }
}

// NaN wins in max and min.
double combine(ReduceOp op, double a, double b) {
    switch (op) {
        case ReduceOp::max: return b > a || b != b ? b : a;
        case ReduceOp::min: return b < a || b != b ? b : a;
        case ReduceOp::prod: return a * b;
        default: return a + b;
    }
}

// Normalised axes as flags; null means all.
struct AxisSet {
    bool reduced[Dims::kMaxRank] = {};
};

AxisSet axis_set(const char* op, const Array& a, const Dims* axes) {
    AxisSet set;
    if (!axes) {
        for (int i = 0; i < a.rank(); ++i) set.reduced[i] = true;
        return set;
    }
    for (int64_t axis : *axes) {
        const int rank = a.rank();
        if (rank == 0 && (axis == 0 || axis == -1)) continue;
        ENGINE_CHECK(axis >= -rank && axis < rank, Kind::index, "[", op, "] expected axes in ",
                     -rank, " .. ", rank - 1, " for shape ", to_string(a.shape()), ", got ", axis);
        bool& flag = set.reduced[axis < 0 ? axis + rank : axis];
        ENGINE_CHECK(!flag, Kind::value, "[", op, "] expected different axes, got axis ", axis,
                     " twice");
        flag = true;
    }
    return set;
}

Dims kept_shape(const Array& a, const AxisSet& set, bool keepdims) {
    Dims shape;
    for (int i = 0; i < a.rank(); ++i)
        if (!set.reduced[i])
            shape.push_back(a.dim(i));
        else if (keepdims)
            shape.push_back(1);
    return shape;
}

// One merged axis of the input: its size, its stride there and, when kept, in the output.
struct Axis {
    int64_t size, stride, out_stride;
    bool reduced;
};

struct Plan {
    int n = 0;
    Axis axes[Dims::kMaxRank];  // ascending input stride

    Plan(const Array& a, const AxisSet& set, const Dims& out_strides) {
        for (int i = 0; i < a.rank(); ++i) {
            if (a.dim(i) == 1) continue;
            axes[n++] = {a.dim(i), a.stride(i), set.reduced[i] ? 0 : out_strides[i],
                         set.reduced[i]};
        }
        std::stable_sort(axes, axes + n,
                         [](const Axis& x, const Axis& y) { return x.stride < y.stride; });
        int last = 0;
        for (int i = 1; i < n; ++i) {
            Axis& low = axes[last];
            const Axis& high = axes[i];
            if (low.reduced == high.reduced && high.stride == low.stride * low.size &&
                (low.reduced || high.out_stride == low.out_stride * low.size))
                low.size *= high.size;
            else
                axes[++last] = high;
        }
        if (n > 0) n = last + 1;
    }
};

// A list of axes walked as one index.
struct Walk {
    int n = 0;
    Axis axes[Dims::kMaxRank];

    int64_t size() const {
        int64_t product = 1;
        for (int i = 0; i < n; ++i) product *= axes[i].size;
        return product;
    }
    void locate(int64_t index, int64_t* offset, int64_t* out_offset) const {
        for (int i = 0; i < n; ++i) {
            const int64_t next = index / axes[i].size, at = index - next * axes[i].size;
            *offset += at * axes[i].stride;
            *out_offset += at * axes[i].out_stride;
            index = next;
        }
    }
};

struct Job {
    ReduceOp op;
    const float* src;
    float* dst;
    double scale;  // 1 / count for mean

    void finish(double value, float* out) const { *out = static_cast<float>(value * scale); }
};

// The innermost axis is reduced: each output is a number of contiguous runs of n elements.
void reduce_inner(const Job& job, int64_t n, const Walk& runs, const Walk& kept) {
    const int64_t outputs = kept.size(), run_count = runs.size();
    if (run_count == 1 && n <= 2 * kChunk) {
        // Short rows, perhaps many: the kernel walks the rows of the innermost kept axis.
        const int64_t rows = kept.n > 0 ? kept.axes[0].size : 1;
        const int64_t row_stride = kept.n > 0 ? kept.axes[0].stride : 0;
        const int64_t out_stride = kept.n > 0 ? kept.axes[0].out_stride : 0;
        parallel_for(outputs, kGrain / n, [&](int64_t begin, int64_t end, int) {
            double partial[kRowBatch];
            while (begin < end) {
                const int64_t count = std::min({rows - begin % rows, end - begin, kRowBatch});
                int64_t offset = 0, out_offset = 0;
                kept.locate(begin, &offset, &out_offset);
                std::fill(partial, partial + count, identity(job.op));
                kernels().reduce_rows({job.op, job.src + offset, partial, n, count, row_stride});
                for (int64_t i = 0; i < count; ++i)
                    job.finish(partial[i], job.dst + out_offset + i * out_stride);
                begin += count;
            }
        });
        return;
    }
    // Pieces of runs, grouped into chunks; partial results per (output, chunk).
    const int64_t pieces_per_run = (n + kPiece - 1) / kPiece;
    const int64_t pieces = run_count * pieces_per_run;
    const int64_t wanted = std::max<int64_t>(1, std::min(kMaxChunks, run_count * n / kChunk));
    const int64_t chunks = std::min(wanted, pieces);
    const Workspace space(static_cast<size_t>(outputs * chunks) * sizeof(double));
    auto* partial = static_cast<double*>(space.data());
    const int64_t unit = std::max<int64_t>(1, run_count * n / chunks);
    parallel_for(outputs * chunks, kGrain / unit, [&](int64_t begin, int64_t end, int) {
        for (int64_t u = begin; u < end; ++u) {
            const int64_t output = u / chunks, chunk = u % chunks;
            double value = identity(job.op);
            for (int64_t p = pieces * chunk / chunks; p < pieces * (chunk + 1) / chunks; ++p) {
                const int64_t run = p / pieces_per_run, from = (p % pieces_per_run) * kPiece;
                int64_t offset = from, unused = 0;
                kept.locate(output, &offset, &unused);
                runs.locate(run, &offset, &unused);
                kernels().reduce_rows(
                    {job.op, job.src + offset, &value, std::min(kPiece, n - from), 1, 0});
            }
            partial[u] = value;
        }
    });
    for (int64_t output = 0; output < outputs; ++output) {
        double value = partial[output * chunks];
        for (int64_t chunk = 1; chunk < chunks; ++chunk)
            value = combine(job.op, value, partial[output * chunks + chunk]);
        int64_t unused = 0, out_offset = 0;
        kept.locate(output, &unused, &out_offset);
        job.finish(value, job.dst + out_offset);
    }
}

// The innermost axis is kept: n contiguous columns are reduced over rows.
void reduce_outer(const Job& job, const Axis& inner, const Walk& rows, const Walk& kept) {
    const int64_t n = inner.size, row_count = rows.size(), outputs = kept.size();
    const int64_t step_count = rows.axes[0].size, step = rows.axes[0].stride;
    const int64_t blocks = (n + kColumns - 1) / kColumns;
    const int64_t width = std::min(n, kColumns);
    const int64_t chunks = std::max<int64_t>(
        1, std::min({kMaxChunks, row_count,
                     outputs * blocks >= kMaxChunks ? 1 : row_count * width / kChunk}));

    const auto reduce_rows_of = [&](int64_t output, int64_t column, int64_t count, int64_t first,
                                    int64_t last, double* partial) {
        std::fill(partial, partial + count, identity(job.op));
        while (first < last) {
            const int64_t taken = std::min(step_count - first % step_count, last - first);
            int64_t offset = column, unused = 0;
            kept.locate(output, &offset, &unused);
            rows.locate(first, &offset, &unused);
            kernels().reduce_columns({job.op, job.src + offset, partial, count, taken, step});
            first += taken;
        }
    };
    const auto write = [&](int64_t output, int64_t column, int64_t count, const double* values) {
        int64_t unused = 0, out_offset = 0;
        kept.locate(output, &unused, &out_offset);
        for (int64_t i = 0; i < count; ++i)
            job.finish(values[i], job.dst + out_offset + (column + i) * inner.out_stride);
    };

    const int64_t unit = std::max<int64_t>(1, row_count * width / chunks);
    if (chunks == 1) {
        parallel_for(outputs * blocks, kGrain / unit, [&](int64_t begin, int64_t end, int) {
            double partial[kColumns];
            for (int64_t u = begin; u < end; ++u) {
                const int64_t output = u / blocks, column = (u % blocks) * kColumns;
                const int64_t count = std::min(kColumns, n - column);
                reduce_rows_of(output, column, count, 0, row_count, partial);
                write(output, column, count, partial);
            }
        });
        return;
    }
    const Workspace space(static_cast<size_t>(outputs * blocks * chunks * kColumns) *
                          sizeof(double));
    auto* partial = static_cast<double*>(space.data());
    parallel_for(outputs * blocks * chunks, kGrain / unit, [&](int64_t begin, int64_t end, int) {
        for (int64_t u = begin; u < end; ++u) {
            const int64_t chunk = u % chunks, part = u / chunks;
            const int64_t output = part / blocks, column = (part % blocks) * kColumns;
            reduce_rows_of(output, column, std::min(kColumns, n - column),
                           row_count * chunk / chunks, row_count * (chunk + 1) / chunks,
                           partial + u * kColumns);
        }
    });
    for (int64_t part = 0; part < outputs * blocks; ++part) {
        const int64_t column = (part % blocks) * kColumns, count = std::min(kColumns, n - column);
        double* total = partial + part * chunks * kColumns;
        for (int64_t chunk = 1; chunk < chunks; ++chunk)
            for (int64_t i = 0; i < count; ++i)
                total[i] = combine(job.op, total[i], total[chunk * kColumns + i]);
        write(part / blocks, column, count, total);
    }
}

// dst: canonical for the kept shape with the reduced axes as 1.
void reduce_f32(ReduceOp op, const Array& a, const AxisSet& set, const Array& dst) {
    const Plan plan(a, set, dst.strides());
    int64_t count = 1;
    for (int i = 0; i < plan.n; ++i)
        if (plan.axes[i].reduced) count *= plan.axes[i].size;
    if (count == 1) {
        copy_into(dst, a);
        return;
    }
    if (plan.axes[0].stride != 1) {
        reduce_f32(op, contiguous(a), set, dst);
        return;
    }
    Walk reduced, kept;
    for (int i = 1; i < plan.n; ++i) {
        Walk& list = plan.axes[i].reduced ? reduced : kept;
        list.axes[list.n++] = plan.axes[i];
    }
    const double scale = op == ReduceOp::mean ? 1.0 / static_cast<double>(count) : 1.0;
    const Job job{op, a.f32(), dst.f32(), scale};
    if (plan.axes[0].reduced)
        reduce_inner(job, plan.axes[0].size, reduced, kept);
    else
        reduce_outer(job, plan.axes[0], reduced, kept);
}

// Kept axes first, reduced axes last, row-major: [outputs][count].
Array reduced_last(const Array& a, const AxisSet& set) {
    Dims order;
    for (int i = 0; i < a.rank(); ++i)
        if (!set.reduced[i]) order.push_back(i);
    for (int i = 0; i < a.rank(); ++i)
        if (set.reduced[i]) order.push_back(i);
    Dims shape, strides;
    for (int64_t axis : order) {
        shape.push_back(a.dim(static_cast<int>(axis)));
        strides.push_back(a.stride(static_cast<int>(axis)));
    }
    const Array permuted = a.view(shape, strides, a.offset());
    Dims row_major = shape;
    int64_t step = 1;
    for (int i = shape.n - 1; i >= 0; --i) {
        row_major[i] = step;
        step *= shape[i];
    }
    bool ordered = true;
    for (int i = 0; i < shape.n; ++i) ordered &= shape[i] == 1 || strides[i] == row_major[i];
    if (ordered) return permuted;
    const Array dense = empty(shape, a.dtype()).view(shape, row_major, 0);
    copy_into(dense, permuted);
    return dense;
}

template <class T, class R>
void reduce_integers(ReduceOp op, const T* src, int64_t outputs, int64_t count, R* dst) {
    for (int64_t o = 0; o < outputs; ++o, src += count) {
        // unsigned, so that overflow wraps instead of being undefined
        uint64_t sum = 0, product = 1;
        R best = count > 0 ? static_cast<R>(src[0]) : R{0};
        for (int64_t i = 0; i < count; ++i) {
            if (op == ReduceOp::sum)
                sum += static_cast<uint64_t>(src[i]);
            else if (op == ReduceOp::prod)
                product *= static_cast<uint64_t>(src[i]);
            else if (op == ReduceOp::max ? src[i] > best : src[i] < best)
                best = static_cast<R>(src[i]);
        }
        dst[o] = op == ReduceOp::sum    ? static_cast<R>(sum)
                 : op == ReduceOp::prod ? static_cast<R>(product)
                                        : best;
    }
}

// The result seen without its axes of size 1 that were reduced; canonical.
Array drop_axes(const Array& result, const AxisSet& set) {
    Dims shape, strides;
    for (int i = 0; i < result.rank(); ++i)
        if (!set.reduced[i]) {
            shape.push_back(result.dim(i));
            strides.push_back(result.stride(i));
        }
    return contiguous(result.view(shape, strides, result.offset()));
}

}  // namespace

ReduceOp reduce_op_from_name(std::string_view name) {
    for (int i = 0; i < 5; ++i)
        if (name == kNames[i]) return static_cast<ReduceOp>(i);
    fail(Kind::value, "[reduce] expected one of sum mean max min prod, got '", name, "'");
}

Array reduce(ReduceOp op, const Array& a, const Dims* axes, bool keepdims) {
    const AxisSet set = axis_set(name_of(op), a, axes);
    const Dims one_shape = kept_shape(a, set, true);
    const bool integral = a.dtype() != DType::f32 && op != ReduceOp::mean;
    if (a.numel() == 0) {
        ENGINE_CHECK((op != ReduceOp::max && op != ReduceOp::min) || numel(one_shape) == 0,
                     Kind::value, "[", name_of(op),
                     "] expected at least one element to reduce, got shape ", to_string(a.shape()),
                     ": an empty array has no ", name_of(op));
        const double value =
            op == ReduceOp::mean ? std::numeric_limits<double>::quiet_NaN() : identity(op);
        return full(kept_shape(a, set, keepdims), value, integral ? DType::i64 : DType::f32);
    }
    if (integral) {
        const bool keeps_type = op == ReduceOp::max || op == ReduceOp::min;
        const bool bytes = a.dtype() == DType::b8 || a.dtype() == DType::u8;
        const Array source =
            reduced_last(bytes || a.dtype() == DType::i64 ? a : cast(a, DType::i64), set);
        const int64_t outputs = numel(one_shape), count = a.numel() / outputs;
        const Dims shape = kept_shape(a, set, keepdims);
        // computed in logical order, then laid out canonically
        Array result = empty({outputs}, keeps_type && bytes ? a.dtype() : DType::i64);
        if (!bytes)
            reduce_integers(op, source.ptr<int64_t>(), outputs, count, result.ptr<int64_t>());
        else if (keeps_type)
            reduce_integers(op, source.ptr<uint8_t>(), outputs, count, result.ptr<uint8_t>());
        else
            reduce_integers(op, source.ptr<uint8_t>(), outputs, count, result.ptr<int64_t>());
        result = contiguous(reshape(result, shape));
        return keeps_type && a.dtype() == DType::i32 ? cast(result, DType::i32) : result;
    }
    const Array source = a.dtype() == DType::f32 ? a : cast(a, DType::f32);
    Array result = empty(one_shape);
    reduce_f32(op, source, set, result);
    return keepdims ? result : drop_axes(result, set);
}

Array argreduce(ReduceOp op, const Array& a, int64_t axis, bool all, bool keepdims) {
    const char* name = op == ReduceOp::max ? "argmax" : "argmin";
    ENGINE_CHECK(op == ReduceOp::max || op == ReduceOp::min, Kind::value,
                 "[argreduce] expected op max or min, got '", name_of(op), "'");
    const Dims axes{axis};
    const AxisSet set = axis_set(name, a, all ? nullptr : &axes);
    const Dims shape = kept_shape(a, set, keepdims);
    const int64_t outputs = numel(kept_shape(a, set, true));
    if (outputs == 0) return empty(shape, DType::i64);
    ENGINE_CHECK(a.numel() > 0, Kind::value, "[", name,
                 "] expected at least one element, got shape ", to_string(a.shape()),
                 ": an empty array has no largest element");
    const int64_t count = a.numel() / outputs;
    const bool whole = a.dtype() == DType::i64 || a.dtype() == DType::i32;
    const DType type = whole ? DType::i64 : DType::f32;
    const Array source = reduced_last(a.dtype() == type ? a : cast(a, type), set);
    Array result = empty({outputs}, DType::i64);
    auto* out = result.ptr<int64_t>();
    const bool smallest = op == ReduceOp::min;
    if (whole) {
        const auto* src = source.ptr<int64_t>();
        for (int64_t o = 0; o < outputs; ++o, src += count)
            out[o] = (smallest ? std::min_element(src, src + count)
                               : std::max_element(src, src + count)) -
                     src;
    } else {
        parallel_for(outputs, kGrain / count, [&](int64_t begin, int64_t end, int) {
            kernels().argreduce_rows(
                {source.f32() + begin * count, out + begin, count, end - begin, count, smallest});
        });
    }
    return contiguous(reshape(result, shape));
}

Array sum_to(const Array& a, const Dims& shape) {
    if (a.shape() == shape) return a;
    const int extra = a.rank() - shape.n;
    Dims axes;
    bool fits = extra >= 0;
    for (int i = 0; fits && i < a.rank(); ++i) {
        const int64_t size = i < extra ? 1 : shape[i - extra];
        fits = size == 1 || size == a.dim(i);
        if (i < extra || (size == 1 && a.dim(i) != 1)) axes.push_back(i);
    }
    ENGINE_CHECK(fits, Kind::value, "[sum_to] expected a shape that broadcasts to ",
                 to_string(a.shape()), ", got ", to_string(shape));
    Array sum = axes.n > 0 ? reduce(ReduceOp::sum, a, &axes, true) : a;
    Dims strides;
    strides.n = shape.n;
    for (int i = 0; i < shape.n; ++i) strides[i] = sum.stride(i + extra);
    return contiguous(sum.view(shape, strides, sum.offset()));
}

}  // namespace engine
