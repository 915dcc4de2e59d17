/* What records say about the methods: the verdicts of one comparison (reports/comparison.h), so that advice and report of
 * the same records agree. The comparison is that of one suite, model and data set: with fair numbers of seeds first, then
 * tuned before untuned, then with the most methods. Private to harness/. */
#ifndef PB_HARNESS_ADVISE_EVIDENCE_H
#define PB_HARNESS_ADVISE_EVIDENCE_H

#include "methods/method.h"
#include "reports/comparison.h"

typedef struct pb_evidence pb_evidence;

/* One method in the records, against the row that speaks for LoRA. Points into the evidence. */
typedef struct pb_advise_quality {
    bool known;
    int entry;                   /* for pb_evidence_beats and pb_evidence_mean; -1 when not known */
    const char *label;           /* of the row that speaks for the method */
    const pb_json *params;       /* its parameters, resolved */
    const pb_verdict *lead;      /* in the leading measure; NULL for LoRA itself */
    const pb_verdict *accuracy;  /* NULL for LoRA itself and where accuracy leads or is missing */
    int n_seeds;                 /* of the verdict; LoRA's own: its finished runs */
    int64_t most_examples;       /* the most training examples that any record of the method has; 0 = none */
    int64_t most_examples_some;  /* of those records that train some of the layers alone; 0 = none */
    char why[400];               /* why not known */
} pb_advise_quality;

/* Reads every record below dir with its samples. *out NULL, and PB_OK, where nothing can be said: no folder (dir may be
 * NULL), no record, no finished row of LoRA. */
pb_status pb_evidence_load(const char *dir, pb_evidence **out);
void pb_evidence_free(pb_evidence *e);

/* e may be NULL: not known. Of several rows of a method the one that can be compared with LoRA's speaks, then the one with
 * the most seeds, then with the best validation loss: the test split chooses nothing. A row that fine-tunes some of the
 * base's weights alone (`full` with targets) is none of the method that is planned. */
void pb_evidence_quality(const pb_evidence *e, const pb_method *method, pb_advise_quality *out);
/* alpha / r of LoRA's row; `otherwise` where it is unknown or e is NULL. */
double pb_evidence_scale(const pb_evidence *e, double otherwise);

/* What decides first: test NLL where rows have it, else test accuracy. */
const pb_measure *pb_evidence_lead(const pb_evidence *e);
/* Is entry a detectably better than b: in the leading measure, else, where that does not tell them apart, in accuracy? */
bool pb_evidence_beats(const pb_evidence *e, int a, int b);
/* The leading measure's verdict on two entries; PB_INCOMPARABLE says why. */
const pb_verdict *pb_evidence_verdict(const pb_evidence *e, int a, int b);
/* Mean of an entry in the leading measure, so signed that more is better. */
double pb_evidence_mean(const pb_evidence *e, int entry);
/* What records of more than `over` training examples say of a method on the top layers alone (the model's upper half, or
 * fewer) against LoRA on all: at parity in everything but the targets. */
typedef struct pb_evidence_top {
    bool known;
    const char *label;         /* the row's; points into the evidence */
    const pb_measure *measure; /* test NLL where they have it, else accuracy */
    pb_verdict verdict;
    int64_t examples;
    char where[224]; /* "my-suite: my-model on my-data" */
    char why[400];   /* why not known */
} pb_evidence_top;
/* e may be NULL. PB_E_OOM. */
pb_status pb_evidence_top_layers(const pb_evidence *e, const char *method, int64_t over, pb_evidence_top *out);
/* "claims-main: all-MiniLM-L6-v2 on wordnet, 5 seeds, tuned" */
const char *pb_evidence_where(const pb_evidence *e);

#endif
