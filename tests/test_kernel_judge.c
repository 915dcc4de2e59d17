/* Wrong kernels are seen, op by op and output by output: a scale of a thousandth, a last row that was
 * left alone, and the faults that single ops invite. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "harness/kernel_judge.h"
#include "kernels/core/device_impl.h"
#include "tests/kernel_lab.h"
#include "tests/support.h"

/* ---- a fault in one output ---- */

typedef enum kind { SCALE, STALE, OWN } kind;

static struct {
    const pb_kernel *right;
    pb_dtype dtype; /* of the layer */
    kind kind;
    int output; /* of pb_kernel_outputs */
    bool planted; /* the kernel has such an output, and the fault changed it */
    char name[32];
    pb_status (*own)(pb_device *dev, const pb_kernel *right, const void *args, void *ws);
} fault;

/* What a wrong scale before the rounding leaves in bf16: every element is rounded up or down as often
 * as its true value is nearer to the one or the other. */
static uint16_t scaled_bf16(uint16_t bits, double factor, int64_t i) {
    double x = (double)pb_bf16_to_f32(bits) * factor, u = fabs(x) / 128;
    uint16_t low = pb_f32_to_bf16((float)(x - u)), high = pb_f32_to_bf16((float)(x + u));
    double chance = (double)((uint64_t)i * 2654435761u % 100003) / 100003;
    uint16_t best = pb_f32_to_bf16((float)x);
    double at = (double)pb_bf16_to_f32(best), over = x - at;
    uint16_t next = over > 0 ? high : low;
    double gap = fabs((double)pb_bf16_to_f32(next) - at);
    return gap > 0 && chance < fabs(over) / gap ? next : best;
}

static void scale(pb_kernel_output o, double factor) {
    int64_t n = pb_numel(o.t);
    for (int64_t i = 0; i < n; i++) {
        if (o.t.dtype == PB_F32) {
            float *x = (float *)o.t.data + i;
            *x = (float)((double)*x * factor);
        } else {
            uint16_t *x = (uint16_t *)o.t.data + i;
            *x = scaled_bf16(*x, factor, i);
        }
    }
}

/* A thousandth; bf16 shows it to the mean of thousands of elements only. */
static double factor_for(pb_kernel_output o) {
    bool inner = o.inner && fault.dtype == PB_BF16;
    if (o.t.dtype == PB_F32 && !inner) return 1.001;
    if (pb_numel(o.t) < 4096) return 1.02;
    return inner ? 1.003 : 1.001;
}

/* The last row that the op wrote to; of a vector the last element, of codes the last 64. */
static bool put_row_back(pb_kernel_output o, const unsigned char *before) {
    size_t size = pb_dtype_size(o.t.dtype), bytes = pb_bytes(o.t);
    size_t row = o.t.ndim == 2 ? (size_t)pb_cols(o.t) * size : size;
    if (o.codes != PB_NO_CODES) row = bytes < 64 ? bytes : 64;
    for (size_t at = bytes; at >= row; at -= row) {
        unsigned char *last = (unsigned char *)o.t.data + at - row;
        if (memcmp(last, before + at - row, row) == 0) continue;
        memcpy(last, before + at - row, row);
        return true;
    }
    return false;
}

static pb_status faulty(pb_device *dev, const void *args, void *ws) {
    pb_kernel_output list[PB_KERNEL_OUTPUTS];
    if (fault.kind == OWN) return fault.own(dev, fault.right, args, ws);
    int n = pb_kernel_outputs(fault.right->op, args, list);
    if (fault.output >= n) return fault.right->run(dev, args, ws);
    pb_kernel_output o = list[fault.output];
    snprintf(fault.name, sizeof fault.name, "%s", o.name);
    unsigned char *before = malloc(pb_bytes(o.t) + 1);
    ck_assert(before != NULL);
    memcpy(before, o.t.data, pb_bytes(o.t));
    pb_status status = fault.right->run(dev, args, ws);
    if (fault.kind == STALE) {
        fault.planted = put_row_back(o, before);
    } else if (o.codes == PB_NO_CODES && o.t.dtype != PB_I32) {
        scale(o, factor_for(o));
        fault.planted = true;
    }
    free(before);
    return status;
}

