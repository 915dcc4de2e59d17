/* From rows to one sentence: which method, why, what the usual rules of thumb come to here, and the
 * suite that would test it. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "harness/advise.h"

#define GIB 1073741824.0

/* ---- choosing ---- */

static bool candidate(const pb_advice *row) { return row->applies && row->fits && row->in_time; }

static double low_of(const pb_advice *row) {
    return isfinite(row->quality.low) ? row->quality.low : row->quality.mean;
}

static double high_of(const pb_advice *row) {
    return isfinite(row->quality.high) ? row->quality.high : row->quality.mean;
}

/* Expected time, or work without a GPU's rates. */
static double cost_of(const pb_advice *row) {
    return row->mid_s > 0     ? row->mid_s
           : row->least_s > 0 ? row->least_s
                              : row->steps * row->use_p.step.flops;
}

/* Nothing separates them: the best expected one is not surely better. */
static bool tied(const pb_advice *best, const pb_advice *row) {
    return row->quality.known && high_of(row) >= low_of(best);
}

/* Less training changed first, then less time or work; equal within 5 %: larger micro-batches (larger
 * products), then the better mean, then less memory. */
static bool cheaper(const pb_advice *a, const pb_advice *b) {
    bool a_cut = a->use.length < a->asked.length, b_cut = b->use.length < b->asked.length;
    if (a_cut != b_cut) return b_cut;
    double x = cost_of(a), y = cost_of(b);
    if (fabs(x - y) > 0.05 * fmax(x, y)) return x < y;
    if (a->use.batch != b->use.batch) return a->use.batch > b->use.batch;
    if (a->quality.known && b->quality.known && a->quality.mean != b->quality.mean)
        return a->quality.mean > b->quality.mean;
    return a->use_p.total < b->use_p.total;
}

static int choose(const pb_advise *a, int *best, int *n_tied, int *n_fit) {
    int chosen = -1;
    *best = -1;
    *n_tied = *n_fit = 0;
    for (int i = 0; i < a->n_rows; i++) {
        const pb_advice *row = &a->rows[i];
        if (!candidate(row)) continue;
        (*n_fit)++;
        if (row->quality.known && (*best < 0 || row->quality.mean > a->rows[*best].quality.mean))
            *best = i;
    }
    for (int i = 0; i < a->n_rows; i++) {
        const pb_advice *row = &a->rows[i];
        if (!candidate(row) || (*best >= 0 && !tied(&a->rows[*best], row))) continue;
        (*n_tied)++;
        if (chosen < 0 || cheaper(row, &a->rows[chosen])) chosen = i;
    }
    return chosen;
}

static void nothing_fits(pb_advise *a) {
    const pb_advice *least = NULL;
    bool late = false;
    for (int i = 0; i < a->n_rows; i++) {
        const pb_advice *row = &a->rows[i];
        late |= row->applies && row->fits;
        if (row->applies && (!least || row->least < least->least)) least = row;
    }
    if (late)
        snprintf(a->reason, sizeof a->reason,
                 "Nothing ends within the time: what fits takes longer; raise --time, or lower "
                 "--examples or --epochs.");
    else if (least)
        snprintf(a->reason, sizeof a->reason,
                 "Nothing fits: the least is %s, which needs %.1f GiB at batch 1 with every change "
                 "tried; %.1f GiB are usable.",
                 least->method->title, (double)least->least / GIB, (double)a->usable / GIB);
}

static void explain(pb_advise *a, int best, int n_tied, int n_fit) {
    const pb_advice *row = &a->rows[a->chosen];
    char with[200] = "";
    if (row->change[0]) snprintf(with, sizeof with, " with %s", row->change);
    int n = snprintf(a->reason, sizeof a->reason, "Run %s%s: it needs %.1f of %.1f GiB",
                     row->method->title, with, (double)row->use_p.total / GIB,
                     (double)a->usable / GIB);
    char *at = a->reason + n;
    size_t room = sizeof a->reason - (size_t)n;
    if (n_fit == 1) {
        snprintf(at, room, ", and nothing else fits%s.", a->request.time_s > 0 ? " in the time" : "");
    } else if (best < 0) {
        snprintf(at, room,
                 " and takes the least %s of the %d methods that fit (within 5 %%); no record says "
                 "which of them is better.",
                 row->least_s > 0 ? "time" : "work", n_fit);
    } else if (n_tied == 1) {
        snprintf(at, room, ", and the records show it above the others that fit (%+.1f points to LoRA).",
                 row->quality.mean);
    } else {
        snprintf(at, room,
                 " and takes the least %s (within 5 %%) of the %d methods that fit and that the "
                 "records (%s) cannot tell from the best of them.",
                 row->least_s > 0 ? "time" : "work", n_tied, row->quality.where);
    }
}

/* ---- the rules of thumb ---- */

