#include "ops/norm.h"

#include "bindings/bindings.h"
#include "ops/gemm.h"
#include "ops/norm_bwd.h"

namespace engine {

namespace {

using MaybeArray = std::optional<Array>;
using Three = std::tuple<Array, Array, Array>;

Three tuple_of(Normed n) { return {std::move(n.y), std::move(n.mean), std::move(n.invstd)}; }
Three tuple_of(NormGradients g) {
    return {std::move(g.dx), std::move(g.dweight), std::move(g.dbias)};
}

}  // namespace

void bind_norm(py::module_& m) {
    using py::arg;
    m.def(
        "batch_norm",
        [](const Array& x, const MaybeArray& weight, const MaybeArray& bias,
           const MaybeArray& running_mean, const MaybeArray& running_var, bool training,
           double momentum, double eps, const MaybeArray& residual, const std::string& activation,
           const MaybeArray& out) {
            BatchNormed n =
                batch_norm(x, optional(weight), optional(bias), optional(running_mean),
                           optional(running_var), training, momentum, eps, optional(residual),
                           parse_activation("batch_norm", activation), optional(out));
            return std::make_tuple(n.y, n.mean, n.invstd, n.shift);
        },
        arg("x"), arg("weight"), arg("bias"), arg("running_mean"), arg("running_var"),
        arg("training"), arg("momentum"), arg("eps"), arg("residual") = py::none(),
        arg("activation") = "none", arg("out") = py::none(), Arithmetic());
    m.def(
        "batch_norm_backward",
        [](const Array& dy, const Array& x, const MaybeArray& weight, const Array& mean,
           const Array& invstd, bool training, const MaybeArray& shift, const MaybeArray& kept,
           const std::string& activation) {
            BatchNormGradients g = batch_norm_backward(
                dy, x, optional(weight), mean, invstd, training, optional(shift), optional(kept),
                parse_activation("batch_norm_backward", activation));
            return std::make_tuple(g.dx, g.dweight, g.dbias,
                                   g.dresidual.defined() ? MaybeArray(g.dresidual) : std::nullopt);
        },
        arg("dy"), arg("x"), arg("weight"), arg("mean"), arg("invstd"), arg("training"),
        arg("shift") = py::none(), arg("kept") = py::none(), arg("activation") = "none",
        Arithmetic());
    m.def("channel_scale_backward", &channel_scale_backward, arg("dy"), arg("x"), arg("scale"),
          Arithmetic());
    m.def(
        "layer_norm",
        [](const Array& x, int64_t n_dims, const MaybeArray& weight, const MaybeArray& bias,
           double eps) {
            return tuple_of(layer_norm(x, n_dims, optional(weight), optional(bias), eps));
        },
        arg("x"), arg("n_dims"), arg("weight"), arg("bias"), arg("eps"), Arithmetic());
    m.def(
        "layer_norm_backward",
        [](const Array& dy, const Array& x, const MaybeArray& weight, const Array& mean,
           const Array& invstd, int64_t n_dims) {
            return tuple_of(layer_norm_backward(dy, x, optional(weight), mean, invstd, n_dims));
        },
        arg("dy"), arg("x"), arg("weight"), arg("mean"), arg("invstd"), arg("n_dims"),
        Arithmetic());
    m.def(
        "group_norm",
        [](const Array& x, int64_t groups, const MaybeArray& weight, const MaybeArray& bias,
           double eps) {
            return tuple_of(group_norm(x, groups, optional(weight), optional(bias), eps));
        },
        arg("x"), arg("groups"), arg("weight"), arg("bias"), arg("eps"), Arithmetic());
    m.def(
        "group_norm_backward",
        [](const Array& dy, const Array& x, const MaybeArray& weight, const Array& mean,
           const Array& invstd, int64_t groups) {
            return tuple_of(group_norm_backward(dy, x, optional(weight), mean, invstd, groups));
        },
        arg("dy"), arg("x"), arg("weight"), arg("mean"), arg("invstd"), arg("groups"),
        Arithmetic());
    m.def("local_response_norm", &local_response_norm, arg("x"), arg("size"), arg("alpha"),
          arg("beta"), arg("k"), Arithmetic());
    m.def("local_response_norm_backward", &local_response_norm_backward, arg("dy"), arg("x"),
          arg("y"), arg("size"), arg("alpha"), arg("beta"), arg("k"), Arithmetic());
}

}  // namespace engine
