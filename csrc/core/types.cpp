#include "core/types.h"

#include "core/status.h"

namespace engine {

namespace {
struct DTypeInfo {
    const char* name;
    size_t size;
};
constexpr DTypeInfo kDTypes[] = {
    {"float32", 4}, {"int64", 8}, {"int32", 4}, {"uint8", 1}, {"bool", 1}};
}  // namespace

size_t size_of(DType dtype) { return kDTypes[static_cast<int>(dtype)].size; }
const char* name_of(DType dtype) { return kDTypes[static_cast<int>(dtype)].name; }

DType dtype_from_name(const std::string& name) {
    for (int i = 0; i < 5; ++i)
        if (name == kDTypes[i].name) return static_cast<DType>(i);
    fail(Kind::type, "expected dtype float32, int64, int32, uint8 or bool, got '", name, "'");
}

Dims::Dims(std::initializer_list<int64_t> values) {
    for (int64_t value : values) push_back(value);
}

void Dims::push_back(int64_t value) {
    ENGINE_CHECK(n < kMaxRank, Kind::value, "expected at most ", static_cast<int>(kMaxRank),
                 " axes, got more: merge axes with reshape");
    v[n++] = value;
}

bool Dims::operator==(const Dims& other) const {
    if (n != other.n) return false;
    for (int i = 0; i < n; ++i)
        if (v[i] != other.v[i]) return false;
    return true;
}

int64_t numel(const Dims& shape) {
    int64_t product = 1;
    bool empty = false;
    for (int64_t size : shape) {
        ENGINE_CHECK(size >= 0, Kind::value, "expected sizes >= 0, got shape ", to_string(shape));
        if (size == 0) empty = true;
    }
    if (empty) return 0;
    for (int64_t size : shape)
        ENGINE_CHECK(!__builtin_mul_overflow(product, size, &product), Kind::memory, "shape ",
                     to_string(shape), " has more elements than 63 bits can count");
    return product;
}

std::string to_string(const Dims& dims) {
    std::string text = "(";
    for (int i = 0; i < dims.n; ++i) text += (i ? ", " : "") + std::to_string(dims[i]);
    return text + (dims.n == 1 ? ",)" : ")");
}

}  // namespace engine
