/* The CUPTI plug-in against a stand-in: counters of every op through the range profiler, kernels tied to their ops, and every
 * call failing. */
#include <cupti_result.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/profile/cupti/buffers.h"
#include "harness/profile/cupti/common.h"
#include "harness/profile/cupti/plugin.h"
#include "kernels/ops.h"
#include "tests/profile/cupti_host.h"
#include "tests/support.h"

/* --- a step of four ops, one of them a transfer --- */

typedef struct tiny {
    pb_device *dev;
    pb_tensor x, y;
    int steps, more_from; /* from this step on there is one op more; 0 = never */
    pb_status failure;    /* what the step returns at its end */
} tiny;

static void open_tiny(tiny *t) {
    *t = (tiny){.failure = PB_OK};
    pb_assert_ok(pb_device_open("cpu", NULL, &t->dev));
    pb_assert_ok(pb_alloc2(t->dev, PB_MEM_WORK, PB_F32, 4, 8, &t->x));
    pb_assert_ok(pb_alloc2(t->dev, PB_MEM_WORK, PB_F32, 4, 8, &t->y));
}

static pb_status step(void *user) {
    tiny *t = user;
    pb_fill_uniform_args fill = {.x = t->x, .lo = -1, .hi = 1, .key = 1};
    pb_axpby_args add = {.x = t->x, .y = t->y, .alpha = 1.0, .beta = 1.0};
    t->steps++;
    pb_device_scope(t->dev, PB_SCOPE_PHASE, "forward");
    pb_device_scope(t->dev, PB_SCOPE_SITE, "layers.0.attn.q");
    pb_device_scope(t->dev, PB_SCOPE_PART, "base_product");
    PB_RETURN(pb_fill_uniform(t->dev, &fill));
    PB_RETURN(pb_axpby(t->dev, &add));
    pb_device_scope(t->dev, PB_SCOPE_PHASE, "optimizer");
    PB_RETURN(pb_axpby(t->dev, &add));
    if (t->more_from > 0 && t->steps >= t->more_from) PB_RETURN(pb_axpby(t->dev, &add));
    PB_RETURN(pb_device_zero(t->dev, t->y));
    return t->failure == PB_OK ? PB_OK : PB_ERROR(t->failure, "the step fails on request");
}

/* Two traced steps of it. */
static void trace(tiny *t, pb_profile *p) {
    void *running = NULL;
    pb_assert_ok(pb_tracer_host.begin(t->dev, p, &running));
    for (int i = 0; i < 2; i++) {
        pb_assert_ok(step(t));
        pb_assert_ok(pb_profile_step(p, 1e-3));
    }
    pb_assert_ok(pb_tracer_host.end(running));
    ck_assert(p->ops_in_step == 4 && p->n_spans == 8);
    t->steps = 0;
}

static pb_status count(tiny *t, pb_profile *p) {
    return pb_profile_count_step(p, t->dev, &pb_cupti_counter_reader, step, t);
}

static void nothing_left(const tiny *t) {
    ck_assert_str_eq(pb_cupti_host_misuse(), "");
    ck_assert_int_eq((int)pb_cupti_host_live(), 0);
    ck_assert(!pb_device_observed(t->dev));
}

/* --- what is read --- */

START_TEST(every_op_has_its_counts) {
    tiny t;
    pb_profile p = {0};
    pb_cupti_host_reset();
    pb_cupti_host_passes(_i + 1); /* one and three passes: the step runs as often */
    if (_i == 2) pb_cupti_host_chip("GB202");
    open_tiny(&t);
    trace(&t, &p);
    pb_assert_ok(count(&t, &p));
    ck_assert_msg(p.counters.available, "%s", p.counters.reason);
    ck_assert(p.counters.ranges == 4 && p.counters.passes == _i + 1 && t.steps == _i + 1);
    for (int64_t i = 0; i < p.n_spans; i++) {
        ck_assert_int_eq((int)p.spans[i].op, (int)i % 4);
        for (int m = 0; m < PB_COUNT_COUNT; m++)
            ck_assert(p.spans[i].counted[m] == pb_cupti_host_value(i % 4, m));
    }
    nothing_left(&t);
    pb_profile_free(&p);
    pb_device_close(t.dev);
}
END_TEST

