/* Raw texts: their memory, labels, the split by hash, and where each source is found. JSON Lines
 * are in jsonl.c. Test: tests/test_datasets.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "datasets/texts_impl.h"
#include "datasets/vocab.h"
#include "kernels/core/rng.h"

const char *pb_split_name(pb_split_id split) {
    static const char *const names[PB_SPLITS] = {"train", "valid", "test"};
    PB_ASSERT(split >= 0 && split < PB_SPLITS);
    return names[split];
}

const char *pb_task_name(pb_task task) {
    static const char *const names[] = {"classify", "complete", "lm"};
    PB_ASSERT(task >= PB_TASK_CLASSIFY && task <= PB_TASK_LM);
    return names[task];
}

/* ---- memory: strings lie end to end in blocks that never move ---- */

#define BLOCK_BYTES ((size_t)1 << 20)

typedef struct block {
    struct block *next;
    char bytes[];
} block;

typedef struct store {
    block *blocks;
    char *at;
    size_t left;
    pb_vocab labels;
    int32_t labels_cap;
    int64_t cap[PB_SPLITS];
    int label_kind; /* 0 unknown, 1 strings, 2 integers */
} store;

static pb_status copy(store *s, const char *text, size_t len, const char **out) {
    if (len > SIZE_MAX / 4) return PB_ERROR(PB_E_OOM, "a text of %zu bytes", len);
    if (s->left < len + 1) {
        size_t bytes = len + 1 > BLOCK_BYTES / 4 ? len + 1 : BLOCK_BYTES;
        block *b = malloc(sizeof *b + bytes);
        if (!b) return PB_ERROR(PB_E_OOM, "no memory for %zu bytes of text", bytes);
        b->next = s->blocks;
        s->blocks = b;
        if (bytes != BLOCK_BYTES) { /* a block of its own; the current one stays in use */
            memcpy(b->bytes, text, len);
            b->bytes[len] = 0;
            *out = b->bytes;
            return PB_OK;
        }
        s->at = b->bytes;
        s->left = bytes;
    }
    if (len) memcpy(s->at, text, len);
    s->at[len] = 0;
    *out = s->at;
    s->at += len + 1;
    s->left -= len + 1;
    return PB_OK;
}

pb_status pb_texts_begin(pb_texts *texts, const char *name, pb_task task) {
    *texts = (pb_texts){.task = task};
    pb_copy(texts->name, sizeof texts->name, name);
    texts->storage = calloc(1, sizeof(store));
    return texts->storage ? PB_OK : PB_ERROR(PB_E_OOM, "no memory for texts");
}

bool pb_texts_begun(const pb_texts *texts) { return texts->storage != NULL; }

pb_status pb_texts_add(pb_texts *texts, pb_split_id split, const pb_text_example *example) {
    store *s = texts->storage;
    if (texts->split[split].n == s->cap[split]) {
        int64_t cap = s->cap[split] + s->cap[split] / 2 + 256;
        pb_text_example *v = realloc(texts->split[split].examples, (size_t)cap * sizeof *v);
        if (!v) return PB_ERROR(PB_E_OOM, "no memory for %lld examples", (long long)cap);
        texts->split[split].examples = v;
        s->cap[split] = cap;
    }
    pb_text_example e = *example;
    PB_RETURN(copy(s, example->text, example->text_len, &e.text));
    if (example->completion)
        PB_RETURN(copy(s, example->completion, example->completion_len, &e.completion));
    texts->split[split].examples[texts->split[split].n++] = e;
    return PB_OK;
}

pb_status pb_texts_label(pb_texts *texts, const char *label, bool add, int32_t *index) {
    store *s = texts->storage;
    *index = pb_vocab_find(&s->labels, label, strlen(label));
    if (*index >= 0 || !add) return PB_OK;
    if (texts->n_labels == s->labels_cap) {
        if (s->labels_cap > 1 << 20)
            return PB_ERROR(PB_E_INPUT, "more than %d labels", s->labels_cap);
        int32_t cap = s->labels_cap * 2 + 16;
        char **labels = realloc(texts->labels, (size_t)cap * sizeof *labels);
        if (!labels) return PB_ERROR(PB_E_OOM, "no memory for labels");
        texts->labels = labels;
        s->labels_cap = cap;
    }
    const char *kept = NULL;
    int32_t existing = -1;
    PB_RETURN(copy(s, label, strlen(label), &kept));
    PB_RETURN(pb_vocab_add(&s->labels, label, strlen(label), texts->n_labels, &existing));
    texts->labels[texts->n_labels] = (char *)kept;
    *index = texts->n_labels++;
    return PB_OK;
}

