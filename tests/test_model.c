/* The transformer: gradients against finite differences in f64, whatever is trained; packing;
 * devices; plans; memory. */
#include "tests/model_tiny.h"

/* --- gradients ------------------------------------------------------------------------------- */

/* Central differences of scale * sum of losses against the accumulated gradient, a few elements of
 * a parameter. */
static void check_param(pb_tiny *t, pb_param *p, double scale) {
    pb_params *params = pb_model_params(t->m);
    const double h = 1e-5;
    int64_t n = numel_of(p);
    double *grad = fetched(t->dev, p->grad), *value = malloc((size_t)n * sizeof *value);
    ck_assert_ptr_nonnull(value);
    pb_assert_ok(pb_param_get(params, p, value));
    for (int k = 0; k < 8 && k < n; k++) {
        int64_t i = n <= 8 ? k : (int64_t)pb_random_below(2, (uint64_t)n, (uint64_t)k, (uint64_t)n);
        double old = value[i], up = 0, down = 0;
        value[i] = old + h;
        pb_assert_ok(pb_param_set(params, p, value));
        up = tiny_loss(t);
        value[i] = old - h;
        pb_assert_ok(pb_param_set(params, p, value));
        down = tiny_loss(t);
        value[i] = old;
        double want = scale * (up - down) / (2 * h);
        /* rounding: 1e-16 * loss(30) / h; truncation: h^2 * third derivative */
        ck_assert_msg(fabs(grad[i] - want) <= 2e-8 + 1e-6 * fabs(want),
                      "%s[%lld]: gradient %.12g, difference %.12g", p->name, (long long)i, grad[i],
                      want);
    }
    pb_assert_ok(pb_param_set(params, p, value));
    free(grad);
    free(value);
}

static void check_gradients(pb_tiny *t) {
    pb_params *params = pb_model_params(t->m);
    const double scale = 0.37;
    bool word_moved = false;
    tiny_step(t, scale);
    for (int i = 0; i < pb_params_count(params); i++) {
        pb_param *p = pb_params_at(params, i);
        if (p->trainable) check_param(t, p, scale);
        word_moved |= p->trainable;
    }
    ck_assert(word_moved);
}

START_TEST(gradients_match_finite_differences) {
    pb_model_options o = tiny_options((pb_kind)_i, PB_F64);
    pb_tiny t = tiny_open("ref", (pb_kind)_i, &o);
    train_all(&t);
    check_gradients(&t);
    tiny_close(&t);
}
END_TEST

START_TEST(gradients_match_with_dropout) {
    pb_model_options o = tiny_options((pb_kind)_i, PB_F64);
    o.hidden_dropout = 0.2;
    o.attention_dropout = 0.15;
    o.head_dropout = 0.3;
    pb_tiny t = tiny_open("ref", (pb_kind)_i, &o);
    train_all(&t);
    double here = tiny_loss(&t);
    t.pass.step++;
    ck_assert(tiny_loss(&t) != here); /* another step, another mask */
    t.pass.step--;
    ck_assert(tiny_loss(&t) == here);
    check_gradients(&t);
    tiny_close(&t);
}
END_TEST

static double *all_gradients(pb_tiny *t, size_t *n) {
    pb_params *params = pb_model_params(t->m);
    double *all = calloc((size_t)pb_params_elements(params, true), sizeof *all);
    ck_assert_ptr_nonnull(all);
    *n = 0;
    for (int i = 0; i < pb_params_count(params); i++) {
        const pb_param *p = pb_params_at(params, i);
        if (!p->trainable) continue;
        pb_assert_ok(pb_device_get_f64(t->dev, all + *n, p->grad));
        *n += (size_t)numel_of(p);
    }
    return all;
}

/* Backward runs checkpointed layers again: all parameters trained, or those of the upper layer
 * alone, every family, on both backends; losses and gradients have the same bits. */
START_TEST(checkpointing_keeps_every_bit) {
    static const struct {
        const char *device;
        pb_dtype dtype;
    } on[] = {{"ref", PB_F64}, {"ref", PB_F32}, {"ref", PB_BF16}, {"cpu", PB_F32}, {"cpu", PB_BF16}};
    for (int k = 0; k < 10; k++) {
        double *want = NULL, loss = 0;
        size_t n = 0;
        uint64_t act = 0;
        for (int64_t layers = 0; layers <= 2; layers++) {
            pb_model_options o = tiny_options((pb_kind)_i, on[k % 5].dtype);
            o.hidden_dropout = 0.2;
            o.attention_dropout = 0.15;
            o.head_dropout = 0.3;
            o.checkpoint = layers;
            pb_tiny t = tiny_open(on[k % 5].device, (pb_kind)_i, &o);
            pb_params *params = pb_model_params(t.m);
            for (int i = 0; k >= 5 && i < pb_params_count(params); i++) {
                pb_param *p = pb_params_at(params, i);
                if (strstr(p->name, ".1.")) pb_assert_ok(pb_param_train(params, p));
            }
            if (k < 5) train_all(&t);
            double sum = tiny_loss(&t);
            tiny_step(&t, 0.5);
            double *got = all_gradients(&t, &n);
            uint64_t peak = pb_device_mem_peak(t.dev, PB_MEM_ACT);
            if (layers == 0) {
                want = got;
                loss = sum;
                act = peak;
                ck_assert(n > 0);
            } else {
                ck_assert(sum == loss);
                ck_assert_msg(memcmp(want, got, n * sizeof *got) == 0, "other gradients: case %d", k);
                free(got);
                if (k < 5) ck_assert_uint_lt(peak, act);
            }
            tiny_close(&t);
        }
        free(want);
    }
}
END_TEST

