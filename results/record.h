/* The run record: the one thing that passes from the training wing to the telling wing.
 * results/SCHEMA.md documents the file format, field by field.
 *
 * One immutable folder per run, results/<suite>/<run-id>/, with record.json and samples as
 * little-endian f64 files beside it; run-id = the first 16 hex digits of the SHA-256 of the
 * resolved configuration. Everything is written to temporary names, fsynced and renamed;
 * record.json comes last, so a folder with a record is complete. record.json carries the SHA-256 of
 * its own text (`digest`) and of every sample file: a changed byte anywhere is found. */
#ifndef PB_RESULTS_RECORD_H
#define PB_RESULTS_RECORD_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/hash.h"
#include "base/json.h"
#include "base/status.h"

#define PB_RECORD_SCHEMA "1.1"
#define PB_RUN_ID 17 /* 16 hex digits and a NUL */

typedef enum pb_run_status {
    PB_RUN_OK,
    PB_RUN_FAILED,
    PB_RUN_DIVERGED,
    PB_RUN_OOM,
    PB_RUN_INTERRUPTED,
    PB_RUN_STATUS_COUNT
} pb_run_status;
/* "ok", "failed", "diverged", "oom", "interrupted" */
const char *pb_run_status_name(pb_run_status s);

typedef struct pb_metric {
    char tag[96];  /* "quality/test/accuracy", "time/step/median", variants:
                      "quality/test/accuracy@rank=3" */
    double value;  /* NaN is refused by the writer: leave the metric out and say why in warnings */
    char unit[24]; /* "1", "nats", "s", "ms", "bytes", "examples/s" */
    int better;    /* +1 higher, -1 lower, 0 neither */
    int64_t n;     /* how many samples stand behind it */
    char from[96]; /* sample tag it is derived from and how: "mean:eval/test/correct",
                      "median:time/step", "" = none */
} pb_metric;

typedef struct pb_sample {
    char tag[96]; /* "loss/train", "time/step", "eval/test/correct", "eval/test/id" */
    double *values;
    int64_t n;
    char file[128]; /* relative to record.json */
    char sha256[PB_SHA256_HEX];
} pb_sample;

typedef struct pb_mem_row {
    char tag[32]; /* "base", "adapter", ... (as pb_mem_name), "total" */
    uint64_t predicted, peak;
} pb_mem_row;

/* A record in memory, for writer and reader. Strings are owned. Zero-initialise; pb_record_free. */
typedef struct pb_record {
    char run_id[PB_RUN_ID], suite[64], method[32],
        label[64]; /* label: the suite's name for the row ("lora r8") */
    pb_run_status status;
    char reason[512];  /* why a run is not ok: message, signal, step and tensor of a divergence */
    char verified[16]; /* "passed", "incorrect", "not_verified": ops against the reference on this
                          run's shapes */
    uint64_t seed;
    char phase[8];        /* "trial" (chooses a setting, validation only), "final" (at the chosen
                             setting), "" = neither */
    pb_json *tuning;      /* NULL without a phase: {row, trial, lr, why or edge, ...} */
    pb_json *config;      /* resolved configuration, defaults included */
    pb_json *model;       /* {name, sha256, params_total, params_trainable, params_base, ...} */
    pb_json *dataset;     /* {name, sha256, task, classes, majority, splits{train,valid,test},
                             truncated{...}} */
    pb_json *environment; /* machine, libraries, build, argv, threads */
    pb_json *report;      /* what the method reported (ranks, ...), may be NULL */
    pb_json *profile;     /* names and state of the traced pass (profile_table.h), may be NULL */
    pb_metric *metrics;
    int n_metrics;
    pb_sample *samples;
    int n_samples;
    pb_mem_row *memory;
    int n_memory;
    char **warnings;
    int n_warnings;
    char started[32], ended[32]; /* UTC, ISO 8601 */
    char dir[1024];              /* reader: where it was found */
} pb_record;

void pb_record_free(pb_record *r);

/* Builders: copy their arguments; PB_E_OOM when memory ran out. A duplicate or malformed tag (see
 * pb_tag_valid) and a string that does not fit are PB_E_BUG. */
pb_status pb_record_metric(pb_record *r, const char *tag, double value, const char *unit,
                           int better, int64_t n, const char *from);
