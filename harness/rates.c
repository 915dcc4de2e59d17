/* See rates.h. Test: tests/test_advise.c, tests/test_cli.c (run --dry-run). */
#include "harness/rates.h"

#include "base/text.h"
#include "harness/cpu_roofs.h"
#include "kernels/ops.h"

#define SIDE 1024
#define ENOUGH_NS INT64_C(60000000)

static pb_status time_call(pb_device *dev, pb_op op, const void *args, double *seconds) {
    int64_t calls = 0, start = 0, spent = 0;
    PB_RETURN(pb_op_run(dev, op, args)); /* warm-up */
    PB_RETURN(pb_device_sync(dev));
    start = pb_now_ns();
    do {
        PB_RETURN(pb_op_run(dev, op, args));
        PB_RETURN(pb_device_sync(dev));
        calls++;
        spent = pb_now_ns() - start;
    } while (spent < ENOUGH_NS);
    *seconds = (double)spent * 1e-9 / (double)calls;
    return PB_OK;
}

static pb_status measure_in_queue(pb_device *dev, pb_dtype dtype, pb_rates *out) {
    pb_cpu_roofs roofs;
    PB_RETURN(pb_device_roofs_measure(dev, 0, 0, &roofs));
    out->flops_per_s = roofs.flops_per_s[dtype == PB_BF16];
    out->bytes_per_s = roofs.bytes_per_s;
    return PB_OK;
}

pb_status pb_rates_measure(const char *device, int threads, pb_dtype dtype, pb_rates *out) {
    pb_status status = PB_OK;
    pb_device *dev = NULL;
    pb_device_options options = {.threads = threads};
    pb_tensor a, b, c, x, y;
    double product = 0, stream = 0;
    PB_TRY(pb_device_open(device, &options, &dev));
    if (pb_device_queues(dev)) {
        status = measure_in_queue(dev, dtype, out);
        goto done;
    }
    PB_TRY(pb_alloc2(dev, PB_MEM_DATA, dtype, SIDE, SIDE, &a));
    PB_TRY(pb_alloc2(dev, PB_MEM_DATA, dtype, SIDE, SIDE, &b));
    PB_TRY(pb_alloc2(dev, PB_MEM_DATA, dtype, SIDE, SIDE, &c));
    PB_TRY(pb_alloc2(dev, PB_MEM_DATA, PB_F32, 4 * SIDE, SIDE, &x));
    PB_TRY(pb_alloc2(dev, PB_MEM_DATA, PB_F32, 4 * SIDE, SIDE, &y));
    pb_gemm_args gemm = {.a = a, .b = b, .c = c, .trans_b = true, .alpha = 1};
    pb_axpby_args axpby = {.x = x, .y = y, .alpha = 1, .beta = 1};
    PB_TRY(time_call(dev, PB_OP_gemm, &gemm, &product));
    PB_TRY(time_call(dev, PB_OP_axpby, &axpby, &stream));
    out->flops_per_s = pb_op_work(PB_OP_gemm, &gemm).flops / product;
    out->bytes_per_s = pb_op_work(PB_OP_axpby, &axpby).bytes / stream;
done:
    pb_device_close(dev);
    return status;
}

double pb_rates_seconds(pb_work work, double flops_per_s, double bytes_per_s) {
    double compute = flops_per_s > 0.0 ? work.flops / flops_per_s : 0.0;
    double traffic = bytes_per_s > 0.0 ? work.bytes / bytes_per_s : 0.0;
    return compute > traffic ? compute : traffic;
}
