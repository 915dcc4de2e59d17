/* What the op case table does not reach in the plain cuda kernels, on the host's shim: sizes beyond a block, a grid and a
 * register file, addresses that no vector access may touch, lists longer than a launch's parameters, values that are not
 * numbers, and what must be the CPU's to the bit: dropout masks, random weights, 8-bit codes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/core/quant.h"
#include "tests/cuda/api_host.h"
#include "tests/cuda/on_gpu.h"
#include "tests/op_check.h"
#include "tests/support.h"

static pb_device *open_device(const char *name) {
    pb_device *dev = NULL;
    pb_assert_ok(pb_device_open(name, &(pb_device_options){.threads = 1}, &dev));
    pb_assert_gpu(dev);
    return dev;
}

/* --- more rows of the case table ---------------------------------------------------------------- */

#define F32 (1u << PB_F32)
#define FB  (F32 | 1u << PB_BF16)
#define OP(op_name) PB_OP_##op_name

/* Rows of a norm: one to four chunks a lane, two a thread of a block, and too many to keep. 4 columns a chunk in f32, 8
 * in bf16. */
static const op_case cases[] = {
    {"beyond a grid", OP(act_fwd), FB, {3, 100003, PB_ACT_GELU}, 0},
    {"beyond a grid, strided", OP(act_bwd), FB, {300, 700, PB_ACT_SILU}, OC_STRIDED},
    {"beyond a grid, strided", OP(dropout), FB, {300, 701, 0}, OC_DROP | OC_STRIDED | OC_BETA},
    {"large x", OP(act_fwd), FB, {2, 9, PB_ACT_GELU_TANH}, 0},
    {"vectors in rows", OP(axpby), FB, {40, 64}, OC_BETA},
    {"vectors in rows", OP(scale_cols), FB, {200, 704}, OC_OPT | OC_BETA},
    {"one chunk a lane", OP(norm_fwd), FB, {37, 128}, OC_OPT | OC_DROP},
    {"two chunks a lane", OP(norm_fwd), FB, {9, 256}, OC_OPT | OC_DROP},
    {"four chunks a lane", OP(norm_fwd), FB, {9, 512}, OC_OPT | OC_ALIAS | OC_DROP},
    {"a block a row", OP(norm_fwd), FB, {5, 2001}, OC_OPT | OC_DROP},
    {"a block a row, rms", OP(norm_fwd), FB, {5, 4096}, OC_OPT | OC_RMS | OC_ALIAS | OC_TA},
    {"a long row", OP(norm_fwd), FB, {3, 9001}, OC_OPT | OC_DROP},
    {"a long row, sum in x", OP(norm_fwd), FB, {3, 9000}, OC_OPT | OC_ALIAS},
    {"a long row, rms", OP(norm_fwd), FB, {3, 9001}, OC_RMS},
    {"more rows than blocks", OP(norm_fwd), FB, {1200, 8}, 0},
    {"one chunk a lane", OP(norm_bwd), FB, {70, 128}, OC_OPT | OC_BETA},
    {"two chunks a lane", OP(norm_bwd), FB, {9, 256}, OC_OPT | OC_ALIAS},
    {"four chunks a lane", OP(norm_bwd), FB, {40, 512}, OC_OPT},
    {"a block a row", OP(norm_bwd), FB, {13, 2001}, OC_OPT | OC_ALIAS},
    {"a block a row, no parameters", OP(norm_bwd), FB, {5, 4096}, OC_BETA},
    {"a block a row, rms", OP(norm_bwd), FB, {9, 2001}, OC_OPT | OC_RMS | OC_STRIDED},
    {"a long row", OP(norm_bwd), FB, {5, 9001}, OC_OPT | OC_ALIAS},
    {"a long row, rms", OP(norm_bwd), FB, {5, 9000}, OC_OPT | OC_RMS | OC_BETA},
    {"many runs", OP(coldot), FB, {3001, 300}, OC_OPT | OC_MASTER},
    {"many tiles", OP(coldot), FB, {40, 5003}, 0},
    {"exact, many runs", OP(coldot), FB, {2500, 77}, OC_EXACT | OC_OPT | OC_STRIDED},
    {"beyond a grid", OP(reduce), FB, {700, 1031}, OC_TA | OC_BETA},
    {"exact, strided", OP(reduce), FB, {300, 131}, OC_EXACT | OC_STRIDED},
    {"vectors", OP(embed_fwd), FB, {300, 256, 50, 40, 3}, OC_OPT},
    {"long runs", OP(embed_bwd), FB, {4700, 5, 7, 3, 2}, OC_OPT},
    {"exact, long runs", OP(embed_bwd), FB, {1500, 33, 900, 2, 1}, OC_EXACT},
    {"one run", OP(embed_bwd), FB, {320, 300, 1, 1, 1}, OC_EXACT | OC_STRIDED},
    {"just one piece", OP(embed_bwd), FB, {32, 16, 4, 1, 1}, OC_OPT},
    {"many heads", OP(rope), FB, {40, 9, 64, 131072}, 0},
    {"odd half", OP(rope), FB, {7, 5, 10, 100}, OC_STRIDED},
    {"long", OP(pool_fwd), FB, {3, 300, PB_POOL_MEAN, 201, 3}, 0},
    {"vectors", OP(pool_bwd), FB, {5, 256, PB_POOL_MEAN, 40, 3}, 0},
    {"vectors", OP(gather_rows), FB, {130, 300, 256}, 0},
    {"vectors", OP(scatter_rows), FB, {130, 600, 256}, 0},
    {"all rows", OP(scatter_rows), FB, {77, 77, 40}, 0},
    {"rows at any address", OP(cross_entropy), FB, {9, 5003}, OC_OPT},
    {"rows at other addresses", OP(cross_entropy), FB, {6, 257}, OC_OPT | OC_STRIDED},
    {"more than a block", OP(cross_entropy), FB, {3, 20011}, OC_OPT | OC_ALIAS},
    {"more than a block, narrower", OP(cross_entropy), FB, {3, 20011}, OC_OPT | OC_MASTER | OC_ALIAS},
    {"by row, long", OP(importance), F32, {12, 3001}, OC_OPT},
    {"by column, long", OP(importance), F32, {3001, 40}, OC_TA},
    {"more than a block", OP(orthogonality), F32, {70}, 0},
    {"two million", OP(grad_norm), F32, {20000, 16384, 50001}, OC_OPT},
};
#define N_CASES ((int)(sizeof cases / sizeof *cases))

