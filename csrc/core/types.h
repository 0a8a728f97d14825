// Element types and shapes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>

namespace engine {

enum class DType : uint8_t { f32, i64, i32, u8, b8 };

size_t size_of(DType dtype);
const char* name_of(DType dtype);
// Throws Error(type) for a name that is not one of name_of's.
DType dtype_from_name(const std::string& name);

// A shape or strides: up to kMaxRank numbers, no allocation.
struct Dims {
    static constexpr int kMaxRank = 8;
    int n = 0;
    int64_t v[kMaxRank] = {};

    Dims() = default;
    Dims(std::initializer_list<int64_t> values);

    int size() const { return n; }
    int64_t& operator[](int i) { return v[i]; }
    int64_t operator[](int i) const { return v[i]; }
    int64_t* begin() { return v; }
    int64_t* end() { return v + n; }
    const int64_t* begin() const { return v; }
    const int64_t* end() const { return v + n; }
    void push_back(int64_t value);  // throws Error(value) beyond kMaxRank
    bool operator==(const Dims& other) const;
    bool operator!=(const Dims& other) const { return !(*this == other); }
};

// Product of the sizes; throws Error(value) for negative sizes, Error(memory) when it does not fit
// in 63 bits.
int64_t numel(const Dims& shape);

// "(8, 32, 56, 56)", as Python prints a tuple.
std::string to_string(const Dims& dims);

}  // namespace engine
