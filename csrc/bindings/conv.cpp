#include "bindings/bindings.h"
#include "core/status.h"
#include "ops/algorithm.h"
#include "ops/split.h"

namespace engine {

namespace {

template <class Run>
std::vector<std::pair<std::string, std::string>> opinions(
    const std::vector<ConvAlgorithm<Run>>& list, const Conv& c) {
    // What would be taken comes first.
    std::vector<std::pair<std::string, std::string>> out;
    const ConvAlgorithm<Run>* first = preferred(list, c);
    if (first) out.emplace_back(first->name, "");
    for (const auto& algorithm : list)
        if (&algorithm != first) out.emplace_back(algorithm.name, algorithm.declines(c));
    return out;
}

}  // namespace

void bind_conv(py::module_& m) {
    using py::arg;
    m.def(
        "conv2d",
        [](const Array& x, const Array& w, const std::optional<Array>& b, const Dims& stride,
           const Dims& padding, const Dims& dilation, int64_t groups,
           const std::optional<Array>& residual, const std::string& activation,
           const std::optional<Array>& scale,
           const std::optional<std::tuple<Array, Array, std::string>>& prologue,
           const std::optional<Array>& out) {
            ChannelMap map{};
            if (prologue)
                map = {&std::get<0>(*prologue), &std::get<1>(*prologue),
                       parse_activation("conv2d", std::get<2>(*prologue))};
            return conv2d(x, w, optional(b), stride, padding, dilation, groups, optional(residual),
                          parse_activation("conv2d", activation), optional(scale),
                          prologue ? &map : nullptr, optional(out));
        },
        arg("x"), arg("w"), arg("b"), arg("stride"), arg("padding"), arg("dilation"), arg("groups"),
        arg("residual") = py::none(), arg("activation") = "none", arg("scale") = py::none(),
        arg("prologue") = py::none(), arg("out") = py::none(), Arithmetic());
    m.def(
        "conv2d_shape",
        [](const Dims& x_shape, const Dims& w_shape, const Dims& stride, const Dims& padding,
           const Dims& dilation, int64_t groups) {
            const Conv c =
                make_conv("conv2d_shape", x_shape, w_shape, stride, padding, dilation, groups);
            return Dims{c.n, c.oc, c.oh, c.ow};
        },
        arg("x_shape"), arg("w_shape"), arg("stride"), arg("padding"), arg("dilation"),
        arg("groups"));
    m.def("conv2d_backward_data", &conv2d_backward_data, arg("dy"), arg("w"), arg("x_shape"),
          arg("stride"), arg("padding"), arg("dilation"), arg("groups"), Arithmetic());
    m.def("conv2d_backward_weight", &conv2d_backward_weight, arg("dy"), arg("x"), arg("w_shape"),
          arg("stride"), arg("padding"), arg("dilation"), arg("groups"), arg("with_bias"),
          Arithmetic());
    m.def(
        "conv2d_algorithms",
        [](const Dims& x_shape, const Dims& w_shape, const Dims& stride, const Dims& padding,
           const Dims& dilation, int64_t groups, const std::string& direction) {
            const Conv c =
                make_conv("conv2d_algorithms", x_shape, w_shape, stride, padding, dilation, groups);
            if (direction == "forward") return opinions(conv_forward_algorithms(), c);
            if (direction == "backward_data") return opinions(conv_backward_data_algorithms(), c);
            ENGINE_CHECK(direction == "backward_weight", Kind::value,
                         "[conv2d_algorithms] expected direction 'forward', 'backward_data' or "
                         "'backward_weight', got '",
                         direction, "'");
            return opinions(conv_backward_weight_algorithms(), c);
        },
        arg("x_shape"), arg("w_shape"), arg("stride"), arg("padding"), arg("dilation"),
        arg("groups"), arg("direction") = "forward");
    m.def(
        "set_algorithm",
        [](const std::string& op, const std::string& name) {
            ENGINE_CHECK(op == "conv2d", Kind::value, "[set_algorithm] expected op 'conv2d', got '",
                         op, "'");
            set_conv_algorithm(name);
        },
        arg("op"), arg("name"));
    m.def("set_conv_policy", &set_conv_policy, arg("policy"));
    m.def("conv_policy", &conv_policy);
    m.def("set_split_products", &set_split_products, arg("on").none(true));
    m.def("split_products", &split_products);
    m.def("set_autotune", &set_autotune, arg("on"));
    m.def("tuned_choices", &tuned_choices);
    m.def("set_tuned_choices", &set_tuned_choices, arg("choices"));
    m.def("tuned_problems", &tuned_problems);
}

}  // namespace engine