/* Workspace holds NaN: what an op does not write there it must not read. */
static void spoil_workspace(pb_device *dev) {
    enum { N = 1 << 19 };
    pb_tensor t;
    pb_mark mark = pb_device_mark(dev, PB_MEM_WORK);
    float *host = malloc(N * sizeof *host);
    ck_assert(host != NULL);
    for (int i = 0; i < N; i++) host[i] = NAN;
    pb_assert_ok(pb_alloc1(dev, PB_MEM_WORK, PB_F32, N, &t));
    pb_assert_ok(pb_device_put_f32(dev, t, host));
    pb_device_rewind(dev, PB_MEM_WORK, mark);
    free(host);
}

static void another_order(int device) { pb_host_seed(77 + (uint64_t)device); }

START_TEST(agrees_with_reference_beyond_the_table) {
    pb_device *ref = open_device("ref"), *devs[2] = {open_device("cuda"), open_device("cuda")};
    op_tally sum = {0};
    for (int i = 0; i < 2; i++) spoil_workspace(devs[i]);
    for (int d = 0; d < PB_DTYPE_COUNT; d++) {
        if (op_is_compared(&cases[_i], d)) {
            op_compare_case(&cases[_i], (pb_dtype)d, ref, devs, 2, another_order, &sum);
        }
    }
    ck_assert_msg(sum.ran > 0 && sum.unsupported == 0, "%d ran, %d unsupported", sum.ran, sum.unsupported);
    for (int i = 0; i < 2; i++) pb_device_close(devs[i]);
    pb_device_close(ref);
}
END_TEST

/* --- tensors on two devices --------------------------------------------------------------------- */

/* rows x cols at an address that is `off` elements behind an aligned one, equal random values in [-scale, scale]. */
typedef struct matrix {
    pb_tensor all, at;
} matrix;

