/* Devices: arenas and what they count, transfers, events, accounting, plans, refused arguments. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "kernels/ops.h"
#include "tests/support.h"

static const char *const computing[] = {"ref", "cpu"};
static const char *const all_devices[] = {"ref", "cpu", "plan:cpu", "plan:ref"};

static pb_device *open_with(const char *name, pb_device_options options) {
    pb_device *dev = NULL;
    if (options.threads == 0) options.threads = 2;
    pb_assert_ok(pb_device_open(name, &options, &dev));
    return dev;
}

static pb_device *open_plain(const char *name) { return open_with(name, (pb_device_options){0}); }

static uint64_t rounded(uint64_t bytes) { return (bytes + 63) / 64 * 64; }

/* --- opening ---------------------------------------------------------------------------------- */

START_TEST(unknown_device_names_the_known_ones) {
    pb_device *dev = NULL;
    pb_assert_fails(pb_device_open("gpu0", NULL, &dev), PB_E_INPUT, "cpu");
    pb_assert_fails(pb_device_open("plan", NULL, &dev), PB_E_INPUT, "ref");
    pb_assert_fails(pb_device_open("plan:plan:cpu", NULL, &dev), PB_E_INPUT, "plan:plan:cpu");
    pb_assert_fails(pb_device_open("cpu", &(pb_device_options){.threads = -1}, &dev), PB_E_INPUT,
                    "-1");
    pb_assert_fails(pb_device_open("cpu", &(pb_device_options){.algorithm = -2}, &dev), PB_E_INPUT, "algorithm -2");
    ck_assert(dev == NULL);
    pb_device_close(NULL);
}
END_TEST

START_TEST(device_says_what_it_is) {
    pb_device *dev = open_with("plan:cpu", (pb_device_options){.threads = 3});
    ck_assert_str_eq(pb_device_name(dev), "plan:cpu");
    ck_assert(!pb_device_computes(dev));
    ck_assert_int_eq(pb_device_threads(dev), 3);
    ck_assert(pb_device_fast_dtype(dev, PB_F32));
    uint64_t used = 0;
    ck_assert(!pb_device_memory_used(dev, &used)); /* no driver */
    pb_device_close(dev);
    pb_assert_ok(pb_device_open("ref", NULL, &dev));
    ck_assert(pb_device_computes(dev));
    ck_assert_int_ge(pb_device_threads(dev), 1);
    for (int op = 0; op < PB_OP_COUNT; op++)
        ck_assert_str_eq(pb_op_variant(dev, (pb_op)op), "plain");
    pb_device_close(dev);
}
END_TEST

/* --- arenas ----------------------------------------------------------------------------------- */

START_TEST(tensors_are_aligned_contiguous_and_zero) {
    pb_device *dev = open_plain(computing[_i]);
    pb_tensor t;
    double host[70];
    for (int i = 0; i < 50; i++) {
        pb_assert_ok(pb_alloc2(dev, PB_MEM_ACT, PB_F32, 7, 1 + i % 10, &t));
        ck_assert((uintptr_t)t.data % 64 == 0 && pb_contiguous(t) && t.ndim == 2);
        pb_assert_ok(pb_device_get_f64(dev, host, t));
        for (int64_t k = 0; k < pb_numel(t); k++) ck_assert(host[k] == 0.0);
    }
    int64_t dim[3] = {2, 3, 5};
    pb_assert_ok(pb_device_alloc(dev, PB_MEM_ACT, PB_BF16, 3, dim, &t));
    ck_assert_int_eq(pb_rows(t), 6);
    ck_assert_int_eq(pb_cols(t), 5);
    ck_assert_uint_eq(pb_bytes(t), 60);
    pb_device_close(dev);
}
END_TEST

START_TEST(memory_given_back_is_zero_again_unless_raw) {
    pb_device *dev = open_plain(computing[_i]);
    pb_tensor t, u;
    double ones[100], back[100];
    for (int i = 0; i < 100; i++) ones[i] = 1.0;
    pb_mark mark = pb_device_mark(dev, PB_MEM_ACT);
    pb_assert_ok(pb_alloc1(dev, PB_MEM_ACT, PB_F64, 100, &t));
    pb_assert_ok(pb_device_put_f64(dev, t, ones));
    pb_device_rewind(dev, PB_MEM_ACT, mark);
    pb_assert_ok(pb_alloc2_raw(dev, PB_MEM_ACT, PB_F64, 1, 100, &u));
    ck_assert(u.data == t.data);
    pb_assert_ok(pb_device_get_f64(dev, back, u));
    ck_assert(back[99] == 1.0);
    pb_device_rewind(dev, PB_MEM_ACT, mark);
    pb_assert_ok(pb_alloc1(dev, PB_MEM_ACT, PB_F64, 100, &u));
    pb_assert_ok(pb_device_get_f64(dev, back, u));
    for (int i = 0; i < 100; i++) ck_assert(back[i] == 0.0);
    pb_device_close(dev);
}
END_TEST

