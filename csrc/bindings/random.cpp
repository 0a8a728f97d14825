#include "ops/random.h"

#include <string_view>

#include "bindings/bindings.h"

namespace engine {

void bind_random(py::module_& m) {
    using py::arg;
    m.def("uniform", &uniform, arg("shape"), arg("low"), arg("high"), arg("seed"), arg("offset"),
          NoGil());
    m.def("normal", &normal, arg("shape"), arg("mean"), arg("std"), arg("seed"), arg("offset"),
          NoGil());
    m.def(
        "dropout",
        [](const Array& x, double p, uint64_t seed, uint64_t offset, std::string_view mode) {
            return dropout(x, p, seed, offset, drop_mode_from_name(mode));
        },
        arg("x"), arg("p"), arg("seed"), arg("offset"), arg("mode") = "element", NoGil());
}

}  // namespace engine
