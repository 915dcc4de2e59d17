/* Three usual rules of thumb, answered from the same plans and records as the recommendation: does the rule's pick fit
 * with the batch and length asked for, and does it hold against the best that fits? */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "harness/advise.h"

#define GIB 1073741824.0

enum { MANY_EXAMPLES = 100000 };

static pb_advice *row_named(pb_advise *a, const char *name) {
    for (int i = 0; i < a->n_rows; i++)
        if (strcmp(a->rows[i].method->name, name) == 0) return &a->rows[i];
    return NULL;
}

/* The method's row at another rank or other targets (NULL = its own). *applies false: the rule cannot be asked
 * here, and says why; nothing is done when it is false before. The caller frees out->params. */
static pb_status plan(pb_advise *a, const char *name, int64_t rank, pb_json *targets, pb_rule *rule, pb_advice *out,
                      bool *applies) {
    const pb_advice *own = row_named(a, name);
    *out = (pb_advice){.method = own->method};
    if (!*applies) {
        pb_json_free(targets);
        return PB_OK;
    }
    double scale = pb_evidence_scale(a->evidence, PB_ADVISE_SCALE);
    pb_status status = pb_advise_params(own->method, own->params, scale, rank, &out->params);
    if (status == PB_OK && targets) {
        cJSON_DeleteItemFromObjectCaseSensitive(out->params, "targets");
        if (!cJSON_AddItemToObject(out->params, "targets", targets))
            status = PB_ERROR(PB_E_OOM, "no memory for the parameters of %s", name);
        else targets = NULL;
    }
    pb_json_free(targets);
    PB_RETURN(status);
    PB_RETURN(pb_advise_fit(a, out));
    out->quality = own->quality;
    if (out->applies) return PB_OK;
    *applies = false;
    pb_copy(rule->verdict, sizeof rule->verdict, "does not apply");
    pb_copy(rule->numbers, sizeof rule->numbers, out->why_not);
    return PB_OK;
}

/* "QLoRA r8 needs 5.1 GiB with checkpointing" */
static void say_need(pb_text *t, const char *what, const pb_advice *row) {
    double gib = (double)(row->fits ? row->use_p.total : row->least) / GIB;
    const char *how = !row->fits ? " with every change tried" : row->change[0] ? " with " : " as asked";
    pb_text_add(t, "%s needs %.1f GiB%s%s", what, gib, how, row->fits ? row->change : "");
}

/* "AdaLoRA is worse than LoRA: test NLL +0.100 (+0.050 to +0.150) nats" */
static void say_verdict(pb_text *t, const char *label, const char *than, const pb_measure *m, const pb_verdict *v) {
    pb_text_add(t, "%s %s %s: %s %+.3f (%+.3f to %+.3f) %s", label,
                v->kind == PB_BETTER  ? "is better than"
                : v->kind == PB_WORSE ? "is worse than"
                                      : "is not told apart from",
                than, m->title, m->scale * v->estimate, m->scale * v->interval.low, m->scale * v->interval.high, m->unit);
}

static void say_quality(pb_text *t, const pb_advise *a, const pb_advice *row) {
    const pb_advise_quality *q = &row->quality;
    if (!q->known) {
        pb_text_add(t, "quality of %s unknown (%s)", row->method->title, q->why);
        return;
    }
    if (!q->lead) {
        pb_text_add(t, "%s is what the others are compared with", row->method->title);
        return;
    }
    pb_text_add(t, "in the records ");
    say_verdict(t, q->label, "LoRA", pb_evidence_lead(a->evidence), q->lead);
}

/* The pick against the best that fits. */
static const char *judge(pb_advise *a, const pb_advice *pick, pb_text *t) {
    const pb_advice *chosen = a->chosen < 0 ? NULL : &a->rows[a->chosen];
    const pb_advice *best = a->best < 0 ? NULL : &a->rows[a->best];
    const pb_advice *own = row_named(a, pick->method->name);
    if (!pick->fits) return "does not fit";
    if (own->fits && own->in_time == PB_TOO_SLOW) return "too slow";
    if (chosen && chosen->method == pick->method) return "agrees";
    if (!best || !chosen || !pick->quality.known) return "unknown";
    if (best->method == pick->method) {
        pb_text_add(t, "; %s has the best mean of what fits, %s is not told apart from it and is recommended for its cost",
                    pick->method->title, chosen->method->title);
        return "as good, not chosen";
    }
    int b = best->quality.entry, p = pick->quality.entry;
    if (pb_evidence_verdict(a->evidence, b, p)->kind == PB_INCOMPARABLE) return "unknown";
    if (pb_evidence_beats(a->evidence, b, p)) {
        pb_text_add(t, "; they put %s, which fits too, above %s", best->method->title, pick->method->title);
        return "contradicted";
    }
    pb_text_add(t, "; they do not tell %s from the best that fits, %s; %s is recommended", pick->method->title,
                best->method->title, chosen->method->title);
    return "as good, not chosen";
}

