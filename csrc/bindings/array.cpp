// engine._C.Array and its exchange with NumPy and DLPack.
#include <pybind11/numpy.h>

#include "bindings/bindings.h"
#include "bindings/dlpack.h"
#include "core/status.h"
#include "ops/layout.h"

namespace engine {

namespace {

const char* buffer_format(DType dtype) {
    switch (dtype) {
        case DType::f32: return "f";
        case DType::i64: return sizeof(long) == 8 ? "l" : "q";
        case DType::i32: return "i";
        case DType::u8: return "B";
        default: return "?";
    }
}

DType from_numpy_dtype(const py::dtype& dtype) {
    const char kind = dtype.kind();
    const auto size = dtype.itemsize();
    ENGINE_CHECK(dtype.byteorder() != '>', Kind::type,
                 "[from_numpy] expected native byte order, got ",
                 py::str(py::object(dtype)).cast<std::string>(),
                 ": convert it with array.astype(array.dtype.newbyteorder('='))");
    if (kind == 'f' && size == 4) return DType::f32;
    if (kind == 'i' && size == 8) return DType::i64;
    if (kind == 'i' && size == 4) return DType::i32;
    if (kind == 'u' && size == 1) return DType::u8;
    if (kind == 'b') return DType::b8;
    const char* advice = kind == 'f' ? "convert it with array.astype(numpy.float32)"
                         : kind == 'O'
                             ? "build an array of numbers; ragged or mixed data has dtype object"
                             : "convert it with array.astype(numpy.int64) or numpy.float32";
    fail(Kind::type, "[from_numpy] expected dtype float32, int64, int32, uint8 or bool, got ",
         py::str(py::object(dtype)).cast<std::string>(), ": ", advice);
}

std::function<void()> keep_alive(py::object owner) {
    // Released wherever the last view dies, perhaps without the GIL.
    auto* held = owner.release().ptr();
    return [held] {
        if (!Py_IsInitialized()) return;
        py::gil_scoped_acquire gil;
        Py_DECREF(held);
    };
}

Array from_numpy(py::array array) {
    const DType dtype = from_numpy_dtype(array.dtype());
    const auto size = static_cast<py::ssize_t>(size_of(dtype));
    bool whole_elements = reinterpret_cast<uintptr_t>(array.data()) % size_of(dtype) == 0;
    for (py::ssize_t i = 0; i < array.ndim(); ++i) whole_elements &= array.strides(i) % size == 0;
    ENGINE_CHECK(array.ndim() <= Dims::kMaxRank, Kind::value, "[from_numpy] expected at most ",
                 static_cast<int>(Dims::kMaxRank), " axes, got ", array.ndim());
    if (!whole_elements || !array.writeable()) array = array.attr("copy")().cast<py::array>();
    Dims shape, strides;
    for (py::ssize_t i = 0; i < array.ndim(); ++i) {
        shape.push_back(array.shape(i));
        strides.push_back(array.strides(i) / size);
    }
    void* data = const_cast<void*>(array.data());
    const auto bytes = static_cast<size_t>(array.nbytes());
    auto storage = std::make_shared<Storage>(data, bytes, keep_alive(std::move(array)));
    return {std::move(storage), 0, shape, strides, dtype};
}

py::buffer_info buffer_of(const Array& a) {
    a.storage()->share_outside();
    const auto size = static_cast<py::ssize_t>(size_of(a.dtype()));
    std::vector<py::ssize_t> shape(a.shape().begin(), a.shape().end()), strides;
    for (int64_t stride : a.strides()) strides.push_back(stride * size);
    return {a.raw(),           size, buffer_format(a.dtype()), a.rank(), std::move(shape),
            std::move(strides)};
}

py::array to_numpy(py::object self) {
    const auto& a = self.cast<const Array&>();
    const py::buffer_info info = buffer_of(a);
    return py::array(py::dtype(info.format), info.shape, info.strides, info.ptr, self);
}

dlpack::DataType dlpack_dtype(DType dtype) {
    const uint8_t code = dtype == DType::f32  ? dlpack::kFloat
                         : dtype == DType::u8 ? dlpack::kUInt
                         : dtype == DType::b8 ? dlpack::kBool
                                              : dlpack::kInt;
    return {code, static_cast<uint8_t>(8 * size_of(dtype)), 1};
}

// What an exported capsule owns: the array and the numbers the struct points to.
template <class M>
struct Export {
    M managed;
    Array array;
    Dims shape, strides;
};

template <class M>
M* export_array(const Array& a) {
    a.storage()->share_outside();
    auto* out = new Export<M>{M{}, a, a.shape(), a.strides()};
    out->managed.tensor = {a.raw(),
                           {dlpack::kCpu, 0},
                           a.rank(),
                           dlpack_dtype(a.dtype()),
                           out->shape.begin(),
                           out->strides.begin(),
                           0};
    out->managed.context = out;
    out->managed.deleter = [](M* m) { delete static_cast<Export<M>*>(m->context); };
    return &out->managed;
}

template <class M>
void drop_unused(PyObject* capsule, const char* name) {
    // A consumer renames the capsule to "used_..." and then owns the struct.
    if (!PyCapsule_IsValid(capsule, name)) return;
    auto* m = static_cast<M*>(PyCapsule_GetPointer(capsule, name));
    if (m->deleter) m->deleter(m);
}

py::object to_dlpack(const Array& a, py::object stream, py::object max_version, py::object device,
                     py::object copy_it) {
    ENGINE_CHECK(stream.is_none(), Kind::value, "[dlpack] expected stream=None for a CPU array");
    if (!device.is_none()) {
        const auto wanted = device.cast<std::pair<int, int>>();
        ENGINE_CHECK(wanted.first == dlpack::kCpu, Kind::value,
                     "[dlpack] expected the CPU device (1, 0), got (", wanted.first, ", ",
                     wanted.second, ")");
    }
    const bool copied = !copy_it.is_none() && copy_it.cast<bool>();
    const Array source = copied ? copy(a) : a;
    if (!max_version.is_none() && max_version.cast<std::pair<int, int>>().first >= 1) {
        auto* m = export_array<dlpack::ManagedVersioned>(source);
        m->major = 1;
        m->minor = 0;
        m->flags = copied ? static_cast<uint64_t>(dlpack::kCopied) : 0;
        return py::reinterpret_steal<py::object>(PyCapsule_New(
            m, "dltensor_versioned",
            [](PyObject* c) { drop_unused<dlpack::ManagedVersioned>(c, "dltensor_versioned"); }));
    }
    return py::reinterpret_steal<py::object>(
        PyCapsule_New(export_array<dlpack::Managed>(source), "dltensor",
                      [](PyObject* c) { drop_unused<dlpack::Managed>(c, "dltensor"); }));
}

template <class M>
Array import_array(PyObject* capsule, const char* name, const char* used_name, bool read_only) {
    auto* m = static_cast<M*>(PyCapsule_GetPointer(capsule, name));
    const dlpack::Tensor& t = m->tensor;
    ENGINE_CHECK(t.device.type == dlpack::kCpu, Kind::type,
                 "[from_dlpack] expected CPU memory, got device type ", t.device.type,
                 ": copy the tensor to the CPU first");
    DType dtype = DType::f32;
    bool known = false;
    for (DType candidate : {DType::f32, DType::i64, DType::i32, DType::u8, DType::b8}) {
        const dlpack::DataType d = dlpack_dtype(candidate);
        if (d.code == t.dtype.code && d.bits == t.dtype.bits && t.dtype.lanes == 1)
            dtype = candidate, known = true;
    }
    ENGINE_CHECK(known, Kind::type,
                 "[from_dlpack] expected float32, int64, int32, uint8 or bool, got type code ",
                 static_cast<int>(t.dtype.code), " with ", static_cast<int>(t.dtype.bits),
                 " bits: convert the tensor before handing it over");
    ENGINE_CHECK(t.ndim >= 0 && t.ndim <= Dims::kMaxRank, Kind::value,
                 "[from_dlpack] expected at most ", static_cast<int>(Dims::kMaxRank), " axes, got ",
                 t.ndim);
    Dims shape, strides;
    for (int i = 0; i < t.ndim; ++i) shape.push_back(t.shape[i]);
    if (t.strides)
        for (int i = 0; i < t.ndim; ++i) strides.push_back(t.strides[i]);
    else {
        strides.n = t.ndim;
        int64_t step = 1;
        for (int i = t.ndim - 1; i >= 0; --i) strides[i] = step, step *= shape[i];
    }
    const auto bytes = static_cast<size_t>(numel(shape)) * size_of(dtype);
    PyCapsule_SetName(capsule, used_name);
    auto give_back = [m] {
        if (!m->deleter || !Py_IsInitialized()) return;
        py::gil_scoped_acquire gil;  // the owner may be a Python object
        m->deleter(m);
    };
    void* data = static_cast<char*>(t.data) + t.byte_offset;
    Array out(std::make_shared<Storage>(data, bytes, std::move(give_back)), 0, shape, strides,
              dtype);
    return read_only ? copy(out) : out;
}

Array from_dlpack(py::object source) {
    ENGINE_CHECK(py::hasattr(source, "__dlpack__"), Kind::type,
                 "[from_dlpack] expected an object with __dlpack__, got ",
                 py::str(py::type::of(source)).cast<std::string>());
    py::object capsule;
    try {
        capsule = source.attr("__dlpack__")(py::arg("max_version") = py::make_tuple(1, 0));
    } catch (py::error_already_set& error) {
        if (!error.matches(PyExc_TypeError)) throw;  // a producer older than DLPack 1.0
        capsule = source.attr("__dlpack__")();
    }
    if (PyCapsule_IsValid(capsule.ptr(), "dltensor_versioned")) {
        auto* m = static_cast<dlpack::ManagedVersioned*>(
            PyCapsule_GetPointer(capsule.ptr(), "dltensor_versioned"));
        ENGINE_CHECK(m->major == 1, Kind::value, "[from_dlpack] expected DLPack version 1, got ",
                     m->major);
        return import_array<dlpack::ManagedVersioned>(capsule.ptr(), "dltensor_versioned",
                                                      "used_dltensor_versioned",
                                                      m->flags & dlpack::kReadOnly);
    }
    ENGINE_CHECK(PyCapsule_IsValid(capsule.ptr(), "dltensor"), Kind::type,
                 "[from_dlpack] expected an unused DLPack capsule");
    return import_array<dlpack::Managed>(capsule.ptr(), "dltensor", "used_dltensor", false);
}

py::object item(const Array& a) {
    ENGINE_CHECK(a.numel() == 1, Kind::value, "[item] expected one element, got shape ",
                 to_string(a.shape()), ": index or reduce first");
    switch (a.dtype()) {
        case DType::f32: return py::float_(*a.ptr<float>());
        case DType::i64: return py::int_(*a.ptr<int64_t>());
        case DType::i32: return py::int_(*a.ptr<int32_t>());
        case DType::u8: return py::int_(*a.ptr<uint8_t>());
        default: return py::bool_(*a.ptr<bool>());
    }
}

}  // namespace

void bind_array(py::module_& m) {
    py::class_<Array>(m, "Array", py::buffer_protocol(),
                      "A strided view of shared memory; see csrc/core/array.h.")
        .def_buffer([](Array& a) { return buffer_of(a); })
        .def_property_readonly("shape", &Array::shape)
        .def_property_readonly("strides", &Array::strides)
        .def_property_readonly("dtype", [](const Array& a) { return name_of(a.dtype()); })
        .def_property_readonly("ndim", &Array::rank)
        .def_property_readonly("size", &Array::numel)
        .def_property_readonly(
            "nbytes",
            [](const Array& a) { return a.numel() * static_cast<int64_t>(size_of(a.dtype())); })
        .def_property_readonly("is_contiguous", &Array::is_canonical)
        .def_property_readonly(
            "version",
            [](const Array& a) {
                const Storage& storage = *a.storage();
                return storage.shared_outside() ? std::nullopt
                                                : std::optional<uint64_t>(storage.version());
            },
            "How often the memory was written to; None when NumPy or another "
            "library can write to it unseen.")
        .def("item", &item)
        .def("__dlpack__", &to_dlpack, py::kw_only(), py::arg("stream") = py::none(),
             py::arg("max_version") = py::none(), py::arg("dl_device") = py::none(),
             py::arg("copy") = py::none())
        .def("__dlpack_device__", [](const Array&) { return py::make_tuple(dlpack::kCpu, 0); });
    m.def("from_numpy", &from_numpy, py::arg("array").noconvert());
    m.def("to_numpy", &to_numpy, py::arg("a"));
    m.def("from_dlpack", &from_dlpack, py::arg("source"));
}

}  // namespace engine
