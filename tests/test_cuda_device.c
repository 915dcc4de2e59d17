/* The cuda device on the host: memory, transfers, events, steps as graphs, products, and what happens when the libraries
 * fail. The stand-in (tests/cuda/api_host.cpp) runs what is enqueued only when somebody waits. */
#include <dlfcn.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/ops.h"
#include "tests/cuda/api_host.h"
#include "tests/cuda/on_gpu.h"
#include "tests/support.h"

static pb_device *open_device(const char *name) {
    pb_device *dev = NULL;
    pb_assert_ok(pb_device_open(name, &(pb_device_options){.threads = 1}, &dev));
    pb_assert_gpu(dev);
    return dev;
}

static void close_device(pb_device *dev) {
    pb_device_close(dev);
    ck_assert_int_eq(pb_host_live(), 0);
}

static float *numbers(int64_t n, float from) {
    float *v = malloc((size_t)n * sizeof *v);
    ck_assert_ptr_nonnull(v);
    for (int64_t i = 0; i < n; i++) v[i] = from + (float)(i % 1000) / 8.0f;
    return v;
}

/* --- memory and transfers ----------------------------------------------------------------------- */

/* Around the size of a staging buffer (1 MiB). */
static const int64_t sizes[] = {1, 1000, (1 << 18) - 1, 1 << 18, (1 << 18) + 1, 1000003};

START_TEST(bytes_come_back_as_they_went) {
    pb_device *dev = open_device("cuda");
    int64_t n = sizes[_i];
    float *host = numbers(n, 1.0f), *back = calloc((size_t)n, sizeof *back);
    pb_tensor t, u;
    pb_assert_ok(pb_alloc1(dev, PB_MEM_DATA, PB_F32, n, &t));
    pb_assert_ok(pb_alloc1(dev, PB_MEM_DATA, PB_F32, n, &u));
    pb_assert_ok(pb_device_put(dev, t, host, pb_bytes(t)));
    float first = host[0];
    host[0] = -1.0f; /* put has read it */
    pb_assert_ok(pb_device_copy(dev, u, t));
    pb_assert_ok(pb_device_zero(dev, t));
    pb_assert_ok(pb_device_get(dev, back, u, pb_bytes(u)));
    host[0] = first;
    ck_assert(memcmp(host, back, pb_bytes(t)) == 0);
    pb_assert_ok(pb_device_get(dev, back, t, pb_bytes(t)));
    for (int64_t i = 0; i < n; i++) ck_assert(back[i] == 0.0f);
    free(host);
    free(back);
    close_device(dev);
}
END_TEST

START_TEST(fresh_memory_is_zero_and_the_budget_holds) {
    pb_device *dev = NULL;
    pb_device_options options = {.threads = 1, .memory_budget = 4 << 20};
    pb_assert_ok(pb_device_open("cuda", &options, &dev));
    pb_tensor t;
    double back[64];
    for (int i = 0; i < 2; i++) { /* the second time the bytes were used before */
        pb_mark mark = pb_device_mark(dev, PB_MEM_ACT);
        pb_assert_ok(pb_alloc2(dev, PB_MEM_ACT, PB_BF16, 8, 8, &t));
        pb_assert_ok(pb_device_get_f64(dev, back, t));
        for (int k = 0; k < 64; k++) ck_assert(back[k] == 0.0);
        pb_fill_uniform_args fill = {.x = t, .lo = 1.0, .hi = 2.0};
        pb_status status = pb_fill_uniform(dev, &fill);
        ck_assert(status == PB_OK || status == PB_E_UNSUPPORTED);
        pb_device_rewind(dev, PB_MEM_ACT, mark);
    }
    uint64_t before = 0, behind = 0; /* the driver sees a block of its own */
    ck_assert(pb_device_memory_used(dev, &before));
    pb_assert_ok(pb_alloc1(dev, PB_MEM_DATA, PB_F32, 3 << 18, &t));
    ck_assert(pb_device_memory_used(dev, &behind));
    ck_assert(pb_test_on_gpu() || behind == before + (3u << 20)); /* there others take and free at the same time */
    pb_assert_fails(pb_alloc1(dev, PB_MEM_BASE, PB_F32, 2 << 20, &t), PB_E_OOM, "budget");
    close_device(dev);
}
END_TEST

