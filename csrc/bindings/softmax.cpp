#include "ops/softmax.h"

#include <string_view>

#include "bindings/bindings.h"

namespace engine {

void bind_softmax(py::module_& m) {
    using py::arg;
    m.def(
        "softmax", [](const Array& x, int64_t axis) { return softmax(x, axis, false); }, arg("x"),
        arg("axis"), NoGil());
    m.def(
        "softmax_backward",
        [](const Array& dy, const Array& y, int64_t axis) {
            return softmax_backward(dy, y, axis, false);
        },
        arg("dy"), arg("y"), arg("axis"), NoGil());
    m.def(
        "log_softmax", [](const Array& x, int64_t axis) { return softmax(x, axis, true); },
        arg("x"), arg("axis"), NoGil());
    m.def(
        "log_softmax_backward",
        [](const Array& dy, const Array& y, int64_t axis) {
            return softmax_backward(dy, y, axis, true);
        },
        arg("dy"), arg("y"), arg("axis"), NoGil());
    m.def(
        "cross_entropy",
        [](const Array& logits, const Array& target, const Array* weight, int64_t ignore_index,
           double label_smoothing, std::string_view reduction) {
            CrossEntropy result = cross_entropy(logits, target, weight, ignore_index,
                                                label_smoothing, reduction_from_name(reduction));
            return std::make_tuple(result.loss, result.log_probs, result.total_weight);
        },
        arg("logits"), arg("target"), arg("weight").none(true) = py::none(),
        arg("ignore_index") = -100, arg("label_smoothing") = 0.0, arg("reduction") = "mean",
        NoGil());
    m.def(
        "cross_entropy_backward",
        [](const Array& dloss, const Array& log_probs, const Array& target, const Array* weight,
           int64_t ignore_index, double label_smoothing, std::string_view reduction,
           const Array& total_weight) {
            return cross_entropy_backward(dloss, log_probs, target, weight, ignore_index,
                                          label_smoothing, reduction_from_name(reduction),
                                          total_weight);
        },
        arg("dloss"), arg("log_probs"), arg("target"), arg("weight").none(true),
        arg("ignore_index"), arg("label_smoothing"), arg("reduction"), arg("total_weight"),
        NoGil());
}

}  // namespace engine
