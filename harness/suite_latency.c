/* The "latency" block of a suite: what batches of random tokens are timed. Grammar:
 * harness/suites/README.md. Test: tests/test_latency.c. */
#include "harness/suite_impl.h"

pb_status pb_suite_read_latency(const pb_json *root, const char *file, pb_suite_source *s) {
    static const char *const keys[] = {"batch", "length", "repeats"};
    static const char *const strangers[] = {"data", "train", "eval", "tune", "examples"};
    const pb_json *o = pb_json_get(root, "latency");
    char where[512];
    pb_latency *l = &s->latency;
    if (!o) return PB_OK;
    snprintf(where, sizeof where, "%s: latency", file);
    if (!cJSON_IsObject(o)) return PB_ERROR(PB_E_INPUT, "%s: expected an object", where);
    PB_RETURN(pb_json_only_keys(o, where, keys, sizeof keys / sizeof keys[0]));
    for (size_t i = 0; i < sizeof strangers / sizeof strangers[0]; i++) {
        if (!pb_json_get(root, strangers[i])) continue;
        return PB_ERROR(PB_E_INPUT, "%s: %s: not together with latency: nothing is trained", file,
                        strangers[i]);
    }
    s->is_latency = true;
    *l = (pb_latency){.batch = {1, 8, 32}, .n_batch = 3, .length = {32, 128}, .n_length = 2,
                      .repeats = 15};
    PB_RETURN(pb_suite_read_counts(o, where, "batch", 1, 65536, PB_LATENCY_MAX, l->batch,
                                   &l->n_batch));
    PB_RETURN(pb_suite_read_counts(o, where, "length", 2, 1 << 20, PB_LATENCY_MAX, l->length,
                                   &l->n_length));
    return pb_json_read_i64(o, where, "repeats", 3, 10000, &l->repeats);
}
