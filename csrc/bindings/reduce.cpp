#include "ops/reduce.h"

#include <string_view>

#include "bindings/bindings.h"

namespace engine {

void bind_reduce(py::module_& m) {
    using py::arg;
    m.def(
        "reduce",
        [](std::string_view op, const Array& a, const std::optional<Dims>& axes, bool keepdims) {
            return reduce(reduce_op_from_name(op), a, axes ? &*axes : nullptr, keepdims);
        },
        arg("op"), arg("a"), arg("axes") = py::none(), arg("keepdims") = false, NoGil());
    m.def(
        "argreduce",
        [](std::string_view op, const Array& a, std::optional<int64_t> axis, bool keepdims) {
            return argreduce(reduce_op_from_name(op), a, axis.value_or(0), !axis, keepdims);
        },
        arg("op"), arg("a"), arg("axis") = py::none(), arg("keepdims") = false, NoGil());
    m.def("sum_to", &sum_to, arg("a"), arg("shape"), NoGil());
}

}  // namespace engine