/* Kernels of one op share its counts by time; what no op launched has none. */
START_TEST(kernels_of_an_op_share_its_counts) {
    tiny t;
    pb_profile p = {0};
    double read = 0.0;
    pb_cupti_host_reset();
    open_tiny(&t);
    trace(&t, &p);
    for (int64_t i = 0; i < p.n_spans; i++) p.spans[i].ns = 100;
    pb_span more = p.spans[1], stray = p.spans[1];
    more.ns = 300;
    stray.op = -1;
    pb_assert_ok(pb_profile_span(&p, &more));
    pb_assert_ok(pb_profile_span(&p, &stray));
    pb_assert_ok(count(&t, &p));
    ck_assert(p.counters.available);
    double all = pb_cupti_host_value(1, PB_COUNT_DRAM_READ);
    ck_assert(fabs(p.spans[1].counted[PB_COUNT_DRAM_READ] - all / 4) < 1e-12);
    ck_assert(fabs(p.spans[8].counted[PB_COUNT_DRAM_READ] - all * 3 / 4) < 1e-12);
    ck_assert(p.spans[9].counted[PB_COUNT_DRAM_READ] == 0.0);
    for (int64_t i = 0; i < p.n_spans; i++) read += p.spans[i].counted[PB_COUNT_DRAM_READ];
    double expected = 0.0; /* over both traced steps */
    for (int64_t k = 0; k < 4; k++) expected += 2 * pb_cupti_host_value(k, PB_COUNT_DRAM_READ);
    ck_assert(fabs(read - expected) < 1e-9);
    pb_profile_free(&p);
    pb_device_close(t.dev);
}
END_TEST

/* --- what goes wrong --- */

/* Counters that cannot be had are a reason in the profile; the run goes on, and nothing stays behind on the device. */
static void refused(tiny *t, pb_profile *p, const char *reason) {
    pb_assert_ok(count(t, p));
    ck_assert(!p->counters.available);
    ck_assert_msg(strstr(p->counters.reason, reason) != NULL, "'%s' lacks '%s'", p->counters.reason, reason);
    ck_assert(strchr(p->counters.reason, '\n') == NULL);
    for (int64_t i = 0; i < p->n_spans; i++) ck_assert(p->spans[i].counted[PB_COUNT_L2] == 0.0);
    nothing_left(t);
}

START_TEST(every_failing_call_is_a_reason) {
    tiny t;
    pb_profile p = {0};
    open_tiny(&t);
    trace(&t, &p);
    pb_cupti_host_reset();
    pb_cupti_host_passes(2);
    pb_assert_ok(count(&t, &p));
    uint64_t calls = pb_cupti_host_calls();
    ck_assert(calls > 40);
    int unheard = 0;
    for (uint64_t n = 1; n <= calls; n++) {
        pb_profile_free(&p);
        trace(&t, &p);
        pb_cupti_host_reset();
        pb_cupti_host_passes(2);
        pb_cupti_host_fail_at(n, CUPTI_ERROR_UNKNOWN);
        pb_assert_ok(count(&t, &p));
        ck_assert_msg(pb_cupti_host_failed(), "call %d never came", (int)n);
        ck_assert(!pb_device_observed(t.dev));
        if (p.counters.available) { /* giving back: too late to matter, and reported to nobody */
            unheard++;
            continue;
        }
        ck_assert_msg(strstr(p.counters.reason, "CUPTI: cupti") && strstr(p.counters.reason, "999"), "call %d: %s",
                      (int)n, p.counters.reason);
        ck_assert_str_eq(pb_cupti_host_misuse(), "");
        ck_assert_int_eq((int)pb_cupti_host_live(), 0);
    }
    ck_assert_int_eq(unheard, 3); /* Disable, HostDeinitialize, DeInitialize */
    pb_profile_free(&p);
    pb_device_close(t.dev);
}
END_TEST