START_TEST(events_lie_where_they_were_enqueued) {
    pb_device *dev = open_device("cuda");
    pb_event *a = NULL, *b = NULL;
    pb_tensor t;
    double ns = -1.0;
    pb_assert_ok(pb_event_new(dev, &a));
    pb_assert_ok(pb_event_new(dev, &b));
    pb_assert_ok(pb_alloc2(dev, PB_MEM_DATA, PB_F32, 64, 64, &t));
    for (int stepped = 0; stepped < 2; stepped++) {
        if (stepped) pb_assert_ok(pb_device_step_begin(dev));
        pb_assert_ok(pb_event_record(a));
        pb_act_fwd_args act = {.act = PB_ACT_RELU, .x = t, .y = t};
        pb_assert_ok(pb_act_fwd(dev, &act));
        pb_assert_ok(pb_event_record(b));
        if (stepped) pb_assert_ok(pb_device_step_end(dev));
        pb_assert_ok(pb_event_elapsed(a, b, &ns));
        ck_assert_msg(ns > 0.0, "%g ns", ns);
        pb_assert_ok(pb_event_elapsed(b, a, &ns));
        ck_assert_msg(ns < 0.0, "%g ns", ns);
    }
    pb_event_free(a);
    pb_event_free(b);
    close_device(dev);
}
END_TEST

/* --- steps ---------------------------------------------------------------------------------------- */

enum { LAYERS = 12, LONG = 150, SIDE = 32, STEPS = 6 };

typedef struct chain {
    pb_device *dev;
    pb_event *mark;
    int layers;
    pb_tensor x, y, w;
    pb_tensor hx, hw, hy[2], pre[2], hd; /* bf16 */
} chain;

static pb_status chain_halves(chain *c) {
    pb_tensor *all[] = {&c->hx, &c->hw, &c->hy[0], &c->hy[1], &c->pre[0], &c->pre[1], &c->hd};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        PB_RETURN(pb_alloc2(c->dev, PB_MEM_ACT, PB_BF16, SIDE, SIDE, all[i]));
    return pb_axpby(c->dev, &(pb_axpby_args){.x = c->w, .y = c->hw, .alpha = 1.0});
}

/* A layer that ends in GELU twice, each with a matrix of its own beside it, and its gradient. */
static pb_status chain_gelu(chain *c) {
    PB_RETURN(pb_axpby(c->dev, &(pb_axpby_args){.x = c->x, .y = c->hx, .alpha = 1.0}));
    for (int i = 0; i < 2; i++) {
        pb_linear_gelu_args f = {.x = i == 0 ? c->hx : c->hy[0], .w = c->hw, .y = c->hy[i], .pre = c->pre[i]};
        PB_RETURN(pb_linear_gelu(c->dev, &f));
    }
    pb_gelu_linear_bwd_args b = {.dy = c->hy[1], .w = c->hw, .pre = c->pre[0], .dx = c->hd};
    PB_RETURN(pb_gelu_linear_bwd(c->dev, &b));
    return pb_axpby(c->dev, &(pb_axpby_args){.x = c->hd, .y = c->x, .alpha = 1.0, .beta = 1.0});
}

static void chain_open(chain *c, bool graphs) {
    setenv("PB_CUDA_GRAPHS", graphs ? "1" : "0", 1);
    c->layers = LAYERS;
    c->dev = open_device("cuda");
    float *host = numbers(SIDE * SIDE, -40.0f);
    for (int i = 0; i < SIDE * SIDE; i++) host[i] /= 4096.0f;
    pb_assert_ok(pb_alloc2(c->dev, PB_MEM_ACT, PB_F32, SIDE, SIDE, &c->x));
    pb_assert_ok(pb_alloc2(c->dev, PB_MEM_ACT, PB_F32, SIDE, SIDE, &c->y));
    pb_assert_ok(pb_alloc2(c->dev, PB_MEM_BASE, PB_F32, SIDE, SIDE, &c->w));
    pb_assert_ok(pb_device_put(c->dev, c->w, host, pb_bytes(c->w)));
    pb_assert_ok(chain_halves(c));
    pb_assert_ok(pb_event_new(c->dev, &c->mark));
    free(host);
}

/* Products, kernels whose parameters change, bytes from the host and a wait in the middle. */
static pb_status chain_step(chain *c, int step, int64_t rows, double *sum) {
    float host[SIDE * SIDE];
    double back[SIDE * SIDE];
    pb_tensor x = pb_rows_of(c->x, 0, rows), y = pb_rows_of(c->y, 0, rows);
    for (int i = 0; i < SIDE * SIDE; i++) host[i] = (float)((i * 7 + step * 13) % 64) / 64.0f;
    PB_RETURN(pb_device_put(c->dev, c->x, host, sizeof host));
    for (int i = 0; i < c->layers; i++) {
        pb_linear_args l = {.x = x, .y = y, .w = {.dense = c->w}};
        pb_act_fwd_args a = {.act = PB_ACT_SILU, .x = y, .y = x};
        pb_axpby_args add = {.x = y, .y = x, .alpha = 1.0, .beta = 0.9}; /* many layers of the other would end in zeros */
        PB_RETURN(pb_linear(c->dev, &l));
        PB_RETURN(c->layers > LAYERS ? pb_axpby(c->dev, &add) : pb_act_fwd(c->dev, &a));
        if (i == c->layers / 2) PB_RETURN(pb_event_record(c->mark));
    }
    PB_RETURN(chain_gelu(c));
    /* The view moves with the step: the same kernel with another address. */
    pb_tensor one = pb_rows_of(c->x, step % rows, 1);
    pb_act_fwd_args a = {.act = PB_ACT_GELU, .x = one, .y = one};
    PB_RETURN(pb_act_fwd(c->dev, &a));
    PB_RETURN(pb_device_get_f64(c->dev, back, c->x));
    *sum = 0.0;
    for (int i = 0; i < SIDE * SIDE; i++) *sum += back[i] * (double)(i + 1);
    return PB_OK;
}