static matrix new_matrix(pb_device *dev, pb_dtype dtype, int64_t rows, int64_t cols, int64_t off, double scale,
                         uint64_t stream) {
    matrix m;
    int64_t wide = cols + off + 1;
    double *host = malloc((size_t)(rows * wide) * sizeof *host);
    ck_assert(host != NULL);
    for (int64_t i = 0; i < rows * wide; i++) {
        host[i] = scale * (2.0 * (double)pb_u01(pb_random_u32(11, stream, (uint64_t)i)) - 1.0);
        if (dtype == PB_U8) host[i] = (double)(pb_random_u32(11, stream, (uint64_t)i) & 255);
    }
    pb_assert_ok(pb_alloc2(dev, PB_MEM_DATA, dtype, rows, wide, &m.all));
    if (dtype == PB_U8) {
        unsigned char *bytes = malloc((size_t)(rows * wide));
        ck_assert(bytes != NULL);
        for (int64_t i = 0; i < rows * wide; i++) bytes[i] = (unsigned char)host[i];
        pb_assert_ok(pb_device_put(dev, m.all, bytes, (size_t)(rows * wide)));
        free(bytes);
    } else {
        pb_assert_ok(pb_device_put_f64(dev, m.all, host));
    }
    m.at = pb_cols_of(m.all, off, cols);
    if (rows == 1) { /* a vector */
        m.at.ndim = 1;
        m.at.dim[0] = m.at.stride = cols;
    }
    free(host);
    return m;
}

/* Every byte of both, neighbours included. */
static void assert_same(pb_device *a, matrix x, pb_device *b, matrix y, const char *what) {
    size_t bytes = pb_bytes(x.all), at = 0;
    unsigned char *p = malloc(bytes), *q = malloc(bytes);
    ck_assert(p != NULL && q != NULL);
    pb_assert_ok(pb_device_get(a, p, x.all, bytes));
    pb_assert_ok(pb_device_get(b, q, y.all, bytes));
    while (at < bytes && p[at] == q[at]) at++;
    ck_assert_msg(at == bytes, "%s: byte %zu of %zu differs, element %zu", what, at, bytes,
                  at / pb_dtype_size(x.all.dtype));
    free(p);
    free(q);
}

static void assert_near(pb_device *a, matrix x, pb_device *b, matrix y, double tol, const char *what) {
    size_t n = (size_t)pb_numel(x.all);
    double *p = malloc(n * sizeof *p), *q = malloc(n * sizeof *q);
    ck_assert(p != NULL && q != NULL);
    pb_assert_ok(pb_device_get_f64(a, p, x.all));
    pb_assert_ok(pb_device_get_f64(b, q, y.all));
    pb_assert_close(p, q, n, tol, tol, what);
    free(p);
    free(q);
}

START_TEST(draws_are_those_of_the_cpu) {
    pb_device *dev[2] = {open_device("cpu"), open_device("cuda")};
    static const int64_t cols[] = {1, 4, 33, 64, 701};
    for (int c = 0; c < 5; c++) {
        for (int bf16 = 0; bf16 < 2; bf16++) {
            matrix y[2], u[2];
            for (int i = 0; i < 2; i++) {
                pb_dtype t = bf16 ? PB_BF16 : PB_F32;
                matrix x = new_matrix(dev[i], t, 13, cols[c], c % 2, 1.0, 5);
                y[i] = new_matrix(dev[i], t, 13, cols[c], c % 2, 1.0, 6);
                u[i] = new_matrix(dev[i], t, 1, 13 * cols[c], c % 2, 1.0, 7);
                pb_assert_ok(pb_dropout(dev[i], &(pb_dropout_args){.x = x.at,
                                                                   .y = y[i].at,
                                                                   .drop = {.p = 0.3f, .key = 3, .stream = 9}}));
                pb_assert_ok(pb_fill_uniform(
                    dev[i], &(pb_fill_uniform_args){.x = u[i].at, .lo = -0.3, .hi = 0.7, .key = 5, .stream = 1}));
            }
            assert_same(dev[0], y[0], dev[1], y[1], "dropout");
            assert_same(dev[0], u[0], dev[1], u[1], "fill_uniform");
        }
    }
    for (int i = 0; i < 2; i++) pb_device_close(dev[i]);
}
END_TEST