START_TEST(a_refusal_says_what_to_do) {
    static const struct {
        int code;
        const char *remedy;
    } cases[] = {
        {CUPTI_ERROR_INSUFFICIENT_PRIVILEGES, "NVreg_RestrictProfilingToAdminUsers=0 (ERR_NVGPUCTRPERM)"},
        {CUPTI_ERROR_VIRTUALIZED_DEVICE_INSUFFICIENT_PRIVILEGES, "NVreg_RestrictProfilingToAdminUsers=0"},
        {CUPTI_ERROR_HARDWARE_BUSY, "another profiler is attached"},
        {CUPTI_ERROR_OUT_OF_MEMORY, "a smaller batch"},
    };
    tiny t;
    pb_profile p = {0};
    open_tiny(&t);
    trace(&t, &p);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        pb_cupti_host_reset();
        pb_cupti_host_fail_at(2, cases[i].code); /* cuptiProfilerInitialize */
        refused(&t, &p, cases[i].remedy);
    }
    pb_cupti_host_reset();
    pb_cupti_host_supported(false);
    refused(&t, &p, "cuptiProfilerDeviceSupported");
    pb_profile_free(&p);
    pb_device_close(t.dev);
}
END_TEST

START_TEST(what_does_not_fit_is_not_attributed) {
    tiny t;
    pb_profile p = {0};
    open_tiny(&t);
    trace(&t, &p);
    pb_cupti_host_reset();
    pb_cupti_host_drop(1);
    refused(&t, &p, "counted 3 of 4 ranges and dropped 1");
    pb_cupti_host_reset();
    pb_cupti_host_rename(2, "1");
    refused(&t, &p, "a range '1' that nobody asked for");
    pb_cupti_host_reset();
    pb_cupti_host_rename(2, "2/x");
    refused(&t, &p, "a range '2/x'");
    pb_cupti_host_reset();
    pb_cupti_host_spoil(3, NAN);
    refused(&t, &p, "for ns of range 3");
    pb_cupti_host_reset();
    pb_cupti_host_spoil(3, -1.0);
    refused(&t, &p, "gives -1 for ns");
    pb_cupti_host_reset();
    pb_cupti_host_passes(9);
    refused(&t, &p, "more than 8 passes");
    t.more_from = 1, t.steps = 0; /* the counted step is another one */
    pb_cupti_host_reset();
    refused(&t, &p, "more operations than the traced ones (4)");
    p.ops_in_step = 5; /* room for it, but the fourth op is none of the traced */
    pb_cupti_host_reset();
    refused(&t, &p, "operation 3 of the counted step is axpby");
    t.more_from = 2, t.steps = 0; /* only the second pass has it */
    pb_cupti_host_reset();
    pb_cupti_host_passes(2);
    refused(&t, &p, "pass 2 had 5 operations, the first one 4");
    pb_profile_free(&p);
    pb_device_close(t.dev);
}
END_TEST

/* What the step itself says is the run's business. */
START_TEST(a_failing_step_stays_a_failure) {
    tiny t;
    pb_profile p = {0};
    open_tiny(&t);
    trace(&t, &p);
    pb_cupti_host_reset();
    t.failure = PB_E_DIVERGED;
    pb_assert_fails(count(&t, &p), PB_E_DIVERGED, "on request");
    ck_assert(!p.counters.available);
    nothing_left(&t);
    pb_profile_free(&p);
    pb_device_close(t.dev);
}
END_TEST

/* --- the tracer --- */

static pb_status traced(tiny *t, pb_profile *p) {
    const pb_tracer *tracer = pb_cupti_plugin()->tracer;
    void *running = NULL;
    PB_RETURN(tracer->begin(t->dev, p, &running));
    for (int i = 0; i < 2; i++) {
        pb_assert_ok(step(t));
        pb_assert_ok(pb_profile_step(p, 1e-3));
    }
    return tracer->end(running);
}

