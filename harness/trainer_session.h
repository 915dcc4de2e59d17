/* A session: everything one training needs on a device, made once, and the step that uses it. The
 * trainer, the predictor (on a plan device) and the step benchmark all go through it, so that what
 * is predicted is what is run. Private to harness/. */
#ifndef PB_HARNESS_TRAINER_SESSION_H
#define PB_HARNESS_TRAINER_SESSION_H

#include "datasets/loader.h"
#include "harness/optimizer.h"
#include "models/model.h"

/* Micro-batch number i counted from the start of training; *out is valid until the next call. */
typedef pb_status (*pb_batch_source)(void *user, int64_t i, const pb_host_batch **out);

typedef struct pb_session_spec {
    const char *device;
    pb_device_options device_options;
    const uint64_t *reserve; /* [PB_MEM_COUNT] bytes made ready at once; NULL = grow as needed */
    const pb_model_config *config;
    const pb_safetensors *weights; /* NULL = random */
    const pb_method *method;       /* NULL = head only as the model marks it */
    const pb_json *method_params;
    const char *where;      /* for messages about method_params */
    pb_model_options model; /* sizes and storage are filled in by pb_session_open */
    pb_optim_config optim;
    uint64_t seed;
    int64_t accumulate;
    pb_loader_bounds train, eval; /* largest training and evaluation batch; eval may be zero */
    bool no_optim;                /* forward only */
} pb_session_spec;

/* Device buffers for one batch; a batch on the device is a view of them. */
typedef struct pb_batch_buffers {
    pb_tensor ids, positions, cu, loss_rows, target; /* i32; loss_rows: decoders only */
    pb_tensor loss;                                  /* M [targets] */
} pb_batch_buffers;

/* Seconds of one optimizer step; and what it worked on. step_s is the host's clock from the first batch at hand until
 * the device has finished: whatever the host does for a step is in it (it writes a piece of the step down before the graph of
 * that piece starts), copying token numbers too. The others are the device's intervals, between events; nothing of the host is
 * in them as long as it writes the next piece before the device has run the last. */
typedef struct pb_step_result {
    double step_s, forward_s, backward_s, optimizer_s;
    double loss, norm; /* mean loss over the step's targets; gradient norm before clipping */
    int64_t sequences, tokens, targets;
} pb_step_result;

typedef struct pb_session {
    pb_session_spec spec;
    pb_device *dev;
    void *self; /* the method's state */
    pb_model *model;
    pb_optim *optim;
    pb_batch_buffers buffers;
    pb_tensor loss_log, term_log; /* M [steps]: mean loss, and the method's own term */
    pb_event **events;            /* 4 + 3 per micro-batch */
    int n_events;
} pb_session;

/* Opens the device and builds model, method, optimizer and buffers. Close it also after a failure.
 */
pb_status pb_session_open(pb_session *s, const pb_session_spec *spec);
void pb_session_close(pb_session *s);

/* One optimizer step in the fixed order of trainer.h. The mean loss goes to loss_log[step].
 * PB_E_DIVERGED: nothing was updated. */
pb_status pb_session_step(pb_session *s, int64_t step, pb_batch_source source, void *user,
                          pb_step_result *out);

pb_status pb_batch_buffers_new(pb_session *s, const pb_loader_bounds *bounds,
                               pb_batch_buffers *out);
/* Copies a host batch into the buffers; *out views them. */
pb_status pb_batch_put(pb_session *s, const pb_batch_buffers *buffers, const pb_host_batch *hb,
                       pb_batch *out);
/* How many losses the batch has: sequences of an encoder, target tokens of a decoder. */
int64_t pb_batch_targets(const pb_session *s, const pb_host_batch *hb);
/* The first n elements of a vector. */
pb_tensor pb_first(pb_tensor vector, int64_t n);
/* A pass as evaluation wants it. */
pb_pass pb_session_eval_pass(const pb_session *s);

/* A batch of `sequences` sequences of random lengths in [min_len, max_len] and random ids:
 * benchmarks and plans. */
typedef struct pb_synthetic {
    pb_host_batch batch;
    void *storage;
} pb_synthetic;
pb_status pb_synthetic_new(const pb_model_config *config, int64_t classes, int64_t sequences,
                           int64_t min_len, int64_t max_len, uint64_t seed, pb_synthetic *out);
/* One of exactly these sizes, for plan devices only: its content means nothing. */
pb_status pb_synthetic_of_bounds(const pb_loader_bounds *bounds, pb_synthetic *out);
void pb_synthetic_free(pb_synthetic *b);
/* A pb_batch_source: always this batch. user = pb_synthetic. */
pb_status pb_synthetic_source(void *user, int64_t i, const pb_host_batch **out);

#endif