START_TEST(counts_are_bytes_handed_out_whatever_the_blocks) {
    pb_device *dev = open_plain(all_devices[_i]);
    uint64_t sum = 0;
    pb_tensor t;
    for (int64_t i = 0; i < 60; i++) { /* crosses many blocks, and leaves unused ends in them */
        pb_assert_ok(pb_alloc1(dev, PB_MEM_GRAD, PB_F32, 1 + i * 9973, &t));
        sum += rounded((uint64_t)(1 + i * 9973) * 4);
        ck_assert_uint_eq(pb_device_mem_now(dev, PB_MEM_GRAD), sum);
    }
    ck_assert_uint_gt(pb_device_growths(dev), 2);
    ck_assert_uint_eq(pb_device_mem_peak(dev, PB_MEM_GRAD), sum);
    ck_assert_uint_eq(pb_device_mem_peak_total(dev), sum);
    ck_assert_uint_eq(pb_device_mem_now(dev, PB_MEM_ACT), 0);
    pb_device_close(dev);
}
END_TEST

/* One step of allocations, nested marks included. */
static void step(pb_device *dev, int64_t seed) {
    pb_tensor t;
    pb_mark outer = pb_device_mark(dev, PB_MEM_ACT);
    for (int64_t i = 0; i < 20; i++) {
        pb_assert_ok(pb_alloc1(dev, PB_MEM_ACT, PB_F32, 1 + (i * 7919 + seed) % 400000, &t));
        pb_mark inner = pb_device_mark(dev, PB_MEM_WORK);
        pb_assert_ok(pb_alloc2_raw(dev, PB_MEM_WORK, PB_U8, 1, 1 + (i * 104729) % 5000000, &t));
        pb_assert_ok(pb_alloc2_raw(dev, PB_MEM_WORK, PB_U8, 1, 1 + (i * 1299709) % 3000000, &t));
        pb_device_rewind(dev, PB_MEM_WORK, inner);
    }
    pb_device_rewind(dev, PB_MEM_ACT, outer);
    ck_assert_uint_eq(pb_device_mem_now(dev, PB_MEM_ACT), (uint64_t)outer.bytes);
    ck_assert_uint_eq(pb_device_mem_now(dev, PB_MEM_WORK), 0);
}

START_TEST(a_repeated_step_never_grows) {
    pb_device *dev = open_plain(all_devices[_i]);
    step(dev, 5);
    uint64_t growths = pb_device_growths(dev), peak = pb_device_mem_peak_total(dev);
    for (int i = 0; i < 5; i++) step(dev, 5);
    ck_assert_uint_eq(pb_device_growths(dev), growths);
    ck_assert_uint_eq(pb_device_mem_peak_total(dev), peak);
    step(dev, 390000); /* another shape may grow, and then that one is steady too */
    growths = pb_device_growths(dev);
    step(dev, 390000);
    step(dev, 5);
    ck_assert_uint_eq(pb_device_growths(dev), growths);
    pb_device_close(dev);
}
END_TEST

/* The rest of the block in which the mark was taken is used again, not only the blocks behind it. */
START_TEST(a_rewind_returns_to_the_block_of_the_mark) {
    pb_device *dev = open_plain(all_devices[_i]);
    pb_tensor t, small, big;
    pb_assert_ok(pb_alloc1(dev, PB_MEM_ACT, PB_U8, 1000, &t));
    pb_mark mark = pb_device_mark(dev, PB_MEM_ACT);
    pb_assert_ok(pb_alloc1(dev, PB_MEM_ACT, PB_U8, 5000000, &big)); /* a block of its own */
    pb_device_rewind(dev, PB_MEM_ACT, mark);
    pb_assert_ok(pb_alloc1(dev, PB_MEM_ACT, PB_U8, 100, &small));
    ck_assert((char *)small.data == (char *)t.data + 1024);
    pb_assert_ok(pb_alloc1(dev, PB_MEM_ACT, PB_U8, 5000000, &t));
    ck_assert(t.data == big.data);
    ck_assert_uint_eq(pb_device_growths(dev), 2);
    pb_device_close(dev);
}
END_TEST

START_TEST(tensors_that_live_together_do_not_overlap) {
    pb_device *dev = open_plain(all_devices[_i]);
    pb_tensor t[64];
    for (int round = 0; round < 3; round++) {
        pb_mark mark = pb_device_mark(dev, PB_MEM_DATA);
        for (int64_t i = 0; i < 64; i++) {
            pb_assert_ok(
                pb_alloc1(dev, PB_MEM_DATA, PB_U8, 1 + (i * 7919 * (round + 1)) % 900000, &t[i]));
        }
        for (int i = 0; i < 64; i++) {
            for (int k = 0; k < i; k++) {
                uintptr_t a = (uintptr_t)t[i].data, b = (uintptr_t)t[k].data;
                ck_assert(a + pb_bytes(t[i]) <= b || b + pb_bytes(t[k]) <= a);
            }
        }
        pb_device_rewind(dev, PB_MEM_DATA, mark);
    }
    pb_device_close(dev);
}
END_TEST

START_TEST(peaks_are_per_purpose_and_of_one_instant) {
    pb_device *dev = open_plain(all_devices[_i]);
    pb_tensor t;
    pb_mark mark = pb_device_mark(dev, PB_MEM_WORK);
    pb_assert_ok(pb_alloc1(dev, PB_MEM_WORK, PB_U8, 1000, &t)); /* 1024 */
    pb_device_rewind(dev, PB_MEM_WORK, mark);
    pb_assert_ok(pb_alloc1(dev, PB_MEM_ACT, PB_U8, 640, &t));
    ck_assert_uint_eq(pb_device_mem_peak(dev, PB_MEM_WORK), 1024);
    ck_assert_uint_eq(pb_device_mem_peak(dev, PB_MEM_ACT), 640);
    ck_assert_uint_eq(pb_device_mem_peak_total(dev), 1024); /* not 1664: never at the same time */
    pb_device_mem_reset_peaks(dev);
    ck_assert_uint_eq(pb_device_mem_peak(dev, PB_MEM_WORK), 0);
    ck_assert_uint_eq(pb_device_mem_peak_total(dev), 640);
    pb_assert_ok(pb_alloc1(dev, PB_MEM_OPTIM, PB_U8, 0, &t)); /* nothing still has an address */
    ck_assert(pb_has(t) && pb_numel(t) == 0);
    pb_device_close(dev);
}
END_TEST

