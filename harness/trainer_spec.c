/* From a resolved run and its data to what a session needs: sizes of the largest batches, steps,
 * settings. */
#include <inttypes.h>
#include <math.h>

#include "harness/trainer_impl.h"

static pb_status check_task(const pb_assets *assets) {
    pb_task task = pb_dataset_task(assets->data);
    if (pb_task_suits(task, assets->config.causal)) return PB_OK;
    return PB_ERROR(
        PB_E_INPUT, "%s is %s and cannot learn the task '%s' of %s; choose %s", assets->model_name,
        assets->config.causal ? "a decoder" : "an encoder", pb_task_name(task),
        pb_dataset_name(assets->data),
        assets->config.causal ? "prompts with completions or plain texts" : "texts with labels");
}

/* Steps from epochs: every batch of an epoch once, rounded up to whole optimizer steps. */
static pb_status resolve_steps(const pb_run_config *run, const pb_loader *loader, int64_t *steps) {
    *steps = run->steps;
    if (run->epochs > 0.0) {
        double batches = loader != NULL ? run->epochs * (double)pb_loader_batches(loader) : 1.0;
        *steps = (int64_t)ceil(batches / (double)run->accumulate - 1e-9);
    }
    if (*steps >= 1 && run->batch >= 1 && run->accumulate >= 1) return PB_OK;
    return PB_ERROR(PB_E_INPUT,
                    "steps %" PRId64 ", batch %" PRId64 " and accumulate %" PRId64
                    " must be at least 1",
                    *steps, run->batch, run->accumulate);
}

static void widen(pb_loader_bounds *a, const pb_loader_bounds *b) {
    if (a->rows < b->rows) a->rows = b->rows;
    if (a->sequences < b->sequences) a->sequences = b->sequences;
    if (a->max_len < b->max_len) a->max_len = b->max_len;
    if (a->targets < b->targets) a->targets = b->targets;
}

/* The batches of the latency grid, none longer than the model has positions for. */
static pb_status bounds_of_shapes(const pb_run_config *run, const pb_assets *assets,
                                  pb_session_spec *spec) {
    for (int i = 0; i < run->n_infer_shapes && pb_run_shape_repeats(run) > 0; i++) {
        int64_t batch = run->infer_shapes[i].batch, length = run->infer_shapes[i].length;
        int64_t rows = (batch * length + PB_ROW_ROUND - 1) / PB_ROW_ROUND * PB_ROW_ROUND;
        pb_loader_bounds bounds = {
            .rows = rows, .sequences = batch, .max_len = length, .targets = rows};
        if (length > assets->config.P)
            return PB_ERROR(PB_E_INPUT,
                            "%s: infer_shapes: %" PRId64 " tokens, but %s has positions for %" PRId64,
                            run->label, length, assets->model_name, assets->config.P);
        widen(&spec->eval, &bounds);
    }
    if (assets->general) {
        pb_loader_bounds bounds;
        PB_RETURN(pb_eval_bounds(assets->general, PB_TEST, 0, run->eval_batch, &bounds));
        widen(&spec->eval, &bounds);
    }
    return PB_OK;
}

/* Every batch the model will see: training, evaluation of each split, latency. */
static pb_status bounds_of_data(const pb_run_config *run, const pb_assets *assets,
                                pb_loader *loader, pb_session_spec *spec) {
    const struct {
        pb_split_id split;
        int64_t limit, batch;
        bool wanted;
    } passes[] = {{PB_VALID, 0, run->eval_batch, true},
                  {PB_TEST, 0, run->eval_batch, !run->skip_test},
                  {PB_TRAIN, run->train_eval, run->eval_batch, run->train_eval > 0},
                  {PB_TEST, run->batch, run->batch, run->infer_repeats > 0}};
    PB_RETURN(pb_loader_bound(loader, spec->optim.steps * run->accumulate, &spec->train));
    for (size_t i = 0; i < sizeof passes / sizeof passes[0]; i++) {
        pb_loader_bounds bounds;
        if (!passes[i].wanted) continue;
        PB_RETURN(pb_eval_bounds(assets->data, passes[i].split, passes[i].limit, passes[i].batch,
                                 &bounds));
        widen(&spec->eval, &bounds);
    }
    return bounds_of_shapes(run, assets, spec);
}

static void bounds_without_data(const pb_run_config *run, pb_session_spec *spec) {
    int64_t rows = (run->batch * run->max_len + PB_ROW_ROUND - 1) / PB_ROW_ROUND * PB_ROW_ROUND;
    spec->train =
        (pb_loader_bounds){.rows = rows, .sequences = run->batch, .max_len = run->max_len};
    spec->train.targets = spec->config->causal ? run->batch * (run->max_len - 1) : run->batch;
}

pb_status pb_run_spec(const pb_run_config *run, const pb_assets *assets, int threads,
                      pb_session_spec *spec, pb_loader **loader) {
    bool has_data = assets->data != NULL;
    *loader = NULL;
    *spec = (pb_session_spec){
        .device = run->device,
        .device_options = {.threads = threads, .page_optimizer = run->paged},
        .config = &assets->config,
        .weights = assets->weights,
        .method = run->method,
        .method_params = run->method_params,
        .where = run->label,
        .model = {.dtype = run->dtype,
                  .checkpoint = run->checkpoint,
                  .classes = assets->config.causal ? 0
                             : has_data            ? pb_dataset_classes(assets->data)
                                                   : 2,
                  .hidden_dropout = run->hidden_dropout,
                  .attention_dropout = run->attention_dropout,
                  .head_dropout = run->head_dropout},
        .optim = {.kind = run->optimizer,
                  .schedule = run->schedule,
                  .lr = run->lr,
                  .warmup = run->warmup,
                  .beta1 = run->beta1,
                  .beta2 = run->beta2,
                  .eps = run->eps,
                  .weight_decay = run->weight_decay,
                  .clip = run->clip},
        .seed = run->seed,
        .accumulate = run->accumulate,
    };
    if (has_data) {
        PB_RETURN(check_task(assets));
        pb_loader_options options = {
            .batch = run->batch, .shuffle = true, .seed = run->seed, .row_round = PB_ROW_ROUND};
        PB_RETURN(pb_loader_new(assets->data, PB_TRAIN, &options, loader));
    }
    PB_RETURN(resolve_steps(run, *loader, &spec->optim.steps));
    if (has_data) return bounds_of_data(run, assets, *loader, spec);
    bounds_without_data(run, spec);
    return PB_OK;
}