pb_status pb_record_sample(pb_record *r, const char *tag, const double *values, int64_t n);
pb_status pb_record_memory(pb_record *r, const char *tag, uint64_t predicted, uint64_t peak);
pb_status pb_record_warn(pb_record *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The canonical text of a resolved configuration (keys sorted) and its run id. */
pb_status pb_run_id_of(const pb_json *config, char run_id[PB_RUN_ID]);

/* A family of metrics with a fixed meaning (results/SCHEMA.md): what the writer should say and
 * verify checks. */
typedef struct pb_tag_info {
    const char *pattern; /* glob over the tag without its variant */
    const char *unit;
    int better;
    const char *title; /* "test accuracy" */
} pb_tag_info;
/* The family of a metric tag, NULL when it has none. */
const pb_tag_info *pb_tag_find(const char *tag);
/* a/b_c/d or a/b@key=value: lower-case letters, digits and "_.-" between slashes, one variant at
 * the end. */
bool pb_tag_valid(const char *tag);

/* root/<suite>/<run-id>/: writes samples, then record.json. Other files in the folder are left
 * alone. Concurrent writers of one run take turns (flock on the folder); a finished record is never
 * overwritten (PB_E_INPUT), one with status interrupted is replaced. A record that would not
 * validate is PB_E_BUG. */
pb_status pb_record_write(const pb_record *r, const char *root);
/* Reads and validates one record.json against the schema, digest included; samples are loaded and
 * their hashes checked when with_samples (else values stay NULL). PB_E_INPUT names file, field,
 * found and expected. */
pb_status pb_record_read(const char *path, bool with_samples, pb_record *out);

/* Every record under a folder (a run folder, a suite folder or a results root), sorted by suite,
 * method, label, seed, id. An empty folder is PB_E_INPUT. *out is malloc'ed; free with
 * pb_records_free. */
pb_status pb_records_load(const char *dir, bool with_samples, pb_record **out, int *n);
void pb_records_free(pb_record *records, int n);

const pb_metric *pb_record_find(const pb_record *r, const char *tag);        /* NULL when absent */
const pb_sample *pb_record_find_sample(const pb_record *r, const char *tag); /* NULL when absent */
/* Value of a metric, NaN when absent. */
double pb_record_value(const pb_record *r, const char *tag);

/* Re-derives every metric that names its sample (`from`), checks hashes, run id, folder and fixed
 * names; writes one line per finding to `out` (a FILE) and returns PB_E_CHECK when there was any.
 */
pb_status pb_records_verify(const char *dir, FILE *out, int *n_checked, int *n_bad);

/* Predicted against measured peak bytes of every run that ended well and measured them, by purpose and in total. */
typedef struct pb_memory_check {
    int runs, bad;
    double worst_percent; /* |predicted - measured| / measured; infinite where nothing was measured */
    char worst[192];      /* its run, purpose and bytes */
} pb_memory_check;
/* One line per figure further off than `percent` to `out` (may be NULL); then PB_E_CHECK, naming the worst. A run without a
 * prediction is off by 100 %, one that trained and has no total is out of bounds. PB_E_INPUT when no run ended well and
 * measured memory. */
pb_status pb_records_check_memory(const char *dir, double percent, FILE *out, pb_memory_check *c);

/* The derivations `from` may name, shared by writer and verifier: "mean", "median", "sum", "last",
 * "min", "max", "count", "p10", "p90". PB_E_BUG for an unknown one, PB_E_INPUT for no values where
 * one is needed; a NaN among the values gives NaN. mean = sum / n, both rounded once: a count of
 * ones over n is exact. */
pb_status pb_derive(const char *how, const double *values, int64_t n, double *out);

/* Three derivations with tags of their own (SCHEMA.md), shared by writer and verifier. NaN for too few
 * values.
 * loss/train/roughness: noise of the training loss around its trend over the second half of the
 * steps: the root of the mean squared difference of neighbours, halved (von Neumann's estimate of a
 * standard deviation, which no slow trend moves).
 * curve/valid/upturn: (last - least) / least of the validation losses during training.
 * change/correlation: Pearson's, of at least three pairs; NaN where one side does not vary. */
double pb_roughness(const double *loss, int64_t n);
double pb_upturn(const double *nll, int64_t n);
double pb_correlation(const double *x, const double *y, int64_t n);

#endif
