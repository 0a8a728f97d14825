// engine._C: the module and the translation of errors.
#include "bindings/bindings.h"
#include "core/status.h"
#include "dispatch/table.h"

PYBIND11_MODULE(_C, m) {
    m.doc() = "The C++ core of engine. Use engine.backend; this module is its CPU implementation.";

    py::register_exception_translator([](std::exception_ptr pointer) {
        try {
            if (pointer) std::rethrow_exception(pointer);
        } catch (const engine::Error& error) {
            switch (error.kind()) {
                case engine::Kind::value: py::set_error(PyExc_ValueError, error.what()); break;
                case engine::Kind::type: py::set_error(PyExc_TypeError, error.what()); break;
                case engine::Kind::index: py::set_error(PyExc_IndexError, error.what()); break;
                case engine::Kind::memory: py::set_error(PyExc_MemoryError, error.what()); break;
                case engine::Kind::runtime: py::set_error(PyExc_RuntimeError, error.what()); break;
            }
        }
    });

    engine::initialise_dispatch();
    engine::bind_array(m);
    engine::bind_layout(m);
    engine::bind_runtime(m);
    engine::bind_gemm(m);
    engine::bind_conv(m);
    engine::bind_eltwise(m);
    engine::bind_reduce(m);
    engine::bind_softmax(m);
    engine::bind_random(m);
    engine::bind_pool(m);
    engine::bind_norm(m);
    engine::bind_resize(m);
    engine::bind_update(m);
    engine::bind_indexing(m);
}