START_TEST(reserve_makes_one_block) {
    pb_device *dev = open_plain(all_devices[_i]);
    pb_tensor t;
    pb_assert_ok(pb_device_reserve(dev, PB_MEM_BASE, 10000000));
    ck_assert_uint_eq(pb_device_growths(dev), 1);
    ck_assert_uint_eq(pb_device_mem_now(dev, PB_MEM_BASE), 0);
    for (int i = 0; i < 100; i++) pb_assert_ok(pb_alloc1(dev, PB_MEM_BASE, PB_U8, 100000 - 64, &t));
    pb_assert_ok(pb_device_reserve(dev, PB_MEM_BASE, 64)); /* still there */
    ck_assert_uint_eq(pb_device_growths(dev), 1);
    pb_device_close(dev);
}
END_TEST

/* For memory checkers: a block of exactly the size for every tensor, the same counts, zeros all the same. */
START_TEST(tensors_may_have_memory_of_their_own) {
    pb_device *dev = open_with(all_devices[_i], (pb_device_options){.separate = true});
    static const int64_t sizes[] = {250, 16, 1, 1250000, 250};
    enum { N = sizeof sizes / sizeof sizes[0] };
    pb_tensor first[N], t;
    const void *data = NULL;
    uint64_t bytes = 0, now = 0;
    pb_assert_ok(pb_device_reserve(dev, PB_MEM_ACT, 10000000)); /* would be shared */
    for (int round = 0; round < 3; round++) {
        pb_mark mark = pb_device_mark(dev, PB_MEM_ACT);
        for (int i = 0; i < N; i++) {
            pb_assert_ok(pb_alloc1(dev, PB_MEM_ACT, PB_F32, sizes[i], round == 0 ? &first[i] : &t));
            if (round == 0) now += rounded(4 * (uint64_t)sizes[i]);
            ck_assert(round == 0 || t.data == first[i].data);
            ck_assert(pb_device_block(dev, PB_MEM_ACT, i, &data, &bytes));
            ck_assert(data == first[i].data && bytes == rounded(4 * (uint64_t)sizes[i]));
            double *back = calloc((size_t)sizes[i], sizeof *back);
            ck_assert_ptr_nonnull(back);
            pb_assert_ok(pb_device_get_f64(dev, back, first[i]));
            for (int64_t k = 0; k < sizes[i]; k++) ck_assert(back[k] == 0.0);
            for (int64_t k = 0; k < sizes[i]; k++) back[k] = 1.0;
            pb_assert_ok(pb_device_put_f64(dev, first[i], back));
            free(back);
        }
        ck_assert_uint_eq(pb_device_mem_now(dev, PB_MEM_ACT), now);
        pb_device_rewind(dev, PB_MEM_ACT, mark);
    }
    ck_assert_uint_eq(pb_device_growths(dev), N);
    pb_assert_ok(pb_alloc1(dev, PB_MEM_ACT, PB_F32, 249, &t)); /* rounds to what 250 does, but its bytes are fewer */
    ck_assert(pb_device_block(dev, PB_MEM_ACT, N, &data, &bytes) && data == t.data && bytes == 1024);
    pb_device_close(dev);
}
END_TEST

static void filled(pb_device *dev, pb_tensor t) {
    float one[300];
    for (int i = 0; i < 300; i++) one[i] = 1.0f;
    pb_assert_ok(pb_device_put(dev, t, one, pb_bytes(t)));
}

static double sum_of(pb_device *dev, pb_tensor t) {
    double back[300], sum = 0.0;
    pb_assert_ok(pb_device_get_f64(dev, back, t));
    for (int64_t i = 0; i < pb_numel(t); i++) sum += back[i];
    return sum;
}

/* Tensors that lie one behind the other are zeroed in one call; what lies before and behind them is not touched. */
START_TEST(neighbours_are_zeroed_together) {
    static const int64_t sizes[] = {16, 5, 250, 1, 33};
    enum { N = sizeof sizes / sizeof sizes[0] };
    pb_device *dev = open_plain(all_devices[_i]);
    pb_tensor t[N], run, other;
    for (int i = 0; i < N; i++) {
        pb_assert_ok(pb_alloc1(dev, PB_MEM_GRAD, PB_F32, sizes[i], &t[i]));
        filled(dev, t[i]);
    }
    run = (pb_tensor){0};
    ck_assert(!pb_device_join(dev, PB_MEM_GRAD, &run, t[1]) && !pb_has(run));
    run = t[1];
    ck_assert(!pb_device_join(dev, PB_MEM_GRAD, &run, t[3])); /* one lies between */
    ck_assert(!pb_device_join(dev, PB_MEM_GRAD, &run, t[0])); /* before it */
    ck_assert(!pb_device_join(dev, PB_MEM_GRAD, &run, t[1]));
    ck_assert(!pb_device_join(dev, PB_MEM_ACT, &run, t[2])); /* of another arena */
    other = t[2];
    other.dtype = PB_F64;
    ck_assert(!pb_device_join(dev, PB_MEM_GRAD, &run, other));
    ck_assert(run.data == t[1].data && pb_numel(run) == sizes[1]);
    ck_assert(pb_device_join(dev, PB_MEM_GRAD, &run, t[2]));
    ck_assert(pb_device_join(dev, PB_MEM_GRAD, &run, t[3]));
    ck_assert(run.data == t[1].data && pb_contiguous(run));
    ck_assert_uint_eq(pb_bytes(run), rounded(4 * 5) + rounded(4 * 250) + 4);
    pb_assert_ok(pb_device_zero(dev, run));
    for (int i = 0; i < N && pb_device_computes(dev); i++)
        ck_assert(sum_of(dev, t[i]) == (i == 0 || i == N - 1 ? (double)sizes[i] : 0.0));
    pb_device_close(dev);
}
END_TEST