/* Element offsets 0..8 of every operand: vectors must be left where an address is odd. */
START_TEST(any_address_will_do) {
    pb_device *dev[2] = {open_device("ref"), open_device("cuda")};
    pb_dtype t = _i % 2 ? PB_BF16 : PB_F32;
    int64_t off = _i / 2, rows = 5, n = 40;
    matrix y[2], s[2], dx[2], w[2], m[2], v[2], copy[2], loss[2], dlogits[2];
    for (int i = 0; i < 2; i++) {
        matrix x = new_matrix(dev[i], t, rows, n, off, 1.0, 1), gamma = new_matrix(dev[i], t, 1, n, off, 1.0, 2);
        matrix mean = new_matrix(dev[i], PB_F32, 1, rows, 0, 1.0, 3), rstd = new_matrix(dev[i], PB_F32, 1, rows, 0, 1.0, 3);
        y[i] = new_matrix(dev[i], t, rows, n, 0, 1.0, 4);
        s[i] = new_matrix(dev[i], t, rows, n, (off + 3) % 9, 1.0, 4);
        dx[i] = new_matrix(dev[i], t, rows, n, (off + 1) % 9, 1.0, 5);
        pb_assert_ok(pb_norm_fwd(dev[i], &(pb_norm_fwd_args){.norm = PB_NORM_LAYER,
                                                             .x = x.at,
                                                             .res = dx[i].at,
                                                             .gamma = gamma.at,
                                                             .beta = gamma.at,
                                                             .y = y[i].at,
                                                             .sum = s[i].at,
                                                             .mean = mean.at,
                                                             .rstd = rstd.at,
                                                             .eps = 1e-5}));
        pb_assert_ok(pb_axpby(dev[i], &(pb_axpby_args){.x = x.at, .y = dx[i].at, .alpha = 0.5, .beta = 2.0}));
        pb_assert_ok(pb_swiglu_fwd(dev[i], &(pb_swiglu_fwd_args){.gate = x.at, .up = dx[i].at, .y = s[i].at}));
        matrix g = new_matrix(dev[i], PB_F32, 1, 301, (off + 2) % 5, 1.0, 7);
        w[i] = new_matrix(dev[i], PB_F32, 1, 301, off % 5, 1.0, 6);
        m[i] = new_matrix(dev[i], PB_F32, 1, 301, 0, 1.0, 8);
        v[i] = new_matrix(dev[i], PB_F32, 1, 301, 0, 0.0, 9);
        copy[i] = new_matrix(dev[i], PB_BF16, 1, 301, off, 0.0, 9);
        pb_adamw_item item = {.w = w[i].at, .g = g.at, .m = m[i].at, .v = v[i].at, .copy = copy[i].at, .lr = 0.1};
        pb_assert_ok(pb_adamw(dev[i], &(pb_adamw_args){.items = &item,
                                                       .n = 1,
                                                       .beta1 = 0.5,
                                                       .beta2 = 0.75,
                                                       .eps = 1.0,
                                                       .step = 2}));
        matrix logits = new_matrix(dev[i], t, rows, n, off, 4.0, 12);
        pb_tensor target, pred;
        const int32_t wanted[5] = {0, 39, -1, 7, 8};
        pb_assert_ok(pb_alloc1(dev[i], PB_MEM_DATA, PB_I32, rows, &target));
        pb_assert_ok(pb_alloc1(dev[i], PB_MEM_DATA, PB_I32, rows, &pred));
        pb_assert_ok(pb_device_put(dev[i], target, wanted, sizeof wanted));
        loss[i] = new_matrix(dev[i], PB_F32, 1, rows, 0, 1.0, 12);
        dlogits[i] = new_matrix(dev[i], t, rows, n, (off + 5) % 9, 4.0, 13);
        pb_assert_ok(pb_cross_entropy(dev[i], &(pb_cross_entropy_args){.logits = logits.at,
                                                                       .target = target,
                                                                       .loss = loss[i].at,
                                                                       .pred = pred,
                                                                       .dlogits = dlogits[i].at,
                                                                       .scale = 0.5}));
    }
    double tol = t == PB_BF16 ? 0x1p-6 : 1e-5; /* two roundings of the stored dtype */
    assert_near(dev[0], y[0], dev[1], y[1], tol, "norm");
    assert_near(dev[0], dx[0], dev[1], dx[1], tol, "axpby");
    assert_near(dev[0], s[0], dev[1], s[1], tol, "swiglu");
    assert_near(dev[0], w[0], dev[1], w[1], 1e-6, "w");
    assert_near(dev[0], m[0], dev[1], m[1], 1e-6, "m");
    assert_near(dev[0], copy[0], dev[1], copy[1], 0x1p-7, "copy");
    assert_near(dev[0], loss[0], dev[1], loss[1], 1e-5, "loss");
    assert_near(dev[0], dlogits[0], dev[1], dlogits[1], tol, "dlogits");
    for (int i = 0; i < 2; i++) pb_device_close(dev[i]);
}
END_TEST

/* --- optimizers ----------------------------------------------------------------------------------- */

