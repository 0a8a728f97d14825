#include "ops/layout.h"
#include "bindings/bindings.h"

namespace engine {

void bind_layout(py::module_& m) {
    using py::arg;
    m.def(
        "empty",
        [](const Dims& shape, const std::string& dtype) {
            return empty(shape, dtype_from_name(dtype));
        },
        arg("shape"), arg("dtype") = "float32");
    m.def(
        "full",
        [](const Dims& shape, double value, const std::string& dtype) {
            return full(shape, value, dtype_from_name(dtype));
        },
        arg("shape"), arg("value"), arg("dtype") = "float32");
    m.def(
        "arange",
        [](double start, double stop, double step, const std::string& dtype) {
            return arange(start, stop, step, dtype_from_name(dtype));
        },
        arg("start"), arg("stop"), arg("step"), arg("dtype") = "int64");
    m.def("permute", &permute, arg("a"), arg("dims"));
    m.def("slice", &slice, arg("a"), arg("starts"), arg("stops"), arg("steps"));
    m.def("expand", &expand, arg("a"), arg("shape"));
    m.def("reshape", &reshape, arg("a"), arg("shape"), NoGil());
    m.def("contiguous", &contiguous, arg("a"), NoGil());
    m.def("copy", &copy, arg("a"), NoGil());
    m.def(
        "cast",
        [](const Array& a, const std::string& dtype) { return cast(a, dtype_from_name(dtype)); },
        arg("a"), arg("dtype"), NoGil());
    m.def(
        "copy_", [](const Array& dst, const Array& src) { copy_into(dst, src); }, arg("dst"),
        arg("src"), NoGil());
    m.def(
        "fill_", [](const Array& a, double value) { fill(a, value); }, arg("a"), arg("value"),
        NoGil());
}

}  // namespace engine
