/* Every op of every backend against the reference, over the case table (op_table.c); gradients;
 * speed.
 *
 *     test_ops                       all checks
 *     test_ops --speed [part]        times the large cases whose name contains part (default all)
 * on the cpu CK_RUN_CASE=cpu test_ops       one group;  PB_SEED=n  replays a case's values */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "kernels/cpu/cpu.h"
#include "tests/op_cases.h"
#include "tests/op_check.h"
#include "tests/support.h"

static pb_device *open_device(const char *name, int threads) {
    pb_device *dev = NULL;
    pb_device_options options = {.threads = threads};
    pb_assert_ok(pb_device_open(name, &options, &dev));
    return dev;
}

/* --- a backend against the reference ---------------------------------------------------------- */

/* The last one stores every output past the caches that a kernel stores so when it is large. */
#define DEVICES 4
static const int threads_of[DEVICES] = {1, 2, 4, 2};

START_TEST(cpu_agrees_with_reference) {
    pb_op op = (pb_op)_i;
    pb_device *ref = open_device("ref", 1), *devs[DEVICES];
    for (int i = 0; i < DEVICES; i++) devs[i] = open_device("cpu", threads_of[i]);
    pb_cpu_of(devs[DEVICES - 1])->past_bytes = -1;
    op_tally sum = {0};
    for (int k = 0; k < op_cases_count; k++) {
        if (op_cases[k].op != op) continue;
        for (int d = 0; d < PB_DTYPE_COUNT; d++) {
            if (op_is_compared(&op_cases[k], d)) op_compare_case(&op_cases[k], (pb_dtype)d, ref, devs, DEVICES, NULL, &sum);
        }
    }
    printf("%-14s %-10s %3d ran, %d unsupported, worst %.0f %% of the tolerance: %s\n",
           pb_op_name(op), pb_op_variant(devs[0], op) != NULL ? pb_op_variant(devs[0], op) : "-",
           sum.ran, sum.unsupported, 100.0 * sum.worst, sum.worst_case);
    for (int i = 0; i < DEVICES; i++) pb_device_close(devs[i]);
    pb_device_close(ref);
    ck_assert_msg(sum.ran > 0, "%s: no case ran on the cpu (%d unsupported)", pb_op_name(op),
                  sum.unsupported);
    ck_assert_msg(sum.unsupported == 0, "%s: %d cases have no kernel on the cpu", pb_op_name(op),
                  sum.unsupported);
}
END_TEST

START_TEST(every_op_has_cases) {
    for (int op = 0; op < PB_OP_COUNT; op++) {
        int n = 0;
        for (int k = 0; k < op_cases_count; k++)
            n += op_cases[k].op == (pb_op)op && (op_cases[k].flags & OC_SPEED) == 0;
        ck_assert_msg(n > 0, "%s has no case", pb_op_name((pb_op)op));
    }
}
END_TEST

/* A plan asks for the same workspace and counts the same work, and never computes. */
START_TEST(plan_counts_as_the_device_does) {
    pb_device *real = open_device("cpu", 2), *plan = open_device("plan:cpu", 2);
    for (int k = 0; k < op_cases_count; k++) {
        for (int d = 0; d < PB_DTYPE_COUNT; d++) {
            if (!op_is_compared(&op_cases[k], d)) continue;
            op_instance *t = op_case_build(&op_cases[k], (pb_dtype)d);
            op_result a = {0};
            op_bound bound;
            pb_mark mark = pb_device_mark(plan, PB_MEM_DATA);
            if (t->forward == NULL) { /* others need values to be valid calls */
                op_execute(t, real, &a);
                pb_assert_ok(op_bind(t, plan, &bound));
                pb_status status = pb_op_run(plan, t->op, &t->args);
                ck_assert_msg(status == PB_OK || a.status != PB_OK, "%s: %s", t->name,
                              pb_error_message());
                ck_assert_msg(
                    pb_device_mem_peak(plan, PB_MEM_WORK) == pb_device_mem_peak(real, PB_MEM_WORK),
                    "%s: workspace %" PRIu64 " planned, %" PRIu64 " used", t->name,
                    pb_device_mem_peak(plan, PB_MEM_WORK), pb_device_mem_peak(real, PB_MEM_WORK));
                ck_assert_msg(pb_device_work(plan).flops == pb_device_work(real).flops, "%s",
                              t->name);
                ck_assert_msg(pb_device_work(plan).bytes == pb_device_work(real).bytes, "%s",
                              t->name);
            }
            pb_device_rewind(plan, PB_MEM_DATA, mark);
            op_result_free(&a);
            op_case_free(t);
        }
    }
    ck_assert(pb_device_work(plan).flops > 0.0);
    pb_device_close(plan);
    pb_device_close(real);
}
END_TEST