static pb_kernel_result measured(const pb_kernel_case *c, pb_device *ref, pb_device *dev) {
    pb_kernel_result r;
    pb_kernel bad = *dev->kernel[c->op];
    fault.right = dev->kernel[c->op];
    fault.dtype = c->layer.dtype;
    bad.run = faulty;
    dev->kernel[c->op] = &bad;
    fault.planted = false;
    pb_assert_ok(pb_kernel_measure(c, ref, dev, (pb_kernel_way){.limit_s = 1e-4}, &r));
    dev->kernel[c->op] = fault.right;
    return r;
}

/* Every output of every op with this fault; returns how many there were. */
static int plant_all(const char *model, pb_dtype dtype, kind what) {
    pb_device *ref = kernel_lab_device("ref", 1), *dev = kernel_lab_device("cpu", 1);
    pb_kernel_cases cases = kernel_lab_cases(model, 128, dtype, PB_LAYER_USUAL, NULL);
    int seen[PB_OP_COUNT] = {0}, n = 0;
    fault.kind = what;
    for (int i = 0; i < cases.n; i++) {
        for (fault.output = 0; fault.output < PB_KERNEL_OUTPUTS; fault.output++) {
            pb_kernel_result r = measured(&cases.items[i], ref, dev);
            if (fault.planted)
                ck_assert_msg(r.wrong, "%s: a fault of kind %d in %s passes, at %.2f of what is allowed",
                              cases.items[i].name, (int)what, fault.name, r.worst);
            else
                ck_assert_msg(!r.wrong, "%s: %s", cases.items[i].name, r.why);
            seen[cases.items[i].op] += fault.planted;
            n += fault.planted;
            pb_kernel_result_free(&r);
        }
    }
    for (int op = 0; op < PB_OP_COUNT; op++)
        ck_assert_msg(seen[op] > 0 || (what == SCALE && op == PB_OP_quantize4),
                      "no fault was planted in %s", pb_op_name((pb_op)op));
    pb_kernel_cases_free(&cases);
    pb_device_close(dev);
    pb_device_close(ref);
    return n;
}

START_TEST(a_wrong_scale_is_seen_in_every_output) {
    ck_assert_int_gt(plant_all("shape:minilm", _i ? PB_BF16 : PB_F32, SCALE), 50);
}
END_TEST

START_TEST(a_row_left_alone_is_seen_in_every_output) {
    ck_assert_int_gt(plant_all("shape:llama-3.2-1b", _i ? PB_BF16 : PB_F32, STALE), 50);
}
END_TEST

/* ---- faults of single ops ---- */

static pb_status only_targets(pb_device *dev, const pb_kernel *right, const void *args, void *ws) {
    const pb_cross_entropy_args *a = args;
    PB_RETURN(right->run(dev, args, ws));
    int64_t rows = pb_rows(a->dlogits), cols = pb_cols(a->dlogits);
    for (int64_t i = 0; i < rows * cols; i++) {
        if (i % cols == ((const int32_t *)a->target.data)[i / cols]) continue;
        if (a->dlogits.dtype == PB_F32) ((float *)a->dlogits.data)[i] = 0;
        if (a->dlogits.dtype == PB_BF16) ((uint16_t *)a->dlogits.data)[i] = 0;
    }
    return PB_OK;
}

static pb_status no_decay(pb_device *dev, const pb_kernel *right, const void *args, void *ws) {
    pb_adamw_args a = *(const pb_adamw_args *)args;
    pb_adamw_item item = a.items[0];
    item.weight_decay = 0;
    a.items = &item;
    return right->run(dev, &a, ws);
}

static pb_status no_decay8(pb_device *dev, const pb_kernel *right, const void *args, void *ws) {
    pb_adamw8_args a = *(const pb_adamw8_args *)args;
    pb_adamw8_item item = a.items[0];
    item.weight_decay = 0;
    a.items = &item;
    return right->run(dev, &a, ws);
}

