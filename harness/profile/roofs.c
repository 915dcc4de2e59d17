/* The roofs of a roofline, measured on the device itself: traffic of y = x over arrays that no cache holds, and a product. On
 * the host each of the two arrays is as large as the last-level caches together, 128 MiB at least and 1 GiB at most. */
#include "harness/cpu_roofs.h"
#include "harness/profile/profile.h"
#include "harness/trainer_impl.h"
#include "kernels/ops.h"

#include <string.h>

enum { REPEATS = 5 };

typedef struct roof_bench {
    pb_device *dev;
    pb_event *begin, *end;
} roof_bench;

static pb_status timed(roof_bench *b, pb_status (*run)(pb_device *, const void *), const void *args,
                       double work, double *rates) {
    for (int i = -1; i < REPEATS; i++) { /* the first one warms up */
        double ns = 0.0;
        PB_RETURN(pb_event_record(b->begin));
        PB_RETURN(run(b->dev, args));
        PB_RETURN(pb_event_record(b->end));
        PB_RETURN(pb_event_elapsed(b->begin, b->end, &ns));
        if (i >= 0) rates[i] = ns > 0.0 ? work * 1e9 / ns : 0.0;
    }
    return PB_OK;
}

static pb_status run_copy(pb_device *dev, const void *args) { return pb_axpby(dev, args); }
static pb_status run_linear(pb_device *dev, const void *args) { return pb_linear(dev, args); }

static pb_status traffic(roof_bench *b, bool host, double *rates) {
    int64_t cols = 4096, least = 8192, rows = 32768; /* 512 MiB of f32 */
    if (host) {
        int64_t wanted = pb_last_cache_bytes(NULL) / (cols * (int64_t)sizeof(float));
        rows = wanted < least ? least : wanted > 8 * least ? 8 * least : wanted;
    }
    pb_axpby_args a = {.alpha = 1.0};
    PB_RETURN(pb_alloc2(b->dev, PB_MEM_WORK, PB_F32, rows, cols, &a.x));
    PB_RETURN(pb_alloc2(b->dev, PB_MEM_WORK, PB_F32, rows, cols, &a.y));
    return timed(b, run_copy, &a, 8.0 * (double)rows * (double)cols, rates);
}

static pb_status product(roof_bench *b, bool host, pb_dtype dtype, double *rates) {
    int64_t n = host ? 1024 : 8192, k = host ? 4096 : 8192;
    pb_linear_args a = {0};
    PB_RETURN(pb_alloc2(b->dev, PB_MEM_WORK, dtype, n, k, &a.x));
    PB_RETURN(pb_alloc2(b->dev, PB_MEM_WORK, dtype, n, k, &a.w.dense));
    PB_RETURN(pb_alloc2(b->dev, PB_MEM_WORK, dtype, n, n, &a.y));
    pb_fill_uniform_args x = {.x = a.x, .lo = -1, .hi = 1, .key = 1},
                         w = {.x = a.w.dense, .lo = -1, .hi = 1, .key = 2};
    PB_RETURN(pb_fill_uniform(b->dev, &x));
    PB_RETURN(pb_fill_uniform(b->dev, &w));
    return timed(b, run_linear, &a, 2.0 * (double)n * (double)n * (double)k, rates);
}

pb_status pb_roofs_measure(pb_device *dev, pb_dtype dtype, pb_roofs *out) {
    pb_status status = PB_OK;
    roof_bench b = {.dev = dev};
    bool host = strncmp(pb_device_name(dev), "cuda", 4) != 0;
    pb_mark mark = pb_device_mark(dev, PB_MEM_WORK);
    *out = (pb_roofs){0};
    PB_TRY(pb_event_new(dev, &b.begin));
    PB_TRY(pb_event_new(dev, &b.end));
    PB_TRY(traffic(&b, host, out->bytes_per_s));
    pb_device_rewind(dev, PB_MEM_WORK, mark);
    PB_TRY(product(&b, host, dtype, out->flops_per_s));
    out->n = REPEATS;
done:
    pb_event_free(b.begin);
    pb_event_free(b.end);
    pb_device_rewind(dev, PB_MEM_WORK, mark);
    return status;
}

pb_status pb_roofs_record(const pb_roofs *roofs, pb_record *r) {
    if (roofs->n == 0) return PB_OK;
    PB_RETURN(pb_record_sample(r, "roof/bytes_per_s", roofs->bytes_per_s, roofs->n));
    PB_RETURN(pb_record_sample(r, "roof/flops_per_s", roofs->flops_per_s, roofs->n));
    PB_RETURN(pb_record_derived(r, "roof/bytes_per_s", "max", "roof/bytes_per_s"));
    return pb_record_derived(r, "roof/flops_per_s", "max", "roof/flops_per_s");
}