static pb_status whole_step(chain *c, int step, int64_t rows, double *sum) {
    PB_RETURN(pb_device_step_begin(c->dev));
    pb_status status = chain_step(c, step, rows, sum), ended = pb_device_step_end(c->dev);
    return status != PB_OK ? status : ended;
}

static void chain_run(chain *c, double *sums) {
    for (int i = 0; i < STEPS; i++) pb_assert_ok(whole_step(c, i, i == 3 ? SIDE / 2 : SIDE, &sums[i]));
}

static void chain_close(chain *c) {
    pb_event_free(c->mark);
    close_device(c->dev);
}

START_TEST(graphs_and_eager_give_the_same_bits) {
    chain c;
    double eager[STEPS], graphs[STEPS];
    chain_open(&c, false);
    chain_run(&c, eager);
    ck_assert_uint_eq(pb_host_graph_launches(), 0);
    chain_close(&c);
    uint64_t launches = pb_host_launches();
    chain_open(&c, true);
    chain_run(&c, graphs);
    /* Six steps, one of another shape: the first of each shape runs eagerly, the second makes the graph. */
    ck_assert_uint_eq(pb_host_instantiated(), 1);
    ck_assert_uint_eq(pb_host_graph_launches(), STEPS - 2);
    ck_assert_uint_eq(pb_host_launches(), 2 * launches);
    chain_close(&c);
    for (int i = 0; i < STEPS; i++) {
        ck_assert_msg(memcmp(&eager[i], &graphs[i], sizeof eager[i]) == 0, "step %d: %.17g eager, %.17g",
                      i, eager[i], graphs[i]);
        ck_assert(i == 0 || eager[i] != eager[i - 1]);
    }
}
END_TEST

/* Of two lengths in turns. A step of 2 LONG items and seven more goes in pieces of 32, 64, 128 and what is left. */
static void long_run(chain *c, bool graphs, double *sums) {
    enum { PIECES = 4 };
    c->layers = LONG;
    for (int i = 0; i < STEPS; i++) {
        uint64_t launches = pb_host_graph_launches(), made = pb_host_instantiated();
        pb_assert_ok(whole_step(c, i, i % 2 == 0 ? SIDE : SIDE / 2, &sums[i]));
        /* Of each length the first step runs eagerly, the second makes graphs, and no later one does. */
        ck_assert_uint_eq(pb_host_graph_launches() - launches, graphs && i >= 2 ? PIECES : 0);
        ck_assert_uint_eq(pb_host_instantiated() - made, graphs && (i == 2 || i == 3) ? PIECES : 0);
    }
}

START_TEST(a_long_step_goes_in_pieces) {
    chain c;
    double eager[STEPS], graphs[STEPS];
    chain_open(&c, false);
    long_run(&c, false, eager);
    chain_close(&c);
    chain_open(&c, true);
    long_run(&c, true, graphs);
    chain_close(&c);
    for (int i = 0; i < STEPS; i++) {
        ck_assert_msg(memcmp(&eager[i], &graphs[i], sizeof eager[i]) == 0, "step %d: %.17g eager, %.17g", i, eager[i], graphs[i]);
        ck_assert(i == 0 || eager[i] != eager[i - 1]);
    }
}
END_TEST

/* Graphs launched before anybody waits, and until the step has ended. */
static void launched(chain *c, bool whole, uint64_t *before_end, uint64_t *in_all) {
    uint64_t from = pb_host_graph_launches();
    pb_assert_ok(whole ? pb_device_step_begin_whole(c->dev) : pb_device_step_begin(c->dev));
    for (int i = 0; i < LONG; i++) {
        pb_act_fwd_args a = {.act = PB_ACT_SILU, .x = c->x, .y = c->y};
        pb_assert_ok(pb_act_fwd(c->dev, &a));
    }
    *before_end = pb_host_graph_launches() - from;
    pb_assert_ok(pb_device_step_end(c->dev));
    *in_all = pb_host_graph_launches() - from;
    pb_assert_ok(pb_device_sync(c->dev));
}