/* The verdict where the records have the method at one of the rule's ranks; else it is on the method alone. */
static const char *at_ranks(const pb_advice *pick, double low, double high, const char *verdict, pb_text *t) {
    const pb_json *rank = pick->quality.known ? pb_json_get(pick->quality.params, "rank") : NULL;
    if (!cJSON_IsNumber(rank) || (rank->valuedouble >= low && rank->valuedouble <= high)) return verdict;
    pb_text_add(t, "; the rule's rank was not tested: the records have %s at rank %g", pick->method->title,
                rank->valuedouble);
    if (strcmp(verdict, "contradicted") == 0) return "contradicted on the method";
    return strcmp(verdict, "agrees") == 0 ? "agrees on the method" : verdict;
}

static pb_status close_rule(pb_rule *rule, bool in_range, const char *verdict, pb_text *t) {
    PB_RETURN(pb_text_status(t));
    pb_copy(rule->verdict, sizeof rule->verdict, in_range ? verdict : "does not apply");
    pb_copy(rule->numbers, sizeof rule->numbers, t->data);
    return PB_OK;
}

static pb_status small_memory(pb_advise *a, pb_rule *rule) {
    pb_status status = PB_OK;
    pb_advice q = {0}, l = {0};
    pb_text t = {0};
    bool applies = true;
    pb_copy(rule->rule, sizeof rule->rule, "up to 16 GB: QLoRA r8");
    PB_TRY(plan(a, "qlora", 8, NULL, rule, &q, &applies));
    PB_TRY(plan(a, "lora", 8, NULL, rule, &l, &applies));
    if (!applies) goto done;
    say_need(&t, "QLoRA r8", &q);
    pb_text_add(&t, ", ");
    say_need(&t, "LoRA r8", &l);
    pb_text_add(&t, ", usable are %.1f GiB", (double)a->usable / GIB);
    if (q.fits && l.fits)
        pb_text_add(&t, "; so run, a step of QLoRA does %.2f times LoRA's FLOPs and moves %.2f times the bytes",
                    q.use_p.step.flops / l.use_p.step.flops, q.use_p.step.bytes / l.use_p.step.bytes);
    pb_text_add(&t, "; ");
    say_quality(&t, a, &q);
    const char *verdict = at_ranks(&q, 8, 8, judge(a, &q, &t), &t);
    PB_TRY(close_rule(rule, a->request.memory <= (uint64_t)(16 * GIB), verdict, &t));
done:
    pb_json_free(q.params);
    pb_json_free(l.params);
    pb_text_free(&t);
    return status;
}

static pb_status large_memory(pb_advise *a, pb_rule *rule) {
    pb_status status = PB_OK;
    pb_advice r16 = {0}, r32 = {0}, full = {0};
    pb_text t = {0};
    bool applies = true;
    pb_copy(rule->rule, sizeof rule->rule, "from 48 GB on: LoRA r16 to r32 in bf16");
    PB_TRY(plan(a, "lora", 16, NULL, rule, &r16, &applies));
    PB_TRY(plan(a, "lora", 32, NULL, rule, &r32, &applies));
    PB_TRY(plan(a, "full", 0, NULL, rule, &full, &applies));
    if (!applies) goto done;
    say_need(&t, "LoRA r16", &r16);
    pb_text_add(&t, ", ");
    say_need(&t, "r32", &r32);
    pb_text_add(&t, ", ");
    say_need(&t, "full fine-tuning", &full);
    pb_text_add(&t, ", usable are %.1f GiB; ", (double)a->usable / GIB);
    say_quality(&t, a, &full);
    const pb_advice *pick = r32.fits ? &r32 : &r16;
    const char *verdict = at_ranks(pick, 16, 32, judge(a, pick, &t), &t);
    PB_TRY(close_rule(rule, a->request.memory >= (uint64_t)48e9 && a->request.dtype == PB_BF16, verdict, &t));
done:
    pb_json_free(r16.params);
    pb_json_free(r32.params);
    pb_json_free(full.params);
    pb_text_free(&t);
    return status;
}