/* Longer than the parameters of one launch take, with empty tensors among them. */
START_TEST(lists_of_any_length) {
    enum { N = 1200 };
    pb_device *dev[2] = {open_device("ref"), open_device("cuda")};
    matrix w[2], w8[2], m8[2], coef[2];
    for (int i = 0; i < 2; i++) {
        static pb_adamw_item items[N];
        static pb_adamw8_item items8[N];
        static pb_tensor grads[N];
        w[i] = new_matrix(dev[i], PB_F32, 1, 40 * N, 0, 1.0, 1);
        w8[i] = new_matrix(dev[i], PB_F32, 1, 40 * N, 0, 1.0, 1);
        matrix g = new_matrix(dev[i], PB_F32, 1, 40 * N, 0, 1.0, 2), m = new_matrix(dev[i], PB_F32, 1, 40 * N, 0, 1.0, 3);
        matrix v = new_matrix(dev[i], PB_F32, 1, 40 * N, 0, 0.0, 4), norm = new_matrix(dev[i], PB_F32, 1, 1, 0, 1.0, 5);
        matrix v8 = new_matrix(dev[i], PB_U8, 1, 40 * N, 0, 1.0, 6), ma = new_matrix(dev[i], PB_F32, 1, N, 0, 1.0, 7);
        m8[i] = new_matrix(dev[i], PB_U8, 1, 40 * N, 0, 1.0, 8);
        matrix va = new_matrix(dev[i], PB_F32, 1, N, 0, 0.0, 9);
        coef[i] = new_matrix(dev[i], PB_F32, 1, 1, 0, 1.0, 5);
        for (int k = 0; k < N; k++) {
            int64_t n = k % 7 == 3 ? 0 : 1 + k % 40, at = 40 * k;
            items[k] = (pb_adamw_item){.w = pb_cols_of(w[i].at, at, n), .g = pb_cols_of(g.at, at, n),
                                       .m = pb_cols_of(m.at, at, n), .v = pb_cols_of(v.at, at, n),
                                       .lr = 0.01 * (k % 5), .weight_decay = 0.1};
            items8[k] = (pb_adamw8_item){.w = pb_cols_of(w8[i].at, at, n), .g = items[k].g,
                                         .m = pb_cols_of(m8[i].at, at, n), .v = pb_cols_of(v8.at, at, n),
                                         .m_absmax = pb_cols_of(ma.at, k, n > 0), .v_absmax = pb_cols_of(va.at, k, n > 0),
                                         .lr = 0.01 * (k % 5), .weight_decay = 0.1};
            grads[k] = items[k].g;
        }
        pb_assert_ok(pb_adamw(dev[i], &(pb_adamw_args){
            .items = items, .n = N, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-3, .step = 3}));
        pb_assert_ok(pb_adamw8(dev[i], &(pb_adamw8_args){
            .items = items8, .n = N, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-3, .step = 3}));
        pb_assert_ok(pb_grad_norm(dev[i], &(pb_grad_norm_args){
            .grads = grads, .n = N, .norm = norm.at, .coef = coef[i].at, .max_norm = 1.0}));
    }
    assert_near(dev[0], w[0], dev[1], w[1], 1e-6, "w");
    assert_near(dev[0], w8[0], dev[1], w8[1], 1e-6, "w, 8 bit");
    assert_same(dev[0], m8[0], dev[1], m8[1], "codes of m");
    assert_near(dev[0], coef[0], dev[1], coef[1], 1e-6, "coef");
    for (int i = 0; i < 2; i++) pb_device_close(dev[i]);
}
END_TEST

static void put_random(pb_device *dev, pb_tensor t, uint64_t stream, bool positive) {
    int64_t n = pb_numel(t);
    float *host = malloc((size_t)n * sizeof *host);
    ck_assert(host != NULL);
    for (int64_t i = 0; i < n; i++) {
        float u = pb_u01(pb_random_u32(17, stream, (uint64_t)i));
        host[i] = positive ? u : 2.0f * u - 1.0f;
    }
    pb_assert_ok(pb_device_put_f32(dev, t, host));
    free(host);
}

/* Two steps of AdamW over a tensor of more than two pages with an odd end, one of less than a page, and a small one. The
 * paged device has no room for the moments: its budget holds the weights, gradients and pages. */