bool pb_texts_label_kind(pb_texts *texts, bool integer) {
    store *s = texts->storage;
    int kind = integer ? 2 : 1;
    if (s->label_kind == 0) s->label_kind = kind;
    return s->label_kind == kind;
}

void pb_texts_free(pb_texts *texts) {
    if (!texts) return;
    store *s = texts->storage;
    if (s) {
        for (block *b = s->blocks; b;) {
            block *next = b->next;
            free(b);
            b = next;
        }
        pb_vocab_free(&s->labels);
        free(s);
    }
    for (int i = 0; i < PB_SPLITS; i++) free(texts->split[i].examples);
    free(texts->labels);
    *texts = (pb_texts){0};
}

/* ---- splitting ---- */

uint64_t pb_texts_hash(const char *text, size_t len, uint64_t salt) {
    pb_u32x4 r = pb_philox(pb_hash_add(PB_HASH_START, text, len), salt, 0);
    return (uint64_t)r.v[1] << 32 | r.v[0];
}

typedef struct drawn {
    uint64_t hash;
    int64_t index;
} drawn;

static int by_hash(const void *a, const void *b) {
    const drawn *x = a, *y = b;
    if (x->hash != y->hash) return x->hash < y->hash ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

/* Takes the group d[0..n) when every class keeps an example. */
static bool take_group(const pb_texts *texts, const drawn *d, int64_t n, int64_t *left_of_class) {
    if (texts->task != PB_TASK_CLASSIFY) return true;
    const pb_text_example *v = texts->split[PB_TRAIN].examples;
    bool fine = true;
    for (int64_t i = 0; i < n; i++) fine &= --left_of_class[v[d[i].index].label] > 0;
    for (int64_t i = 0; i < n && !fine; i++) left_of_class[v[d[i].index].label]++;
    return fine;
}

/* Moves the marked examples; both splits keep the source's order. */
static pb_status move_marked(pb_texts *texts, pb_split_id to, const bool *marked, int64_t count) {
    pb_text_example *from = texts->split[PB_TRAIN].examples;
    pb_text_example *v = malloc((size_t)count * sizeof *v);
    if (!v) return PB_ERROR(PB_E_OOM, "no memory for %lld examples", (long long)count);
    int64_t kept = 0, moved = 0;
    for (int64_t i = 0; i < texts->split[PB_TRAIN].n; i++) {
        if (marked[i]) v[moved++] = from[i];
        else from[kept++] = from[i];
    }
    PB_ASSERT(moved == count);
    texts->split[PB_TRAIN].n = kept;
    texts->split[to].examples = v;
    texts->split[to].n = moved;
    ((store *)texts->storage)->cap[to] = moved;
    return PB_OK;
}

pb_status pb_texts_split_off(pb_texts *texts, pb_split_id to, int64_t target) {
    pb_status status = PB_OK;
    int64_t n = texts->split[PB_TRAIN].n, taken = 0;
    const pb_text_example *v = texts->split[PB_TRAIN].examples;
    PB_ASSERT(to != PB_TRAIN && texts->split[to].n == 0);
    drawn *d = malloc((size_t)(n + 1) * sizeof *d);
    bool *marked = calloc((size_t)n + 1, sizeof *marked);
    int64_t *left = calloc((size_t)texts->n_labels + 1, sizeof *left);
    if (!d || !marked || !left) PB_FAIL(PB_E_OOM, "no memory to split %lld examples", (long long)n);
    for (int64_t i = 0; i < n; i++) {
        d[i] = (drawn){pb_texts_hash(v[i].text, v[i].text_len, (uint64_t)to), i};
        if (texts->task == PB_TASK_CLASSIFY) left[v[i].label]++;
    }
    qsort(d, (size_t)n, sizeof *d, by_hash);
    for (int64_t i = 0, j; i < n && taken < target; i = j) {
        for (j = i + 1; j < n && d[j].hash == d[i].hash;) j++;
        if (taken + (j - i) > target || taken + (j - i) >= n ||
            !take_group(texts, d + i, j - i, left))
            continue;
        for (int64_t k = i; k < j; k++) marked[d[k].index] = true;
        taken += j - i;
    }
    if (taken == 0)
        PB_FAIL(PB_E_INPUT,
                "no %s split can be taken from %lld training examples: add %s.jsonl",
                pb_split_name(to), (long long)n, pb_split_name(to));
    free(texts->split[to].examples);
    texts->split[to].examples = NULL;
    PB_TRY(move_marked(texts, to, marked, taken));
done:
    free(d);
    free(marked);
    free(left);
    return status;
}

/* ---- folders of JSON Lines ---- */

static pb_status read_split(const char *path, pb_split_id split, pb_sha256 *sha, pb_texts *out) {
    pb_status status = PB_OK;
    pb_map map = {0};
    PB_TRY(pb_map_open(path, &map));
    pb_sha256_add(sha, map.data, map.len);
    PB_TRY(pb_texts_parse_jsonl(path, (const char *)map.data, map.len, split, out));
done:
    pb_map_close(&map);
    return status;
}

static pb_status load_folder(const char *dir, pb_texts *out) {
    pb_status status = PB_OK;
    pb_sha256 *sha = NULL;
    char *path[PB_SPLITS] = {0};
    bool there[PB_SPLITS] = {false};
    PB_TRY(pb_sha256_new(&sha));
    for (int i = 0; i < PB_SPLITS; i++) {
        char name[16];
        snprintf(name, sizeof name, "%s.jsonl", pb_split_name((pb_split_id)i));
        path[i] = pb_path_join(dir, name);
        if (!path[i]) PB_FAIL(PB_E_OOM, "no memory");
        there[i] = pb_file_exists(path[i]);
    }
    if (!there[PB_TRAIN]) PB_FAIL(PB_E_INPUT, "%s: expected a folder with train.jsonl", dir);
    for (int i = 0; i < PB_SPLITS;
         i++) /* the hash is that of train, valid, test one after the other */
        if (there[i]) PB_TRY(read_split(path[i], (pb_split_id)i, sha, out));
    size_t end = strlen(dir), start = 0;
    while (end > 1 && dir[end - 1] == '/') end--;
    for (size_t i = 0; i + 1 < end; i++)
        if (dir[i] == '/') start = i + 1;
    snprintf(out->name, sizeof out->name, "%.*s", (int)(end - start < 63 ? end - start : 63),
             dir + start);
    int64_t target = out->split[PB_TRAIN].n / 10;
    if (target < 1) target = 1;
    if (target > 2000) target = 2000;
    for (int i = PB_TEST; i > PB_TRAIN; i--)
        if (!there[i]) {
            status = pb_texts_split_off(out, (pb_split_id)i, target);
            if (status == PB_E_INPUT)
                PB_FAIL(status, "%s: %s", path[PB_TRAIN], pb_error_message());
            PB_TRY(status);
        }
    pb_sha256_end(sha, out->sha256);
    sha = NULL;
    if (out->task == PB_TASK_CLASSIFY && out->n_labels < 2)
        PB_FAIL(PB_E_INPUT, "%s: every example has the label \"%.80s\"; expected at least two classes",
                path[PB_TRAIN], out->n_labels ? out->labels[0] : "");
done:
    pb_sha256_free(sha);
    for (int i = 0; i < PB_SPLITS; i++) free(path[i]);
    return status;
}

pb_status pb_texts_load(const char *name, const char *dir, pb_texts *out) {
    pb_status status = PB_OK;
    const pb_source *source = NULL;
    *out = (pb_texts){0};
    if (!name || !*name || strcmp(name, "jsonl") == 0) {
        if (!dir || !*dir)
            PB_FAIL(PB_E_INPUT,
                    "a data set needs the name of a source or a folder with train.jsonl");
        PB_TRY(load_folder(dir, out));
        goto done;
    }
    for (int i = 0; i < pb_source_registry_count; i++)
        if (strcmp(pb_source_registry[i]->name, name) == 0) source = pb_source_registry[i];
    if (!source) {
        const char *names[64];
        size_t n = 0;
        for (int i = 0; i < pb_source_registry_count && n < 63; i++)
            names[n++] = pb_source_registry[i]->name;
        names[n++] = "jsonl";
        PB_FAIL(PB_E_INPUT, "no data source is called \"%.80s\"; the nearest is \"%s\"", name,
                pb_nearest(name, names, n));
    }
    PB_TRY(source->load(dir && *dir ? dir : NULL, out));
done:
    if (status != PB_OK) pb_texts_free(out);
    return status;
}
