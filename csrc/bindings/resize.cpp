#include "ops/resize.h"

#include "bindings/bindings.h"

namespace engine {

void bind_resize(py::module_& m) {
    using py::arg;
    m.def("interpolate", &interpolate, arg("x"), arg("out_h"), arg("out_w"),
          arg("mode") = "nearest", arg("align_corners") = false, arg("antialias") = false,
          arg("scale_h") = 0.0, arg("scale_w") = 0.0, NoGil());
    m.def("interpolate_backward", &interpolate_backward, arg("dy"), arg("x_shape"),
          arg("mode") = "nearest", arg("align_corners") = false, arg("antialias") = false,
          arg("scale_h") = 0.0, arg("scale_w") = 0.0, NoGil());
}

}  // namespace engine
