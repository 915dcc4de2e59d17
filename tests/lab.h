/* A laboratory for the trainer's tests: tiny models of two families with weights from a file, and
 * sessions on batches of random tokens. Nothing here knows a method. */
#ifndef PB_TESTS_LAB_H
#define PB_TESTS_LAB_H

#include "harness/evaluate.h"
#include "harness/trainer_session.h"

typedef enum pb_lab_model { PB_LAB_BERT, PB_LAB_LLAMA, PB_LAB_MODELS } pb_lab_model;

enum { PB_LAB_CLASSES = 3, PB_LAB_SEQUENCES = 8, PB_LAB_MAX_LEN = 9, PB_LAB_WORDS = 61 };

const char *pb_lab_config_json(pb_lab_model model);
/* DIR/config.json and DIR/model.safetensors with seeded weights large enough to learn on. */
void pb_lab_write_model(pb_lab_model model, const char *dir);
/* The same for any config.json; sigma: of the matrices' values. */
void pb_lab_write_config(const char *json, double sigma, const char *dir);

typedef struct pb_lab_options {
    pb_lab_model model;
    const pb_method *method;
    const pb_json *params; /* of the method; NULL = its defaults */
    pb_dtype dtype;
    const char *device; /* NULL = "cpu" */
    int threads;        /* 0 = 2 */
    uint64_t seed;      /* 0 = 1 */
    int64_t steps;      /* 0 = 4 */
    double lr, dropout; /* lr 0 = 5e-3 */
    double clip;        /* 0 = none */
    pb_optimizer optimizer;
    int64_t accumulate; /* 0 = 1 */
    int64_t checkpoint; /* layers */
    int64_t fail_alloc;
    bool base_only; /* without the method, but its storage */
    bool no_optim;
} pb_lab_options;

typedef struct pb_lab {
    pb_lab_options o;
    pb_model_config config;
    pb_safetensors *weights;
    pb_synthetic batch, half[2]; /* half: the same sequences in two batches */
    pb_session session;
    int64_t step;
} pb_lab;

/* Close also after a failure. *trains (may be NULL) false: the method has nothing to train on this
 * model (head-only on a decoder), PB_OK, and nothing is open. */
pb_status pb_lab_open(pb_lab *lab, const char *model_dir, const pb_lab_options *options,
                      bool *trains);
void pb_lab_close(pb_lab *lab);
pb_status pb_lab_train(pb_lab *lab, int64_t steps);
/* Logits of the batch's real rows as doubles (malloc'ed, *n values), in the method's last variant.
 */
pb_status pb_lab_logits(pb_lab *lab, double **out, size_t *n);
/* sha256 over the values of all trainable, or of all frozen, parameters. */
pb_status pb_lab_hash(pb_lab *lab, bool trainable, char hex[PB_SHA256_HEX]);
/* Losses of the steps so far. */
pb_status pb_lab_losses(pb_lab *lab, double *out, int64_t n);

#endif