/* The next block may begin where the last one ends: they are two pieces of memory all the same. */
START_TEST(tensors_of_two_blocks_are_no_neighbours) {
    for (int separate = 0; separate < 2; separate++) {
        pb_device *dev = open_with(all_devices[_i], (pb_device_options){.separate = separate == 1});
        pb_tensor first, t[2];
        const void *data = NULL;
        uint64_t bytes = 0;
        pb_assert_ok(pb_alloc1(dev, PB_MEM_GRAD, PB_F32, 16, &first));
        ck_assert(pb_device_block(dev, PB_MEM_GRAD, 0, &data, &bytes));
        if (separate == 0) { /* what is left of the first block, and one more */
            pb_assert_ok(pb_alloc1(dev, PB_MEM_GRAD, PB_F32, (int64_t)(bytes / 4) - 16, &t[0]));
            ck_assert(pb_device_join(dev, PB_MEM_GRAD, &first, t[0]));
            ck_assert_uint_eq(pb_bytes(first), bytes);
        }
        pb_assert_ok(pb_alloc1(dev, PB_MEM_GRAD, PB_F32, 16, &t[1]));
        pb_tensor touching = t[1];
        touching.data = (char *)first.data + pb_bytes(first); /* as if the system had put it there */
        ck_assert(!pb_device_join(dev, PB_MEM_GRAD, &first, t[1]));
        ck_assert(!pb_device_join(dev, PB_MEM_GRAD, &first, touching));
        pb_device_close(dev);
    }
}
END_TEST

START_TEST(budget_is_over_all_arenas_and_a_refusal_changes_nothing) {
    pb_device *dev = open_with(all_devices[_i], (pb_device_options){.memory_budget = 10240});
    pb_tensor t;
    pb_assert_ok(pb_alloc1(dev, PB_MEM_BASE, PB_U8, 6000, &t)); /* 6016 */
    pb_assert_fails(pb_alloc1(dev, PB_MEM_GRAD, PB_U8, 4225, &t), PB_E_OOM, "10240");
    pb_assert_fails(pb_alloc1(dev, PB_MEM_GRAD, PB_U8, 4225, &t), PB_E_OOM, "gradient");
    pb_assert_fails(pb_device_reserve(dev, PB_MEM_GRAD, 5000), PB_E_OOM, "6016");
    ck_assert(!pb_has(t));
    ck_assert_uint_eq(pb_device_mem_now(dev, PB_MEM_GRAD), 0);
    pb_assert_ok(pb_alloc1(dev, PB_MEM_GRAD, PB_U8, 4224, &t)); /* to the last byte */
    pb_assert_fails(pb_alloc1(dev, PB_MEM_ACT, PB_U8, 1, &t), PB_E_OOM, "budget");
    ck_assert_uint_eq(pb_device_mem_peak_total(dev), 10240);
    pb_device_close(dev);
}
END_TEST

START_TEST(impossible_sizes_are_refused) {
    pb_device *dev = open_plain(all_devices[_i]);
    pb_tensor t;
    int64_t huge[3] = {INT64_MAX / 2, 3, 5}, four[2] = {2, 2};
    pb_assert_fails(pb_device_alloc(dev, PB_MEM_ACT, PB_F32, 3, huge, &t), PB_E_BUG, "");
    pb_assert_fails(pb_alloc1(dev, PB_MEM_ACT, PB_F32, -1, &t), PB_E_BUG, "");
    pb_assert_fails(pb_device_alloc(dev, PB_MEM_ACT, PB_F32, 4, four, &t), PB_E_BUG,
                    "4 dimensions");
    pb_assert_fails(pb_alloc2(dev, PB_MEM_ACT, PB_F64, (int64_t)1 << 40, (int64_t)1 << 24, &t),
                    PB_E_BUG, "");
    if (pb_device_computes(dev))
        pb_assert_fails(pb_alloc1(dev, PB_MEM_ACT, PB_U8, (int64_t)1 << 59, &t), PB_E_OOM, "");
    pb_device_close(dev);
}
END_TEST