START_TEST(pooling_modes_have_gradients) {
    static const pb_pool pools[] = {PB_POOL_MEAN, PB_POOL_CLS, PB_POOL_LAST};
    for (int k = 0; k < 3; k++) {
        pb_model_options o = tiny_options(TINY_BERT, PB_F64);
        pb_model_config c = tiny_config(TINY_BERT);
        c.pool = pools[k];
        pb_tiny t = tiny_open("ref", TINY_BERT, &o);
        pb_model_free(t.m);
        pb_assert_ok(pb_model_new(t.dev, &c, &o, NULL, &t.m));
        tiny_fill(t.m);
        train_all(&t);
        check_gradients(&t);
        tiny_close(&t);
    }
}
END_TEST

/* Whatever subset is trained, its gradients are those of training everything: nothing that backward
 * needs was left out. */
START_TEST(every_subset_gets_the_same_gradients) {
    pb_kind kind = (pb_kind)_i;
    pb_model_options o = tiny_options(kind, PB_F64);
    o.hidden_dropout = 0.1;
    pb_tiny all = tiny_open("ref", kind, &o);
    train_all(&all);
    tiny_step(&all, 0.5);
    int n = pb_params_count(pb_model_params(all.m));
    for (int i = -3; i < n; i++) { /* each alone, and three random subsets */
        pb_tiny some = tiny_open("ref", kind, &o);
        pb_params *params = pb_model_params(some.m);
        int64_t elements = pb_params_elements(params, true);
        for (int k = 0; k < n; k++) {
            pb_param *p = pb_params_at(params, k);
            bool take = i < 0 ? pb_random_below(9, (uint64_t)(i + 3), (uint64_t)k, 4) == 0 : i == k;
            if (!take || p->trainable) continue;
            pb_assert_ok(pb_param_train(params, p));
            elements += numel_of(p);
        }
        tiny_step(&some, 0.5);
        ck_assert_int_eq(pb_params_elements(params, true), elements);
        for (int k = 0; k < n; k++) {
            pb_param *p = pb_params_at(params, k);
            ck_assert(p->trainable == pb_has(p->grad)); /* a frozen gradient is never allocated */
            if (!p->trainable) continue;
            double *got = fetched(some.dev, p->grad);
            double *want = fetched(all.dev, pb_params_at(pb_model_params(all.m), k)->grad);
            pb_assert_close(got, want, (size_t)numel_of(p), 1e-12, 1e-11, p->name);
            free(got);
            free(want);
        }
        tiny_close(&some);
    }
    tiny_close(&all);
}
END_TEST

START_TEST(gradients_add_up_over_micro_batches) {
    pb_model_options o = tiny_options(TINY_LLAMA, PB_F64);
    pb_tiny t = tiny_open("ref", TINY_LLAMA, &o);
    train_all(&t);
    tiny_step(&t, 1);
    pb_param *p = pb_params_find(pb_model_params(t.m), "model.layers.0.self_attn.k_proj.weight");
    double *once = fetched(t.dev, p->grad);
    for (int k = 0; k < 2; k++) {
        pb_assert_ok(pb_model_forward(t.m, &t.pass, &t.batch.b, t.batch.loss, t.batch.pred));
        pb_assert_ok(pb_model_backward(t.m, &t.pass, &t.batch.b, 0.5));
    }
    double *twice = fetched(t.dev, p->grad);
    for (int64_t i = 0; i < numel_of(p); i++) once[i] *= 2;
    pb_assert_close(twice, once, (size_t)numel_of(p), 1e-13, 1e-12, "accumulated");
    free(once);
    free(twice);
    tiny_close(&t);
}
END_TEST

