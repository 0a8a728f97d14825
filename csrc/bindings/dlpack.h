// The structs of DLPack 1.x, as its specification lays them out (https://dmlc.github.io/dlpack).
#pragma once

#include <cstdint>

namespace engine::dlpack {

struct Device {
    int32_t type, id;
};
constexpr int32_t kCpu = 1;

struct DataType {
    uint8_t code, bits;
    uint16_t lanes;
};
enum Code : uint8_t { kInt = 0, kUInt = 1, kFloat = 2, kBool = 6 };

struct Tensor {
    void* data;
    Device device;
    int32_t ndim;
    DataType dtype;
    int64_t* shape;
    int64_t* strides;  // in elements; null means row-major
    uint64_t byte_offset;
};

struct Managed {
    Tensor tensor;
    void* context;
    void (*deleter)(Managed*);
};

struct ManagedVersioned {
    uint32_t major, minor;
    void* context;
    void (*deleter)(ManagedVersioned*);
    uint64_t flags;
    Tensor tensor;
};
enum Flag : uint64_t { kReadOnly = 1, kCopied = 2 };

}  // namespace engine::dlpack