/* A small run: allocations of every purpose and a few ops. Stops at the first failure. */
static pb_status script(pb_device *dev) {
    pb_tensor x, w, y, h, a, b, m;
    for (int i = 0; i < 2; i++) {
        pb_mark act = pb_device_mark(dev, PB_MEM_ACT);
        PB_RETURN(pb_alloc2(dev, PB_MEM_ACT, PB_F32, 48, 256, &x));
        PB_RETURN(pb_alloc2(dev, PB_MEM_BASE, PB_F32, 300, 256, &w));
        PB_RETURN(pb_alloc2_raw(dev, PB_MEM_ACT, PB_F32, 48, 300, &y));
        PB_RETURN(pb_alloc2(dev, PB_MEM_ADAPTER, PB_F32, 8, 256, &a));
        PB_RETURN(pb_alloc2(dev, PB_MEM_ADAPTER, PB_F32, 300, 8, &b));
        PB_RETURN(pb_alloc2(dev, PB_MEM_ACT, PB_F32, 48, 8, &h));
        PB_RETURN(pb_alloc1(dev, PB_MEM_OPTIM, PB_F32, 300 * 8, &m));
        PB_RETURN(pb_linear(dev, &(pb_linear_args){.x = x, .y = y, .w = {.dense = w}}));
        pb_lowrank_args low = {.x = x, .a = a, .b = b, .y = y, .h = h, .scale = 2.0};
        low.drop = (pb_drop){.p = 0.1f, .key = 1, .stream = 2};
        PB_RETURN(pb_lowrank(dev, &low));
        pb_lowrank_bwd_args back = {
            .x = x, .h = h, .a = a, .b = b, .dy = y, .scale = 2.0, .drop = low.drop};
        PB_RETURN(pb_alloc2(dev, PB_MEM_GRAD, PB_F32, 300, 8, &back.db));
        PB_RETURN(pb_alloc2(dev, PB_MEM_GRAD, PB_F32, 8, 256, &back.da));
        PB_RETURN(pb_lowrank_bwd(dev, &back));
        pb_quant4 q;
        PB_RETURN(pb_quant4_alloc(dev, PB_CODE_NF4, 64, true, PB_F32, 300, 256, &q));
        PB_RETURN(pb_quantize4(dev, &(pb_quantize4_args){.src = w, .q = q}));
        PB_RETURN(pb_linear(dev, &(pb_linear_args){.x = x, .y = y, .w = {.quant = &q}}));
        pb_device_rewind(dev, PB_MEM_ACT, act);
    }
    return pb_device_sync(dev);
}

START_TEST(every_growth_may_fail_and_the_device_survives) {
    int failures = 0;
    for (int64_t n = 1;; n++) {
        pb_device *dev = open_with(all_devices[_i], (pb_device_options){.fail_alloc = n});
        pb_status status = script(dev);
        if (status == PB_OK) {
            pb_device_close(dev);
            break;
        }
        failures++;
        ck_assert_int_eq(status, PB_E_OOM);
        ck_assert(strstr(pb_error_message(), "on request") != NULL);
        ck_assert_int_eq((int)pb_device_growths(dev), (int)n);
        pb_assert_ok(script(dev)); /* the failed one was the only one */
        pb_device_close(dev);
        ck_assert_int_lt(failures, 1000);
    }
    ck_assert_int_ge(failures, 15);
}
END_TEST

/* --- plans ------------------------------------------------------------------------------------ */

START_TEST(plan_counts_what_the_real_device_counts) {
    static const char *const real_name[] = {"ref", "cpu"}, *const plan_name[] = {"plan:ref",
                                                                                 "plan:cpu"};
    pb_device *real = open_plain(real_name[_i]), *plan = open_plain(plan_name[_i]);
    pb_assert_ok(script(real));
    pb_assert_ok(script(plan));
    for (int m = 0; m < PB_MEM_COUNT; m++) {
        ck_assert_uint_eq(pb_device_mem_now(plan, (pb_mem)m), pb_device_mem_now(real, (pb_mem)m));
        ck_assert_msg(pb_device_mem_peak(plan, (pb_mem)m) == pb_device_mem_peak(real, (pb_mem)m),
                      "%s", pb_mem_name((pb_mem)m));
    }
    ck_assert_uint_eq(pb_device_mem_peak_total(plan), pb_device_mem_peak_total(real));
    ck_assert_uint_eq(pb_device_growths(plan), pb_device_growths(real));
    pb_work a = pb_device_work(real), b = pb_device_work(plan);
    ck_assert(a.flops == b.flops && a.flops_else == b.flops_else && a.bytes == b.bytes &&
              a.ops == b.ops);
    ck_assert_uint_eq(a.ops, 10);
    pb_device_close(real);
    pb_device_close(plan);
}
END_TEST

START_TEST(plan_of_65_billion_parameters_takes_no_memory_and_no_time) {
    pb_device *dev = open_plain("plan:cpu");
    pb_tensor x, y, w;
    pb_assert_ok(pb_alloc2(dev, PB_MEM_ACT, PB_BF16, 2048, 8192, &x));
    pb_assert_ok(pb_alloc2(dev, PB_MEM_ACT, PB_BF16, 2048, 22016, &y));
    for (int layer = 0; layer < 80; layer++) {
        for (int i = 0; i < 4; i++) {
            pb_assert_ok(pb_alloc2(dev, PB_MEM_BASE, PB_BF16, 22016, 8192, &w));
            pb_assert_ok(pb_linear(dev, &(pb_linear_args){.x = x, .y = y, .w = {.dense = w}}));
        }
    }
    ck_assert_uint_eq(pb_device_mem_now(dev, PB_MEM_BASE), (uint64_t)320 * 22016 * 8192 * 2);
    ck_assert(pb_device_work(dev).flops == 320.0 * 2.0 * 2048.0 * 22016.0 * 8192.0);
    pb_device_close(dev);
}
END_TEST

