/* Roofs of a device with a queue of its own: harness/cpu_roofs.h. Test: tests/test_cuda_kernels.c. */
#include "harness/cpu_roofs.h"
#include "kernels/ops.h"

typedef struct bench {
    pb_device *dev;
    pb_event *begin, *end;
    pb_tensor from, to;
    pb_gemm_args gemm;
} bench;

static pb_status run_copy(const bench *b) { return pb_device_copy(b->dev, b->to, b->from); }
static pb_status run_gemm(const bench *b) { return pb_gemm(b->dev, &b->gemm); }

/* After a warm-up. */
static pb_status time_all(const bench *b, pb_status (*run)(const bench *), double *samples) {
    for (int i = -1; i < PB_ROOF_SAMPLES; i++) {
        double ns = 0;
        PB_RETURN(pb_event_record(b->begin));
        PB_RETURN(run(b));
        PB_RETURN(pb_event_record(b->end));
        PB_RETURN(pb_event_elapsed(b->begin, b->end, &ns));
        if (i >= 0) samples[i] = (ns > 1 ? ns : 1) * 1e-9;
    }
    return PB_OK;
}

static pb_status measure_copy(bench *b, pb_cpu_roofs *out) {
    PB_RETURN(pb_alloc1(b->dev, PB_MEM_WORK, PB_U8, out->copy_bytes, &b->from));
    PB_RETURN(pb_alloc1(b->dev, PB_MEM_WORK, PB_U8, out->copy_bytes, &b->to));
    PB_RETURN(time_all(b, run_copy, out->samples_s[0]));
    out->measured[0] = true;
    out->bytes_per_s = 2 * (double)out->copy_bytes / pb_roof_least(out->samples_s[0]);
    return PB_OK;
}

static pb_status measure_product(bench *b, int d, pb_cpu_roofs *out) {
    static const pb_dtype dtypes[] = {PB_F32, PB_BF16};
    pb_tensor *const all[] = {&b->gemm.a, &b->gemm.b, &b->gemm.c};
    b->gemm = (pb_gemm_args){.trans_b = true, .alpha = 1};
    for (int i = 0; i < 3; i++)
        PB_RETURN(pb_alloc2(b->dev, PB_MEM_WORK, dtypes[d], out->side, out->side, all[i]));
    for (int i = 0; i < 2; i++) {
        pb_fill_uniform_args fill = {.x = *all[i], .lo = -0.5, .hi = 0.5, .key = 1};
        fill.stream = (uint64_t)i;
        PB_RETURN(pb_fill_uniform(b->dev, &fill));
    }
    PB_RETURN(time_all(b, run_gemm, out->samples_s[1 + d]));
    out->measured[1 + d] = true;
    out->flops_per_s[d] =
        pb_op_work(PB_OP_gemm, &b->gemm).flops / pb_roof_least(out->samples_s[1 + d]);
    return PB_OK;
}

pb_status pb_device_roofs_measure(pb_device *dev, int64_t copy_bytes, int64_t side,
                                  pb_cpu_roofs *out) {
    pb_status status = PB_OK;
    bench b = {.dev = dev};
    pb_mark mark = pb_device_mark(dev, PB_MEM_WORK);
    *out = (pb_cpu_roofs){.side = side > 0 ? side : 8192};
    out->copy_bytes = copy_bytes > 0 ? copy_bytes : INT64_C(512) << 20;
    PB_TRY(pb_event_new(dev, &b.begin));
    PB_TRY(pb_event_new(dev, &b.end));
    PB_TRY(measure_copy(&b, out));
    pb_device_rewind(dev, PB_MEM_WORK, mark);
    for (int d = 0; d < 2; d++) {
        PB_TRY(measure_product(&b, d, out));
        pb_device_rewind(dev, PB_MEM_WORK, mark);
    }
done:
    pb_event_free(b.begin);
    pb_event_free(b.end);
    pb_device_rewind(dev, PB_MEM_WORK, mark);
    return status;
}
