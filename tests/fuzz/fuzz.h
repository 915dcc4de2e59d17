/* A fuzz target is one file fuzz_<name>.c with this function: libFuzzer calls it with what it made
 * up, replay.c with the files of corpus/<name>/. It must not crash, leak or hang whatever the bytes
 * are. */
#ifndef PB_TESTS_FUZZ_H
#define PB_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
