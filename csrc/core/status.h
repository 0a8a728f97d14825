// The one error type. Thrown by checks before any work starts, never inside a parallel region.
#pragma once

#include <exception>
#include <sstream>
#include <string>
#include <utility>

namespace engine {

// Which Python exception the bindings raise: ValueError, TypeError, IndexError, MemoryError,
// RuntimeError.
enum class Kind { value, type, index, memory, runtime };

class Error : public std::exception {
  public:
    Error(Kind kind, std::string message) : kind_(kind), message_(std::move(message)) {}
    Kind kind() const { return kind_; }
    const char* what() const noexcept override { return message_.c_str(); }

  private:
    Kind kind_;
    std::string message_;
};

template <class... Parts>
[[noreturn]] void fail(Kind kind, const Parts&... parts) {
    std::ostringstream text;
    (text << ... << parts);
    throw Error(kind, text.str());
}

}  // namespace engine

// ENGINE_CHECK(ok, Kind::value, "[conv2d] expected ", 3, " channels"): message parts are streamed
// only on failure.
#define ENGINE_CHECK(condition, ...)                                        \
    do {                                                                    \
        if (__builtin_expect(!(condition), 0)) ::engine::fail(__VA_ARGS__); \
    } while (0)