START_TEST(plan_reads_back_zeros_and_predicts_time) {
    pb_device *dev = open_plain("plan:cpu");
    pb_tensor x, y;
    float ones[4] = {1, 1, 1, 1}, back[4] = {9, 9, 9, 9};
    double wide[4] = {9, 9, 9, 9}, ns = -1.0;
    pb_event *a = NULL, *b = NULL;
    pb_assert_ok(pb_alloc1(dev, PB_MEM_ACT, PB_F32, 4, &x));
    pb_assert_ok(pb_alloc1(dev, PB_MEM_ACT, PB_F32, 4, &y));
    pb_assert_ok(pb_device_put(dev, x, ones, sizeof ones));
    pb_assert_ok(pb_device_put_f32(dev, x, ones));
    pb_assert_ok(pb_device_copy(dev, y, x));
    pb_assert_ok(pb_device_zero(dev, y));
    pb_assert_ok(pb_device_get(dev, back, x, sizeof back));
    pb_assert_ok(pb_device_get_f64(dev, wide, x));
    for (int i = 0; i < 4; i++) ck_assert(back[i] == 0.0f && wide[i] == 0.0);
    pb_assert_ok(pb_event_new(dev, &a));
    pb_assert_ok(pb_event_new(dev, &b));
    pb_assert_ok(pb_event_record(a));
    pb_assert_ok(pb_axpby(dev, &(pb_axpby_args){.x = x, .y = y, .alpha = 1.0}));
    pb_assert_ok(pb_event_record(b));
    pb_assert_ok(pb_event_elapsed(a, b, &ns));
    ck_assert(ns > 0.0 && ns < 1e6);
    pb_event_free(a);
    pb_event_free(b);
    pb_device_close(dev);
}
END_TEST

/* --- transfers, events, accounting ------------------------------------------------------------ */

START_TEST(values_are_converted_on_the_way) {
    enum { N = 40001 }; /* more than one chunk */
    pb_device *dev = open_plain(computing[_i]);
    float *in = malloc(N * sizeof *in);
    double *out = malloc(N * sizeof *out);
    ck_assert(in != NULL && out != NULL);
    for (int i = 0; i < N; i++) in[i] = sinf((float)i) * 3.0f;
    static const pb_dtype dtypes[3] = {PB_F32, PB_BF16, PB_F64};
    for (int d = 0; d < 3; d++) {
        pb_tensor t;
        pb_assert_ok(pb_alloc1(dev, PB_MEM_DATA, dtypes[d], N, &t));
        pb_assert_ok(pb_device_put_f32(dev, t, in));
        pb_assert_ok(pb_device_get_f64(dev, out, t));
        for (int i = 0; i < N; i++) {
            float want = d == 1 ? pb_bf16_to_f32(pb_f32_to_bf16(in[i])) : in[i];
            ck_assert(out[i] == (double)want);
        }
        pb_assert_ok(pb_device_put_f64(dev, t, out));
        double first = out[0];
        pb_assert_ok(pb_device_get_f64(dev, out, t));
        ck_assert(out[0] == first);
    }
    free(in);
    free(out);
    pb_device_close(dev);
}
END_TEST

START_TEST(wrong_transfers_are_refused) {
    pb_device *dev = open_plain(all_devices[_i]);
    pb_tensor t, ids, none = {0};
    float host[64] = {0};
    pb_assert_ok(pb_alloc2(dev, PB_MEM_DATA, PB_F32, 4, 8, &t));
    pb_assert_ok(pb_alloc1(dev, PB_MEM_DATA, PB_I32, 4, &ids));
    pb_assert_fails(pb_device_put(dev, t, host, 64), PB_E_BUG, "128");
    pb_assert_fails(pb_device_get(dev, host, pb_cols_of(t, 0, 4), 64), PB_E_BUG, "stride 8");
    pb_assert_fails(pb_device_put_f32(dev, ids, host), PB_E_BUG, "i32");
    pb_assert_fails(pb_device_copy(dev, t, ids), PB_E_BUG, "copy");
    pb_assert_fails(pb_device_zero(dev, none), PB_E_BUG, "zero");
    pb_event *a = NULL;
    double ns = 0.0;
    pb_assert_ok(pb_event_new(dev, &a));
    pb_assert_fails(pb_event_elapsed(a, a, &ns), PB_E_BUG, "recorded");
    pb_event_free(a);
    pb_device_close(dev);
}
END_TEST

START_TEST(slices_are_copied_and_zeroed_row_by_row) {
    pb_device *dev = open_plain(computing[_i]);
    pb_tensor t, u;
    double v[12], want[12];
    for (int i = 0; i < 12; i++) v[i] = i + 1.0;
    pb_assert_ok(pb_alloc2(dev, PB_MEM_DATA, PB_F32, 3, 4, &t));
    pb_assert_ok(pb_alloc2(dev, PB_MEM_DATA, PB_F32, 3, 4, &u));
    pb_assert_ok(pb_device_put_f64(dev, t, v));
    pb_assert_ok(pb_device_copy(dev, pb_cols_of(u, 2, 2), pb_cols_of(t, 1, 2)));
    pb_assert_ok(pb_device_zero(dev, pb_cols_of(pb_rows_of(t, 1, 2), 0, 3)));
    double copied[12] = {0, 0, 2, 3, 0, 0, 6, 7, 0, 0, 10, 11},
           zeroed[12] = {1, 2, 3, 4, 0, 0, 0, 8, 0, 0, 0, 12};
    pb_assert_ok(pb_device_get_f64(dev, want, u));
    pb_assert_close(want, copied, 12, 0.0, 0.0, "copied");
    pb_assert_ok(pb_device_get_f64(dev, want, t));
    pb_assert_close(want, zeroed, 12, 0.0, 0.0, "zeroed");
    pb_tensor r = pb_reshape(t, 2, 6);
    ck_assert(r.stride == 6 && pb_rows(r) == 2 && r.data == t.data);
    pb_device_close(dev);
}
END_TEST

