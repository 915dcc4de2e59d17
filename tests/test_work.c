/* The analytic work of every op against numbers worked out by hand: products, other operations, bytes.
 * What every share of a roof is made of. */
#include <stdlib.h>

#include "kernels/ops.h"
#include "tests/support.h"

static pb_device *dev;

static pb_tensor mat(pb_dtype dtype, int64_t rows, int64_t cols) {
    pb_tensor t;
    pb_assert_ok(pb_alloc2(dev, PB_MEM_DATA, dtype, rows, cols, &t));
    return t;
}

static pb_tensor vec(pb_dtype dtype, int64_t n) {
    pb_tensor t;
    pb_assert_ok(pb_alloc1(dev, PB_MEM_DATA, dtype, n, &t));
    return t;
}

static bool covered[PB_OP_COUNT];

static void expect(pb_op op, const void *args, double flops, double others, double bytes) {
    pb_work w = pb_op_work(op, args);
    covered[op] = true;
    ck_assert_msg(w.flops == flops && w.flops_else == others && w.bytes == bytes && w.ops == 1,
                  "%s: %.0f FLOPs, %.0f others, %.0f bytes; expected %.0f, %.0f, %.0f",
                  pb_op_name(op), w.flops, w.flops_else, w.bytes, flops, others, bytes);
    pb_assert_ok(pb_op_run(dev, op, args)); /* and these are arguments that the op takes */
}

