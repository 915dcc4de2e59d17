/* What a trained model is worth: likelihood and accuracy on validation, test and a training subset,
 * for every variant of the method; the best variant by validation is the run's headline, chosen
 * before the test split is looked at. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/trainer_impl.h"

static pb_status evaluate(pb_trainer *t, pb_split_id split, int64_t limit, pb_eval *out) {
    pb_eval_options o = {
        .split = split, .limit = limit, .batch = t->run->eval_batch, .stop = t->options->stop};
    return pb_evaluate(&t->session, t->assets->data, &o, out);
}

/* "eval/test/nll" and its metric "quality/test/nll", with a suffix: a variant's ("@rank=3"), "/before"
 * training, or "". */
static pb_status record_one(pb_trainer *t, const char *split, const char *what, const char *suffix,
                            const double *values, int64_t n, double mean) {
    char sample[96], metric[96];
    snprintf(sample, sizeof sample, "eval/%s/%s%s", split, what, suffix);
    snprintf(metric, sizeof metric, "quality/%s/%s%s", split,
             strcmp(what, "nll") == 0 ? "nll" : "accuracy", suffix);
    PB_RETURN(pb_record_sample(t->record, sample, values, n));
    /* Over tokens: from two samples, the values and how many tokens each stands for. */
    if (t->assets->config.causal) return pb_record_known(t->record, metric, mean, n);
    return pb_record_derived(t->record, metric, "mean", sample);
}

static pb_status record_perplexity(pb_trainer *t, const char *split, const char *suffix,
                                   const pb_eval *e) {
    char tag[96];
    double perplexity = exp(e->mean_nll);
    snprintf(tag, sizeof tag, "quality/%s/perplexity%s", split, suffix);
    if (!isfinite(perplexity))
        return pb_record_warn(t->record, "the %s perplexity%s overflows", split, suffix);
    return pb_record_known(t->record, tag, perplexity, e->n);
}

static pb_status record_split(pb_trainer *t, pb_split_id id, const char *suffix, const pb_eval *e) {
    const char *split = pb_split_name(id);
    char tag[96];
    if (e->n == 0)
        return pb_record_warn(t->record, "the %s split has no example to evaluate", split);
    PB_RETURN(record_one(t, split, "nll", suffix, e->nll, e->n, e->mean_nll));
    PB_RETURN(record_one(t, split, "correct", suffix, e->correct, e->n, e->mean_correct));
    if (suffix[0] != 0) return PB_OK;
    snprintf(tag, sizeof tag, "eval/%s/id", split);
    PB_RETURN(pb_record_sample(t->record, tag, e->id, e->n));
    if (!t->assets->config.causal) return PB_OK;
    snprintf(tag, sizeof tag, "eval/%s/tokens", split);
    PB_RETURN(pb_record_sample(t->record, tag, e->tokens, e->n));
    return record_perplexity(t, split, "", e);
}

pb_status pb_trainer_quality_before(pb_trainer *t) {
    pb_status status = PB_OK;
    pb_eval e = {0};
    if (!t->run->before || t->run->skip_test) return PB_OK;
    pb_trainer_take_peaks(t);
    PB_TRY(evaluate(t, PB_TEST, 0, &e));
    PB_TRY(record_split(t, PB_TEST, "/before", &e));
    if (e.n > 0 && t->assets->config.causal)
        PB_TRY(record_perplexity(t, pb_split_name(PB_TEST), "/before", &e));
done:
    pb_eval_free(&e);
    pb_trainer_drop_peaks(t);
    return status;
}

static void add_point(pb_trainer *t, int64_t step, const pb_eval *e) {
    if (t->n_curve == t->cap_curve || e->n == 0) return;
    t->curve[PB_CURVE_STEP][t->n_curve] = (double)step;
    t->curve[PB_CURVE_NLL][t->n_curve] = e->mean_nll;
    t->curve[PB_CURVE_ACCURACY][t->n_curve++] = e->mean_correct;
}

static pb_status evaluate_and_record(pb_trainer *t, pb_split_id split, int64_t limit,
                                     const char *suffix) {
    pb_status status = PB_OK;
    pb_eval e = {0};
    PB_TRY(evaluate(t, split, limit, &e));
    if (split == PB_VALID && t->best_variant < 0) add_point(t, t->done, &e);
    PB_TRY(record_split(t, split, suffix, &e));
done:
    pb_eval_free(&e);
    return status;
}