/* The device has the first pieces before the host has written the step down. For a clock it has nothing until it has all. */
START_TEST(the_device_begins_while_the_host_writes) {
    chain c;
    uint64_t before_end = 0, in_all = 0;
    chain_open(&c, true);
    for (int i = 0; i < 3; i++) {
        launched(&c, false, &before_end, &in_all);
        ck_assert_uint_eq(before_end, i == 0 ? 0 : 2); /* 32 and 64 of 150 */
        ck_assert_uint_eq(in_all, i == 0 ? 0 : 3);
    }
    for (int i = 0; i < 3; i++) {
        launched(&c, true, &before_end, &in_all);
        ck_assert_uint_eq(before_end, 0);
        ck_assert_uint_eq(in_all, i == 0 ? 0 : 1);
    }
    chain_close(&c);
}
END_TEST

/* An event that is a node of a graph has the time of its last launch, whatever else waited for it. */
START_TEST(times_are_those_of_this_launch) {
    chain c;
    double ns = 0.0, sum = 0.0;
    pb_event *before = NULL;
    chain_open(&c, true);
    pb_assert_ok(pb_event_new(c.dev, &before));
    for (int i = 0; i < 4; i++) {
        pb_assert_ok(pb_event_record(before));
        pb_assert_ok(pb_device_step_begin(c.dev));
        for (int k = 0; k < LAYERS; k++) {
            pb_linear_args l = {.x = c.x, .y = c.y, .w = {.dense = c.w}};
            pb_assert_ok(pb_linear(c.dev, &l));
            pb_act_fwd_args a = {.act = PB_ACT_SILU, .x = c.y, .y = c.x};
            pb_assert_ok(pb_act_fwd(c.dev, &a));
        }
        pb_assert_ok(pb_event_record(c.mark));
        pb_assert_ok(pb_device_step_end(c.dev));
        pb_assert_ok(pb_event_elapsed(before, c.mark, &ns));
        ck_assert_msg(ns > 0.0, "step %d: %g ns", i, ns);
    }
    ck_assert_uint_eq(pb_host_graph_launches(), 3);
    pb_assert_ok(whole_step(&c, 0, SIDE, &sum));
    pb_event_free(before);
    chain_close(&c);
}
END_TEST

static void count_op(void *user, const char *op, bool begin, const pb_work *work) {
    (void)op;
    (void)work;
    uint64_t *runs = user;
    if (!begin && pb_host_calls() > runs[0]) runs[1]++;
    runs[0] = pb_host_calls();
}

/* The library chooses an algorithm for a bias by its address: the stand-in wants it set before, and aligned as it will be. */
START_TEST(a_bias_is_there_when_an_algorithm_is_chosen) {
    const float x[6] = {1, 2, 3, 4, 5, 6}, w[12] = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0}, bias[8] = {9, 10, 20, 30, 40, 50, 60, 70};
    float y[8];
    pb_device *dev = open_device("cuda");
    for (int at = 0; at < 3; at++) { /* aligned to 16, 4 and 8 bytes */
        pb_gemm_args g = {.alpha = 1.0};
        pb_assert_ok(pb_alloc2(dev, PB_MEM_WORK, PB_F32, 2, 3, &g.a));
        pb_assert_ok(pb_alloc2(dev, PB_MEM_WORK, PB_F32, 3, 4, &g.b));
        pb_assert_ok(pb_alloc2(dev, PB_MEM_WORK, PB_F32, 2, 4, &g.c));
        pb_assert_ok(pb_alloc1(dev, PB_MEM_WORK, PB_F32, 8, &g.bias));
        pb_assert_ok(pb_device_put_f32(dev, g.a, x));
        pb_assert_ok(pb_device_put_f32(dev, g.b, w));
        pb_assert_ok(pb_device_put_f32(dev, g.bias, bias));
        g.bias.data = (float *)g.bias.data + at;
        g.bias.dim[0] = g.bias.stride = 4;
        pb_assert_ok(pb_gemm(dev, &g));
        pb_assert_ok(pb_device_get(dev, y, g.c, sizeof y));
        for (int i = 0; i < 8; i++)
            ck_assert(y[i] == (i % 4 < 3 ? x[i / 4 * 3 + i % 4] : 0.0f) + bias[at + i % 4]);
    }
    pb_device_close(dev);
}
END_TEST

