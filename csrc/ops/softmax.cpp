#include "ops/softmax.h"

#include <algorithm>

#include "core/parallel.h"
#include "core/status.h"
#include "dispatch/table.h"
#include "ops/layout.h"

namespace engine {

namespace {

constexpr int64_t kGrain = 4096;  // elements per thread: an exponential each

int check_axis(const char* op, const Array& x, int64_t axis) {
    const int rank = std::max(x.rank(), 1);
    ENGINE_CHECK(axis >= -rank && axis < rank, Kind::index, "[", op, "] expected an axis in ",
                 -rank, " .. ", rank - 1, " for shape ", to_string(x.shape()), ", got ", axis);
    return static_cast<int>(axis < 0 ? axis + rank : axis);
}

Array dense(const Array& a) { return a.is_dense() ? a : contiguous(a); }

// Dense memory as [outer][n][inner].
struct Extents {
    int64_t outer, n, inner;

    Extents(const Array& a, int axis) : outer(1), n(1), inner(1) {
        if (a.rank() == 0) return;
        n = a.dim(axis);
        if (n > 1) {
            inner = a.stride(axis);
            outer = a.numel() / (n * inner);
        } else {
            outer = a.numel();
        }
    }
};

}  // namespace

Array softmax(const Array& input, int64_t axis, bool log) {
    const char* op = log ? "log_softmax" : "softmax";
    expect_f32(op, "x", input);
    const int which = check_axis(op, input, axis);
    const Array x = dense(input);
    Array y = empty_like(x);
    if (x.numel() == 0) return y;
    const Extents e(x, which);
    parallel_for(e.outer, kGrain / (e.n * e.inner), [&](int64_t begin, int64_t end, int) {
        const int64_t start = begin * e.n * e.inner;
        kernels().softmax_forward(
            {x.f32() + start, y.f32() + start, end - begin, e.n, e.inner, log});
    });
    return y;
}

Array softmax_backward(const Array& dy_given, const Array& y_given, int64_t axis, bool log) {
    const char* op = log ? "log_softmax" : "softmax";
    expect_f32(op, "dy", dy_given);
    expect_f32(op, "y", y_given);
    ENGINE_CHECK(dy_given.shape() == y_given.shape(), Kind::value, "[", op,
                 "] expected dy of shape ", to_string(y_given.shape()), ", got ",
                 to_string(dy_given.shape()));
    const int which = check_axis(op, y_given, axis);
    const Array y = dense(y_given);
    Array dx = empty_like(y);
    if (y.numel() == 0) return dx;
    Array dy = dy_given;
    if (dy.strides() != dx.strides()) {
        dy = empty_like(dx);
        copy_into(dy, dy_given);
    }
    const Extents e(y, which);
    parallel_for(e.outer, kGrain / (e.n * e.inner), [&](int64_t begin, int64_t end, int) {
        const int64_t start = begin * e.n * e.inner;
        kernels().softmax_backward(
            {dy.f32() + start, y.f32() + start, dx.f32() + start, end - begin, e.n, e.inner, log});
    });
    return dx;
}

Reduction reduction_from_name(std::string_view name) {
    if (name == "none") return Reduction::none;
    if (name == "mean") return Reduction::mean;
    if (name == "sum") return Reduction::sum;
    fail(Kind::value, "[cross_entropy] expected reduction 'none', 'mean' or 'sum', got '", name,
         "'");
}

namespace {

// Shape of an array (N, C, d...) with the class axis moved to the end.
Dims classes_last_shape(const Dims& shape) {
    Dims moved;
    for (int i = 0; i < shape.n; ++i)
        if (i != 1) moved.push_back(shape[i]);
    moved.push_back(shape[1]);
    return moved;
}

Dims row_major(const Dims& shape) {
    Dims strides = shape;
    int64_t step = 1;
    for (int i = shape.n - 1; i >= 0; --i) {
        strides[i] = step;
        step *= shape[i];
    }
    return strides;
}

// Strides of an array (N, C, d...) stored as rows of classes, [N][d...][C]. For rank 2 and 4 these
// are the canonical ones.
Dims class_row_strides(const Dims& shape) {
    const Dims moved = row_major(classes_last_shape(shape));
    Dims strides = shape;
    int at = 0;
    for (int i = 0; i < shape.n; ++i)
        if (i != 1) strides[i] = moved[at++];
    strides[1] = 1;
    return strides;
}

Array empty_class_rows(const Dims& shape) {
    return empty(shape).view(shape, class_row_strides(shape), 0);
}

Array as_class_rows(const Array& a) {
    const Dims wanted = class_row_strides(a.shape());
    bool same = true;
    for (int i = 0; i < a.rank(); ++i) same &= a.dim(i) == 1 || a.stride(i) == wanted[i];
    if (same) return a;
    const Array rows = empty_class_rows(a.shape());
    copy_into(rows, a);
    return rows;
}

// Row-major, whatever the rank: the order of the rows of classes.
Array as_row_major(const Array& a) {
    const Dims wanted = row_major(a.shape());
    bool same = true;
    for (int i = 0; i < a.rank(); ++i) same &= a.dim(i) == 1 || a.stride(i) == wanted[i];
    if (same) return a;
    const Array rows = empty(a.shape(), a.dtype()).view(a.shape(), wanted, 0);
    copy_into(rows, a);
    return rows;
}

Dims target_shape(const Dims& logits) {
    Dims shape;
    for (int i = 0; i < logits.n; ++i)
        if (i != 1) shape.push_back(logits[i]);
    return shape;
}

struct Inputs {
    Array target, weight;  // weight undefined when there is none
    int64_t rows, classes;
};

Inputs check_inputs(const Array& logits, const Array& target, const Array* weight,
                    int64_t ignore_index, double label_smoothing) {
    const char* op = "cross_entropy";
    expect_f32(op, "logits", logits);
    ENGINE_CHECK(logits.rank() >= 2, Kind::value,
                 "[cross_entropy] expected logits of shape (N, C) or (N, C, H, W), got ",
                 to_string(logits.shape()), ": add the batch axis with unsqueeze(0)");
    ENGINE_CHECK(target.dtype() == DType::i64 || target.dtype() == DType::i32, Kind::type,
                 "[cross_entropy] expected target of dtype int64 (class indices), got ",
                 name_of(target.dtype()),
                 ": convert it with .long(), or pass class probabilities of the "
                 "logits' shape");
    const Dims expected = target_shape(logits.shape());
    ENGINE_CHECK(target.shape() == expected, Kind::value,
                 "[cross_entropy] expected target of shape ", to_string(expected),
                 " for logits of shape ", to_string(logits.shape()), ", got ",
                 to_string(target.shape()), ": one class index per sample");
    ENGINE_CHECK(label_smoothing >= 0.0 && label_smoothing <= 1.0, Kind::value,
                 "[cross_entropy] expected label_smoothing in 0 .. 1, got ", label_smoothing);
    Inputs in;
    in.classes = logits.dim(1);
    in.target = as_row_major(target.dtype() == DType::i64 ? target : cast(target, DType::i64));
    in.rows = in.target.numel();
    if (weight) {
        expect_f32(op, "weight", *weight);
        ENGINE_CHECK(weight->rank() == 1 && weight->dim(0) == in.classes, Kind::value,
                     "[cross_entropy] expected weight of shape (", in.classes,
                     ",), one per class, got ", to_string(weight->shape()));
        in.weight = contiguous(*weight);
    }
    const auto* t = in.target.ptr<int64_t>();
    for (int64_t i = 0; i < in.rows; ++i)
        ENGINE_CHECK((t[i] >= 0 && t[i] < in.classes) || t[i] == ignore_index, Kind::index,
                     "[cross_entropy] expected targets in 0 .. ", in.classes - 1,
                     " (or ignore_index ", ignore_index, "), got ", t[i], " at position ", i,
                     ": the last layer needs one output per class");
    return in;
}

double sum_in_double(const float* values, int64_t n) {
    double sum = 0.0;
    for (int64_t i = 0; i < n; ++i) sum += values[i];
    return sum;
}

}  // namespace

CrossEntropy cross_entropy(const Array& given, const Array& target, const Array* weight,
                           int64_t ignore_index, double label_smoothing, Reduction reduction) {
    const Inputs in = check_inputs(given, target, weight, ignore_index, label_smoothing);
    const Array logits = as_class_rows(given);
    CrossEntropy result;
    result.log_probs = empty_class_rows(given.shape());
    result.total_weight = empty({});
    Array row_loss = empty({in.rows});
    const Workspace row_weight(static_cast<size_t>(in.rows) * sizeof(float));
    if (in.classes > 0)
        parallel_for(in.rows, kGrain / in.classes, [&](int64_t begin, int64_t end, int) {
            kernels().cross_entropy_forward(
                {logits.f32() + begin * in.classes, in.target.ptr<int64_t>() + begin,
                 in.weight.defined() ? in.weight.f32() : nullptr,
                 result.log_probs.f32() + begin * in.classes, row_loss.f32() + begin,
                 row_weight.f32() + begin, end - begin, in.classes, ignore_index,
                 static_cast<float>(label_smoothing)});
        });
    else
        fill(row_loss, 0.0), std::fill(row_weight.f32(), row_weight.f32() + in.rows, 0.f);
    const double total_weight = sum_in_double(row_weight.f32(), in.rows);
    *result.total_weight.f32() = static_cast<float>(total_weight);
    if (reduction == Reduction::none) {
        result.loss = contiguous(reshape(row_loss, target.shape()));
    } else {
        const double sum = sum_in_double(row_loss.f32(), in.rows);
        result.loss = empty({});
        // no counted target: 0 / 0 = NaN, as in torch
        *result.loss.f32() =
            static_cast<float>(reduction == Reduction::mean ? sum / total_weight : sum);
    }
    return result;
}

Array cross_entropy_backward(const Array& dloss, const Array& log_probs_given, const Array& target,
                             const Array* weight, int64_t ignore_index, double label_smoothing,
                             Reduction reduction, const Array& total_weight) {
    const Inputs in = check_inputs(log_probs_given, target, weight, ignore_index, label_smoothing);
    expect_f32("cross_entropy", "dloss", dloss);
    const bool per_row = reduction == Reduction::none;
    ENGINE_CHECK(per_row ? dloss.shape() == target.shape() : dloss.numel() == 1, Kind::value,
                 "[cross_entropy] expected dloss of ",
                 per_row ? "the target's shape" : "one element", ", got shape ",
                 to_string(dloss.shape()));
    const Array log_probs = as_class_rows(log_probs_given);
    const Array dloss_rows = as_row_major(dloss);
    Array dlogits = empty_class_rows(log_probs.shape());
    float scale = 1.f;
    if (reduction == Reduction::mean) {
        expect_f32("cross_entropy", "total_weight", total_weight);
        scale = 1.f / *total_weight.f32();
    }
    if (in.classes == 0) return dlogits;
    parallel_for(in.rows, kGrain / in.classes, [&](int64_t begin, int64_t end, int) {
        kernels().cross_entropy_backward(
            {log_probs.f32() + begin * in.classes, in.target.ptr<int64_t>() + begin,
             in.weight.defined() ? in.weight.f32() : nullptr,
             dloss_rows.f32() + (per_row ? begin : 0), dlogits.f32() + begin * in.classes,
             end - begin, in.classes, ignore_index, per_row, scale,
             static_cast<float>(label_smoothing)});
    });
    return dlogits;
}

}  // namespace engine