/* More targets than the head takes at a time: the same as each sequence for itself. */
START_TEST(targets_beyond_one_chunk_of_the_head_count) {
    pb_model_options o = tiny_options((pb_kind)_i, PB_F64);
    int len[MAX_SEQUENCES];
    for (int i = 0; i < MAX_SEQUENCES; i++) len[i] = 20;
    for (int full = 0; full < 2; full++) {
        pb_tiny t = tiny_open("ref", (pb_kind)_i, &o);
        pb_params *params = pb_model_params(t.m);
        pb_param *p = pb_params_at(params, pb_params_count(params) / 2);
        if (full) train_all(&t);
        else pb_assert_ok(pb_param_train(params, p));
        pb_assert_ok(pb_params_zero_grads(params));
        for (int s = 0; s < MAX_SEQUENCES; s++) {
            t.batch = tiny_batch(t.dev, &t.config, PB_F64, len, s, 1);
            pb_assert_ok(pb_model_forward(t.m, &t.pass, &t.batch.b, t.batch.loss, t.batch.pred));
            pb_assert_ok(pb_model_backward(t.m, &t.pass, &t.batch.b, 0.25));
        }
        double *want = fetched(t.dev, p->grad);
        double *want_head = full ? fetched(t.dev, pb_params_at(params, 0)->grad) : NULL;
        t.batch = tiny_batch(t.dev, &t.config, PB_F64, len, 0, MAX_SEQUENCES);
        ck_assert_int_gt(t.batch.b.targets, 256);
        tiny_step(&t, 0.25);
        double *got = fetched(t.dev, p->grad);
        pb_assert_close(got, want, (size_t)numel_of(p), 1e-11, 1e-10, p->name);
        if (full) {
            double *head = fetched(t.dev, pb_params_at(params, 0)->grad);
            pb_assert_close(head, want_head, (size_t)numel_of(pb_params_at(params, 0)), 1e-11,
                            1e-10, pb_params_at(params, 0)->name);
            free(head);
        }
        free(want);
        free(want_head);
        free(got);
        tiny_close(&t);
    }
}
END_TEST

/* --- hooks ----------------------------------------------------------------------------------- */

/* A method of affine hooks: LINEAR y = 2 (x W^T + b), SUBLAYER_OUT y = 1.5 x + 0.5 res. Counts its
 * calls. */
typedef struct pb_probe {
    bool linear, sublayer;
    int fwd, bwd;
} pb_probe;

static pb_status probe_attach(void *self, const pb_attach *ctx) {
    const pb_probe *p = self;
    for (int i = 0; i < ctx->n_sites; i++) {
        pb_site *s = &ctx->sites[i];
        if (s->kind == PB_SITE_LINEAR) s->hooked = p->linear;
        if (s->kind == PB_SITE_SUBLAYER_OUT) s->hooked = p->sublayer;
    }
    return PB_OK;
}

static pb_status probe_linear_fwd(void *self, const pb_pass *pass, pb_site *site, pb_tensor x,
                                  pb_tensor y) {
    ((pb_probe *)self)->fwd++;
    PB_RETURN(pb_site_base_fwd(pass, site, x, y, true));
    return pb_axpby(pass->dev, &(pb_axpby_args){.x = y, .y = y, .alpha = 2});
}

static pb_status probe_linear_bwd(void *self, const pb_pass *pass, pb_site *site, pb_tensor x,
                                  pb_tensor dy, pb_tensor dx, double beta_dx) {
    pb_tensor twice = {0};
    pb_mark mark = pb_device_mark(pass->dev, PB_MEM_WORK);
    ((pb_probe *)self)->bwd++;
    ck_assert(pb_has(x));
    PB_RETURN(pb_alloc2_raw(pass->dev, PB_MEM_WORK, dy.dtype, pb_rows(dy), pb_cols(dy), &twice));
    PB_RETURN(pb_axpby(pass->dev, &(pb_axpby_args){.x = dy, .y = twice, .alpha = 2}));
    PB_RETURN(pb_site_base_bwd(pass, site, x, twice, dx, beta_dx));
    pb_device_rewind(pass->dev, PB_MEM_WORK, mark);
    return PB_OK;
}

static pb_status probe_sublayer_fwd(void *self, const pb_pass *pass, pb_site *site, pb_tensor x,
                                    pb_tensor res, pb_tensor y) {
    ((pb_probe *)self)->fwd++;
    ck_assert_int_eq(site->kind, PB_SITE_SUBLAYER_OUT);
    ck_assert(x.data != y.data && res.data != y.data);
    PB_RETURN(pb_axpby(pass->dev, &(pb_axpby_args){.x = x, .y = y, .alpha = 1.5}));
    return pb_axpby(pass->dev, &(pb_axpby_args){.x = res, .y = y, .alpha = 0.5, .beta = 1});
}

/* Writes dres before it reads dy for dx: they must not be one buffer. */
static pb_status probe_sublayer_bwd(void *self, const pb_pass *pass, pb_site *site, pb_tensor dy,
                                    pb_tensor dx, pb_tensor dres) {
    (void)site;
    ((pb_probe *)self)->bwd++;
    PB_RETURN(pb_axpby(pass->dev, &(pb_axpby_args){.x = dy, .y = dres, .alpha = 0.5, .beta = 1}));
    return pb_axpby(pass->dev, &(pb_axpby_args){.x = dy, .y = dx, .alpha = 1.5});
}

