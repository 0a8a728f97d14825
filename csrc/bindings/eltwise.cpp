#include "ops/eltwise.h"

#include <string_view>

#include "bindings/bindings.h"
#include "core/status.h"

namespace engine {

namespace {

// Releasing the GIL costs as much as a few thousand elements: only larger work does.
class ReleaseGil {
  public:
    explicit ReleaseGil(int64_t elements) {
        if (elements > 16384) released_.emplace();
    }

  private:
    std::optional<py::gil_scoped_release> released_;
};

int64_t elements(const Operand& a) { return a.array ? a.array->numel() : 0; }

// An Array or a Python number (NumPy's too).
Operand operand(const char* op, py::handle value) {
    static PyTypeObject* const array_type =
        reinterpret_cast<PyTypeObject*>(py::type::of<Array>().ptr());
    PyObject* p = value.ptr();
    Operand result;
    if (Py_TYPE(p) == array_type) {
        result.array = value.cast<const Array*>();
        result.type = result.array->dtype();
    } else if (PyFloat_Check(p)) {
        result.value = PyFloat_AS_DOUBLE(p);
    } else if (PyBool_Check(p)) {
        result.value = result.whole = p == Py_True;
        result.type = DType::b8;
    } else if (PyIndex_Check(p)) {
        const py::object whole = py::reinterpret_steal<py::object>(PyNumber_Index(p));
        if (!whole) throw py::error_already_set();
        int overflow = 0;  // a number beyond int64 counts as a float
        result.value = PyLong_AsDouble(whole.ptr());
        result.whole = PyLong_AsLongLongAndOverflow(whole.ptr(), &overflow);
        result.type = overflow ? DType::f32 : DType::i64;
    } else {
        result.value = PyNumber_Check(p) ? PyFloat_AsDouble(p) : -1.0;
        if (!PyNumber_Check(p) || PyErr_Occurred()) {
            PyErr_Clear();
            fail(Kind::type, "[", op, "] expected an Array or a number, got ", Py_TYPE(p)->tp_name);
        }
    }
    if (PyErr_Occurred()) throw py::error_already_set();
    return result;
}

}  // namespace

void bind_eltwise(py::module_& m) {
    using py::arg;
    m.def(
        "unary",
        [](std::string_view op, const Array& x, double p0, double p1, const Array* out) {
            const UnaryOp which = unary_op_from_name(op);
            const ReleaseGil release(x.numel());
            return unary(which, x, p0, p1, out);
        },
        arg("op"), arg("x"), arg("p0") = 0.0, arg("p1") = 0.0, arg("out").none(true) = py::none());
    m.def(
        "unary_backward",
        [](std::string_view op, const Array& dy, const Array* x, const Array* y, double p0,
           double p1) {
            const UnaryOp which = unary_op_from_name(op);
            const ReleaseGil release(dy.numel());
            return unary_backward(which, dy, x, y, p0, p1);
        },
        arg("op"), arg("dy"), arg("x").none(true), arg("y").none(true), arg("p0") = 0.0,
        arg("p1") = 0.0);
    // {name: (result dtype, what the gradient needs: "x", "y", "nothing" or "no_gradient")}
    m.def("unary_ops", [] {
        py::dict ops;
        for (const UnaryOpInfo* op = kUnaryOps; op->name; ++op)
            ops[op->name] = py::make_tuple(op->result, op->saved);
        return ops;
    });
    m.def(
        "binary",
        [](std::string_view op, py::handle a, py::handle b, const Array* out) {
            const BinaryOp which = binary_op_from_name(op);
            const Operand left = operand("binary", a), right = operand("binary", b);
            const ReleaseGil release(elements(left) + elements(right));
            return binary(which, left, right, out);
        },
        arg("op"), arg("a"), arg("b"), arg("out").none(true) = py::none());
    m.def(
        "binary_",
        [](std::string_view op, const Array& a, py::handle b) {
            const BinaryOp which = binary_op_from_name(op);
            const Operand right = operand("binary_", b);
            const ReleaseGil release(a.numel());
            binary_in_place(which, a, right);
        },
        arg("op"), arg("a"), arg("b"));
    m.def(
        "where",
        [](const Array& cond, py::handle a, py::handle b) {
            const Operand left = operand("where", a), right = operand("where", b);
            const ReleaseGil release(cond.numel() + elements(left) + elements(right));
            return where(cond, left, right);
        },
        arg("cond"), arg("a"), arg("b"));
    m.def("prelu", &prelu, arg("x"), arg("weight"), NoGil());
    m.def("prelu_backward", &prelu_backward, arg("dy"), arg("x"), arg("weight"), NoGil());
}

}  // namespace engine
