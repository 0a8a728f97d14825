// The door between ops and kernels: one table of function pointers per instruction set.
#pragma once

#include <string>
#include <vector>

#include "dispatch/kernel_table.h"

namespace engine {

namespace detail {
extern const KernelTable* active_table;
}

// The table in use: the best instruction set this CPU and system support, or the one ENGINE_ISA
// names.
inline const KernelTable& kernels() { return *detail::active_table; }

std::string isa();
std::vector<std::string> available_isas();
// Throws Error(value) for a name that is unknown or that this machine cannot run.
void set_isa(const std::string& name);
// Chooses the table; called once when the library is loaded by the bindings or by the first
// session.
void initialise_dispatch();

}  // namespace engine
