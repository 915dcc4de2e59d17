/* Batches of packed sequences in an order that is a function of (seed, epoch) alone: the same for
 * every method, backend and thread count. */
#ifndef PB_DATASETS_LOADER_H
#define PB_DATASETS_LOADER_H

#include "datasets/dataset.h"

/* A batch on the host: sequences end to end, no padding between them; rows is tokens rounded up to
 * `row_round`, filled with id 0 at position 0. */
typedef struct pb_host_batch {
    int64_t sequences, tokens, rows, max_len;
    int32_t *ids, *positions; /* [rows] */
    int32_t *cu;              /* [sequences+1] */
    int64_t targets;
    int32_t *loss_rows; /* [targets] rows whose next token is predicted (COMPLETE, LM); unused for
                           CLASSIFY */
    int32_t *target;    /* [targets] next-token ids, or labels [sequences] */
    int64_t *example;   /* [sequences] index in the split */
} pb_host_batch;

typedef struct pb_loader pb_loader;

typedef struct pb_loader_options {
    int64_t batch; /* sequences per batch */
    bool shuffle;  /* false: in order (evaluation), the last batch may be short; true: full batches
                      of a new permutation per epoch, which leaves out size % batch examples of it */
    uint64_t seed;
    int row_round; /* 16 */
} pb_loader_options;

/* The data set must outlive the loader. Takes all memory, for the largest possible batch. */
pb_status pb_loader_new(const pb_dataset *ds, pb_split_id split, const pb_loader_options *options,
                        pb_loader **out);
void pb_loader_free(pb_loader *loader);

/* Number of batches per epoch. */
int64_t pb_loader_batches(const pb_loader *loader);
/* Batch number i counted from the start of training (epoch = i / batches); *out points into the
 * loader and is valid until the next call. Random access: a resumed run continues with the same
 * batches. */
pb_status pb_loader_batch(pb_loader *loader, int64_t i, const pb_host_batch **out);

/* Upper bounds over every batch of [0, n): for sizing device buffers exactly. */
typedef struct pb_loader_bounds {
    int64_t rows, sequences, max_len, targets;
} pb_loader_bounds;
pb_status pb_loader_bound(pb_loader *loader, int64_t n, pb_loader_bounds *out);

#endif