static const pb_method probe = {
    .name = "probe",
    .attach = probe_attach,
    .linear_fwd = probe_linear_fwd,
    .linear_bwd = probe_linear_bwd,
    .sublayer_fwd = probe_sublayer_fwd,
    .sublayer_bwd = probe_sublayer_bwd,
};

START_TEST(hooked_sites_have_gradients) {
    pb_kind kind = (pb_kind)_i;
    pb_model_options o = tiny_options(kind, PB_F64);
    pb_probe p = {true, true, 0, 0};
    o.hidden_dropout = 0.1;
    pb_tiny t = tiny_open("ref", kind, &o);
    pb_assert_ok(pb_model_attach(t.m, &probe, &p, 1, 0));
    pb_assert_fails(pb_model_attach(t.m, &probe, &p, 1, 0), PB_E_BUG, "attached already");
    train_all(&t);
    tiny_step(&t, 1);
    int hooks = (int)t.config.L * (t.config.gated_mlp ? 9 : 8);
    ck_assert_int_eq(p.fwd, hooks);
    ck_assert_int_eq(p.bwd, hooks);
    check_gradients(&t);
    tiny_close(&t);
}
END_TEST

/* A hook alone, with everything frozen below and above: backward reaches it, in the layers that
 * have it. */
START_TEST(hooks_alone_are_reached) {
    for (int k = 0; k < 2; k++) {
        pb_kind kind = (pb_kind)_i;
        pb_model_options o = tiny_options(kind, PB_F64);
        pb_probe p = {k == 0, k == 1, 0, 0};
        pb_tiny t = tiny_open("ref", kind, &o);
        pb_assert_ok(pb_model_attach(t.m, &probe, &p, 1, 0));
        tiny_step(&t, 1);
        ck_assert_int_eq(p.fwd, p.bwd);
        ck_assert_int_gt(p.bwd, 0);
        tiny_close(&t);
    }
}
END_TEST

/* --- packing --------------------------------------------------------------------------------- */

START_TEST(packed_sequences_do_not_see_each_other) {
    pb_kind kind = (pb_kind)_i;
    pb_model_options o = tiny_options(kind, PB_F64);
    pb_tiny t = tiny_open("ref", kind, &o);
    int64_t C = t.config.C, at = 0;
    bool rows = t.config.causal;
    pb_tensor packed = {0}, alone = {0};
    pb_assert_ok(pb_alloc2(t.dev, PB_MEM_DATA, PB_F64, rows ? t.batch.b.rows : 3, C, &packed));
    pb_assert_ok(pb_model_features(t.m, &t.pass, &t.batch.b, packed));
    double *together = fetched(t.dev, packed);
    for (int64_t i = 0; i < pb_numel(packed); i++)
        ck_assert(isfinite(together[i])); /* padding rows too */
    for (int s = 0; s < 3; s++) {
        pb_tiny_batch one = tiny_batch(t.dev, &t.config, PB_F64, &tiny_lengths[s], s, 1);
        pb_assert_ok(pb_alloc2(t.dev, PB_MEM_DATA, PB_F64, rows ? one.b.rows : 1, C, &alone));
        pb_assert_ok(pb_model_features(t.m, &t.pass, &one.b, alone));
        double *single = fetched(t.dev, alone);
        int64_t n = rows ? tiny_lengths[s] : 1;
        pb_assert_close(single, together + at * C, (size_t)(n * C), 1e-13, 1e-12,
                        "a sequence alone");
        at += n;
        free(single);
    }
    free(together);
    tiny_close(&t);
}
END_TEST

START_TEST(logits_give_the_losses) {
    pb_kind kind = (pb_kind)_i;
    pb_model_options o = tiny_options(kind, PB_F64);
    pb_tiny t = tiny_open("ref", kind, &o);
    int64_t V = t.config.causal ? t.config.V : 3, n = t.config.causal ? t.batch.b.rows : 3;
    pb_tensor out = {0};
    int32_t rows[MAX_ROWS], target[MAX_ROWS], pred[MAX_ROWS];
    size_t bytes = (size_t)t.batch.b.targets * 4;
    pb_assert_ok(pb_alloc2(t.dev, PB_MEM_DATA, PB_F64, n, V, &out));
    pb_assert_ok(pb_model_logits(t.m, &t.pass, &t.batch.b, out));
    (void)tiny_loss(&t);
    double *z = fetched(t.dev, out), *loss = fetched(t.dev, t.batch.loss);
    for (int i = 0; i < 3; i++) rows[i] = i;
    if (t.config.causal) pb_assert_ok(pb_device_get(t.dev, rows, t.batch.b.loss_rows, bytes));
    pb_assert_ok(pb_device_get(t.dev, target, t.batch.b.target, bytes));
    pb_assert_ok(pb_device_get(t.dev, pred, t.batch.pred, bytes));
    for (int64_t i = 0; i < t.batch.b.targets; i++) {
        const double *row = z + rows[i] * V;
        double sum = 0;
        int best = 0;
        for (int v = 0; v < V; v++) {
            sum += exp(row[v]);
            if (row[v] > row[best]) best = v;
        }
        double want = log(sum) - row[target[i]];
        pb_assert_close(&loss[i], &want, 1, 1e-12, 1e-12, "loss");
        ck_assert_int_eq(pred[i], best);
    }
    free(z);
    free(loss);
    tiny_close(&t);
}
END_TEST