START_TEST(kernels_find_the_op_that_launched_them) {
    static const char *const ops[] = {"fill_uniform", "axpby", "axpby", "zero"};
    tiny t;
    pb_profile p = {0};
    pb_cupti_host_reset();
    pb_cupti_activity_reset();
    open_tiny(&t);
    pb_assert_ok(traced(&t, &p));
    ck_assert(p.n_spans == 8 && p.ops_in_step == 4 && p.dropped == 0);
    for (int64_t i = 0; i < p.n_spans; i++) {
        const pb_span *s = &p.spans[i];
        ck_assert_str_eq(p.names[PB_BY_OP].name[s->name[PB_BY_OP]], ops[i % 4]);
        ck_assert(s->step == i / 4 && s->op == i % 4 && s->ns == 100);
    }
    ck_assert_int_eq(pb_cupti_activity_on(), 0);
    ck_assert(!pb_device_observed(t.dev));
    pb_profile_free(&p);
    pb_device_close(t.dev);
}
END_TEST

/* What CUPTI lost is counted once, warned of, and makes the record's trace incomplete. */
START_TEST(lost_records_are_told) {
    tiny t;
    pb_profile p = {0};
    pb_record r = {0};
    pb_cupti_host_reset();
    pb_cupti_activity_reset();
    open_tiny(&t);
    if (_i > 0) pb_cupti_activity_drop(7);
    pb_assert_ok(traced(&t, &p));
    ck_assert_int_eq((int)p.dropped, _i > 0 ? 7 : 0);
    pb_assert_ok(pb_profile_record(&p, true, &r));
    const pb_json *of = pb_json_get(r.profile, "trace");
    ck_assert(pb_json_get(of, "dropped")->valuedouble == (double)p.dropped);
    ck_assert(cJSON_IsBool(pb_json_get(of, "complete")) && cJSON_IsTrue(pb_json_get(of, "complete")) == (_i == 0));
    ck_assert_int_eq(r.n_warnings, _i);
    if (_i > 0) ck_assert_str_eq(r.warnings[0], "the trace is incomplete: 7 records were dropped");
    ck_assert_int_eq((int)pb_cupti_buffers_dropped(), 0);
    pb_record_free(&r);
    pb_profile_free(&p);
    pb_device_close(t.dev);
}
END_TEST

/* Not one kind stays on, whichever call fails; a failing Disable alone cannot be helped. */
START_TEST(a_tracer_that_fails_leaves_nothing_on) {
    tiny t;
    pb_profile p = {0};
    pb_cupti_host_reset();
    pb_cupti_activity_reset();
    open_tiny(&t);
    pb_assert_ok(traced(&t, &p));
    uint64_t calls = pb_cupti_host_calls();
    int unheard = 0;
    for (uint64_t n = 1; n <= calls; n++) {
        pb_profile_free(&p);
        pb_cupti_host_reset();
        pb_cupti_activity_reset();
        pb_cupti_host_fail_at(n, CUPTI_ERROR_UNKNOWN);
        pb_status status = traced(&t, &p);
        ck_assert_msg(pb_cupti_host_failed(), "call %d never came", (int)n);
        ck_assert(!pb_device_observed(t.dev));
        if (status == PB_OK) {
            unheard++;
            ck_assert_int_le(pb_cupti_activity_on(), 1);
            continue;
        }
        ck_assert(status == PB_E_ENV && strstr(pb_error_message(), "999") != NULL);
        ck_assert_int_eq(pb_cupti_activity_on(), 0);
    }
    ck_assert_int_eq(unheard, 8 + 1); /* Disable of every kind, and the number of dropped records */
    pb_profile_free(&p);
    pb_device_close(t.dev);
}
END_TEST

int main(void) {
    Suite *s = suite_create("cupti counters");
    TCase *t = pb_test_case(s, "read");
    tcase_add_loop_test(t, every_op_has_its_counts, 0, 3);
    tcase_add_test(t, kernels_of_an_op_share_its_counts);
    t = pb_test_case(s, "refused");
    tcase_add_test(t, every_failing_call_is_a_reason);
    tcase_add_test(t, a_refusal_says_what_to_do);
    tcase_add_test(t, what_does_not_fit_is_not_attributed);
    tcase_add_test(t, a_failing_step_stays_a_failure);
    t = pb_test_case(s, "tracer");
    tcase_add_test(t, kernels_find_the_op_that_launched_them);
    tcase_add_loop_test(t, lost_records_are_told, 0, 2);
    tcase_add_test(t, a_tracer_that_fails_leaves_nothing_on);
    return pb_run_suite(s);
}
