#include "core/env.h"

#include <cstdio>
#include <cstdlib>

namespace engine {

std::string env_string(const char* name, const char* fallback) {
    const char* value = std::getenv(name);
    return value && *value ? value : fallback;
}

int env_int(const char* name, int fallback) {
    const char* value = std::getenv(name);
    if (!value || !*value) return fallback;
    char* end = nullptr;
    long number = std::strtol(value, &end, 10);
    return *end ? fallback : static_cast<int>(number);
}

int verbosity() {
    static const int level = env_int("ENGINE_VERBOSE", 0);
    return level;
}

void log_line(const std::string& line) { std::fprintf(stderr, "engine: %s\n", line.c_str()); }

}  // namespace engine