START_TEST(paging_keeps_every_bit_and_frees_memory) {
    enum { TENSORS = 3 };
    static const int64_t size[TENSORS] = {(5 << 19) + 77, 100001, 1000};
    static const uint64_t all = 4 * (((uint64_t)(5 << 19) + 77) + 100001 + 1000);
    const uint64_t pages = 16 << 20, budget = 2 * all + all / 2 + pages + 4096;
    pb_device *dev[2] = {NULL, NULL};
    pb_adamw_item items[2][TENSORS] = {0};
    for (int i = 0; i < 2; i++) {
        pb_device_options options = {.threads = 1, .page_optimizer = i == 1, .memory_budget = i == 1 ? budget : 0};
        pb_assert_ok(pb_device_open("cuda", &options, &dev[i]));
        ck_assert(pb_device_pages_optimizer(dev[i]) == (i == 1));
        for (int k = 0; k < TENSORS; k++) {
            pb_adamw_item *it = &items[i][k];
            *it = (pb_adamw_item){.lr = 0.01, .weight_decay = 0.1};
            pb_assert_ok(pb_alloc1(dev[i], PB_MEM_MASTER, PB_F32, size[k], &it->w));
            pb_assert_ok(pb_alloc1(dev[i], PB_MEM_GRAD, PB_F32, size[k], &it->g));
            pb_assert_ok(pb_alloc1(dev[i], PB_MEM_ADAPTER, PB_BF16, size[k], &it->copy));
            pb_assert_ok(pb_alloc1(dev[i], PB_MEM_OPTIM, PB_F32, size[k], &it->m));
            pb_assert_ok(pb_alloc1(dev[i], PB_MEM_OPTIM, PB_F32, size[k], &it->v));
            put_random(dev[i], it->w, (uint64_t)k, false);
            put_random(dev[i], it->g, (uint64_t)k + 10, false);
            put_random(dev[i], it->m, (uint64_t)k + 20, false); /* as a checkpoint is read */
            put_random(dev[i], it->v, (uint64_t)k + 30, true);
        }
        for (int step = 3; step < 5; step++) {
            pb_assert_ok(pb_adamw(dev[i], &(pb_adamw_args){
                .items = items[i], .n = TENSORS, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .step = step}));
        }
    }
    for (int k = 0; k < TENSORS; k++) {
        pb_adamw_item *a = &items[0][k], *b = &items[1][k];
        assert_same(dev[0], (matrix){.all = a->w}, dev[1], (matrix){.all = b->w}, "w");
        assert_same(dev[0], (matrix){.all = a->m}, dev[1], (matrix){.all = b->m}, "m");
        assert_same(dev[0], (matrix){.all = a->v}, dev[1], (matrix){.all = b->v}, "v");
        assert_same(dev[0], (matrix){.all = a->copy}, dev[1], (matrix){.all = b->copy}, "copy");
    }
    uint64_t optim = pb_device_mem_peak(dev[1], PB_MEM_OPTIM);
    ck_assert_uint_eq(optim, pb_device_mem_peak(dev[0], PB_MEM_OPTIM));
    ck_assert_uint_eq(pb_device_mem_peak(dev[1], PB_MEM_WORK), pages);
    ck_assert_uint_eq(pb_device_mem_peak_total(dev[1]) - pages, pb_device_mem_peak_total(dev[0]) - optim);
    for (int i = 0; i < 2; i++) pb_device_close(dev[i]);
    ck_assert_int_eq(pb_host_live(), 0);
    /* A CPU has one memory: the option changes nothing. */
    pb_assert_ok(pb_device_open("cpu", &(pb_device_options){.threads = 1, .page_optimizer = true}, &dev[0]));
    ck_assert(!pb_device_pages_optimizer(dev[0]));
    pb_assert_ok(pb_alloc1(dev[0], PB_MEM_OPTIM, PB_F32, 1000, &items[0][0].m));
    ck_assert_uint_gt(pb_device_mem_peak_total(dev[0]), 0);
    pb_device_close(dev[0]);
}
END_TEST