/* Kernels that a linear layer with GELU and its gradient take beside their products. */
static uint64_t gelu_kernels(pb_device *dev, pb_dtype dtype, int64_t cols, int64_t off) {
    pb_tensor x, w, wide, y, pre, dx;
    pb_assert_ok(pb_alloc2(dev, PB_MEM_DATA, dtype, 8, 16, &x));
    pb_assert_ok(pb_alloc2(dev, PB_MEM_DATA, dtype, cols, 16, &w));
    pb_assert_ok(pb_alloc2(dev, PB_MEM_DATA, dtype, 8, cols, &y));
    pb_assert_ok(pb_alloc2(dev, PB_MEM_DATA, dtype, 8, 2 * cols, &wide));
    pb_assert_ok(pb_alloc2(dev, PB_MEM_DATA, dtype, 8, 16, &dx));
    pre = pb_cols_of(wide, off, cols);
    uint64_t before = pb_host_launches();
    pb_linear_gelu_args fwd = {.x = x, .w = w, .y = y, .pre = pre};
    pb_assert_ok(pb_linear_gelu(dev, &fwd));
    pb_gelu_linear_bwd_args bwd = {.dy = pre, .w = w, .pre = x, .dx = dx};
    pb_assert_ok(pb_gelu_linear_bwd(dev, &bwd));
    pb_assert_ok(pb_device_sync(dev));
    return pb_host_launches() - before;
}

/* In bf16 GELU and its gradient are the product's epilogue where the library takes the matrix beside it: rows of 8 elements
 * at multiples of 16 bytes. f32 is the mode of parity. */
START_TEST(gelu_rides_in_the_epilogue) {
    pb_device *dev = open_device("cuda");
    ck_assert_uint_eq(gelu_kernels(dev, PB_BF16, 24, 0), 0);
    ck_assert_uint_eq(gelu_kernels(dev, PB_BF16, 24, 8), 0);
    ck_assert_uint_eq(gelu_kernels(dev, PB_BF16, 24, 4), 1); /* at 8 bytes */
    ck_assert_uint_eq(gelu_kernels(dev, PB_BF16, 22, 0), 1); /* rows of 44 */
    ck_assert_uint_eq(gelu_kernels(dev, PB_F32, 24, 0), 2);
    close_device(dev);
    pb_host_architecture(8, 9);
    dev = open_device("cuda");
    ck_assert_uint_eq(gelu_kernels(dev, PB_BF16, 24, 0), 2);
    close_device(dev);
    pb_host_architecture(9, 0);
    setenv("PB_CUDA_EPILOGUE", "0", 1);
    dev = open_device("cuda");
    ck_assert_uint_eq(gelu_kernels(dev, PB_BF16, 24, 0), 2);
    close_device(dev);
}
END_TEST

/* Benchmarks choose another of the library's proposals; everything else takes its first. */
START_TEST(the_library_is_asked_for_the_algorithm_wanted) {
    pb_device *dev = NULL;
    pb_gemm_args g = {.alpha = 1.0};
    pb_assert_ok(pb_device_open("cuda", &(pb_device_options){.threads = 1, .algorithm = _i}, &dev));
    pb_assert_ok(pb_alloc2(dev, PB_MEM_WORK, PB_F32, 2, 3, &g.a));
    pb_assert_ok(pb_alloc2(dev, PB_MEM_WORK, PB_F32, 3, 4, &g.b));
    pb_assert_ok(pb_alloc2(dev, PB_MEM_WORK, PB_F32, 2, 4, &g.c));
    pb_assert_ok(pb_gemm(dev, &g));
    pb_assert_ok(pb_device_sync(dev));
    ck_assert_int_eq(pb_host_algorithm(), _i);
    close_device(dev);
}
END_TEST

START_TEST(with_an_observer_ops_run_where_they_are_called) {
    chain c;
    uint64_t seen[2] = {0, 0};
    double sum;
    chain_open(&c, true);
    pb_device_observe(c.dev, count_op, seen);
    for (int i = 0; i < 3; i++) pb_assert_ok(whole_step(&c, i, SIDE, &sum));
    ck_assert_uint_eq(pb_host_graph_launches(), 0);
    ck_assert_uint_eq(seen[1], 3 * (1 + 2 * LAYERS + 5 + 1)); /* bytes from the host, then ops */
    chain_close(&c);
}
END_TEST

/* --- failures ---------------------------------------------------------------------------------------- */

/* The whole life of a device with graphs; PB_OK or the first failure. */
static pb_status life(int layers, double *sum) {
    chain c = {.layers = layers};
    pb_status status = PB_OK;
    float host[SIDE * SIDE] = {0};
    PB_TRY(pb_device_open("cuda", &(pb_device_options){.threads = 1}, &c.dev));
    PB_TRY(pb_alloc2(c.dev, PB_MEM_ACT, PB_F32, SIDE, SIDE, &c.x));
    PB_TRY(pb_alloc2(c.dev, PB_MEM_ACT, PB_F32, SIDE, SIDE, &c.y));
    PB_TRY(pb_alloc2(c.dev, PB_MEM_BASE, PB_F32, SIDE, SIDE, &c.w));
    PB_TRY(pb_device_put(c.dev, c.w, host, sizeof host));
    PB_TRY(chain_halves(&c));
    PB_TRY(pb_event_new(c.dev, &c.mark));
    for (int i = 0; i < 3; i++) PB_TRY(whole_step(&c, i, SIDE, sum));
    PB_TRY(pb_device_sync(c.dev));
done:
    pb_event_free(c.mark);
    pb_device_close(c.dev);
    return status;
}