/* --- devices --------------------------------------------------------------------------------- */

/* One training step on a device: losses, all gradients and evaluation logits end to end, malloc'ed.
 */
static double *step_values(const char *backend, pb_kind kind, pb_dtype dtype, size_t *n) {
    pb_model_options o = tiny_options(kind, dtype);
    o.hidden_dropout = 0.1;
    o.attention_dropout = 0.1;
    pb_tiny t = tiny_open(backend, kind, &o);
    train_all(&t);
    tiny_step(&t, 0.5);
    pb_params *params = pb_model_params(t.m);
    int64_t rows = t.config.causal ? t.batch.b.rows : 3, V = t.config.causal ? t.config.V : 3;
    int64_t targets = t.batch.b.targets, elements = pb_params_elements(params, true);
    size_t total = (size_t)(targets + elements + rows * V), at = (size_t)targets;
    double *all = malloc(total * sizeof *all);
    pb_tensor logits = {0};
    ck_assert_ptr_nonnull(all);
    pb_assert_ok(pb_device_get_f64(t.dev, all, t.batch.loss));
    for (int i = 0; i < pb_params_count(params); i++) {
        pb_param *p = pb_params_at(params, i);
        pb_assert_ok(pb_device_get_f64(t.dev, all + at, p->grad));
        at += (size_t)numel_of(p);
    }
    pb_assert_ok(pb_alloc2(t.dev, PB_MEM_DATA, dtype, rows, V, &logits));
    pb_assert_ok(pb_model_logits(t.m, &t.pass, &t.batch.b,
                                 logits)); /* nothing kept: in place where that may be */
    pb_assert_ok(pb_device_get_f64(t.dev, all + at, logits));
    tiny_close(&t);
    *n = total;
    return all;
}

static double worst(const double *a, const double *b, size_t n) {
    double w = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs(a[i] - b[i]);
        if (!(d <= w)) w = d; /* a NaN stays */
    }
    return w;
}

/* The tolerance comes from the reference itself: how far its own f32 (bf16) step is from f64. It
 * accumulates in f64; a backend that accumulates in f32 rounds up to 24 more times a product here
 * (K = 8 to 24) of errors that mostly cancel: 16 times for f32. In bf16 the storage rounds, the
 * accumulation hardly matters: 4 times. */
START_TEST(cpu_agrees_with_the_reference) {
    static const pb_dtype dtypes[] = {PB_F32, PB_BF16};
    pb_kind kind = (pb_kind)_i;
    size_t n = 0;
    double *exact = step_values("ref", kind, PB_F64, &n);
    for (int k = 0; k < 2; k++) {
        double *reference = step_values("ref", kind, dtypes[k], &n),
               *cpu = step_values("cpu", kind, dtypes[k], &n);
        double own = worst(reference, exact, n), other = worst(cpu, exact, n);
        double limit = dtypes[k] == PB_F32 ? 1e-4 : 1.0, times = dtypes[k] == PB_F32 ? 16 : 4;
        ck_assert_msg(own < limit, "%s: the reference is off by %g", pb_dtype_name(dtypes[k]), own);
        ck_assert_msg(other <= times * own, "%s: cpu is off by %g, the reference by %g",
                      pb_dtype_name(dtypes[k]), other, own);
        free(reference);
        free(cpu);
    }
    free(exact);
}
END_TEST

/* --- memory ---------------------------------------------------------------------------------- */

typedef struct pb_peaks {
    uint64_t peak[PB_MEM_COUNT], total;
    double flops;
} pb_peaks;