typedef struct seen {
    int begins, ends;
    double flops;
} seen;

static void observe(void *user, const char *op, bool begin, const pb_work *work) {
    seen *s = user;
    ck_assert_str_eq(op, "gemm");
    if (begin) s->begins++;
    if (!begin) s->ends++;
    s->flops = work->flops;
}

START_TEST(work_is_counted_and_observed) {
    pb_device *dev = open_plain(all_devices[_i]);
    pb_gemm_args g = {.alpha = 1.0};
    seen s = {0};
    pb_assert_ok(pb_alloc2(dev, PB_MEM_ACT, PB_F32, 6, 10, &g.a));
    pb_assert_ok(pb_alloc2(dev, PB_MEM_ACT, PB_F32, 10, 7, &g.b));
    pb_assert_ok(pb_alloc2(dev, PB_MEM_ACT, PB_F32, 6, 7, &g.c));
    pb_device_observe(dev, observe, &s);
    pb_assert_ok(pb_gemm(dev, &g));
    pb_device_observe(dev, NULL, NULL);
    pb_assert_ok(pb_gemm(dev, &g));
    ck_assert(s.begins == 1 && s.ends == 1 && s.flops == 840.0);
    pb_work w = pb_device_work(dev);
    ck_assert(w.ops == 2 && w.flops == 1680.0 && w.bytes == 2.0 * 4.0 * (60.0 + 70.0 + 42.0));
    g.beta = 1.0;
    ck_assert(pb_op_work(PB_OP_gemm, &g).bytes == 4.0 * (60.0 + 70.0 + 84.0));
    pb_device_close(dev);
}
END_TEST

START_TEST(events_measure_time) {
    pb_device *dev = open_plain(computing[_i]);
    pb_event *a = NULL, *b = NULL;
    pb_tensor x;
    double ns = -1.0;
    pb_assert_ok(pb_event_new(dev, &a));
    pb_assert_ok(pb_event_new(dev, &b));
    pb_assert_ok(pb_alloc1(dev, PB_MEM_ACT, PB_F32, 100000, &x));
    pb_assert_ok(pb_event_record(a));
    pb_assert_ok(pb_fill_uniform(
        dev, &(pb_fill_uniform_args){.x = x, .lo = -1.0, .hi = 1.0, .key = 1, .stream = 2}));
    pb_assert_ok(pb_event_record(b));
    pb_assert_ok(pb_event_elapsed(a, b, &ns));
    ck_assert_msg(ns > 0.0 && ns < 60e9, "%g", ns);
    pb_event_free(a);
    pb_event_free(b);
    pb_device_close(dev);
}
END_TEST

/* --- refused arguments ------------------------------------------------------------------------ */

START_TEST(wrong_arguments_name_op_argument_and_numbers) {
    pb_device *dev = open_plain(all_devices[_i]);
    pb_tensor x, w, y, h, small;
    pb_assert_ok(pb_alloc2(dev, PB_MEM_ACT, PB_F32, 6, 10, &x));
    pb_assert_ok(pb_alloc2(dev, PB_MEM_ACT, PB_F32, 7, 10, &w));
    pb_assert_ok(pb_alloc2(dev, PB_MEM_ACT, PB_F32, 6, 7, &y));
    pb_assert_ok(pb_alloc2(dev, PB_MEM_ACT, PB_BF16, 6, 7, &h));
    pb_assert_ok(pb_alloc2(dev, PB_MEM_ACT, PB_F32, 5, 7, &small));
    pb_linear_args ok = {.x = x, .y = y, .w = {.dense = w}}, l = ok;
    pb_assert_ok(pb_linear(dev, &l));
    l.y = small;
    pb_assert_fails(pb_linear(dev, &l), PB_E_BUG, "linear: y is 5 x 7 f32");
    l.y = h;
    pb_assert_fails(pb_linear(dev, &l), PB_E_BUG, "bf16");
    l = ok;
    l.w.dense = (pb_tensor){0};
    pb_assert_fails(pb_linear(dev, &l), PB_E_BUG, "dense or quantised");
    l = ok;
    l.x = (pb_tensor){0};
    pb_assert_fails(pb_linear(dev, &l), PB_E_BUG, "x is missing");
    pb_dropout_args d = {.x = x, .y = x, .drop = {.p = 1.0f}};
    pb_assert_fails(pb_dropout(dev, &d), PB_E_BUG, "drop.p");
    pb_adamw_item item = {.w = x, .g = w, .m = x, .v = x};
    pb_adamw_args a = {.items = &item, .n = 1, .beta1 = 0.9, .beta2 = 0.9, .eps = 1e-8, .step = 0};
    pb_assert_fails(pb_adamw(dev, &a), PB_E_BUG, "step 0");
    a.step = 1;
    pb_assert_fails(pb_adamw(dev, &a), PB_E_BUG, "item 0");
    pb_assert_fails(pb_op_run(dev, PB_OP_COUNT, &a), PB_E_BUG, "");
    ck_assert_uint_eq(pb_device_work(dev).ops, 1);
    pb_device_close(dev);
}
END_TEST

