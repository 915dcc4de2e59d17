/* Names of kernels as a reader knows them. Test: tests/profile/test_cupti.c. */
#include "harness/profile/cupti/names.h"

#include <cxxabi.h>

#include <cstdlib>
#include <cstring>

extern "C" char *pb_cupti_demangled(const char *name) {
    int bad = 0;
    char *text = abi::__cxa_demangle(name, nullptr, nullptr, &bad);
    if (text == nullptr || bad != 0) return strdup(name);
    const char *from = std::strncmp(text, "void ", 5) == 0 ? text + 5 : text;
    int depth = 0;
    size_t n = 0;
    for (; from[n] != 0 && !(from[n] == '(' && depth == 0 && std::strncmp(from + n, "(anonymous", 10) != 0); n++)
        depth += from[n] == '<' ? 1 : from[n] == '>' ? -1 : 0;
    char *cut = strndup(from, n);
    std::free(text);
    return cut;
}
