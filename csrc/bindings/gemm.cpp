#include "ops/gemm.h"
#include "bindings/bindings.h"

namespace engine {

void bind_gemm(py::module_& m) {
    using py::arg;
    m.def("matmul", &matmul, arg("a"), arg("b"), arg("trans_a") = false, arg("trans_b") = false,
          Arithmetic());
    m.def(
        "linear",
        [](const Array& x, const Array& w, const std::optional<Array>& b,
           const std::string& activation) {
            return linear(x, w, optional(b), parse_activation("linear", activation));
        },
        arg("x"), arg("w"), arg("b") = py::none(), arg("activation") = "none", Arithmetic());
    m.def("linear_backward_data", &linear_backward_data, arg("dy"), arg("w"), Arithmetic());
    m.def("linear_backward_weight", &linear_backward_weight, arg("dy"), arg("x"), arg("with_bias"),
          Arithmetic());
}

}  // namespace engine