/* Steps of one piece, and some of the calls of steps of three. */
START_TEST(every_call_may_fail) {
    static const struct {
        int layers;
        uint64_t stride;
    } of[] = {{LAYERS, 1}, {60, 17}};
    setenv("PB_CUDA_GRAPHS", "1", 1);
    double want = 0.0, got = 0.0;
    uint64_t before = pb_host_calls();
    pb_assert_ok(life(of[_i].layers, &want));
    uint64_t calls = pb_host_calls() - before;
    int failures = 0;
    ck_assert_uint_gt(calls, 100);
    for (uint64_t n = 1; n <= calls; n += of[_i].stride) {
        pb_host_fail_at(n);
        pb_status status = life(of[_i].layers, &got);
        /* A graph that cannot be made is given up, and what frees frees: the run goes on, with the same bits. */
        if (pb_host_failed()) failures += status != PB_OK;
        if (status == PB_OK) ck_assert(memcmp(&want, &got, sizeof want) == 0);
        else ck_assert_msg(strstr(pb_error_message(), "fails on request") != NULL ||
                               status == PB_E_OOM, "call %" PRIu64 ": %s", n, pb_error_message());
        ck_assert_msg(pb_host_live() == 0, "call %" PRIu64 " failed: %" PRId64 " things left", n,
                      pb_host_live());
    }
    pb_host_fail_at(0);
    calls = (calls + of[_i].stride - 1) / of[_i].stride;
    ck_assert_msg(failures > (int)calls / 3, "%d of %" PRIu64 " calls", failures, calls);
    printf("%" PRIu64 " calls failed in turn, %d ended the run\n", calls, failures);
}
END_TEST

START_TEST(a_failed_step_leaves_the_device_usable) {
    chain c;
    double sum = 0.0;
    chain_open(&c, true);
    pb_host_fail_at(20);
    ck_assert(whole_step(&c, 0, SIDE, &sum) != PB_OK);
    ck_assert(pb_host_failed());
    pb_host_fail_at(0);
    pb_assert_ok(whole_step(&c, 0, SIDE, &sum));
    ck_assert(sum != 0.0);
    chain_close(&c);
}
END_TEST

/* A device whose kernel has failed refuses memory too: the run that asks for some is not out of memory. */
START_TEST(a_fault_is_told_as_a_fault) {
    pb_device *dev = open_device("cuda");
    pb_tensor t;
    pb_host_fault();
    pb_assert_fails(pb_alloc1(dev, PB_MEM_DATA, PB_F32, 1 << 20, &t), PB_E_BUG, "CUDA_LAUNCH_BLOCKING=1");
    pb_assert_fails(pb_device_sync(dev), PB_E_BUG, "kernel fault");
    pb_device_close(dev);
    ck_assert_int_eq(pb_host_live(), 0);
}
END_TEST

START_TEST(an_old_driver_is_named_with_its_version) {
    pb_device *dev = NULL;
    pb_host_driver(12040);
    pb_assert_fails(pb_device_open("cuda", NULL, &dev), PB_E_ENV, "the driver is for CUDA 12.4, this was built with 13.0");
    ck_assert_ptr_null(dev);
    ck_assert_int_eq(pb_host_live(), 0);
    pb_host_driver(13000);
    dev = open_device("cuda");
    close_device(dev);
}
END_TEST

START_TEST(f32_is_not_made_tf32_behind_our_back) {
    pb_device *dev = NULL;
    setenv("NVIDIA_TF32_OVERRIDE", "1", 1);
    pb_assert_fails(pb_device_open("cuda", NULL, &dev), PB_E_ENV, "NVIDIA_TF32_OVERRIDE");
    setenv("NVIDIA_TF32_OVERRIDE", "0", 1);
    dev = open_device("cuda");
    close_device(dev);
    unsetenv("NVIDIA_TF32_OVERRIDE");
}
END_TEST

