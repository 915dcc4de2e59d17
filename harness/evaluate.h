/* Evaluation: negative log-likelihood and accuracy of a split, one value per example, in the order
 * of the split. */
#ifndef PB_HARNESS_EVALUATE_H
#define PB_HARNESS_EVALUATE_H

#include "harness/trainer_session.h"

/* Of n examples. Classification: nll of the label, correct 0 or 1. Completions and language
 * modelling: mean nll of the example's target tokens, and the share of them that the greedy
 * prediction gets right. Examples without a target token (cut away by max_len) are left out. */
typedef struct pb_eval {
    int64_t n;
    double *id, *nll, *correct, *tokens; /* [n]; tokens: targets of the example */
    double mean_nll, mean_correct; /* over targets: examples, or the tokens of a language model */
} pb_eval;

typedef struct pb_eval_options {
    pb_split_id split;
    int64_t limit; /* the first examples only; 0 = all */
    int64_t batch;
    const volatile int *stop; /* may be NULL; PB_E_INTERRUPTED when it becomes non-zero */
} pb_eval_options;

/* The method's current variant, whatever is merged. Device buffers live in PB_MEM_DATA during the
 * call only. PB_E_DIVERGED when a loss is not finite. */
pb_status pb_evaluate(pb_session *s, const pb_dataset *data, const pb_eval_options *options,
                      pb_eval *out);
void pb_eval_free(pb_eval *e);

/* Largest evaluation batch over a split's first `limit` examples; zeros when the split is empty. */
pb_status pb_eval_bounds(const pb_dataset *data, pb_split_id split, int64_t limit, int64_t batch,
                         pb_loader_bounds *bounds);
/* One forward pass over a host batch: losses (M, as doubles) and predictions per target; either
 * array may be NULL. */
pb_status pb_eval_batch(pb_session *s, const pb_batch_buffers *buffers, pb_tensor pred,
                        const pb_host_batch *hb, double *loss, int32_t *predicted);

#endif
