// Instruction sets, threads, memory and measurements of the machine.
#include <chrono>

#include "bindings/bindings.h"
#include "core/cpu.h"
#include "core/env.h"
#include "core/memory.h"
#include "core/parallel.h"
#include "dispatch/table.h"
#include "ops/measure.h"

namespace engine {

void bind_runtime(py::module_& m) {
    using py::arg;
    m.def("isa", &isa);
    m.def("available_isas", &available_isas);
    m.def("set_isa", &set_isa, arg("name"));
    m.def("num_threads", &num_threads);
    m.def("set_num_threads", &set_num_threads, arg("n"));
    m.def("limit_threads", &limit_threads, arg("most"));
    m.def("verbose", &verbosity);
    m.def("cpu_model", &cpu_model);
    m.def("memory_stats", [] {
        const MemoryStats stats = memory_stats();
        py::dict out;
        out["in_use"] = stats.in_use;
        out["cached"] = stats.cached;
        out["peak"] = stats.peak;
        return out;
    });
    m.def("reset_peak", &reset_peak);
    m.def("empty_cache", &empty_cache);
    m.def("build_info", [] {
        py::dict out;
        out["compiler"] = __VERSION__;
        out["cxx"] = static_cast<int64_t>(__cplusplus);
        out["isas"] = available_isas();
        return out;
    });
    m.def("measure_peak", &measure_peak, arg("threads"), NoGil());
    m.def("measure_ping_pong", &measure_ping_pong, NoGil());
    m.def("stream_pass", &stream_pass, arg("sources"), arg("results"), arg("count"),
          arg("past_caches"), arg("fetch_ahead"), NoGil());
}

}  // namespace engine