/* A switch of the environment is in what a record says of the device; what is no number is refused. */
START_TEST(switches_are_told) {
    char text[512];
    pb_device *dev = open_device("cuda");
    pb_device_describe(dev, text, sizeof text);
    ck_assert_ptr_nonnull(strstr(text, "; steps: graphs"));
    ck_assert_ptr_null(strstr(text, "PB_CUDA_"));
    close_device(dev);
    setenv("PB_CUDA_PLAIN", "1", 1);
    dev = open_device("cuda");
    pb_device_describe(dev, text, sizeof text);
    ck_assert_ptr_nonnull(strstr(text, "; steps: graphs; own kernels plain (PB_CUDA_PLAIN)"));
    close_device(dev);
}
END_TEST

/* Bytes of workspace of the product with a 4-bit matrix of 64 MiB in f32. */
static uint64_t slab_workspace(pb_device *dev) {
    enum { OUT = 8192, IN = 2048 };
    pb_quant4 q = {.code = PB_CODE_NF4, .compute = PB_F32, .out = OUT, .in = IN, .block = 64};
    pb_linear_args l = {.w = {.quant = &q}};
    pb_assert_ok(pb_alloc1(dev, PB_MEM_BASE, PB_U8, OUT * IN / 2, &q.codes));
    pb_assert_ok(pb_alloc1(dev, PB_MEM_BASE, PB_F32, OUT * IN / 64, &q.absmax));
    pb_assert_ok(pb_alloc2(dev, PB_MEM_ACT, PB_F32, 32, IN, &l.x));
    pb_assert_ok(pb_alloc2(dev, PB_MEM_ACT, PB_F32, 32, OUT, &l.y));
    pb_assert_ok(pb_linear(dev, &l));
    return pb_device_mem_peak(dev, PB_MEM_WORK);
}

static const struct {
    const char *mib;
    uint64_t bytes; /* of a slab */
} slabs[] = {{NULL, 32u << 20}, {"16", 16u << 20}, {"100", 64u << 20}, {"0", 0}, {"2000", 0}, {"16M", 0}, {"", 0}};

START_TEST(slabs_are_as_large_as_wanted) {
    pb_device *dev = NULL;
    if (slabs[_i].mib != NULL) setenv("PB_CUDA_SLAB_MIB", slabs[_i].mib, 1);
    if (slabs[_i].bytes == 0) {
        pb_assert_fails(pb_device_open("cuda", NULL, &dev), PB_E_ENV, "whole number of MiB");
        return;
    }
    char text[512];
    dev = open_device("plan:cuda");
    uint64_t rest = slab_workspace(dev) - slabs[_i].bytes; /* cuBLASLt's 32 MiB and the way to a multiple of 256 */
    ck_assert_msg(rest >= 32u << 20 && rest < (32u << 20) + 4096, "%" PRIu64 " bytes beside the slab", rest);
    pb_device_close(dev);
    dev = open_device("cuda");
    pb_device_describe(dev, text, sizeof text);
    ck_assert((strstr(text, "PB_CUDA_SLAB_MIB") != NULL) == (slabs[_i].mib != NULL));
    close_device(dev);
}
END_TEST

/* --- what is not there -------------------------------------------------------------------------------- */

START_TEST(a_missing_or_foreign_object_is_an_environment_that_lacks_something) {
    pb_device *dev = NULL;
    setenv("PB_CUDA_PLUGIN", "/nowhere/object.so", 1);
    pb_assert_fails(pb_device_open("cuda", NULL, &dev), PB_E_ENV, "/nowhere/object.so is missing");
    pb_assert_fails(pb_device_open("plan:cuda", NULL, &dev), PB_E_ENV, "missing");
    setenv("PB_CUDA_PLUGIN", "/proc/self/cmdline", 1);
    pb_assert_fails(pb_device_open("cuda", NULL, &dev), PB_E_ENV, "cannot be loaded");
    setenv("PB_CUDA_PLUGIN", "/proc/self/exe", 1);
    pb_assert_fails(pb_device_open("cuda", NULL, &dev), PB_E_ENV, "");
    ck_assert_ptr_null(dev);
}
END_TEST

/* This test runs where there may be a GPU: then there is nothing to see. */
START_TEST(without_a_gpu_one_line_says_why) {
    unsetenv("PB_CUDA_PLUGIN");
    pb_device *dev = NULL;
    pb_device_facts facts;
    pb_status status = pb_device_probe("cuda", NULL, &facts);
    if (status == PB_OK) return;
    ck_assert_int_eq(status, PB_E_ENV);
    ck_assert_ptr_nonnull(strstr(pb_error_message(), "cuda"));
    ck_assert_ptr_null(strchr(pb_error_message(), '\n'));
    ck_assert_int_eq(pb_device_open("cuda", NULL, &dev), PB_E_ENV);
}
END_TEST

