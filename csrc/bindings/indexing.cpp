#include "ops/indexing.h"

#include "bindings/bindings.h"

namespace engine {

void bind_indexing(py::module_& m) {
    using py::arg;
    m.def("concat", &concat, arg("arrays"), arg("axis"), NoGil());
    m.def("index_select", &index_select, arg("a"), arg("axis"), arg("idx"), NoGil());
    m.def("index_add", &index_add, arg("shape"), arg("axis"), arg("idx"), arg("src"), NoGil());
    m.def("gather", &gather, arg("a"), arg("axis"), arg("idx"), NoGil());
    m.def("scatter_add", &scatter_add, arg("shape"), arg("axis"), arg("idx"), arg("src"), NoGil());
    m.def("pad", &pad, arg("a"), arg("pads"), arg("mode") = "constant", arg("value") = 0.0,
          NoGil());
    m.def("pad_backward", &pad_backward, arg("dy"), arg("x_shape"), arg("pads"),
          arg("mode") = "constant", NoGil());
}

}  // namespace engine