/* --- planted faults: the comparison itself must see them -------------------------------------- */

enum { FAULT_VALUE, FAULT_NAN, FAULT_GUARD, FAULT_GAP, FAULT_INPUT, FAULT_UNWRITTEN, FAULT_COUNT };

static const op_case planted = {
    "planted", PB_OP_act_fwd, 1u << PB_F32, {7, 9, PB_ACT_SILU}, OC_STRIDED};

/* SiLU with one fault, run on the bound instance in the reference's memory. */
static void faulty_kernel(op_instance *t, pb_device *ref, int fault) {
    pb_assert_ok(pb_op_run(ref, t->op, &t->args));
    pb_act_fwd_args *a = &t->args.act_fwd;
    float *x = a->x.data, *y = a->y.data;
    if (fault == FAULT_VALUE) y[3 * a->y.stride + 2] *= 1.0f + 1e-4f;
    if (fault == FAULT_NAN) y[8] = NAN;
    if (fault == FAULT_GUARD) y[6 * a->y.stride + 9] = 0.0f;
    if (fault == FAULT_GAP) y[9] = 0.0f;
    if (fault == FAULT_INPUT) x[1] = -x[1];
    if (fault == FAULT_UNWRITTEN) y[4] = (float)t->slot[1].init[4];
}

START_TEST(a_planted_fault_is_seen) {
    pb_device *ref = open_device("ref", 1);
    op_instance *t = op_case_build(&planted, PB_F32);
    op_result want = {0}, got = {0};
    op_bound bound;
    char text[512];
    double used = 0.0;
    op_execute(t, ref, &want);
    ck_assert(op_compare(t, want.raw, want.raw, &used, text, sizeof text) == NULL && used == 0.0);
    pb_assert_ok(op_bind(t, ref, &bound));
    faulty_kernel(t, ref, _i);
    pb_assert_ok(op_fetch(t, ref, &bound, got.raw));
    bool damage = op_damage(t, got.raw, text, sizeof text) != NULL;
    bool wrong = op_compare(t, got.raw, want.raw, &used, text, sizeof text) != NULL;
    ck_assert_msg(damage == (_i == FAULT_GUARD || _i == FAULT_GAP || _i == FAULT_INPUT),
                  "fault %d: damage %d", _i, damage);
    ck_assert_msg(wrong == (_i == FAULT_VALUE || _i == FAULT_NAN || _i == FAULT_UNWRITTEN),
                  "fault %d: %d", _i, wrong);
    ck_assert(!wrong || used > 1.0);
    op_result_free(&want);
    op_result_free(&got);
    op_case_free(t);
    pb_device_close(ref);
}
END_TEST

/* --- bf16: every number's upper half with lower halves about the ties, NaN and denormals too ----- */

START_TEST(narrow_rounds_as_one_number_does) {
    static const uint32_t low[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff};
    enum { LOW = sizeof low / sizeof *low, N = 65536 * LOW };
    float *x = malloc(N * sizeof *x);
    uint16_t *got = malloc(N * sizeof *got);
    ck_assert(x != NULL && got != NULL);
    for (uint32_t i = 0; i < N; i++) {
        uint32_t u = i / LOW << 16 | low[i % LOW];
        memcpy(&x[i], &u, sizeof u);
    }
    pb_cpu_narrow(got, x, N);
    for (int i = 0; i < N; i++) {
        uint32_t u;
        memcpy(&u, &x[i], sizeof u);
        bool nan = (u & 0x7fffffffu) > 0x7f800000u;
        uint16_t want = (uint16_t)(nan ? u >> 16 | 0x40u : (u + 0x7fffu + (u >> 16 & 1u)) >> 16);
        ck_assert_msg(got[i] == want, "%08x became %04x, not %04x", u, got[i], want);
    }
    free(x);
    free(got);
}
END_TEST

