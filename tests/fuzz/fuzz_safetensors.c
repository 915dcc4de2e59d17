/* The safetensors header: every tensor of an accepted file can be read to its last element. */
#include <stdlib.h>
#include <string.h>

#include "models/safetensors.h"
#include "tests/fuzz/fuzz.h"

static void touch(const pb_stored_tensor *t) {
    uint64_t sum = 0;
    int64_t n = 1;
    double x = 0;
    float y = 0;
    for (uint64_t i = 0; i < t->bytes; i++) sum += t->data[i];
    for (int d = 0; d < t->ndim; d++) n *= t->dim[d];
    if (n > 0 && pb_stored_tensor_f64(t, n - 1, 1, &x) == PB_OK)
        PB_ASSERT(pb_stored_tensor_f32(t, n - 1, 1, &y) == PB_OK);
    static volatile uint64_t sink;
    sink = sum;
    (void)sink;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    pb_safetensors *st = NULL;
    uint8_t *copy = malloc(size ? size : 1); /* of its exact size: reads behind it are seen */
    PB_ASSERT(copy);
    if (size) memcpy(copy, data, size);
    if (pb_safetensors_open_bytes("fuzz", copy, size, &st) == PB_OK) {
        for (int i = 0; i < pb_safetensors_count(st); i++) {
            const pb_stored_tensor *t = pb_safetensors_at(st, i);
            PB_ASSERT(pb_safetensors_find(st, t->name) == t);
            touch(t);
        }
        pb_safetensors_close(st);
    } else {
        PB_ASSERT(!st);
    }
    free(copy);
    return 0;
}
