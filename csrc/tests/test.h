// A small test framework: TEST(name) { ... } registers, CHECK... record failures with their place,
// engine_tests runs the tests of one file on one instruction set.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <sstream>
#include <string>
#include <vector>

namespace engine_test {

struct Test {
    const char* file;
    const char* name;
    void (*run)();
};

inline std::vector<Test>& tests() {
    static std::vector<Test> list;
    return list;
}

inline int& failures() {
    static int count = 0;
    return count;
}

// What is being tested, printed with a failure: sizes, seeds.
inline std::string& context() {
    static std::string text;
    return text;
}

struct Registration {
    Registration(const char* file, const char* name, void (*run)()) {
        tests().push_back({file, name, run});
    }
};

template <class... Parts>
void describe(const Parts&... parts) {
    std::ostringstream text;
    (text << ... << parts);
    context() = text.str();
}

template <class... Parts>
void report(const char* file, int line, const Parts&... parts) {
    if (++failures() > 20) return;  // the first ones tell enough
    std::ostringstream text;
    (text << ... << parts);
    std::fprintf(stderr, "%s:%d: %s [%s]\n", file, line, text.str().c_str(), context().c_str());
}

inline bool close(double a, double b, double tolerance) {
    if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
    return a == b || std::fabs(a - b) <= tolerance;
}

}  // namespace engine_test

#define TEST(name)                                                                             \
    static void test_##name();                                                                 \
    static const engine_test::Registration registration_##name(__FILE__, #name, &test_##name); \
    static void test_##name()

#define CHECK(condition)                                                                    \
    do {                                                                                    \
        if (!(condition)) engine_test::report(__FILE__, __LINE__, "not true: " #condition); \
    } while (0)

#define CHECK_EQUAL(a, b)                                                                \
    do {                                                                                 \
        const auto& left_ = (a);                                                         \
        const auto& right_ = (b);                                                        \
        if (!(left_ == right_))                                                          \
            engine_test::report(__FILE__, __LINE__, #a " is ", left_, ", not ", right_); \
    } while (0)

// Absolute tolerance; NaN agrees with NaN, infinity with the same infinity.
#define CHECK_CLOSE(a, b, tolerance)                                                    \
    do {                                                                                \
        const double left_ = (a), right_ = (b);                                         \
        if (!engine_test::close(left_, right_, (tolerance)))                            \
            engine_test::report(__FILE__, __LINE__, #a " is ", left_, ", not ", right_, \
                                " (tolerance ", (tolerance), ")");                      \
    } while (0)

#define CHECK_THROWS(statement, expected_kind)                                                 \
    do {                                                                                       \
        bool thrown_ = false;                                                                  \
        try {                                                                                  \
            statement;                                                                         \
        } catch (const ::engine::Error& error) {                                               \
            thrown_ = error.kind() == (expected_kind);                                         \
        }                                                                                      \
        if (!thrown_)                                                                          \
            engine_test::report(__FILE__, __LINE__, "no " #expected_kind " from " #statement); \
    } while (0)