#define EXPECT(name, args, flops, others, bytes) \
    expect(PB_OP_##name, &(pb_##name##_args)args, flops, others, bytes)
#define A(...) {__VA_ARGS__}

/* N = 6 rows, 10 -> 7; bf16 where it is said, f32 else. */
static void products(void) {
    pb_tensor x = mat(PB_F32, 6, 10), w = mat(PB_F32, 7, 10), y = mat(PB_F32, 6, 7),
              bias = vec(PB_F32, 7);
    EXPECT(gemm, A(.a = x, .b = w, .c = y, .trans_b = true, .alpha = 1), 840, 0,
           4 * (60 + 70 + 42));
    EXPECT(gemm, A(.a = x, .b = w, .c = y, .bias = bias, .trans_b = true, .alpha = 1, .beta = 1),
           840, 42 + 42, 4 * (60 + 70 + 7 + 84));
    EXPECT(linear, A(.x = x, .y = y, .w = {.dense = w}), 840, 0, 4 * (60 + 70 + 42));
    EXPECT(linear, A(.x = y, .y = x, .w = {.dense = w}, .transpose = true, .beta = 1), 840, 60,
           4 * (42 + 70 + 120));
    /* The tanh form is x times a sigmoid (21) of a cubic: 25; its slope times a gradient 32. */
    EXPECT(linear_gelu, A(.x = x, .w = w, .bias = bias, .y = y), 840, 42 * (25 + 1),
           4 * (60 + 70 + 7 + 42));
    pb_tensor pre = mat(PB_F32, 6, 7);
    EXPECT(linear_gelu, A(.x = x, .w = w, .y = y, .pre = pre), 840, 42 * 25,
           4 * (60 + 70 + 42 + 42));
    pb_tensor at = mat(PB_F32, 6, 10);
    EXPECT(gelu_linear_bwd, A(.dy = y, .w = w, .pre = at, .dx = x), 840, 60 * 32,
           4 * (42 + 70 + 60 + 60));
    /* 70 codes in 35 bytes, 2 blocks: 2 bytes, 1 absmax of absmax, 1 offset. A code decoded is two. */
    pb_quant4 q;
    pb_assert_ok(pb_quant4_alloc(dev, PB_CODE_NF4, 64, true, PB_F32, 7, 10, &q));
    EXPECT(linear, A(.x = x, .y = y, .w = {.quant = &q}), 840, 140,
           4 * (60 + 42) + 35 + 2 + 4 + 4);
    EXPECT(quantize4, A(.src = w, .q = q), 0, 8 * 70, 280 + 45);
    EXPECT(dequantize4, A(.q = q, .dst = w), 0, 140, 280 + 45);
    EXPECT(weight_norm2, A(.w = {.dense = w}, .y = bias), 0, 70, 280 + 28);
    pb_tensor h = mat(PB_BF16, 6, 2), a = mat(PB_BF16, 2, 10), b = mat(PB_BF16, 7, 2),
              xb = mat(PB_BF16, 6, 10), yb = mat(PB_BF16, 6, 7), dx = mat(PB_BF16, 6, 10);
    pb_tensor da = mat(PB_F32, 2, 10), db = mat(PB_F32, 7, 2);
    /* 2 * 6 * 2 * (10 + 7); y is read and written; scaled as it is added. */
    EXPECT(lowrank, A(.x = xb, .a = a, .b = b, .y = yb, .h = h, .scale = 1), 408, 42,
           2 * (60 + 20 + 14 + 12 + 84));
    pb_lowrank_bwd_args back = {
        .x = xb, .h = h, .a = a, .b = b, .dy = yb, .dx = dx, .da = da, .db = db, .scale = 1};
    expect(PB_OP_lowrank_bwd, &back, 24 * (14 + 20), 12,
           2 * (42 + 60 + 12 + 20 + 14 + 60) + 4 * (40 + 28));
    back.beta_dx = 1; /* dx is read too, and added to */
    expect(PB_OP_lowrank_bwd, &back, 24 * (14 + 20), 12 + 60,
           2 * (42 + 60 + 12 + 20 + 14 + 120) + 4 * (40 + 28));
    back.da = back.db = (pb_tensor){0}; /* then neither x nor h is needed */
    expect(PB_OP_lowrank_bwd, &back, 24 * (7 + 10), 12 + 60, 2 * (42 + 20 + 14 + 120));
    back.dx = (pb_tensor){0};
    back.db = db;
    expect(PB_OP_lowrank_bwd, &back, 24 * 7, 12, 2 * (42 + 12) + 4 * 28);
    /* W A^T, A A^T, B (A A^T): 2*7*10*2 + 2*4*10 + 2*7*4 */
    pb_tensor wb = mat(PB_BF16, 7, 10), s[4];
    for (int i = 0; i < 4; i++) s[i] = vec(PB_F32, 7);
    EXPECT(dora_norm,
           A(.w = {.dense = wb}, .w2 = s[0], .a = a, .b = b, .m = s[1], .n = s[2], .c = s[3]),
           280 + 80 + 56, 7 * 10, 2 * (70 + 20 + 14) + 4 * 28);
    EXPECT(dora_exact, A(.g = w, .v = mat(PB_F32, 7, 10), .m = s[1], .n = s[2]), 0, 210,
           4 * (140 + 70 + 14));
}

/* An exponential is 18 operations, a sigmoid 21, the normal distribution 38, a random number 20, a
 * dropped element 22. */
static void pointwise(void) {
    pb_tensor x = mat(PB_F32, 4, 8), y = mat(PB_F32, 4, 8), z = mat(PB_F32, 4, 8),
              u = mat(PB_F32, 4, 8), v = mat(PB_F32, 4, 8);
    pb_tensor c = vec(PB_F32, 8), d = vec(PB_F32, 8), n = vec(PB_F32, 4), r = vec(PB_F32, 4),
              one = vec(PB_F32, 1), e = vec(PB_F32, 8), f = vec(PB_F32, 8);
    pb_drop drop = {.p = 0.1f};
    const double act[] = {39, 25, 1, 22}, slope[] = {41, 32, 2, 25};
    for (int i = 0; i < PB_ACT_COUNT; i++) {
        EXPECT(act_fwd, A(.act = (pb_act)i, .x = x, .y = y), 0, 32 * act[i], 256);
        EXPECT(act_bwd, A(.act = (pb_act)i, .x = x, .dy = y, .dx = z), 0, 32 * slope[i], 384);
    }
    EXPECT(swiglu_fwd, A(.gate = x, .up = y, .y = z), 0, 32 * 23, 384);
    EXPECT(swiglu_bwd, A(.gate = x, .up = y, .dy = z, .dgate = u, .dup = v), 0, 32 * 28, 640);
    EXPECT(dropout, A(.x = x, .y = y, .drop = drop), 0, 32 * 22, 256);
    EXPECT(dropout, A(.x = x, .y = y, .drop = drop, .beta = 1), 0, 32 * 23, 384);
    EXPECT(norm_fwd,
           A(.norm = PB_NORM_LAYER, .x = x, .res = y, .gamma = c, .beta = d, .y = z, .sum = u,
             .mean = n, .rstd = r),
           0, 32 * 7, 4 * 128 + 2 * 32 + 2 * 16);
    EXPECT(norm_fwd, A(.norm = PB_NORM_RMS, .x = x, .gamma = c, .y = z, .rstd = r, .drop = drop), 0,
           32 * 25, 2 * 128 + 32 + 16);
    EXPECT(norm_bwd,
           A(.norm = PB_NORM_LAYER, .dy = x, .sum = y, .gamma = c, .mean = n, .rstd = r, .dx = z,
             .dgamma = e, .dbeta = f, .beta_dx = 1),
           0, 32 * 10, 4 * 128 + 32 + 32 + 2 * 64);
    EXPECT(norm_bwd, A(.norm = PB_NORM_RMS, .dy = x, .sum = y, .gamma = c, .rstd = r, .dx = z), 0,
           32 * 5, 3 * 128 + 32 + 16);
    EXPECT(axpby, A(.x = x, .y = y, .alpha = 1, .beta = 1), 0, 64, 384);
    EXPECT(scale_cols, A(.x = x, .c = c, .bias = d, .y = y), 0, 32, 256 + 64);
    EXPECT(coldot, A(.a = x, .b = y, .y = c), 0, 32, 256 + 64);
    EXPECT(reduce, A(.x = x, .y = one, .square = true, .alpha = 1), 0, 32, 128 + 4);
    EXPECT(fill_uniform, A(.x = x, .hi = 1), 0, 32 * 22, 128);
}

/* 4 tokens of width 8 out of 3 or 100 words. */
static void sequences(void) {
    pb_tensor few = mat(PB_F32, 3, 8), many = mat(PB_F32, 100, 8), y = mat(PB_F32, 4, 8),
              ids = vec(PB_I32, 4), at = vec(PB_I32, 4);
    EXPECT(embed_fwd, A(.word = many, .ids = ids, .y = y), 0, 0, 128 + 16 + 4 * 32);
    EXPECT(embed_fwd, A(.word = few, .pos = many, .ids = ids, .positions = at, .y = y), 0, 32,
           128 + 16 + 16 + 3 * 32 + 4 * 32);
    EXPECT(embed_bwd, A(.ids = ids, .dy = y, .dword = many), 0, 32, 128 + 16 + 2 * 128);
    EXPECT(embed_bwd, A(.ids = ids, .positions = at, .dy = y, .dpos = few), 0, 32,
           128 + 16 + 2 * 96);
    EXPECT(rope, A(.x = y, .inv_freq = vec(PB_F32, 2), .positions = at, .heads = 2), 0, 64,
           256 + 16 + 8);
    /* Two sequences of 3, 2 heads of 4 over one key head: 6 * 3 * 2 pairs; causal 6 * 2 * 2. */
    pb_tensor q = mat(PB_BF16, 6, 8), k = mat(PB_BF16, 6, 4), v = mat(PB_BF16, 6, 4),
              o = mat(PB_BF16, 6, 8), dq = mat(PB_BF16, 6, 8), dk = mat(PB_BF16, 6, 4),
              dv = mat(PB_BF16, 6, 4), d_o = mat(PB_BF16, 6, 8);
    pb_tensor lse = vec(PB_F32, 12), cu = vec(PB_I32, 3);
    EXPECT(attention_fwd,
           A(.q = q, .k = k, .v = v, .o = o, .lse = lse, .cu = cu, .heads = 2, .kv_heads = 1,
             .head_dim = 4, .sequences = 2, .max_len = 3, .scale = 1),
           4 * 36 * 4, 36 * 21, 2 * (96 + 48) + 48 + 12);
    EXPECT(attention_bwd,
           A(.q = q, .k = k, .v = v, .o = o, .lse = lse, .cu = cu, .d_o = d_o, .dq = dq, .dk = dk,
             .dv = dv, .heads = 2, .kv_heads = 1, .head_dim = 4, .sequences = 2, .max_len = 3,
             .scale = 1, .causal = true, .drop = {.p = 0.1f}),
           10 * 24 * 4, 24 * (22 + 23) + 48, 2 * (4 * 48 + 4 * 24) + 48 + 12);
    pb_tensor pooled = mat(PB_F32, 2, 8), cu2 = vec(PB_I32, 3), first = vec(PB_I32, 2);
    EXPECT(pool_fwd, A(.pool = PB_POOL_MEAN, .x = y, .cu = cu2, .y = pooled), 0, 32, 128 + 64 + 12);
    EXPECT(pool_bwd, A(.pool = PB_POOL_MEAN, .dy = pooled, .cu = cu2, .dx = y), 0, 32,
           128 + 64 + 12);
    EXPECT(gather_rows, A(.x = y, .idx = first, .y = pooled), 0, 0, 64 + 64 + 8);
    EXPECT(scatter_rows, A(.x = pooled, .idx = first, .y = y), 0, 0, 64 + 128 + 8);
    pb_tensor loss = vec(PB_F32, 4);
    EXPECT(cross_entropy,
           A(.logits = y, .target = ids, .loss = loss, .pred = at, .dlogits = y, .scale = 1), 0,
           32 * 22, 256 + 48);
}

static void training(void) {
    pb_tensor w = mat(PB_F32, 2, 256), g = mat(PB_F32, 2, 256), m = mat(PB_F32, 2, 256),
              v = mat(PB_F32, 2, 256), copy = mat(PB_BF16, 2, 256), one = vec(PB_F32, 1),
              two = vec(PB_F32, 1), score = vec(PB_F32, 2);
    pb_adamw_item item = {.w = w, .g = g, .m = m, .v = v, .copy = copy};
    EXPECT(adamw, A(.items = &item, .n = 1, .step = 1), 0, 12 * 512, 512 * (6 * 4 + 4 + 2));
    pb_adamw8_item item8 = {.w = w,
                            .g = g,
                            .m = vec(PB_U8, 512),
                            .v = vec(PB_U8, 512),
                            .m_absmax = vec(PB_F32, 2),
                            .v_absmax = vec(PB_F32, 2)};
    EXPECT(adamw8, A(.items = &item8, .n = 1, .step = 1), 0, 36 * 512,
           512 * (2 * 4 + 4 + 4) + 2 * 16);
    EXPECT(grad_norm, A(.grads = &g, .n = 1, .norm = one, .coef = two), 0, 512, 2048 + 8);
    EXPECT(importance, A(.w = w, .g = g, .ibar = m, .ubar = v, .score = score), 0, 5120,
           2048 * 6 + 16);
    pb_tensor gram = mat(PB_F32, 4, 4);
    EXPECT(orthogonality, A(.gram = gram, .loss = one, .weight = 1), 0, 32, 128 + 8);
}

START_TEST(work_is_what_a_hand_counts) {
    pb_assert_ok(pb_device_open("plan:cpu", NULL, &dev));
    products();
    pointwise();
    sequences();
    training();
    for (int op = 0; op < PB_OP_COUNT; op++)
        ck_assert_msg(covered[op], "%s is not counted by hand", pb_op_name((pb_op)op));
    pb_device_close(dev);
}
END_TEST

int main(void) {
    Suite *s = suite_create("work");
    TCase *t = pb_test_case(s, "table");
    tcase_add_test(t, work_is_what_a_hand_counts);
    return pb_run_suite(s);
}
