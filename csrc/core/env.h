// Environment variables the core reads: ENGINE_ISA, ENGINE_NUM_THREADS (and OMP_NUM_THREADS),
// ENGINE_THREADING, ENGINE_CONV_ALGORITHM, ENGINE_VERBOSE.
#pragma once

#include <string>

namespace engine {

// Value of the variable, `fallback` when unset or empty.
std::string env_string(const char* name, const char* fallback);
// `fallback` when unset, empty or not a whole number.
int env_int(const char* name, int fallback);

// ENGINE_VERBOSE, read once: 1 prints the instruction set and, per op and shape, the algorithm
// taken and why better ones declined.
int verbosity();
// Prints one line to stderr.
void log_line(const std::string& line);

}  // namespace engine
