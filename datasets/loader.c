/* Batches in a reproducible order: epoch e visits the permutation drawn from (seed, "order", e);
 * its batches are cut from that, so batch i is found without the batches before it. Test:
 * tests/test_datasets.c. */
#include "datasets/loader.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/core/rng.h"

struct pb_loader {
    const pb_dataset *ds;
    pb_split_id split;
    pb_loader_options o;
    int64_t n, batches;
    int64_t epoch;  /* whose order is in `order`, -1 = none yet */
    int32_t *order; /* NULL = as stored */
    pb_host_batch batch;
};

static int64_t targets_of(const pb_loader *l, const pb_example *e) {
    if (pb_dataset_task(l->ds) == PB_TASK_CLASSIFY) return 1;
    return e->n_ids - (e->loss_from > 1 ? e->loss_from : 1);
}

static int64_t round_up(int64_t n, int64_t k) { return (n + k - 1) / k * k; }

static int descending(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

/* Sum of the `batch` largest values: no batch can hold more, whatever the order. */
static int64_t largest_sum(int64_t *v, int64_t n, int64_t batch) {
    int64_t sum = 0;
    qsort(v, (size_t)n, sizeof *v, descending);
    for (int64_t i = 0; i < n && i < batch; i++) sum += v[i];
    return sum;
}

static pb_status allocate(pb_loader *l) {
    pb_status status = PB_OK;
    pb_host_batch *b = &l->batch;
    int64_t rows = 0, targets = 0, sequences = l->o.batch < l->n ? l->o.batch : l->n;
    int64_t *sizes = malloc((size_t)(l->n + 1) * sizeof *sizes);
    if (!sizes) PB_FAIL(PB_E_OOM, "no memory for a loader of %lld examples", (long long)l->n);
    for (int64_t i = 0; i < l->n; i++) sizes[i] = pb_dataset_at(l->ds, l->split, i)->n_ids;
    rows = round_up(largest_sum(sizes, l->n, l->o.batch), l->o.row_round);
    for (int64_t i = 0; i < l->n; i++) sizes[i] = targets_of(l, pb_dataset_at(l->ds, l->split, i));
    targets = largest_sum(sizes, l->n, l->o.batch);
    if (rows > INT32_MAX)
        PB_FAIL(PB_E_INPUT, "a batch of %lld tokens, at most 2^31 - 1", (long long)rows);
    b->ids = calloc((size_t)rows + 1, sizeof *b->ids);
    b->positions = calloc((size_t)rows + 1, sizeof *b->positions);
    b->cu = calloc((size_t)sequences + 1, sizeof *b->cu);
    b->loss_rows = calloc((size_t)targets + 1, sizeof *b->loss_rows);
    b->target = calloc((size_t)targets + 1, sizeof *b->target);
    b->example = calloc((size_t)sequences + 1, sizeof *b->example);
    if (l->o.shuffle) l->order = malloc((size_t)(l->n + 1) * sizeof *l->order);
    if (!b->ids || !b->positions || !b->cu || !b->loss_rows || !b->target || !b->example ||
        (l->o.shuffle && !l->order))
        PB_FAIL(PB_E_OOM, "no memory for batches of %lld rows", (long long)rows);
done:
    free(sizes);
    return status;
}

pb_status pb_loader_new(const pb_dataset *ds, pb_split_id split, const pb_loader_options *options,
                        pb_loader **out) {
    pb_status status = PB_OK;
    pb_loader *l = NULL;
    int64_t n = pb_dataset_size(ds, split);
    *out = NULL;
    if (options->batch < 1)
        PB_FAIL(PB_E_INPUT, "batch %lld: expected at least 1", (long long)options->batch);
    if (options->row_round < 1)
        PB_FAIL(PB_E_INPUT, "row_round %d: expected at least 1", options->row_round);
    if (n > INT32_MAX) PB_FAIL(PB_E_INPUT, "%lld examples, at most 2^31 - 1", (long long)n);
    if (options->shuffle && options->batch > n)
        PB_FAIL(PB_E_INPUT, "batch %lld is larger than the %lld examples of %s, %s",
                (long long)options->batch, (long long)n, pb_dataset_name(ds), pb_split_name(split));
    l = calloc(1, sizeof *l);
    if (!l) PB_FAIL(PB_E_OOM, "no memory for a loader");
    *l = (pb_loader){.ds = ds, .split = split, .o = *options, .n = n, .epoch = -1};
    l->batches = options->shuffle ? n / options->batch : (n + options->batch - 1) / options->batch;
    PB_TRY(allocate(l));
    *out = l;
    l = NULL;
done:
    pb_loader_free(l);
    return status;
}

void pb_loader_free(pb_loader *loader) {
    if (!loader) return;
    pb_host_batch *b = &loader->batch;
    free(b->ids);
    free(b->positions);
    free(b->cu);
    free(b->loss_rows);
    free(b->target);
    free(b->example);
    free(loader->order);
    free(loader);
}

int64_t pb_loader_batches(const pb_loader *loader) { return loader->batches; }

/* The examples of batch i: places [*first, *first + count) of its epoch's order. */
static pb_status seek(pb_loader *l, int64_t i, int64_t *first, int64_t *count) {
    if (i < 0 || l->batches == 0)
        return PB_ERROR(PB_E_INPUT, "batch %lld of %s, %s: there are %lld per epoch", (long long)i,
                        pb_dataset_name(l->ds), pb_split_name(l->split), (long long)l->batches);
    int64_t epoch = i / l->batches;
    if (l->o.shuffle && epoch != l->epoch) {
        pb_random_permutation(l->o.seed, pb_random_stream("order", (uint64_t)epoch, 0), l->n,
                              l->order);
        l->epoch = epoch;
    }
    *first = i % l->batches * l->o.batch;
    *count = l->n - *first < l->o.batch ? l->n - *first : l->o.batch;
    return PB_OK;
}

static int64_t example_at(const pb_loader *l, int64_t place) {
    return l->o.shuffle ? l->order[place] : place;
}

static void append(pb_loader *l, int64_t index) {
    pb_host_batch *b = &l->batch;
    const pb_example *e = pb_dataset_at(l->ds, l->split, index);
    int64_t start = b->tokens;
    memcpy(b->ids + start, e->ids, (size_t)e->n_ids * sizeof *b->ids);
    for (int32_t t = 0; t < e->n_ids; t++) b->positions[start + t] = t;
    if (pb_dataset_task(l->ds) == PB_TASK_CLASSIFY) {
        b->target[b->targets++] = e->label;
    } else {
        for (int32_t t = e->loss_from > 1 ? e->loss_from : 1; t < e->n_ids; t++) {
            b->loss_rows[b->targets] = (int32_t)(start + t - 1);
            b->target[b->targets++] = e->ids[t];
        }
    }
    b->example[b->sequences++] = index;
    b->tokens += e->n_ids;
    b->cu[b->sequences] = (int32_t)b->tokens;
    if (e->n_ids > b->max_len) b->max_len = e->n_ids;
}

pb_status pb_loader_batch(pb_loader *loader, int64_t i, const pb_host_batch **out) {
    pb_host_batch *b = &loader->batch;
    int64_t first = 0, count = 0;
    PB_RETURN(seek(loader, i, &first, &count));
    b->sequences = b->tokens = b->max_len = b->targets = 0;
    for (int64_t k = 0; k < count; k++) append(loader, example_at(loader, first + k));
    b->rows = round_up(b->tokens, loader->o.row_round);
    for (int64_t r = b->tokens; r < b->rows; r++) b->ids[r] = b->positions[r] = 0;
    *out = b;
    return PB_OK;
}

pb_status pb_loader_bound(pb_loader *loader, int64_t n, pb_loader_bounds *out) {
    *out = (pb_loader_bounds){0};
    /* In stored order later epochs repeat the first. */
    if (!loader->o.shuffle && n > loader->batches) n = loader->batches;
    for (int64_t i = 0; i < n; i++) {
        int64_t first = 0, count = 0, tokens = 0, targets = 0;
        PB_RETURN(seek(loader, i, &first, &count));
        for (int64_t k = 0; k < count; k++) {
            const pb_example *e =
                pb_dataset_at(loader->ds, loader->split, example_at(loader, first + k));
            tokens += e->n_ids;
            targets += targets_of(loader, e);
            if (e->n_ids > out->max_len) out->max_len = e->n_ids;
        }
        int64_t rows = round_up(tokens, loader->o.row_round);
        if (rows > out->rows) out->rows = rows;
        if (count > out->sequences) out->sequences = count;
        if (targets > out->targets) out->targets = targets;
    }
    return PB_OK;
}