static pb_peaks peaks_of(const char *backend, pb_kind kind, pb_dtype dtype, bool quantised,
                         bool full) {
    pb_model_options o = tiny_options(kind, dtype);
    if (quantised) o.storage = (pb_storage){true, PB_CODE_NF4, 64, true};
    pb_probe hooks = {true, true, 0, 0};
    pb_tiny t = tiny_open(backend, kind, &o);
    pb_tensor logits = {0};
    pb_peaks p = {.total = 0};
    pb_assert_ok(pb_model_attach(t.m, &probe, &hooks, 1, 0));
    if (full) train_all(&t);
    for (int i = 0; i < 2; i++) tiny_step(&t, 1);
    bool causal = t.config.causal;
    pb_assert_ok(pb_alloc2(t.dev, PB_MEM_DATA, dtype, causal ? t.batch.b.rows : 3,
                           causal ? t.config.V : 3, &logits));
    pb_assert_ok(pb_model_logits(t.m, &t.pass, &t.batch.b, logits));
    for (int i = 0; i < PB_MEM_COUNT; i++) p.peak[i] = pb_device_mem_peak(t.dev, (pb_mem)i);
    p.total = pb_device_mem_peak_total(t.dev);
    tiny_close(&t);
    return p;
}

START_TEST(plans_predict_every_arena) {
    static const pb_dtype dtypes[] = {PB_F32, PB_BF16};
    for (int k = 0; k < 4; k++) {
        pb_dtype dtype = dtypes[k % 2];
        bool quantised = k >= 2;
        pb_peaks real = peaks_of("cpu", (pb_kind)_i, dtype, quantised, !quantised);
        pb_peaks plan = peaks_of("plan:cpu", (pb_kind)_i, dtype, quantised, !quantised);
        for (int i = 0; i < PB_MEM_COUNT; i++) {
            ck_assert_msg(real.peak[i] == plan.peak[i], "%s, %s%s: measured %llu, planned %llu",
                          pb_mem_name((pb_mem)i), pb_dtype_name(dtype), quantised ? ", 4-bit" : "",
                          (unsigned long long)real.peak[i], (unsigned long long)plan.peak[i]);
        }
        ck_assert_uint_eq(real.total, plan.total);
    }
}
END_TEST

START_TEST(steady_steps_take_no_memory) {
    pb_model_options o = tiny_options((pb_kind)_i, PB_F32);
    pb_tiny t = tiny_open("cpu", (pb_kind)_i, &o);
    train_all(&t);
    tiny_step(&t, 1);
    uint64_t growths = pb_device_growths(t.dev);
    uint64_t act = pb_device_mem_now(t.dev, PB_MEM_ACT),
             work = pb_device_mem_now(t.dev, PB_MEM_WORK);
    ck_assert_uint_eq(act, 0);
    for (int i = 0; i < 3; i++) tiny_step(&t, 1);
    ck_assert_uint_eq(pb_device_growths(t.dev), growths);
    ck_assert_uint_eq(pb_device_mem_now(t.dev, PB_MEM_ACT), act);
    ck_assert_uint_eq(pb_device_mem_now(t.dev, PB_MEM_WORK), work);
    tiny_close(&t);
}
END_TEST

/* What is kept for backward, in bytes of PB_MEM_ACT. */
static uint64_t kept(pb_kind kind, const char *const *trained) {
    pb_model_options o = tiny_options(kind, PB_F32);
    pb_tiny t = tiny_open("ref", kind, &o);
    pb_params *params = pb_model_params(t.m);
    for (int i = 0; trained[i]; i++) {
        pb_param *p = pb_params_find(params, trained[i]);
        ck_assert_msg(p != NULL, "%s", trained[i]);
        pb_assert_ok(pb_param_train(params, p));
    }
    tiny_step(&t, 1);
    uint64_t bytes = pb_device_mem_peak(t.dev, PB_MEM_ACT);
    tiny_close(&t);
    return bytes;
}

START_TEST(only_what_backward_needs_is_kept) {
    uint64_t head = kept(TINY_BERT, (const char *const[]){NULL});
    uint64_t last =
        kept(TINY_BERT, (const char *const[]){"encoder.layer.1.output.dense.bias", NULL});
    uint64_t top =
        kept(TINY_BERT, (const char *const[]){"encoder.layer.1.attention.self.query.bias", NULL});
    uint64_t reads =
        kept(TINY_BERT, (const char *const[]){"encoder.layer.1.attention.self.query.weight", NULL});
    uint64_t low =
        kept(TINY_BERT, (const char *const[]){"encoder.layer.0.attention.self.query.bias", NULL});
    uint64_t row = 16 * 8 * 4;                    /* [rows,C] f32 */
    ck_assert_uint_lt(head, 2 * 64 + row);        /* pooled and logits of three sequences */
    ck_assert_uint_eq(last - head, row + 2 * 64); /* one norm: its input, mean and rstd */
    ck_assert_uint_gt(top, last);
    ck_assert_uint_eq(reads - top, row); /* the input of q */
    ck_assert_uint_gt(low, top);
    ck_assert_uint_eq(kept(TINY_LLAMA_UNTIED, (const char *const[]){NULL}), 0);
}
END_TEST

