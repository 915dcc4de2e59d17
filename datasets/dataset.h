/* Data sets: named splits of texts with labels or completions, and the same texts as token ids.
 *
 * A source (one file datasets/source_<name>.c, registry generated) finds and reads the raw texts;
 * tokenising and splitting are shared. Everything is a function of the files' bytes: no clock, no
 * order of folders, no random device. */
#ifndef PB_DATASETS_DATASET_H
#define PB_DATASETS_DATASET_H

#include "base/hash.h"
#include "base/status.h"
#include "datasets/tokenizer.h"

typedef enum pb_split_id { PB_TRAIN, PB_VALID, PB_TEST, PB_SPLITS } pb_split_id;
const char *pb_split_name(pb_split_id split); /* "train", "valid", "test" */

typedef enum pb_task {
    PB_TASK_CLASSIFY, /* text -> label */
    PB_TASK_COMPLETE, /* prompt -> completion, loss on the completion */
    PB_TASK_LM        /* text, loss on every token */
} pb_task;
const char *pb_task_name(pb_task task); /* "classify", "complete", "lm" */
/* Encoders classify, decoders (causal) continue texts. */
static inline bool pb_task_suits(pb_task task, bool causal) { return causal == (task != PB_TASK_CLASSIFY); }

/* One raw example; strings are owned by the pb_texts. */
typedef struct pb_text_example {
    const char *text; /* the text or the prompt */
    size_t text_len;
    const char *completion; /* COMPLETE only */
    size_t completion_len;
    int32_t label; /* CLASSIFY: index into labels, else -1 */
    uint64_t id;   /* stable identity (synset offset, line number): paired statistics join on it */
} pb_text_example;

typedef struct pb_texts {
    pb_task task;
    char name[64];
    int32_t n_labels;
    char **labels; /* sorted by first appearance in a documented order */
    struct {
        pb_text_example *examples;
        int64_t n;
    } split[PB_SPLITS];
    char sha256[PB_SHA256_HEX]; /* of the source files' bytes, in a documented order */
    void *storage;              /* owned by pb_texts_free */
} pb_texts;

typedef struct pb_source {
    const char *name;  /* "wordnet" */
    const char *title; /* "WordNet 3.0 glosses -> 45 supersenses" */
    const char *licence;
    pb_task task;
    const char *how_to_get; /* "apt-get install wordnet-base" */
    /* Reads the raw texts. dir: where (NULL = the default place, e.g. /usr/share/wordnet). */
    pb_status (*load)(const char *dir, pb_texts *out);
} pb_source;
extern const pb_source *const pb_source_registry[];
extern const int pb_source_registry_count;

/* name: a registered source ("wordnet"); or dir != NULL and name NULL/"jsonl": a folder with
 * train.jsonl [valid.jsonl] [test.jsonl]. A missing valid or test split is taken from train: 10 %
 * of the examples, at most 2000, smallest hash of the text (the prompt) first; equal texts stay
 * together and no class loses its last training example.
 * Refused with file, line and what was expected: bad JSON, wrong or missing keys, mixed tasks,
 * labels partly strings and partly integers, a label in valid/test that train has not, an empty
 * text or completion, an empty file, invalid UTF-8, a NUL, a line over 16 MiB. CRLF and blank lines
 * are accepted. PB_E_ENV with how_to_get when a registered source's files are absent. */
pb_status pb_texts_load(const char *name, const char *dir, pb_texts *out);
/* One JSON Lines buffer as (more of) a split, for fuzzing. texts: all zero before the first call;
 * free it also after a failure. */
pb_status pb_texts_parse_jsonl(const char *where, const char *data, size_t len, pb_split_id split,
                               pb_texts *texts);
void pb_texts_free(pb_texts *texts);

/* A tokenised example: ids[0..n_ids); loss on tokens from index loss_from on (COMPLETE, LM), label
 * for CLASSIFY. CLASSIFY, LM: the tokenizer's template around the text. COMPLETE: what the template
 * puts before a text, prompt, completion, end token. At least one token is a target. */
typedef struct pb_example {
    const int32_t *ids;
    int32_t n_ids, loss_from, label;
    uint64_t id;
} pb_example;

typedef struct pb_dataset pb_dataset;

typedef struct pb_dataset_options {
    int64_t max_len; /* tokens per example with specials; longer ones are cut and counted: a text
                        loses its end (not the template's), a prompt its head, and only when
                        nothing of the prompt is left a completion its end */
    int64_t limit[PB_SPLITS]; /* at most this many examples, the smallest by hash of (id,
                                 subsample_seed); 0 = all */
    uint64_t subsample_seed;
    bool refuse_long; /* a too long text is PB_E_INPUT instead */
} pb_dataset_options;

/* Tokenises. The texts may be freed afterwards. The subsample keeps every class that fits. */
pb_status pb_dataset_new(const pb_texts *texts, const pb_tokenizer *tok,
                         const pb_dataset_options *options, pb_dataset **out);
void pb_dataset_free(pb_dataset *ds);

pb_task pb_dataset_task(const pb_dataset *ds);
const char *pb_dataset_name(const pb_dataset *ds);
const char *pb_dataset_sha256(const pb_dataset *ds);
int32_t pb_dataset_classes(const pb_dataset *ds);
const char *pb_dataset_label(const pb_dataset *ds, int32_t i);
int64_t pb_dataset_size(const pb_dataset *ds, pb_split_id split);
const pb_example *pb_dataset_at(const pb_dataset *ds, pb_split_id split, int64_t i);
int64_t pb_dataset_truncated(const pb_dataset *ds, pb_split_id split);
/* Tokens of the longest example after cutting. */
int64_t pb_dataset_longest(const pb_dataset *ds, pb_split_id split);
/* Share of the most frequent class of the split (the majority baseline), 0 for other tasks. */
double pb_dataset_majority(const pb_dataset *ds, pb_split_id split);
/* Chance level of the loss: nats per example of the best answer that does not look at the text, which
 * is the entropy of the split's classes. 0 for other tasks. */
double pb_dataset_chance_nll(const pb_dataset *ds, pb_split_id split);

#endif
