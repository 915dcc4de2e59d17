/* The memory pass of a profiled run on a GPU: the run's memory is taken and a few steps are made while CUPTI records every
 * allocation, in a process of its own and before this one touches the GPU. Test: tests/test_trainer.c. */
#include <string.h>

#include "base/text.h"
#include "harness/trainer_impl.h"

enum { STEPS = 3, LIMIT_S = 600 }; /* the third step may be a captured one */

static pb_status steps(pb_trainer *m, pb_memory_seen *out) {
    PB_RETURN(pb_trainer_open(m));
    for (int i = 0; i < STEPS; i++) {
        pb_step_result r;
        PB_RETURN(pb_session_step(&m->session, 0, pb_trainer_batch, m, &r));
    }
    for (int k = 0; k < PB_MEM_COUNT; k++) out->taken[k] = pb_device_mem_peak(m->session.dev, (pb_mem)k);
    return PB_OK;
}

pb_status pb_trainer_memory_steps(const pb_trainer *t, const pb_memory_recorder *recorder, pb_memory_seen *out) {
    pb_status status = PB_OK, ended = PB_OK;
    void *r = NULL;
    pb_trainer m = {.run = t->run, .assets = t->assets, .options = t->options, .best_variant = -1};
    PB_RETURN(recorder->begin(&r));
    status = steps(&m, out);
    ended = recorder->end(r, status == PB_OK ? m.session.dev : NULL, out);
    pb_session_close(&m.session);
    pb_loader_free(m.loader);
    return status != PB_OK ? status : ended;
}

static pb_status pass(void *user, pb_memory_seen *out) {
    const pb_memory_recorder *recorder = NULL;
    PB_RETURN(pb_memory_recorder_find(&recorder));
    return pb_trainer_memory_steps(user, recorder, out);
}

pb_status pb_trainer_memory(pb_trainer *t) {
    bool asked = t->options->profile || t->options->counters;
    if (!asked || strcmp(t->run->device, "cuda") != 0) return PB_OK;
    pb_trainer_progress(t, "load", 0, 1, 0.0, true);
    return pb_memory_pass(pass, t, LIMIT_S, t->options->stop, &t->memory_seen);
}
