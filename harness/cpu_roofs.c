/* Roofs of the CPU: harness/cpu_roofs.h. Test: tests/test_kernel_stored.c. */
#include "harness/cpu_roofs.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "kernels/ops.h"
#include "results/record.h"

#define MIB (INT64_C(1) << 20)
#define PAGE 4096

int64_t pb_last_cache_bytes(void) {
    static const int levels[] = {_SC_LEVEL4_CACHE_SIZE, _SC_LEVEL3_CACHE_SIZE,
                                 _SC_LEVEL2_CACHE_SIZE};
    for (int i = 0; i < 3; i++) {
        long bytes = sysconf(levels[i]);
        if (bytes > 0) return bytes;
    }
    return 32 * MIB;
}

static void copy_slices(char *to, const char *from, int64_t bytes, int threads) {
    int64_t slice = (bytes / threads + PAGE) / PAGE * PAGE;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int i = 0; i < threads; i++) {
        int64_t first = i * slice, n = bytes - first < slice ? bytes - first : slice;
        if (n > 0) memcpy(to + first, from + first, (size_t)n);
    }
}

static pb_status measure_copy(int threads, pb_cpu_roofs *out) {
    pb_status status = PB_OK;
    double median, *samples = out->samples_s[0];
    int64_t bytes = pb_last_cache_bytes();
    bytes = bytes < 64 * MIB ? 64 * MIB : bytes > 1024 * MIB ? 1024 * MIB : bytes;
    char *from = malloc((size_t)bytes), *to = malloc((size_t)bytes);
    if (!from || !to)
        PB_FAIL(PB_E_OOM, "no memory for a copy of %lld bytes, the roof of traffic",
                (long long)bytes);
    memset(from, 1, (size_t)bytes);
    copy_slices(to, from, bytes, threads); /* pages of the target */
    for (int i = 0; i < PB_ROOF_SAMPLES; i++) {
        int64_t start = pb_now_ns();
        copy_slices(to, from, bytes, threads);
        samples[i] = (double)(pb_now_ns() - start) * 1e-9;
    }
    if (to[bytes - 1] != 1) PB_FAIL(PB_E_BUG, "the copy did not copy");
    PB_TRY(pb_derive("median", samples, PB_ROOF_SAMPLES, &median));
    out->copy_bytes = bytes;
    out->bytes_per_s = 2 * (double)bytes / median;
done:
    free(from);
    free(to);
    return status;
}

/* Numbers in -0.5..0.5: products of zeros draw less power than those of a model. */
static pb_status fill(pb_device *dev, pb_tensor t) {
    int64_t n = pb_numel(t);
    float *values = malloc((size_t)n * sizeof *values);
    if (!values) return PB_ERROR(PB_E_OOM, "no memory for %lld numbers", (long long)n);
    for (int64_t i = 0; i < n; i++)
        values[i] = (float)(((uint64_t)i * 2654435761u >> 8) & 0xffff) / 65536.0f - 0.5f;
    pb_status status = pb_device_put_f32(dev, t, values);
    free(values);
    return status;
}

static pb_status measure_gemm(pb_device *dev, pb_dtype dtype, int64_t side, double *samples,
                              double *flops_per_s) {
    double median;
    pb_tensor a, b, c;
    PB_RETURN(pb_alloc2(dev, PB_MEM_DATA, dtype, side, side, &a));
    PB_RETURN(pb_alloc2(dev, PB_MEM_DATA, dtype, side, side, &b));
    PB_RETURN(pb_alloc2(dev, PB_MEM_DATA, dtype, side, side, &c));
    PB_RETURN(fill(dev, a));
    PB_RETURN(fill(dev, b));
    pb_gemm_args args = {.a = a, .b = b, .c = c, .trans_b = true, .alpha = 1};
    for (int i = -1; i < PB_ROOF_SAMPLES; i++) {
        int64_t start = pb_now_ns();
        PB_RETURN(pb_op_run(dev, PB_OP_gemm, &args));
        PB_RETURN(pb_device_sync(dev));
        if (i >= 0) samples[i] = (double)(pb_now_ns() - start) * 1e-9;
    }
    PB_RETURN(pb_derive("median", samples, PB_ROOF_SAMPLES, &median));
    *flops_per_s = pb_op_work(PB_OP_gemm, &args).flops / median;
    return PB_OK;
}

pb_status pb_cpu_roofs_measure(int threads, pb_cpu_roofs *out) {
    static const pb_dtype dtypes[] = {PB_F32, PB_BF16};
    pb_status status = PB_OK;
    pb_device *dev = NULL;
    pb_device_options options = {.threads = threads};
    *out = (pb_cpu_roofs){.side = 0};
    PB_TRY(pb_device_open("cpu", &options, &dev));
    out->side = pb_device_threads(dev) > 8 ? 2048 : 1024;
    PB_TRY(measure_copy(pb_device_threads(dev), out));
    for (int d = 0; d < 2; d++)
        PB_TRY(measure_gemm(dev, dtypes[d], out->side, out->samples_s[d + 1], &out->flops_per_s[d]));
done:
    pb_device_close(dev);
    return status;
}
