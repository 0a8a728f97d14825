// engine_tests [family] [isa]: runs the tests of family.cpp (all files when absent or "all") on one
// instruction set (all available when absent). Exits with 77 when this CPU lacks the set.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>

#include "core/status.h"
#include "dispatch/table.h"
#include "tests/test.h"

int main(int argc, char** argv) {
    const std::string family = argc > 1 ? argv[1] : "all";
    engine::initialise_dispatch();
    std::vector<std::string> isas = engine::available_isas();
    if (argc > 2) {
        if (std::find(isas.begin(), isas.end(), argv[2]) == isas.end()) {
            std::printf("this CPU does not run %s\n", argv[2]);
            return 77;
        }
        isas = {argv[2]};
    }
    int count = 0;
    for (const std::string& isa : isas) {
        engine::set_isa(isa);
        for (const engine_test::Test& test : engine_test::tests()) {
            const char* slash = std::strrchr(test.file, '/');
            const std::string name = slash ? slash + 1 : test.file;
            if (family != "all" && name != family + ".cpp") continue;
            engine_test::context().clear();
            const int before = engine_test::failures();
            try {
                test.run();
            } catch (const std::exception& error) {
                engine_test::report(test.file, 0, test.name, " threw ", error.what());
            }
            ++count;
            const bool passed = engine_test::failures() == before;
            std::printf("%-8s %s %s\n", isa.c_str(), passed ? "passed" : "FAILED", test.name);
            std::fflush(stdout);
        }
    }
    std::printf("%d tests, %d failures\n", count, engine_test::failures());
    return engine_test::failures() == 0 && count > 0 ? 0 : 1;
}
