// What the binding files share: the Python-to-core conversions and one bind function per family.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>

#include "core/array.h"
#include "core/cpu.h"

namespace py = pybind11;

namespace pybind11::detail {

// Dims <-> a tuple (or any sequence) of ints, or one int for a shape of one axis.
template <>
struct type_caster<engine::Dims> {
    PYBIND11_TYPE_CASTER(engine::Dims, const_name("tuple[int, ...]"));

    bool load(handle source, bool) {
        value = engine::Dims();
        if (PyTuple_Check(source.ptr()) || PyList_Check(source.ptr())) {
            PyObject** items = PySequence_Fast_ITEMS(source.ptr());
            const Py_ssize_t count = PySequence_Fast_GET_SIZE(source.ptr());
            for (Py_ssize_t i = 0; i < count; ++i)
                if (!add(items[i])) return false;
            return true;
        }
        return PyIndex_Check(source.ptr()) && add(source.ptr());
    }

    static handle cast(const engine::Dims& dims, return_value_policy, handle) {
        PyObject* tuple = PyTuple_New(dims.n);
        for (int i = 0; i < dims.n; ++i) PyTuple_SET_ITEM(tuple, i, PyLong_FromLongLong(dims[i]));
        return tuple;
    }

  private:
    bool add(PyObject* item) {
        if (PyFloat_Check(item)) return false;
        const Py_ssize_t number = PyNumber_AsSsize_t(item, PyExc_OverflowError);
        if (number == -1 && PyErr_Occurred()) {
            if (PyErr_ExceptionMatches(PyExc_TypeError)) {
                PyErr_Clear();
                return false;
            }
            throw error_already_set();
        }
        value.push_back(number);
        return true;
    }
};

}  // namespace pybind11::detail

namespace engine {

// None stands for an absent array.
inline const Array* optional(const std::optional<Array>& a) { return a ? &*a : nullptr; }

using NoGil = py::call_guard<py::gil_scoped_release>;
// For sums of products and for optimizers, whose averages fade away through the denormal numbers.
// Elementwise functions keep denormals: log(1e-40) is -92.
using Arithmetic = py::call_guard<py::gil_scoped_release, FlushDenormals>;

void bind_array(py::module_& m);
void bind_layout(py::module_& m);
void bind_gemm(py::module_& m);
void bind_conv(py::module_& m);
void bind_runtime(py::module_& m);
void bind_eltwise(py::module_& m);
void bind_reduce(py::module_& m);
void bind_softmax(py::module_& m);
void bind_random(py::module_& m);
void bind_pool(py::module_& m);
void bind_norm(py::module_& m);
void bind_resize(py::module_& m);
void bind_update(py::module_& m);
void bind_indexing(py::module_& m);

}  // namespace engine