static pb_advice *row_named(pb_advise *a, const char *name) {
    for (int i = 0; i < a->n_rows; i++)
        if (strcmp(a->rows[i].method->name, name) == 0) return &a->rows[i];
    return NULL;
}

/* *applies false: then the rule cannot be asked here, and says why. */
static pb_status planned(pb_advise *a, const char *method, const char *params, pb_rule *rule,
                         pb_prediction *out, bool *applies) {
    pb_status status = PB_OK;
    pb_json *o = NULL;
    if (!*applies) return PB_OK;
    pb_advise_setting s = {.batch = 1, .accumulate = 1, .length = a->request.length};
    PB_TRY(pb_json_parse("rule", params, strlen(params), &o));
    PB_TRY(pb_advise_predict(&a->request, pb_method_find(method), o, &s, out, applies));
    a->n_plans++;
    if (*applies) goto done;
    pb_copy(rule->verdict, sizeof rule->verdict, "does not apply");
    pb_copy(rule->numbers, sizeof rule->numbers, pb_error_message());
    pb_error_clear();
done:
    pb_json_free(o);
    return status;
}

static void quality_text(const pb_advice *row, char out[128]) {
    const pb_advise_quality *q = &row->quality;
    if (!q->known) snprintf(out, 128, "quality unknown");
    else if (isfinite(q->low))
        snprintf(out, 128, "%+.1f points to LoRA (%+.1f to %+.1f)", q->mean, q->low, q->high);
    else snprintf(out, 128, "%+.1f points to LoRA (one seed)", q->mean);
}

static pb_status small_memory(pb_advise *a, pb_rule *rule) {
    pb_prediction q, l;
    bool applies = true;
    char quality[128];
    double budget = (double)a->usable / GIB;
    snprintf(rule->rule, sizeof rule->rule, "up to 16 GB: QLoRA r8");
    PB_RETURN(planned(a, "qlora", "{\"rank\": 8}", rule, &q, &applies));
    PB_RETURN(planned(a, "lora", "{\"rank\": 8}", rule, &l, &applies));
    if (!applies) return PB_OK;
    quality_text(row_named(a, "qlora"), quality);
    snprintf(rule->numbers, sizeof rule->numbers,
             "QLoRA r8 needs %.1f GiB, LoRA r8 %.1f GiB, usable %.1f GiB, at batch 1 "
             "of %" PRId64 " tokens; QLoRA's step does %.2f times LoRA's FLOPs and moves %.2f times "
             "the bytes; %s",
             (double)q.total / GIB, (double)l.total / GIB, budget, a->request.length, q.step.flops / l.step.flops, q.step.bytes / l.step.bytes, quality);
    const char *verdict = q.total > a->usable   ? "does not fit"
                          : l.total > a->usable ? "agrees"
                                                : "not needed";
    if (a->request.memory > (uint64_t)(16 * GIB)) verdict = "does not apply";
    pb_copy(rule->verdict, sizeof rule->verdict, verdict);
    return PB_OK;
}

static pb_status large_memory(pb_advise *a, pb_rule *rule) {
    pb_prediction r16, r32, full;
    bool applies = true;
    snprintf(rule->rule, sizeof rule->rule, "from 48 GB on: LoRA r16 to r32 in bf16");
    PB_RETURN(planned(a, "lora", "{\"rank\": 16}", rule, &r16, &applies));
    PB_RETURN(planned(a, "lora", "{\"rank\": 32}", rule, &r32, &applies));
    PB_RETURN(planned(a, "full", "{}", rule, &full, &applies));
    char quality[128];
    if (!applies) return PB_OK;
    quality_text(row_named(a, "full"), quality);
    snprintf(rule->numbers, sizeof rule->numbers,
             "LoRA r16 needs %.1f GiB, r32 %.1f GiB, full fine-tuning %.1f GiB, usable %.1f GiB, at batch 1; "
             "full fine-tuning: %s",
             (double)r16.total / GIB, (double)r32.total / GIB, (double)full.total / GIB,
             (double)a->usable / GIB, quality);
    bool lora = a->chosen >= 0 && strcmp(a->rows[a->chosen].method->name, "lora") == 0;
    const char *verdict = r32.total > a->usable ? "does not fit" : lora ? "agrees" : "fits, not chosen";
    if (a->request.memory < (uint64_t)(48e9)) verdict = "does not apply";
    pb_copy(rule->verdict, sizeof rule->verdict, verdict);
    return PB_OK;
}