static pb_status a_step_late(pb_device *dev, const pb_kernel *right, const void *args, void *ws) {
    pb_adamw_args a = *(const pb_adamw_args *)args;
    a.step++;
    return right->run(dev, &a, ws);
}

static pb_status alpha_off(pb_device *dev, const pb_kernel *right, const void *args, void *ws) {
    pb_gemm_args a = *(const pb_gemm_args *)args;
    a.alpha *= 1.001;
    return right->run(dev, &a, ws);
}

static pb_status branch_off(pb_device *dev, const pb_kernel *right, const void *args, void *ws) {
    pb_lowrank_args a = *(const pb_lowrank_args *)args;
    a.scale *= 1.003;
    return right->run(dev, &a, ws);
}

static pb_status sees_the_future(pb_device *dev, const pb_kernel *right, const void *args,
                                 void *ws) {
    pb_attention_fwd_args a = *(const pb_attention_fwd_args *)args;
    a.causal = false;
    return right->run(dev, &a, ws);
}

static pb_status temperature_off(pb_device *dev, const pb_kernel *right, const void *args,
                                 void *ws) {
    pb_attention_bwd_args a = *(const pb_attention_bwd_args *)args;
    a.scale *= 1.02;
    return right->run(dev, &a, ws);
}

static pb_status other_dropout(pb_device *dev, const pb_kernel *right, const void *args, void *ws) {
    pb_dropout_args a = *(const pb_dropout_args *)args;
    a.drop.key++;
    return right->run(dev, &a, ws);
}

static pb_status one_code_more(pb_device *dev, const pb_kernel *right, const void *args, void *ws) {
    const pb_quantize4_args *a = args;
    PB_RETURN(right->run(dev, args, ws));
    unsigned char *codes = a->q.codes.data;
    codes[17] = (unsigned char)(codes[17] < 0x80 ? 0xf0 | (codes[17] & 15) : codes[17] & 15);
    return PB_OK;
}

START_TEST(faults_of_single_ops_are_seen) {
    static const struct {
        const char *filter;
        pb_status (*own)(pb_device *, const pb_kernel *, const void *, void *);
    } list[] = {
        {"/cross_entropy/", only_targets},    {"/adamw/", no_decay},
        {"/adamw8/", no_decay8},              {"/adamw/", a_step_late},
        {"/gemm/", alpha_off},                {"/lowrank/", branch_off},
        {"/attention_fwd/", sees_the_future}, {"/attention_bwd/", temperature_off},
        {"/dropout/", other_dropout},         {"/quantize4/", one_code_more},
    };
    pb_device *ref = kernel_lab_device("ref", 1), *dev = kernel_lab_device("cpu", 1);
    const pb_dtype dtypes[] = {PB_F32, PB_BF16};
    fault.kind = OWN;
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        for (int d = 0; d < 2; d++) {
            pb_kernel_cases cases = kernel_lab_cases("shape:gpt2-124m", 128, dtypes[d], PB_LAYER_USUAL,
                                                     list[i].filter);
            ck_assert_int_ge(cases.n, 1);
            fault.own = list[i].own;
            pb_kernel_result r = measured(&cases.items[0], ref, dev);
            ck_assert_msg(r.wrong, "%s: fault %zu passes, at %.2f of what is allowed",
                          cases.items[0].name, i, r.worst);
            pb_kernel_result_free(&r);
            pb_kernel_cases_free(&cases);
        }
    }
    pb_device_close(dev);
    pb_device_close(ref);
}
END_TEST

int main(void) {
    Suite *s = suite_create("kernel_judge");
    TCase *t = pb_test_case(s, "faults");
    tcase_add_loop_test(t, a_wrong_scale_is_seen_in_every_output, 0, 2);
    tcase_add_loop_test(t, a_row_left_alone_is_seen_in_every_output, 0, 2);
    tcase_add_test(t, faults_of_single_ops_are_seen);
    return pb_run_suite(s);
}