START_TEST(a_probe_keeps_nothing_open) {
    pb_device_facts facts;
    pb_assert_ok(pb_device_probe("cuda", NULL, &facts));
    ck_assert(facts.fast_bf16);
    ck_assert_ptr_nonnull(strstr(facts.text, "without TF32"));
    ck_assert_uint_eq(pb_host_calls(), 0); /* all of it happened in another process */
    pb_assert_ok(pb_device_probe("cpu", NULL, &facts));
    pb_assert_fails(pb_device_probe("tpu", NULL, &facts), PB_E_INPUT, "known");
}
END_TEST

/* --- two objects in one process ------------------------------------------------------------------------ */

/* This program is linked with one build of the stand-in and opens another, as it opens the real backend on a GPU: what the
 * other does is done by the other, though both define the same names. */
START_TEST(an_object_that_is_opened_keeps_to_itself) {
    enum { N = 64 };
    float x[N], y[N];
    const char *twin = getenv("PB_CUDA_TWIN");
    ck_assert_ptr_nonnull(twin);
    setenv("PB_CUDA_PLUGIN", twin, 1);
    uint64_t calls = pb_host_calls(), launches = pb_host_launches();
    pb_device *dev = open_device("cuda");
    pb_tensor t;
    for (int i = 0; i < N; i++) x[i] = (float)(i - N / 2);
    pb_assert_ok(pb_alloc1(dev, PB_MEM_DATA, PB_F32, N, &t));
    pb_assert_ok(pb_device_put_f32(dev, t, x));
    pb_assert_ok(pb_act_fwd(dev, &(pb_act_fwd_args){.act = PB_ACT_RELU, .x = t, .y = t}));
    pb_assert_ok(pb_device_get(dev, y, t, sizeof y));
    for (int i = 0; i < N; i++) ck_assert(y[i] == (x[i] > 0.0f ? x[i] : 0.0f));
    void *object = dlopen(twin, RTLD_NOW | RTLD_NOLOAD);
    ck_assert_ptr_nonnull(object);
    uint64_t (*its_launches)(void) = NULL;
    int64_t (*its_live)(void) = NULL;
    *(void **)&its_launches = dlsym(object, "pb_host_launches");
    *(void **)&its_live = dlsym(object, "pb_host_live");
    ck_assert(its_launches != NULL && its_launches != pb_host_launches && its_live != NULL);
    ck_assert_uint_eq(its_launches(), 1);
    ck_assert_int_gt(its_live(), 0);
    close_device(dev);
    ck_assert_int_eq(its_live(), 0);
    ck_assert_uint_eq(pb_host_calls(), calls);
    ck_assert_uint_eq(pb_host_launches(), launches);
}
END_TEST

int main(void) {
    Suite *s = suite_create("cuda device");
    TCase *memory = pb_test_case(s, "memory");
    tcase_add_loop_test(memory, bytes_come_back_as_they_went, 0, sizeof sizes / sizeof sizes[0]);
    tcase_add_test(memory, fresh_memory_is_zero_and_the_budget_holds);
    tcase_add_test(memory, events_lie_where_they_were_enqueued);
    TCase *steps = pb_test_case(s, "steps");
    tcase_add_test(steps, graphs_and_eager_give_the_same_bits);
    tcase_add_test(steps, a_long_step_goes_in_pieces);
    tcase_add_test(steps, the_device_begins_while_the_host_writes);
    tcase_add_test(steps, times_are_those_of_this_launch);
    tcase_add_test(steps, a_bias_is_there_when_an_algorithm_is_chosen);
    tcase_add_test(steps, gelu_rides_in_the_epilogue);
    tcase_add_loop_test(steps, the_library_is_asked_for_the_algorithm_wanted, 0, 3);
    tcase_add_test(steps, with_an_observer_ops_run_where_they_are_called);
    TCase *failures = pb_test_case(s, "failures");
    tcase_add_loop_test(failures, every_call_may_fail, 0, 2);
    tcase_add_test(failures, a_failed_step_leaves_the_device_usable);
    tcase_add_test(failures, a_fault_is_told_as_a_fault);
    tcase_add_test(failures, an_old_driver_is_named_with_its_version);
    tcase_add_test(failures, f32_is_not_made_tf32_behind_our_back);
    TCase *switches = pb_test_case(s, "switches");
    tcase_add_test(switches, switches_are_told);
    tcase_add_loop_test(switches, slabs_are_as_large_as_wanted, 0, sizeof slabs / sizeof slabs[0]);
    TCase *missing = pb_test_case(s, "missing");
    tcase_add_test(missing, a_missing_or_foreign_object_is_an_environment_that_lacks_something);
    tcase_add_test(missing, without_a_gpu_one_line_says_why);
    tcase_add_test(missing, a_probe_keeps_nothing_open);
    TCase *twin = pb_test_case(s, "twin");
    tcase_add_test(twin, an_object_that_is_opened_keeps_to_itself);
    return pb_run_suite(s);
}