static pb_status many_examples(pb_advise *a, pb_rule *rule) {
    pb_status status = PB_OK;
    pb_prediction top, all;
    bool applies = true;
    pb_text params = {0};
    char quality[128];
    int64_t L = a->request.config.L;
    snprintf(rule->rule, sizeof rule->rule, "over 100,000 examples: AdaLoRA on the top layers");
    pb_text_add(&params, "{\"targets\": [");
    for (int64_t i = L / 2; i < L; i++)
        pb_text_add(&params, "%s\"layers.%" PRId64 ".*\"", i > L / 2 ? ", " : "", i);
    pb_text_add(&params, "]}");
    PB_TRY(pb_text_status(&params));
    PB_TRY(planned(a, "adalora", params.data, rule, &top, &applies));
    PB_TRY(planned(a, "lora", "{}", rule, &all, &applies));
    if (!applies) goto done;
    quality_text(row_named(a, "adalora"), quality);
    snprintf(rule->numbers, sizeof rule->numbers,
             "AdaLoRA on the upper %" PRId64 " of %" PRId64 " layers needs %.1f GiB and %.2f times "
             "LoRA's FLOPs a step (LoRA on all layers: %.1f GiB); AdaLoRA on all layers: %s; the records "
             "hold it at %d number(s) of training examples, none of them says so of the top layers alone",
             L - L / 2, L, (double)top.total / GIB, top.step.flops / all.step.flops,
             (double)all.total / GIB, quality, row_named(a, "adalora")->quality.n_sizes);
    pb_copy(rule->verdict, sizeof rule->verdict,
            a->request.examples > 100000 ? "unknown" : "does not apply");
done:
    pb_text_free(&params);
    return status;
}

/* ---- the suite that would test it ---- */

static bool add_row(pb_json *runs, const pb_advice *row) {
    pb_json *o = pb_json_add_object(runs, NULL);
    char *text = pb_json_print(row->params, false);
    pb_json *params = text ? cJSON_Parse(text) : NULL;
    free(text);
    bool ok = params && pb_json_add_str(o, "method", row->method->name);
    if (!ok || !cJSON_AddItemToObject(o, "params", params)) {
        pb_json_free(params);
        return false;
    }
    pb_json *lr = pb_json_add_array(o, "lr");
    bool full = row->method->trains_base;
    for (int i = 0; i < 4; i++) /* over a factor of a thousand */
        ok = ok && pb_json_add_f64(lr, NULL, (full ? 1e-7 : 1e-5) * pow(10, i));
    pb_json *t = pb_json_add_object(o, "train");
    ok = ok && pb_json_add_i64(t, "batch", row->use.batch) &&
         pb_json_add_i64(t, "accumulate", row->use.accumulate) &&
         pb_json_add_bool(t, "checkpoint", row->use.checkpoint) &&
         pb_json_add_str(t, "optimizer", row->use.adamw8 ? "adamw8" : "adamw") &&
         pb_json_add_bool(t, "paged", row->use.paged);
    return ok;
}

static pb_status make_suite(pb_advise *a) {
    const pb_advise_request *r = &a->request;
    pb_json *root = cJSON_CreateObject();
    int64_t length = r->length;
    for (int i = 0; i < a->n_rows; i++)
        if (candidate(&a->rows[i]) && a->rows[i].use.length < length && i == a->chosen)
            length = a->rows[i].use.length;
    bool ok = pb_json_add_str(root, "title", "What peftbench advise would run, and what it was weighed against") &&
              pb_json_add_str(root, "model", r->model);
    pb_json *data = pb_json_add_object(root, "data");
    ok = ok && pb_json_add_str(data, "dir", "my-texts") && pb_json_add_i64(data, "max_len", length) &&
         pb_json_add_i64(data, "train", r->examples);
    ok = ok && pb_json_add_str(root, "dtype", pb_dtype_name(r->dtype));
    pb_json *seeds = pb_json_add_array(root, "seeds");
    for (int i = 1; i <= 5; i++) ok = ok && pb_json_add_i64(seeds, NULL, i);
    pb_json *train = pb_json_add_object(root, "train");
    ok = ok && pb_json_add_f64(train, "epochs", r->epochs);
    pb_json *runs = pb_json_add_array(root, "runs");
    for (int i = 0; i < a->n_rows; i++) {
        const pb_advice *row = &a->rows[i];
        bool anchor = strcmp(row->method->name, "lora") == 0;
        if (candidate(row) && row->use.length >= length && (i == a->chosen || anchor || row->quality.known))
            ok = ok && add_row(runs, row);
    }
    a->suite = ok ? pb_json_print(root, true) : NULL;
    pb_json_free(root);
    return a->suite ? PB_OK : PB_ERROR(PB_E_OOM, "no memory for a suite");
}

pb_status pb_advise_conclude(pb_advise *a) {
    int best = -1, n_tied = 0, n_fit = 0;
    a->chosen = choose(a, &best, &n_tied, &n_fit);
    if (a->chosen < 0) nothing_fits(a);
    else explain(a, best, n_tied, n_fit);
    if (a->request.brief) return PB_OK;
    PB_RETURN(small_memory(a, &a->rules[0]));
    PB_RETURN(large_memory(a, &a->rules[1]));
    PB_RETURN(many_examples(a, &a->rules[2]));
    return a->chosen < 0 ? PB_OK : make_suite(a);
}
