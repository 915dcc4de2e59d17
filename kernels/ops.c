/* Dispatch: check, count, lend workspace, run. The checks and counts of each op are in
 * ops_<family>.c. */
#include "kernels/ops.h"

#include "kernels/core/check.h"
#include "kernels/core/device_impl.h"

typedef struct op_entry {
    const char *name;
    void (*check)(pb_check *c, const void *args);
    pb_work (*work)(const void *args);
} op_entry;

static const op_entry ops[PB_OP_COUNT] = {
#define X(name) [PB_OP_##name] = {#name, pb_check_##name, pb_work_##name},
    PB_OPS(X)
#undef X
};

const char *pb_op_name(pb_op op) {
    return (unsigned)op < PB_OP_COUNT ? ops[op].name : "invalid op";
}

const char *pb_act_name(pb_act act) {
    static const char *const name[PB_ACT_COUNT] = {"gelu", "gelu_tanh", "relu", "silu"};
    return (unsigned)act < PB_ACT_COUNT ? name[act] : "invalid activation";
}

pb_work pb_op_work(pb_op op, const void *args) {
    PB_ASSERT((unsigned)op < PB_OP_COUNT);
    pb_work work = ops[op].work(args);
    work.ops = 1;
    return work;
}

const char *pb_op_variant(const pb_device *dev, pb_op op) {
    PB_ASSERT((unsigned)op < PB_OP_COUNT);
    const pb_kernel *k = dev->kernel[op];
    if (k == NULL) return NULL;
    return k->variant != NULL ? k->variant : "plain";
}

/* Nominal rates of one thread for a plan's clock: 32 GFLOP/s of products, 4 of the rest, 8 GB/s of
 * traffic up to 4 threads. Only ratios between plans mean anything; predictions for a real machine
 * are made from pb_work. */
static double nominal_ns(const pb_device *dev, pb_work work) {
    double threads = (double)dev->options.threads;
    double lanes = threads < 4.0 ? threads : 4.0;
    double compute = work.flops / (32.0 * threads) + work.flops_else / (4.0 * threads);
    double traffic = work.bytes / (8.0 * lanes);
    return compute > traffic ? compute : traffic;
}

static pb_status run_kernel(pb_device *dev, const pb_kernel *k, const void *args) {
    size_t bytes = k->workspace != NULL ? k->workspace(dev, args) : 0;
    void *ws = NULL;
    if (bytes == 0) return dev->backend->computes ? k->run(dev, args, NULL) : PB_OK;
    pb_mark mark = pb_device_mark(dev, PB_MEM_WORK);
    PB_RETURN(pb_arena_take(dev, PB_MEM_WORK, bytes, true, &ws));
    pb_status status = dev->backend->computes ? k->run(dev, args, ws) : PB_OK;
    /* In-order queue: the next op to get these bytes runs after this one. */
    pb_device_rewind(dev, PB_MEM_WORK, mark);
    return status;
}

pb_status pb_op_run(pb_device *dev, pb_op op, const void *args) {
    if ((unsigned)op >= PB_OP_COUNT || args == NULL)
        return PB_ERROR(PB_E_BUG, "op %d without arguments", (int)op);
    pb_check c = {.op = ops[op].name, .status = PB_OK};
    ops[op].check(&c, args);
    PB_RETURN(c.status);
    const pb_kernel *k = dev->kernel[op];
    if (k == NULL)
        return PB_ERROR(PB_E_UNSUPPORTED, "%s has no kernel for %s", dev->name, ops[op].name);
    pb_work work = pb_op_work(op, args);
    if (dev->observer != NULL) dev->observer(dev->observer_user, ops[op].name, true, &work);
    pb_status status = run_kernel(dev, k, args);
    if (!dev->backend->computes) dev->planned_ns += nominal_ns(dev, work);
    if (dev->observer != NULL) dev->observer(dev->observer_user, ops[op].name, false, &work);
    if (status != PB_OK) {
        pb_error_frame(__FILE__, __LINE__);
        return status;
    }
    dev->work.flops += work.flops;
    dev->work.flops_else += work.flops_else;
    dev->work.bytes += work.bytes;
    dev->work.ops += work.ops;
    return PB_OK;
}