START_TEST(aliasing_is_refused_where_it_is_not_allowed) {
    pb_device *dev = open_plain(all_devices[_i]);
    pb_tensor x, big;
    pb_assert_ok(pb_alloc2(dev, PB_MEM_ACT, PB_F32, 8, 8, &x));
    pb_assert_ok(pb_alloc2(dev, PB_MEM_ACT, PB_F32, 8, 24, &big));
    pb_gemm_args g = {.a = x, .b = x, .c = x, .alpha = 1.0};
    pb_assert_fails(pb_gemm(dev, &g), PB_E_BUG, "c and a overlap");
    pb_assert_ok(pb_act_fwd(dev, &(pb_act_fwd_args){.act = PB_ACT_RELU, .x = x, .y = x}));
    pb_tensor left = pb_cols_of(big, 0, 8), middle = pb_cols_of(big, 8, 8),
              shifted = pb_cols_of(big, 4, 8);
    g = (pb_gemm_args){.a = left, .b = x, .c = middle, .alpha = 1.0}; /* neighbours in one matrix */
    pb_assert_ok(pb_gemm(dev, &g));
    g.c = shifted;
    pb_assert_fails(pb_gemm(dev, &g), PB_E_BUG, "overlap");
    pb_act_fwd_args shift = {.act = PB_ACT_RELU, .x = left, .y = shifted};
    pb_assert_fails(pb_act_fwd(dev, &shift), PB_E_BUG, "not the same tensor");
    pb_device_close(dev);
}
END_TEST

START_TEST(f64_is_for_the_reference_only) {
    pb_device *dev = open_plain("cpu");
    pb_tensor x;
    pb_assert_ok(pb_alloc2(dev, PB_MEM_ACT, PB_F64, 8, 8, &x));
    pb_act_fwd_args a = {.act = PB_ACT_RELU, .x = x, .y = x};
    pb_assert_fails(pb_act_fwd(dev, &a), PB_E_UNSUPPORTED, "f64");
    pb_device_close(dev);
}
END_TEST

#define ALL       4
#define COMPUTING 2

int main(void) {
    Suite *s = suite_create("device");
    TCase *open = pb_test_case(s, "open");
    tcase_add_test(open, unknown_device_names_the_known_ones);
    tcase_add_test(open, device_says_what_it_is);
    TCase *arena = pb_test_case(s, "arena");
    tcase_add_loop_test(arena, tensors_are_aligned_contiguous_and_zero, 0, COMPUTING);
    tcase_add_loop_test(arena, memory_given_back_is_zero_again_unless_raw, 0, COMPUTING);
    tcase_add_loop_test(arena, counts_are_bytes_handed_out_whatever_the_blocks, 0, ALL);
    tcase_add_loop_test(arena, a_repeated_step_never_grows, 0, ALL);
    tcase_add_loop_test(arena, a_rewind_returns_to_the_block_of_the_mark, 0, ALL);
    tcase_add_loop_test(arena, tensors_that_live_together_do_not_overlap, 0, ALL);
    tcase_add_loop_test(arena, peaks_are_per_purpose_and_of_one_instant, 0, ALL);
    tcase_add_loop_test(arena, reserve_makes_one_block, 0, ALL);
    tcase_add_loop_test(arena, tensors_may_have_memory_of_their_own, 0, ALL);
    tcase_add_loop_test(arena, neighbours_are_zeroed_together, 0, ALL);
    tcase_add_loop_test(arena, tensors_of_two_blocks_are_no_neighbours, 0, ALL);
    tcase_add_loop_test(arena, budget_is_over_all_arenas_and_a_refusal_changes_nothing, 0, ALL);
    tcase_add_loop_test(arena, impossible_sizes_are_refused, 0, ALL);
    tcase_add_loop_test(arena, every_growth_may_fail_and_the_device_survives, 0, ALL);
    TCase *plan = pb_test_case(s, "plan");
    tcase_add_loop_test(plan, plan_counts_what_the_real_device_counts, 0, 2);
    tcase_add_test(plan, plan_of_65_billion_parameters_takes_no_memory_and_no_time);
    tcase_add_test(plan, plan_reads_back_zeros_and_predicts_time);
    TCase *data = pb_test_case(s, "data");
    tcase_add_loop_test(data, values_are_converted_on_the_way, 0, COMPUTING);
    tcase_add_loop_test(data, wrong_transfers_are_refused, 0, ALL);
    tcase_add_loop_test(data, slices_are_copied_and_zeroed_row_by_row, 0, COMPUTING);
    tcase_add_loop_test(data, work_is_counted_and_observed, 0, ALL);
    tcase_add_loop_test(data, events_measure_time, 0, COMPUTING);
    TCase *args = pb_test_case(s, "arguments");
    tcase_add_loop_test(args, wrong_arguments_name_op_argument_and_numbers, 0, ALL);
    tcase_add_loop_test(args, aliasing_is_refused_where_it_is_not_allowed, 0, ALL);
    tcase_add_test(args, f64_is_for_the_reference_only);
    return pb_run_suite(s);
}