/* The same decisions as the CPU's encoder, over many steps whose state feeds back, and at the thresholds themselves. */
START_TEST(eight_bit_codes_are_those_of_the_cpu) {
    pb_device *dev[2] = {open_device("cpu"), open_device("cuda")};
    const int64_t n = 6000, blocks = (n + 255) / 256;
    matrix m[2], v[2], ma[2], va[2];
    for (int i = 0; i < 2; i++) {
        matrix w = new_matrix(dev[i], PB_F32, 1, n, 0, 1.0, 1);
        m[i] = new_matrix(dev[i], PB_U8, 1, n, 0, 1.0, 2);
        v[i] = new_matrix(dev[i], PB_U8, 1, n, 0, 1.0, 3);
        ma[i] = new_matrix(dev[i], PB_F32, 1, blocks, 0, 0.0, 4);
        va[i] = new_matrix(dev[i], PB_F32, 1, blocks, 0, 0.0, 5);
        for (int step = 1; step <= 12; step++) {
            matrix g = new_matrix(dev[i], PB_F32, 1, n, 0, pow(10.0, step % 5 - 3), 20 + (uint64_t)step);
            pb_adamw8_item item = {.w = w.at, .g = g.at, .m = m[i].at, .v = v[i].at, .m_absmax = ma[i].at,
                                   .v_absmax = va[i].at, .lr = 1e-3, .weight_decay = 0.01};
            pb_assert_ok(pb_adamw8(dev[i], &(pb_adamw8_args){
                .items = &item, .n = 1, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .step = step}));
        }
    }
    assert_same(dev[0], m[0], dev[1], m[1], "codes of m");
    assert_same(dev[0], v[0], dev[1], v[1], "codes of v");
    assert_same(dev[0], ma[0], dev[1], ma[1], "absmax of m");
    assert_same(dev[0], va[0], dev[1], va[1], "absmax of v");
    for (int i = 0; i < 2; i++) pb_device_close(dev[i]);
}
END_TEST

/* With beta1 = beta2 = 0 the new m is g itself: values at, just below and just above every middle of the signed map. */
START_TEST(ties_go_to_the_lower_code) {
    pb_device *dev = open_device("cuda");
    const float *map = pb_dynamic_map_signed();
    enum { N = 3 * 256 };
    float g[N];
    unsigned char code[N];
    for (int i = 0; i < 255; i++) {
        float middle = (float)(((double)map[i] + (double)map[i + 1]) * 0.5);
        g[i] = middle;
        g[256 + i] = nextafterf(middle, -2.0f);
        g[512 + i] = nextafterf(middle, 2.0f);
    }
    g[255] = g[511] = g[767] = 1.0f; /* absmax */
    matrix w = new_matrix(dev, PB_F32, 1, N, 0, 1.0, 1), gt = new_matrix(dev, PB_F32, 1, N, 0, 1.0, 1);
    matrix m = new_matrix(dev, PB_U8, 1, N, 0, 1.0, 2), v = new_matrix(dev, PB_U8, 1, N, 0, 1.0, 3);
    matrix ma = new_matrix(dev, PB_F32, 1, 3, 0, 0.0, 4), va = new_matrix(dev, PB_F32, 1, 3, 0, 0.0, 5);
    pb_assert_ok(pb_device_put(dev, gt.at, g, sizeof g));
    pb_adamw8_item item = {.w = w.at, .g = gt.at, .m = m.at, .v = v.at, .m_absmax = ma.at, .v_absmax = va.at};
    pb_assert_ok(pb_adamw8(dev, &(pb_adamw8_args){.items = &item, .n = 1, .eps = 1.0, .step = 1}));
    pb_assert_ok(pb_device_get(dev, code, m.at, sizeof code));
    for (int i = 0; i < N; i++) {
        ck_assert_msg(code[i] == pb_dynamic_encode(map, g[i]), "value %d, %.9g: code %d, expected %d", i, (double)g[i],
                      code[i], pb_dynamic_encode(map, g[i]));
    }
    pb_device_close(dev);
}
END_TEST

/* --- what is not a number -------------------------------------------------------------------------- */