START_TEST(base_weights_stay_as_they_were) {
    pb_model_options o = tiny_options((pb_kind)_i, PB_F32);
    pb_tiny t = tiny_open("cpu", (pb_kind)_i, &o);
    pb_params *params = pb_model_params(t.m);
    train_all(&t);
    double **before = calloc((size_t)pb_params_count(params), sizeof *before);
    ck_assert_ptr_nonnull(before);
    for (int i = 0; i < pb_params_count(params); i++)
        before[i] = fetched(t.dev, pb_params_at(params, i)->value);
    tiny_step(&t, 1);
    for (int i = 0; i < pb_params_count(params); i++) {
        const pb_param *p = pb_params_at(params, i);
        double *after = fetched(t.dev, p->value);
        ck_assert_msg(!memcmp(before[i], after, (size_t)numel_of(p) * sizeof *after), "%s changed",
                      p->name);
        free(after);
        free(before[i]);
    }
    free(before);
    tiny_close(&t);
}
END_TEST

/* --- 4-bit storage --------------------------------------------------------------------------- */

/* A 4-bit model equals the dense one that holds its dequantised weights; the dense matrices never
 * stay. */
START_TEST(four_bit_storage_is_its_dequantised_model) {
    pb_kind kind = (pb_kind)_i;
    pb_model_options dense = tiny_options(kind, PB_F64), four = dense;
    four.storage = (pb_storage){true, PB_CODE_NF4, 64, true};
    pb_tiny a = tiny_open("ref", kind, &dense), b = tiny_open("ref", kind, &four);
    pb_params *pa = pb_model_params(a.m), *pb = pb_model_params(b.m);
    ck_assert_int_eq(pb_params_count(pa), pb_params_count(pb));
    ck_assert_uint_lt(pb_device_mem_now(b.dev, PB_MEM_BASE), pb_device_mem_now(a.dev, PB_MEM_BASE));
    ck_assert_uint_gt(pb_device_mem_now(b.dev, PB_MEM_QUANT), 0);
    for (int i = 0; i < pb_params_count(pb); i++) {
        pb_param *p = pb_params_at(pb, i);
        double *v = malloc((size_t)numel_of(p) * sizeof *v);
        ck_assert_ptr_nonnull(v);
        pb_assert_ok(pb_param_get(pb, p, v));
        if (p->quant) pb_assert_ok(pb_param_set(pa, pb_params_at(pa, i), v));
        free(v);
    }
    double la = tiny_loss(&a), lb = tiny_loss(&b);
    pb_assert_close(&lb, &la, 1, 1e-12, 1e-12, "loss");
    pb_assert_fails(
        pb_param_train(pb,
                       pb_params_find(pb, kind == TINY_BERT ? "encoder.layer.0.output.dense.weight"
                                                            : "model.layers.0.mlp.up_proj.weight")),
        PB_E_INPUT, "4 bits");
    tiny_close(&a);
    tiny_close(&b);
}
END_TEST

/* --- misuse ---------------------------------------------------------------------------------- */

START_TEST(misuse_is_refused) {
    pb_model_options o = tiny_options(TINY_LLAMA, PB_F64);
    pb_tiny t = tiny_open("ref", TINY_LLAMA, &o);
    pb_batch b = t.batch.b;
    pb_model *m = NULL;
    pb_assert_fails(pb_model_backward(t.m, &t.pass, &b, 1), PB_E_BUG, "without its forward");
    pb_assert_ok(pb_model_forward(t.m, &t.pass, &b, t.batch.loss, t.batch.pred));
    pb_assert_fails(pb_model_forward(t.m, &t.pass, &b, t.batch.loss, t.batch.pred), PB_E_BUG,
                    "waits");
    pb_pass other = t.pass;
    other.micro++;
    pb_assert_fails(pb_model_backward(t.m, &other, &b, 1), PB_E_BUG, "without its forward");
    pb_assert_ok(pb_model_discard(t.m));
    pb_assert_ok(pb_model_discard(t.m));
    b.max_len = 21;
    b.tokens = 21;
    b.rows = 32;
    pb_assert_fails(pb_model_forward(t.m, &t.pass, &b, t.batch.loss, t.batch.pred), PB_E_INPUT,
                    "20 positions");
    b = t.batch.b;
    b.rows = 15;
    pb_assert_fails(pb_model_forward(t.m, &t.pass, &b, t.batch.loss, t.batch.pred), PB_E_BUG,
                    "15 rows");
    b = t.batch.b;
    b.ids = b.cu;
    pb_assert_fails(pb_model_forward(t.m, &t.pass, &b, t.batch.loss, t.batch.pred), PB_E_BUG,
                    "batch.ids");
    o.max_len = 21;
    pb_assert_fails(pb_model_new(t.dev, &t.config, &o, NULL, &m), PB_E_INPUT, "20 positions");
    pb_model_config c = t.config;
    c.post_norm = true;
    o.max_len = 0;
    pb_assert_fails(pb_model_new(t.dev, &c, &o, NULL, &m), PB_E_UNSUPPORTED, "pre-norm decoders");
    tiny_close(&t);
}
END_TEST