static void variant_suffix(const pb_method *method, const void *self, int i, char out[48]) {
    double value = method->variant_value != NULL ? method->variant_value(self, i) : (double)i;
    snprintf(out, 48, "@%s=%g", method->variant_name != NULL ? method->variant_name : "variant",
             value);
}

/* Every variant on validation and test under its own tag; *best by validation. */
static pb_status evaluate_variants(pb_trainer *t, int n, int *best) {
    pb_status status = PB_OK;
    const pb_method *method = t->run->method;
    pb_eval valid = {0};
    double best_nll = INFINITY;
    *best = 0;
    for (int i = 0; i < n; i++) {
        char suffix[48];
        PB_TRY(method->select(t->session.self, i));
        variant_suffix(method, t->session.self, i, suffix);
        PB_TRY(evaluate(t, PB_VALID, 0, &valid));
        PB_TRY(record_split(t, PB_VALID, suffix, &valid));
        if (i == n - 1) add_point(t, t->done, &valid); /* as pb_trainer_curve_point */
        if (valid.n > 0 && valid.mean_nll < best_nll) {
            best_nll = valid.mean_nll;
            *best = i;
        }
        pb_eval_free(&valid);
        if (!t->run->skip_test) PB_TRY(evaluate_and_record(t, PB_TEST, 0, suffix));
        pb_trainer_progress(t, "eval", i + 1, n, best_nll, false);
    }
done:
    pb_eval_free(&valid);
    return status;
}

/* Test data once more with the adapter cut to its first components, without further training. */
static pb_status evaluate_cuts(pb_trainer *t) {
    pb_status status = PB_OK;
    const pb_method *method = t->run->method;
    void *self = t->session.self;
    int64_t n = method->components(self);
    for (int64_t rank = 1; rank < n && status == PB_OK; rank++) {
        char suffix[48];
        snprintf(suffix, sizeof suffix, "@cut=%" PRId64, rank);
        status = method->cut(self, rank);
        if (status == PB_OK) status = evaluate_and_record(t, PB_TEST, 0, suffix);
        pb_trainer_progress(t, "eval", rank, n, 0.0, false);
    }
    pb_status whole = method->cut(self, 0);
    return status != PB_OK ? status : whole;
}

/* How much worse the model is on data it has not seen. */
static pb_status record_gap(pb_trainer *t) {
    double test = pb_record_value(t->record, "quality/test/nll"),
           train = pb_record_value(t->record, "quality/train/nll");
    return isnan(test) || isnan(train) ? PB_OK
                                       : pb_record_known(t->record, "quality/gap/nll", test - train, 1);
}

pb_status pb_trainer_quality(pb_trainer *t) {
    const pb_method *method = t->run->method;
    void *self = t->session.self;
    int n = method->variants != NULL && method->select != NULL ? method->variants(self) : 1;
    t->best_variant = -1;
    pb_trainer_progress(t, "eval", 0, n, 0.0, true);
    if (n > 1) {
        PB_RETURN(evaluate_variants(t, n, &t->best_variant));
        PB_RETURN(method->select(self, t->best_variant));
        double value = method->variant_value != NULL ? method->variant_value(self, t->best_variant)
                                                     : t->best_variant;
        PB_RETURN(pb_record_metric(t->record, "quality/best_variant", value, "1", 0, 1, ""));
    }
    PB_RETURN(evaluate_and_record(t, PB_VALID, 0, ""));
    if (!t->run->skip_test) PB_RETURN(evaluate_and_record(t, PB_TEST, 0, ""));
    if (t->run->cuts && !t->run->skip_test) PB_RETURN(evaluate_cuts(t));
    if (t->run->train_eval <= 0) return PB_OK;
    PB_RETURN(evaluate_and_record(t, PB_TRAIN, t->run->train_eval, ""));
    return record_gap(t);
}

pb_status pb_trainer_quality_merged(pb_trainer *t) {
    if (!t->session.spec.model.storage.quantised) return PB_OK;
    return evaluate_and_record(t, PB_TEST, 0, "@weights=merged");
}

pb_status pb_trainer_curve_point(pb_trainer *t, int64_t step) {
    const pb_method *method = t->run->method;
    void *self = t->session.self;
    int n = method->variants != NULL && method->select != NULL ? method->variants(self) : 1;
    pb_eval e = {0};
    if (n > 1) PB_RETURN(method->select(self, n - 1)); /* the last variant stands for the curve */
    PB_RETURN(evaluate(t, PB_VALID, 0, &e));
    add_point(t, step, &e);
    pb_eval_free(&e);
    return n > 1 ? method->select(self, -1) : PB_OK;
}
