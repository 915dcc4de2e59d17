/* One training step: what reaches the optimizer, and what a method's hooks see and when. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/text.h"
#include "tests/lab.h"
#include "tests/support.h"

/* --- clipping --------------------------------------------------------------------------------- */

enum { SIDE = 64 }; /* SIDE x SIDE elements: enough for 8-bit moments */

static void fill(pb_device *dev, pb_tensor t, double value) {
    double host[SIDE * SIDE];
    for (int i = 0; i < SIDE * SIDE; i++) host[i] = value;
    pb_assert_ok(pb_device_put_f64(dev, t, host));
}

/* Equal elements: 8-bit moments hold them exactly. The first gradient is cut, the second is not;
 * the moments remember which. */
START_TEST(the_clipped_gradient_is_what_the_optimizer_takes) {
    pb_optim_config config = {.kind = _i == 0 ? PB_OPT_ADAMW : PB_OPT_ADAMW8,
                              .schedule = PB_SCHEDULE_CONSTANT,
                              .lr = 0.1,
                              .beta1 = 0.9,
                              .beta2 = 0.99,
                              .eps = 1e-8,
                              .weight_decay = 0.5,
                              .clip = 1.0,
                              .steps = 2};
    const double gradient[2] = {3.0, 1e-2}, cut[2] = {1.0 / SIDE, 1e-2};
    pb_device *dev = NULL;
    pb_params *params = NULL;
    pb_param *p = NULL;
    pb_optim *o = NULL;
    double w = 1.0, m = 0.0, v = 0.0, norm = 0.0, scale = 0.0, got[SIDE * SIDE];
    pb_assert_ok(pb_device_open("cpu", NULL, &dev));
    pb_assert_ok(pb_params_new(dev, PB_F32, &params));
    pb_assert_ok(pb_params_add(params, PB_ROLE_ADAPTER, "w", SIDE, SIDE, &p));
    pb_assert_ok(pb_param_train(params, p));
    fill(dev, p->master, w);
    pb_assert_ok(pb_optim_new(dev, params, &config, &o));
    for (int t = 0; t < 2; t++) {
        fill(dev, p->grad, gradient[t]);
        pb_assert_ok(pb_optim_step(o, t, &norm));
        ck_assert(fabs(norm - gradient[t] * SIDE) < 1e-4 * norm);
        pb_assert_ok(pb_read_scalar(dev, pb_optim_grad_scale(o), &scale));
        ck_assert(fabs(scale - cut[t] / gradient[t]) < 1e-5 * scale);
        m = 0.9 * m + 0.1 * cut[t];
        v = 0.99 * v + 0.01 * cut[t] * cut[t];
        w = w * (1.0 - 0.1 * 0.5) - 0.1 * (m / (1.0 - pow(0.9, t + 1))) /
                                        (sqrt(v / (1.0 - pow(0.99, t + 1))) + 1e-8);
    }
    pb_assert_ok(pb_device_get_f64(dev, got, p->master));
    for (int i = 0; i < SIDE * SIDE; i++)
        ck_assert_msg(fabs(got[i] - w) < 1e-5, "%g, not %g", got[i], w);
    pb_optim_free(o);
    pb_params_free(params);
    pb_device_close(dev);
}
END_TEST

/* --- what hooks see --------------------------------------------------------------------------- */

/* Hooks every sub-layer with the identity and writes down its calls. */
static struct probe {
    char calls[512];
    int64_t zeros, values; /* of what the hook was given */
    double scale;
} seen;

/* Once for neighbouring calls of one kind. */
static void note(const char *what, int64_t number) {
    char text[32];
    snprintf(text, sizeof text, "%s%d ", what, (int)number);
    size_t len = strlen(seen.calls), n = strlen(text);
    if (len >= n && strcmp(seen.calls + len - n, text) == 0) return;
    ck_assert_uint_lt(len + n, sizeof seen.calls);
    memcpy(seen.calls + len, text, n + 1);
}

static pb_status probe_create(const pb_json *params, const char *where, void **self) {
    (void)params, (void)where;
    *self = NULL;
    return PB_OK;
}

static void probe_destroy(void *self) { (void)self; }

static pb_status probe_describe(const void *self, pb_json *out) {
    (void)self, (void)out;
    return PB_OK;
}

static pb_status probe_attach(void *self, const pb_attach *ctx) {
    (void)self;
    for (int i = 0; i < ctx->n_sites; i++)
        ctx->sites[i].hooked = ctx->sites[i].kind == PB_SITE_SUBLAYER_OUT;
    return pb_param_train(ctx->params, pb_params_at(ctx->params, 0));
}

static pb_status probe_fwd(void *self, const pb_pass *pass, pb_site *site, pb_tensor x,
                           pb_tensor res, pb_tensor y) {
    (void)self, (void)site, (void)res;
    size_t n = (size_t)pb_numel(x);
    double *host = malloc(n * sizeof *host);
    ck_assert_ptr_nonnull(host);
    pb_assert_ok(pb_device_get_f64(pass->dev, host, x));
    for (size_t i = 0; i < n; i++) seen.zeros += host[i] == 0.0;
    seen.values += (int64_t)n;
    free(host);
    note(pass->train ? "train" : "eval", 10 * pass->step + pass->micro);
    return pb_device_copy(pass->dev, y, x);
}

static pb_status probe_bwd(void *self, const pb_pass *pass, pb_site *site, pb_tensor dy,
                           pb_tensor dx, pb_tensor dres) {
    (void)self, (void)site, (void)dres;
    note("back", 10 * pass->step + pass->micro);
    return pb_device_copy(pass->dev, dx, dy);
}