static pb_json *upper_half(int64_t layers) {
    char pattern[48];
    pb_json *list = cJSON_CreateArray();
    bool ok = list != NULL;
    for (int64_t i = layers / 2; i < layers && ok; i++) {
        snprintf(pattern, sizeof pattern, "layers.%" PRId64 ".*", i);
        ok = pb_json_add_str(list, NULL, pattern);
    }
    if (ok) return list;
    pb_json_free(list);
    return NULL;
}

/* What the records know of AdaLoRA, and what is not in them. */
static void say_known(pb_text *t, const pb_advise_quality *q) {
    if (q->most_examples == 0) pb_text_add(t, "no record has AdaLoRA");
    else pb_text_add(t, "the records have AdaLoRA at up to %" PRId64 " training examples", q->most_examples);
    if (q->most_examples_some) pb_text_add(t, ", on some layers alone at up to %" PRId64, q->most_examples_some);
    else if (q->most_examples) pb_text_add(t, ", never on the top layers alone");
    if (q->most_examples_some <= MANY_EXAMPLES)
        pb_text_add(t, "; what would tell, it on the top layers against LoRA on all at equal counts and over 100,000 "
                       "examples, is not among them");
}

/* From records of over 100,000 examples alone: fewer are another case than the rule's. */
static pb_status judge_top(pb_advise *a, const pb_advice *top, pb_text *t, const char **verdict) {
    const pb_advice *own = row_named(a, top->method->name), *chosen = a->chosen < 0 ? NULL : &a->rows[a->chosen];
    pb_evidence_top found;
    *verdict = !top->fits ? "does not fit" : own->fits && own->in_time == PB_TOO_SLOW ? "too slow" : "unknown";
    if (top->quality.most_examples_some <= MANY_EXAMPLES) return PB_OK;
    PB_RETURN(pb_evidence_top_layers(a->evidence, top->method->name, MANY_EXAMPLES, &found));
    if (!found.known) {
        pb_text_add(t, "; over 100,000 examples on the top layers against LoRA on all: unknown (%s)", found.why);
        return PB_OK;
    }
    pb_text_add(t, "; at %" PRId64 " (%s, %d seeds) ", found.examples, found.where, found.verdict.n_seeds);
    say_verdict(t, found.label, "LoRA on all layers", found.measure, &found.verdict);
    if (strcmp(*verdict, "unknown") != 0) return PB_OK;
    bool is_chosen = chosen && chosen->method == top->method;
    *verdict = found.verdict.kind == PB_WORSE    ? "contradicted"
               : is_chosen                       ? "agrees"
               : found.verdict.kind == PB_BETTER ? "better, not chosen"
                                                 : "as good, not chosen";
    if (chosen && !is_chosen && found.verdict.kind != PB_WORSE)
        pb_text_add(t, "; %s is recommended: what is chosen from are the methods on all layers", chosen->method->title);
    return PB_OK;
}

static pb_status many_examples(pb_advise *a, pb_rule *rule) {
    pb_status status = PB_OK;
    pb_advice top = {0}, all = {0};
    pb_text t = {0};
    bool applies = true;
    const char *verdict = "unknown";
    int64_t layers = a->request.config.L;
    char what[64];
    pb_json *targets = upper_half(layers);
    pb_copy(rule->rule, sizeof rule->rule, "over 100,000 examples: AdaLoRA on the top layers");
    if (!targets) return PB_ERROR(PB_E_OOM, "no memory for a list of layers");
    PB_TRY(plan(a, "adalora", 0, targets, rule, &top, &applies));
    PB_TRY(plan(a, "lora", 0, NULL, rule, &all, &applies));
    if (!applies) goto done;
    snprintf(what, sizeof what, "AdaLoRA on the upper %" PRId64 " of %" PRId64 " layers", layers - layers / 2, layers);
    say_need(&t, what, &top);
    pb_text_add(&t, ", ");
    say_need(&t, "LoRA on all", &all);
    if (top.fits && all.fits)
        pb_text_add(&t, "; so run, a step does %.2f times LoRA's FLOPs", top.use_p.step.flops / all.use_p.step.flops);
    pb_text_add(&t, "; ");
    say_quality(&t, a, &top);
    pb_text_add(&t, "; ");
    say_known(&t, &top.quality);
    PB_TRY(judge_top(a, &top, &t, &verdict));
    PB_TRY(close_rule(rule, a->request.examples > MANY_EXAMPLES, verdict, &t));
done:
    pb_json_free(top.params);
    pb_json_free(all.params);
    pb_text_free(&t);
    return status;
}

pb_status pb_advise_rules(pb_advise *a) {
    PB_RETURN(small_memory(a, &a->rules[0]));
    PB_RETURN(large_memory(a, &a->rules[1]));
    return many_examples(a, &a->rules[2]);
}
