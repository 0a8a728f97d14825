#include "bindings/bindings.h"
#include "ops/pool2d.h"
#include "ops/pool2d_bwd.h"

namespace engine {

namespace {

using MaxResult = std::pair<Array, std::optional<Array>>;

MaxResult with_optional(std::pair<Array, Array> result) {
    MaxResult out{std::move(result.first), std::nullopt};
    if (result.second.defined()) out.second = std::move(result.second);
    return out;
}

}  // namespace

void bind_pool(py::module_& m) {
    using py::arg;
    m.def(
        "max_pool2d",
        [](const Array& x, const Dims& kernel, const Dims& stride, const Dims& padding,
           const Dims& dilation, bool ceil_mode, bool with_indices,
           const std::optional<Array>& out) {
            return with_optional(max_pool2d(x, kernel, stride, padding, dilation, ceil_mode,
                                            with_indices, optional(out)));
        },
        arg("x"), arg("kernel"), arg("stride"), arg("padding") = Dims{0, 0},
        arg("dilation") = Dims{1, 1}, arg("ceil_mode") = false, arg("with_indices") = true,
        arg("out") = py::none(), NoGil());
    m.def(
        "max_pool2d_backward",
        [](const Array& dy, const Array& indices, const Dims& x_shape,
           const std::optional<Dims>& kernel, const Dims& stride, const Dims& padding,
           bool ceil_mode) {
            if (!kernel) return max_pool2d_backward(dy, indices, x_shape, nullptr);
            const PoolArguments windows{*kernel, stride, padding, ceil_mode};
            return max_pool2d_backward(dy, indices, x_shape, &windows);
        },
        arg("dy"), arg("indices"), arg("x_shape"), arg("kernel") = py::none(),
        arg("stride") = Dims{1, 1}, arg("padding") = Dims{0, 0}, arg("ceil_mode") = false, NoGil());
    m.def(
        "avg_pool2d",
        [](const Array& x, const Dims& kernel, const Dims& stride, const Dims& padding,
           bool ceil_mode, bool count_include_pad, int64_t divisor_override,
           const std::optional<Array>& out) {
            return avg_pool2d(x, kernel, stride, padding, ceil_mode, count_include_pad,
                              divisor_override, optional(out));
        },
        arg("x"), arg("kernel"), arg("stride"), arg("padding") = Dims{0, 0},
        arg("ceil_mode") = false, arg("count_include_pad") = true, arg("divisor_override") = 0,
        arg("out") = py::none(), NoGil());
    m.def("pool2d_shape", &pool2d_shape, arg("x_shape"), arg("kernel"), arg("stride"),
          arg("padding") = Dims{0, 0}, arg("dilation") = Dims{1, 1}, arg("ceil_mode") = false);
    m.def("avg_pool2d_backward", &avg_pool2d_backward, arg("dy"), arg("x_shape"), arg("kernel"),
          arg("stride"), arg("padding") = Dims{0, 0}, arg("ceil_mode") = false,
          arg("count_include_pad") = true, arg("divisor_override") = 0, NoGil());
    m.def("adaptive_avg_pool2d", &adaptive_avg_pool2d, arg("x"), arg("out_hw"), NoGil());
    m.def("adaptive_avg_pool2d_backward", &adaptive_avg_pool2d_backward, arg("dy"), arg("x_shape"),
          NoGil());
    m.def(
        "adaptive_max_pool2d",
        [](const Array& x, const Dims& out_hw, bool with_indices) {
            return with_optional(adaptive_max_pool2d(x, out_hw, with_indices));
        },
        arg("x"), arg("out_hw"), arg("with_indices") = true, NoGil());
}

}  // namespace engine
