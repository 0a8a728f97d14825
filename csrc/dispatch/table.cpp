#include "dispatch/table.h"

#include "core/cpu.h"
#include "core/env.h"
#include "core/status.h"

// The build passes ENGINE_ISA_LIST(X) with the rows of isa.txt that fit this architecture.
#ifndef ENGINE_ISA_LIST
#error "define ENGINE_ISA_LIST(X), e.g. -DENGINE_ISA_LIST(X)=X(generic)"
#endif

namespace engine {

#define DECLARE_TABLE(isa_name)      \
    namespace isa_name {             \
    extern const KernelTable kTable; \
    }
ENGINE_ISA_LIST(DECLARE_TABLE)
#undef DECLARE_TABLE

namespace detail {
const KernelTable* active_table = nullptr;
}

namespace {

const KernelTable* const kTables[] = {
#define TABLE_OF(isa_name) &isa_name::kTable,
    ENGINE_ISA_LIST(TABLE_OF)
#undef TABLE_OF
};

std::string names(const std::vector<std::string>& list) {
    std::string text;
    for (const std::string& name : list) text += (text.empty() ? "" : ", ") + name;
    return text;
}

}  // namespace

std::string isa() { return kernels().isa; }

std::vector<std::string> available_isas() {
    std::vector<std::string> list;
    for (const KernelTable* table : kTables)
        if (cpu_supports(table->isa)) list.push_back(table->isa);
    return list;
}

void set_isa(const std::string& name) {
    for (const KernelTable* table : kTables)
        if (name == table->isa && cpu_supports(name)) {
            detail::active_table = table;
            return;
        }
    fail(Kind::value, "[set_isa] expected one of ", names(available_isas()), ", got '", name, "'");
}

void initialise_dispatch() {
    const std::string wanted = env_string("ENGINE_ISA", "");
    if (wanted.empty())
        set_isa(available_isas().back());
    else
        set_isa(wanted);
    if (verbosity() > 0)
        log_line("instruction set " + isa() + " (of " + names(available_isas()) + ")");
}

}  // namespace engine