START_TEST(logits_that_are_not_finite) {
    enum { R = 6, V = 700 };
    static float host[R * V];
    pb_device *dev[2] = {open_device("ref"), open_device("cuda")};
    double loss[2][R];
    int32_t pred[2][R];
    for (int r = 0; r < R; r++) {
        for (int i = 0; i < V; i++) host[r * V + i] = (float)((i * 37 + r) % 101) * 0.1f - 200.0f;
    }
    for (int i = 0; i < V - 1; i++) host[i] = -INFINITY;       /* 0: one finite logit, the last */
    for (int i = 0; i < 300; i++) host[V + i] = -INFINITY;     /* 1: masked at the front */
    host[2 * V + 65] = NAN;                                    /* 2, 3: no loss can be told */
    for (int i = 0; i < V; i++) host[3 * V + i] = -INFINITY;
    for (int i = 0; i < V; i++) host[4 * V + i] = 3.0e38f;     /* 4: huge, all equal: index 0 wins */
    host[5 * V + 699] = 88.0f;                                 /* 5: one far above the rest */
    for (int i = 0; i < 2; i++) {
        pb_tensor logits, target, lt, pt;
        const int32_t wanted[R] = {699, 300, 1, 2, 5, 699};
        pb_assert_ok(pb_alloc2(dev[i], PB_MEM_DATA, PB_F32, R, V, &logits));
        pb_assert_ok(pb_alloc1(dev[i], PB_MEM_DATA, PB_I32, R, &target));
        pb_assert_ok(pb_alloc1(dev[i], PB_MEM_DATA, PB_I32, R, &pt));
        pb_assert_ok(pb_alloc1(dev[i], PB_MEM_DATA, PB_F32, R, &lt));
        pb_assert_ok(pb_device_put(dev[i], logits, host, sizeof host));
        pb_assert_ok(pb_device_put(dev[i], target, wanted, sizeof wanted));
        pb_assert_ok(pb_cross_entropy(dev[i], &(pb_cross_entropy_args){
            .logits = logits, .target = target, .loss = lt, .pred = pt}));
        pb_assert_ok(pb_device_get_f64(dev[i], loss[i], lt));
        pb_assert_ok(pb_device_get(dev[i], pred[i], pt, sizeof pred[i]));
    }
    for (int r = 0; r < R; r++) {
        if (isnan(loss[0][r]))
            ck_assert_msg(isnan(loss[1][r]), "row %d: loss %g, expected NaN", r, loss[1][r]);
        else
            ck_assert_msg(fabs(loss[1][r] - loss[0][r]) <= 1e-5 * (1.0 + fabs(loss[0][r])), "row %d: loss %.9g, expected %.9g",
                          r, loss[1][r], loss[0][r]);
        if (r != 2 && r != 3) ck_assert_msg(pred[1][r] == pred[0][r], "row %d: pred %d", r, pred[1][r]);
        ck_assert_msg(pred[1][r] >= 0 && pred[1][r] < V, "row %d: pred %d", r, pred[1][r]);
    }
    ck_assert(isnan(loss[0][2]) && isnan(loss[0][3]));
    for (int i = 0; i < 2; i++) pb_device_close(dev[i]);
}
END_TEST

START_TEST(a_gradient_that_is_not_finite_stays_visible) {
    pb_device *dev = open_device("cuda");
    matrix g = new_matrix(dev, PB_F32, 3, 50, 1, 1.0, 1), norm = new_matrix(dev, PB_F32, 1, 1, 0, 1.0, 2);
    matrix coef = new_matrix(dev, PB_F32, 1, 1, 0, 1.0, 3);
    double bad[3 * 52] = {0}, got[2];
    bad[2 * 52 + 50] = NAN;
    pb_assert_ok(pb_device_put_f64(dev, g.all, bad));
    pb_grad_norm_args a = {.grads = &g.at, .n = 1, .norm = norm.at, .coef = coef.at, .max_norm = 1.0};
    pb_assert_ok(pb_grad_norm(dev, &a));
    pb_assert_ok(pb_device_get_f64(dev, got, norm.all));
    ck_assert(isnan(got[0]));
    pb_assert_ok(pb_device_get_f64(dev, got, coef.all));
    ck_assert(isnan(got[0]));
    a.n = 0; /* nothing to clip */
    pb_assert_ok(pb_grad_norm(dev, &a));
    pb_assert_ok(pb_device_get_f64(dev, got, norm.all));
    ck_assert(got[0] == 0.0);
    pb_device_close(dev);
}
END_TEST

int main(void) {
    Suite *s = suite_create("plain cuda kernels");
    TCase *t = pb_test_case(s, "cases");
    tcase_add_loop_test(t, agrees_with_reference_beyond_the_table, 0, N_CASES);
    t = pb_test_case(s, "cpu");
    tcase_add_test(t, draws_are_those_of_the_cpu);
    tcase_add_test(t, eight_bit_codes_are_those_of_the_cpu);
    tcase_add_test(t, ties_go_to_the_lower_code);
    t = pb_test_case(s, "addresses");
    tcase_add_loop_test(t, any_address_will_do, 0, 18);
    tcase_add_test(t, lists_of_any_length);
    tcase_add_test(t, paging_keeps_every_bit_and_frees_memory);
    t = pb_test_case(s, "not numbers");
    tcase_add_test(t, logits_that_are_not_finite);
    tcase_add_test(t, a_gradient_that_is_not_finite_stays_visible);
    return pb_run_suite(s);
}