/* --- gradients: central differences in f64 on the reference ----------------------------------- */

static double *at(pb_tensor t, int64_t i) {
    int64_t cols = pb_cols(t);
    return (double *)t.data + i / cols * t.stride + i % cols;
}

static double loss_of(op_instance *t, pb_device *ref) {
    pb_mark mark = pb_device_mark(ref, PB_MEM_ACT);
    pb_tensor y = {0};
    pb_assert_ok(t->forward(ref, t, &y));
    ck_assert(y.dtype == PB_F64);
    double sum = 0.0;
    for (int64_t i = 0; i < pb_numel(y); i++)
        sum += *at(y, i) * (t->dy >= 0 ? t->slot[t->dy].init[i] : t->weight);
    pb_device_rewind(ref, PB_MEM_ACT, mark);
    return sum;
}

/* Differences with respect to every element of slot `of`. */
static double *differences(op_instance *t, pb_device *ref, int of) {
    op_slot *s = &t->slot[of];
    int64_t n = s->rows * s->cols;
    double *d = malloc((size_t)(n + 1) * sizeof *d);
    ck_assert(d != NULL);
    for (int64_t i = 0; i < n; i++) {
        double *x = at(*s->where, i), old = *x, h = 1e-5 * (1.0 + fabs(old));
        *x = old + h;
        double up = loss_of(t, ref);
        *x = old - h;
        double down = loss_of(t, ref);
        *x = old;
        d[i] = (up - down) / (2.0 * h);
    }
    return d;
}

static void check_gradient(const op_instance *t, const op_result *r, int slot,
                           const double *want) {
    const op_slot *s = &t->slot[slot];
    int64_t n = s->rows * s->cols;
    double *got = malloc((size_t)(n + 1) * sizeof *got), largest = 0.0;
    ck_assert(got != NULL);
    op_read(t, slot, r->raw, got);
    for (int64_t i = 0; i < n; i++) largest = fmax(largest, fabs(want[i]));
    for (int64_t i = 0; i < n; i++) {
        double g = got[i] - (s->keeps != 0.0 ? s->keeps * s->init[i] : 0.0),
               tol = 1e-7 * largest + 1e-9;
        ck_assert_msg(fabs(g - want[i]) <= tol,
                      "%s: %s[%" PRId64 "] is %.12g, difference quotient %.12g (largest %.3g)",
                      t->name, s->name, i, g, want[i], largest);
    }
    free(got);
}

static int check_gradients(const op_case *def, pb_device *ref) {
    op_instance *t = op_case_build(def, PB_F64);
    double *want[OP_SLOTS] = {0};
    int n = 0;
    if (t->forward != NULL) {
        op_bound bound;
        op_result r = {0};
        pb_assert_ok(op_case_derive(t, ref));
        pb_assert_ok(op_bind(t, ref, &bound));
        for (int i = 0; i < t->n; i++) {
            if (t->slot[i].wrt >= 0) want[i] = differences(t, ref, t->slot[i].wrt);
        }
        op_execute(t, ref, &r);
        for (int i = 0; i < t->n; i++) {
            if (want[i] == NULL) continue;
            check_gradient(t, &r, i, want[i]);
            free(want[i]);
            n++;
        }
        op_result_free(&r);
    }
    op_case_free(t);
    return n;
}

static bool has_gradient(pb_op op) {
    static const pb_op list[] = {PB_OP_gelu_linear_bwd,
                                 PB_OP_linear,        PB_OP_lowrank_bwd,   PB_OP_act_bwd,
                                 PB_OP_swiglu_bwd,    PB_OP_dropout,       PB_OP_norm_bwd,
                                 PB_OP_coldot,        PB_OP_embed_bwd,     PB_OP_rope,
                                 PB_OP_pool_bwd,      PB_OP_attention_bwd, PB_OP_scatter_rows,
                                 PB_OP_cross_entropy, PB_OP_dora_exact,    PB_OP_orthogonality};
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        if (list[i] == op) return true;
    }
    return false;
}

