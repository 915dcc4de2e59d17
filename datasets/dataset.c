/* Tokenised data sets: which examples, cut how. Subsampling comes before tokenising, so a small
 * suite starts at once. Ids of one split lie end to end in one block. Test: tests/test_datasets.c.
 */
#include "datasets/dataset.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "datasets/tokenizer_impl.h"
#include "kernels/core/rng.h"

typedef struct part {
    pb_example *v;
    int64_t n, truncated, longest;
    pb_ids ids;
} part;

struct pb_dataset {
    pb_task task;
    char name[64], sha256[PB_SHA256_HEX];
    int32_t n_labels;
    char **labels;
    part split[PB_SPLITS];
};

/* ---- which examples ---- */

typedef struct drawn {
    uint64_t hash;
    int64_t index;
} drawn;

static int by_hash(const void *a, const void *b) {
    const drawn *x = a, *y = b;
    if (x->hash != y->hash) return x->hash < y->hash ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

/* keep[i] = true for `limit` of the split's examples: first the smallest of every class, as long as
 * there is room, then the smallest of the rest. */
static pb_status subsample(const pb_texts *texts, pb_split_id split, int64_t limit, uint64_t seed,
                           bool *keep) {
    int64_t n = texts->split[split].n, kept = 0;
    const pb_text_example *v = texts->split[split].examples;
    drawn *d = malloc((size_t)n * sizeof *d);
    bool *seen = calloc((size_t)texts->n_labels + 1, sizeof *seen);
    if (!d || !seen) {
        free(d);
        free(seen);
        return PB_ERROR(PB_E_OOM, "no memory to choose from %lld examples", (long long)n);
    }
    for (int64_t i = 0; i < n; i++) {
        pb_u32x4 r = pb_philox(seed, v[i].id, (uint64_t)split);
        d[i] = (drawn){(uint64_t)r.v[1] << 32 | r.v[0], i};
    }
    qsort(d, (size_t)n, sizeof *d, by_hash);
    for (int64_t i = 0; i < n && kept < limit && texts->task == PB_TASK_CLASSIFY; i++) {
        int32_t label = v[d[i].index].label;
        if (seen[label]) continue;
        seen[label] = keep[d[i].index] = true;
        kept++;
    }
    for (int64_t i = 0; i < n && kept < limit; i++) {
        if (keep[d[i].index]) continue;
        keep[d[i].index] = true;
        kept++;
    }
    free(d);
    free(seen);
    return PB_OK;
}

/* ---- one example ---- */

typedef struct maker {
    const pb_tokenizer *tok;
    const int32_t *before, *after;
    int n_before, n_after;
    int32_t end;
    int64_t max_len;
    pb_ids text, completion;
} maker;

static pb_status push_all(pb_ids *out, const int32_t *ids, int64_t n) {
    for (int64_t i = 0; i < n; i++) PB_RETURN(pb_ids_push(out, ids[i]));
    return PB_OK;
}

/* CLASSIFY, LM: template and text; the text's end is cut. */
static pb_status make_text(maker *m, const pb_text_example *e, pb_ids *out, int64_t *whole) {
    m->text.n = 0;
    PB_RETURN(pb_tokenizer_encode(m->tok, e->text, e->text_len, false, &m->text));
    *whole = m->text.n + m->n_before + m->n_after;
    int64_t n = *whole > m->max_len ? m->max_len - m->n_before - m->n_after : m->text.n;
    PB_RETURN(push_all(out, m->before, m->n_before));
    PB_RETURN(push_all(out, m->text.ids, n));
    return push_all(out, m->after, m->n_after);
}

/* COMPLETE: the template's head, prompt, completion, end. The prompt loses its head first, then the
 * completion its tail. */
static pb_status make_completion(maker *m, const pb_text_example *e, pb_ids *out, int64_t *whole,
                                 int64_t *loss_from) {
    m->text.n = m->completion.n = 0;
    PB_RETURN(pb_tokenizer_encode(m->tok, e->text, e->text_len, false, &m->text));
    PB_RETURN(pb_tokenizer_encode(m->tok, e->completion, e->completion_len, false, &m->completion));
    if (m->end >= 0) PB_RETURN(pb_ids_push(&m->completion, m->end));
    *whole = m->n_before + m->text.n + m->completion.n;
    int64_t room = m->max_len - m->n_before,
            completion = m->completion.n < room ? m->completion.n : room;
    int64_t prompt = m->text.n < room - completion ? m->text.n : room - completion;
    *loss_from = m->n_before + prompt;
    PB_RETURN(push_all(out, m->before, m->n_before));
    if (prompt > 0) PB_RETURN(push_all(out, m->text.ids + (m->text.n - prompt), prompt));
    return push_all(out, m->completion.ids, completion);
}

static pb_status add_example(pb_dataset *ds, pb_split_id split, maker *m, const pb_text_example *e,
                             bool refuse_long) {
    part *p = &ds->split[split];
    int64_t start = p->ids.n, whole = 0, loss_from = 0;
    if (ds->task == PB_TASK_COMPLETE) PB_RETURN(make_completion(m, e, &p->ids, &whole, &loss_from));
    else PB_RETURN(make_text(m, e, &p->ids, &whole));
    if (ds->task == PB_TASK_LM) loss_from = 1;
    int64_t n = p->ids.n - start;
    if (whole > m->max_len) {
        if (refuse_long)
            return PB_ERROR(PB_E_INPUT, "%s, %s, example %llu: %lld tokens, max_len is %lld",
                            ds->name, pb_split_name(split), (unsigned long long)e->id,
                            (long long)whole, (long long)m->max_len);
        p->truncated++;
    }
    if (n == 0 || (ds->task != PB_TASK_CLASSIFY && n <= (loss_from > 1 ? loss_from : 1)))
        return PB_ERROR(PB_E_INPUT,
                        "%s, %s, example %llu: no token to predict is left of \"%.60s\"", ds->name,
                        pb_split_name(split), (unsigned long long)e->id,
                        e->completion ? e->completion : e->text);
    if (n > p->longest) p->longest = n;
    p->v[p->n++] = (pb_example){.n_ids = (int32_t)n,
                                .loss_from = (int32_t)loss_from,
                                .label = e->label,
                                .id = e->id}; /* ids follow */
    return PB_OK;
}

static pb_status make_split(pb_dataset *ds, const pb_texts *texts, pb_split_id split, maker *m,
                            const pb_dataset_options *o) {
    pb_status status = PB_OK;
    int64_t n = texts->split[split].n,
            want = o->limit[split] > 0 && o->limit[split] < n ? o->limit[split] : n;
    part *p = &ds->split[split];
    bool *keep = calloc((size_t)n + 1, sizeof *keep);
    p->v = malloc((size_t)(want + 1) * sizeof *p->v);
    if (!keep || !p->v) PB_FAIL(PB_E_OOM, "no memory for %lld examples", (long long)n);
    if (want < n) PB_TRY(subsample(texts, split, want, o->subsample_seed, keep));
    else memset(keep, true, (size_t)n * sizeof *keep);
    for (int64_t i = 0; i < n; i++)
        if (keep[i])
            PB_TRY(add_example(ds, split, m, &texts->split[split].examples[i], o->refuse_long));
    for (int64_t i = 0, at = 0; i < p->n; at += p->v[i++].n_ids) p->v[i].ids = p->ids.ids + at;
done:
    free(keep);
    return status;
}

static pb_status copy_labels(pb_dataset *ds, const pb_texts *texts) {
    ds->labels = calloc((size_t)texts->n_labels + 1, sizeof *ds->labels);
    if (!ds->labels) return PB_ERROR(PB_E_OOM, "no memory for labels");
    for (; ds->n_labels < texts->n_labels; ds->n_labels++) {
        ds->labels[ds->n_labels] = strdup(texts->labels[ds->n_labels]);
        if (!ds->labels[ds->n_labels]) return PB_ERROR(PB_E_OOM, "no memory for labels");
    }
    return PB_OK;
}

pb_status pb_dataset_new(const pb_texts *texts, const pb_tokenizer *tok,
                         const pb_dataset_options *options, pb_dataset **out) {
    pb_status status = PB_OK;
    maker m = {.tok = tok, .end = pb_tokenizer_end_id(tok), .max_len = options->max_len};
    *out = NULL;
    pb_dataset *ds = calloc(1, sizeof *ds);
    if (!ds) PB_FAIL(PB_E_OOM, "no memory for a data set");
    ds->task = texts->task;
    pb_copy(ds->name, sizeof ds->name, texts->name);
    memcpy(ds->sha256, texts->sha256, sizeof ds->sha256);
    m.before = pb_tokenizer_before(tok, &m.n_before);
    m.after = pb_tokenizer_after(tok, &m.n_after);
    int64_t least = m.n_before + (texts->task == PB_TASK_COMPLETE ? 2 : m.n_after + 2);
    if (m.max_len < least || m.max_len > INT32_MAX)
        PB_FAIL(PB_E_INPUT, "max_len %lld: this tokenizer and task need at least %lld",
                (long long)m.max_len, (long long)least);
    PB_TRY(copy_labels(ds, texts));
    for (int i = 0; i < PB_SPLITS; i++) PB_TRY(make_split(ds, texts, (pb_split_id)i, &m, options));
    *out = ds;
    ds = NULL;
done:
    free(m.text.ids);
    free(m.completion.ids);
    pb_dataset_free(ds);
    return status;
}

void pb_dataset_free(pb_dataset *ds) {
    if (!ds) return;
    for (int i = 0; i < PB_SPLITS; i++) {
        free(ds->split[i].v);
        free(ds->split[i].ids.ids);
    }
    for (int32_t i = 0; i < ds->n_labels; i++) free(ds->labels[i]);
    free(ds->labels);
    free(ds);
}

/* ---- what it holds ---- */

pb_task pb_dataset_task(const pb_dataset *ds) { return ds->task; }
const char *pb_dataset_name(const pb_dataset *ds) { return ds->name; }
const char *pb_dataset_sha256(const pb_dataset *ds) { return ds->sha256; }
int32_t pb_dataset_classes(const pb_dataset *ds) { return ds->n_labels; }

const char *pb_dataset_label(const pb_dataset *ds, int32_t i) {
    PB_ASSERT(i >= 0 && i < ds->n_labels);
    return ds->labels[i];
}

static const part *part_of(const pb_dataset *ds, pb_split_id split) {
    PB_ASSERT(split >= 0 && split < PB_SPLITS);
    return &ds->split[split];
}

int64_t pb_dataset_size(const pb_dataset *ds, pb_split_id split) { return part_of(ds, split)->n; }
int64_t pb_dataset_truncated(const pb_dataset *ds, pb_split_id split) {
    return part_of(ds, split)->truncated;
}
int64_t pb_dataset_longest(const pb_dataset *ds, pb_split_id split) {
    return part_of(ds, split)->longest;
}

const pb_example *pb_dataset_at(const pb_dataset *ds, pb_split_id split, int64_t i) {
    const part *p = part_of(ds, split);
    PB_ASSERT(i >= 0 && i < p->n);
    return &p->v[i];
}

/* labels * examples over all classes: once per record, no memory */
static int64_t count_of(const part *p, int32_t label) {
    int64_t count = 0;
    for (int64_t i = 0; i < p->n; i++) count += p->v[i].label == label;
    return count;
}

double pb_dataset_majority(const pb_dataset *ds, pb_split_id split) {
    const part *p = part_of(ds, split);
    if (ds->task != PB_TASK_CLASSIFY || p->n == 0) return 0;
    int64_t most = 0;
    for (int32_t label = 0; label < ds->n_labels; label++) {
        int64_t count = count_of(p, label);
        if (count > most) most = count;
    }
    return (double)most / (double)p->n;
}

double pb_dataset_chance_nll(const pb_dataset *ds, pb_split_id split) {
    const part *p = part_of(ds, split);
    double sum = 0;
    if (ds->task != PB_TASK_CLASSIFY || p->n == 0) return 0;
    for (int32_t label = 0; label < ds->n_labels; label++) {
        double share = (double)count_of(p, label) / (double)p->n;
        if (share > 0) sum -= share * log(share);
    }
    return sum;
}