/* Build, one training step. */
static pb_status whole_step(pb_device *dev, const pb_model_config *c, const pb_model_options *o,
                            const pb_tiny_batch *t, pb_model **m) {
    pb_pass pass = {.dev = dev, .dtype = o->dtype, .train = true};
    PB_RETURN(pb_model_new(dev, c, o, NULL, m));
    for (int i = 0; i < pb_params_count(pb_model_params(*m)); i++) {
        PB_RETURN(pb_param_train(pb_model_params(*m), pb_params_at(pb_model_params(*m), i)));
    }
    PB_RETURN(pb_model_forward(*m, &pass, &t->b, t->loss, t->pred));
    return pb_model_backward(*m, &pass, &t->b, 1);
}

/* Every growth of an arena may fail: a status, no crash, nothing held, and the next try works. */
START_TEST(any_device_allocation_may_fail) {
    pb_model_config c = tiny_config((pb_kind)_i);
    pb_model_options o = tiny_options((pb_kind)_i, PB_F32);
    int failures = 0;
    int64_t first = 0;
    for (int64_t n = 0; n < 400; n++) {
        pb_device *dev = NULL;
        pb_model *m = NULL;
        pb_assert_ok(pb_device_open(
            "ref", &(pb_device_options){.fail_alloc = n ? first + n : INT64_MAX}, &dev));
        pb_tiny_batch t = tiny_batch(dev, &c, PB_F32, tiny_lengths, 0, 3);
        if (!n) first = (int64_t)pb_device_growths(dev);
        pb_status status = whole_step(dev, &c, &o, &t, &m);
        ck_assert(status == PB_OK || status == PB_E_OOM);
        ck_assert_uint_eq(pb_device_mem_now(dev, PB_MEM_ACT), 0);
        ck_assert_uint_eq(pb_device_mem_now(dev, PB_MEM_WORK), 0);
        failures += status != PB_OK;
        if (status != PB_OK && m) { /* the failed step can be run again */
            pb_pass pass = {.dev = dev, .dtype = o.dtype, .train = true};
            pb_assert_ok(pb_model_forward(m, &pass, &t.b, t.loss, t.pred));
            pb_assert_ok(pb_model_backward(m, &pass, &t.b, 1));
        }
        pb_model_free(m);
        pb_device_close(dev);
        if (n && status == PB_OK) {
            ck_assert_int_ge(failures, 4); /* base, adapter, gradient, activation, workspace ... */
            return;
        }
    }
    ck_abort_msg("a tiny step grows the arenas more than 400 times");
}
END_TEST

int main(void) {
    Suite *s = suite_create("model");
    TCase *t = pb_test_case(s, "gradients");
    tcase_add_loop_test(t, gradients_match_finite_differences, 0, TINY_COUNT);
    tcase_add_loop_test(t, gradients_match_with_dropout, 0, TINY_COUNT);
    tcase_add_loop_test(t, checkpointing_keeps_every_bit, 0, TINY_COUNT);
    tcase_add_test(t, pooling_modes_have_gradients);
    tcase_add_loop_test(t, every_subset_gets_the_same_gradients, 0, TINY_COUNT);
    tcase_add_test(t, gradients_add_up_over_micro_batches);
    tcase_add_loop_test(t, targets_beyond_one_chunk_of_the_head_count, TINY_LLAMA, TINY_GPT2);
    tcase_add_loop_test(t, hooked_sites_have_gradients, 0, TINY_COUNT);
    tcase_add_loop_test(t, hooks_alone_are_reached, 0, TINY_COUNT);
    t = pb_test_case(s, "packing");
    tcase_add_loop_test(t, packed_sequences_do_not_see_each_other, 0, TINY_COUNT);
    tcase_add_loop_test(t, logits_give_the_losses, 0, TINY_COUNT);
    t = pb_test_case(s, "devices");
    tcase_add_loop_test(t, cpu_agrees_with_the_reference, 0, TINY_COUNT);
    t = pb_test_case(s, "memory");
    tcase_add_loop_test(t, plans_predict_every_arena, 0, TINY_COUNT);
    tcase_add_loop_test(t, steady_steps_take_no_memory, 0, TINY_COUNT);
    tcase_add_test(t, only_what_backward_needs_is_kept);
    tcase_add_loop_test(t, base_weights_stay_as_they_were, 0, TINY_COUNT);
    tcase_add_loop_test(t, four_bit_storage_is_its_dequantised_model, 0, TINY_LLAMA_UNTIED);
    t = pb_test_case(s, "misuse");
    tcase_add_test(t, misuse_is_refused);
    tcase_add_loop_test(t, any_device_allocation_may_fail, 0, TINY_COUNT);
    return pb_run_suite(s);
}