START_TEST(gradients_match_differences) {
    pb_op op = (pb_op)_i;
    if (!has_gradient(op)) return;
    pb_device *ref = open_device("ref", 1);
    int n = 0;
    for (int k = 0; k < op_cases_count; k++) {
        if (op_cases[k].op == op && (op_cases[k].dtypes & (1u << PB_F64)) != 0)
            n += check_gradients(&op_cases[k], ref);
    }
    printf("%-14s %3d gradients\n", pb_op_name(op), n);
    ck_assert_msg(n > 0, "%s: no gradient was checked", pb_op_name(op));
    pb_device_close(ref);
}
END_TEST

/* --- speed ------------------------------------------------------------------------------------ */

static pb_status time_case(const op_case *def, pb_dtype dtype, pb_device *dev) {
    op_instance *t = op_case_build(def, dtype);
    op_bound bound;
    pb_event *a = NULL, *b = NULL;
    double best = INFINITY, ns = 0.0, total = 0.0;
    pb_status status = PB_OK;
    pb_mark mark = pb_device_mark(dev, PB_MEM_DATA);
    PB_TRY(op_bind(t, dev, &bound));
    PB_TRY(pb_event_new(dev, &a));
    PB_TRY(pb_event_new(dev, &b));
    for (int i = 0; i < 200 && (i < 3 || total < 3e8); i++) {
        PB_TRY(pb_event_record(a));
        PB_TRY(pb_op_run(dev, t->op, &t->args));
        PB_TRY(pb_event_record(b));
        PB_TRY(pb_event_elapsed(a, b, &ns));
        if (ns < best) best = ns;
        total += ns;
    }
    pb_work work = pb_op_work(t->op, &t->args);
    printf("%-40s %-10s %10.3f ms %8.1f GFLOP/s %7.1f GB/s\n", t->name, pb_op_variant(dev, t->op),
           best / 1e6, (work.flops + work.flops_else) / best, work.bytes / best);
done:
    if (status == PB_E_UNSUPPORTED) printf("%-40s unsupported\n", t->name);
    pb_device_rewind(dev, PB_MEM_DATA, mark);
    pb_event_free(a);
    pb_event_free(b);
    op_case_free(t);
    return status == PB_E_UNSUPPORTED ? PB_OK : status;
}

static int speed(const char *part) {
    pb_device *dev = NULL;
    pb_status status = pb_device_open("cpu", NULL, &dev);
    for (int k = 0; status == PB_OK && k < op_cases_count; k++) {
        if ((op_cases[k].flags & OC_SPEED) == 0 || strstr(pb_op_name(op_cases[k].op), part) == NULL)
            continue;
        for (int d = 0; status == PB_OK && d < PB_F64; d++) {
            if ((op_cases[k].dtypes & (1u << d)) != 0)
                status = time_case(&op_cases[k], (pb_dtype)d, dev);
        }
    }
    if (status != PB_OK) fprintf(stderr, "%s\n", pb_error_message());
    pb_device_close(dev);
    return pb_status_exit_code(status);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--speed") == 0) return speed(argc > 2 ? argv[2] : "");
    Suite *s = suite_create("ops");
    TCase *table = pb_test_case(s, "table");
    tcase_add_test(table, every_op_has_cases);
    tcase_add_loop_test(table, a_planted_fault_is_seen, 0, FAULT_COUNT);
    tcase_add_test(table, narrow_rounds_as_one_number_does);
    TCase *gradients = pb_test_case(s, "gradients");
    tcase_add_loop_test(gradients, gradients_match_differences, 0, PB_OP_COUNT);
    TCase *cpu = pb_test_case(s, "cpu");
    tcase_add_loop_test(cpu, cpu_agrees_with_reference, 0, PB_OP_COUNT);
    tcase_add_test(cpu, plan_counts_as_the_device_does);
    return pb_run_suite(s);
}