static pb_status probe_before(void *self, int64_t step) {
    (void)self;
    note("before", step);
    return PB_OK;
}

static pb_status probe_term(void *self, pb_device *dev, pb_tensor loss) {
    (void)self, (void)dev;
    note("term", pb_numel(loss));
    return PB_OK;
}

static pb_status probe_after(void *self, pb_device *dev, int64_t step, pb_tensor grad_scale) {
    (void)self;
    note("after", step);
    PB_RETURN(pb_read_scalar(dev, grad_scale, &seen.scale));
    ck_assert_msg(seen.scale > 0.0 && seen.scale < 1.0, "gradients scaled by %g", seen.scale);
    return PB_OK; /* 0: called before the optimizer */
}

static const pb_method probe = {.name = "probe",
                                .create = probe_create,
                                .destroy = probe_destroy,
                                .describe = probe_describe,
                                .attach = probe_attach,
                                .sublayer_fwd = probe_fwd,
                                .sublayer_bwd = probe_bwd,
                                .before_step = probe_before,
                                .loss_term = probe_term,
                                .after_step = probe_after};

static char *dir_of(pb_lab_model model) {
    char *dir = pb_test_dir();
    pb_lab_write_model(model, dir);
    return dir;
}

/* Micro-batches are told apart: their dropout masks come from (step, micro). */
START_TEST(hooks_are_called_in_order) {
    pb_lab_options o = {.model = (pb_lab_model)_i, .method = &probe, .accumulate = 2, .clip = 1e-3};
    char *dir = dir_of(o.model);
    pb_lab lab;
    double *logits = NULL;
    size_t n = 0;
    seen = (struct probe){0};
    pb_assert_ok(pb_lab_open(&lab, dir, &o, NULL));
    pb_assert_ok(pb_lab_train(&lab, 2));
    pb_assert_ok(pb_lab_logits(&lab, &logits, &n));
    ck_assert_str_eq(seen.calls, "before0 train0 back0 train1 back1 term1 after0 "
                                 "before1 train10 back10 train11 back11 term1 after1 eval0 ");
    free(logits);
    free(dir);
    pb_lab_close(&lab);
}
END_TEST

/* An adapter stands behind its sub-layer's dropout (Houlsby et al. 2019, figure 2). */
START_TEST(sublayer_hooks_see_what_dropout_left) {
    pb_lab_options o = {
        .model = (pb_lab_model)_i, .method = &probe, .dropout = 0.5, .clip = 1e-3};
    char *dir = dir_of(o.model);
    pb_lab lab;
    double *logits = NULL;
    size_t n = 0;
    seen = (struct probe){0};
    pb_assert_ok(pb_lab_open(&lab, dir, &o, NULL));
    pb_assert_ok(pb_lab_train(&lab, 1));
    double share = (double)seen.zeros / (double)seen.values;
    ck_assert_msg(share > 0.4 && share < 0.6, "a share of %g was dropped", share);
    seen = (struct probe){0};
    pb_assert_ok(pb_lab_logits(&lab, &logits, &n));
    ck_assert_msg(seen.values > 0 && seen.zeros < seen.values / 10, "dropout in evaluation");
    free(logits);
    free(dir);
    pb_lab_close(&lab);
}
END_TEST

/* --- its time ----------------------------------------------------------------------------------- */

enum { HOST_NS = 20000000 };

/* The host is busy in the step: the first call only counts targets, before it. */
static pb_status slow_source(void *user, int64_t i, const pb_host_batch **out) {
    pb_lab *lab = user;
    (void)i;
    *out = &lab->batch.batch;
    nanosleep(&(struct timespec){.tv_nsec = HOST_NS}, NULL);
    return PB_OK;
}

START_TEST(what_the_host_does_is_in_the_steps_time) {
    static const char *const devices[] = {"cpu", "plan:cpu"};
    pb_lab_options o = {.model = PB_LAB_BERT, .method = pb_method_find("lora"), .device = devices[_i]};
    char *dir = dir_of(o.model);
    pb_lab lab;
    pb_step_result r;
    pb_assert_ok(pb_lab_open(&lab, dir, &o, NULL));
    int64_t from = pb_now_ns();
    pb_assert_ok(pb_session_step(&lab.session, 0, slow_source, &lab, &r));
    double outside = (double)(pb_now_ns() - from) * 1e-9, parts = r.forward_s + r.backward_s + r.optimizer_s;
    ck_assert(r.forward_s > 0.0 && r.backward_s > 0.0 && r.optimizer_s > 0.0);
    if (_i == 0) {
        ck_assert_msg(r.step_s >= parts + HOST_NS * 1e-9, "%g s, %g s on the device", r.step_s, parts);
        ck_assert_msg(r.step_s <= outside - HOST_NS * 1e-9, "%g s of %g s", r.step_s, outside);
    } else { /* planned, exact */
        ck_assert_msg(fabs(r.step_s - parts) < 1e-9 * parts, "%g s, parts %g s", r.step_s, parts);
    }
    free(dir);
    pb_lab_close(&lab);
}
END_TEST

int main(void) {
    Suite *s = suite_create("step");
    TCase *t = pb_test_case(s, "step");
    tcase_add_loop_test(t, the_clipped_gradient_is_what_the_optimizer_takes, 0, 2);
    tcase_add_loop_test(t, hooks_are_called_in_order, 0, PB_LAB_MODELS);
    tcase_add_loop_test(t, sublayer_hooks_see_what_dropout_left, 0, PB_LAB_MODELS);
    tcase_add_loop_test(t, what_the_host_does_is_in_the_steps_time, 0, 2);
    return pb_run_suite(s);
}
