/* Latency suites: set-up, the rounds, the records. Test: tests/test_latency.c. */
#include "harness/latency.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "harness/environment.h"
#include "harness/forward_timer.h"
#include "harness/runner_impl.h"
#include "harness/trainer_impl.h"

enum { MAX_SHAPES = PB_LATENCY_MAX * PB_LATENCY_MAX };
#define CLASSES 2 /* of an encoder's head: it hardly counts */
#define WARMUP 2  /* rounds that are not kept */

/* ---- identity ---- */

static bool add_counts(pb_json *o, const char *key, const int64_t *values, int n) {
    pb_json *list = pb_json_add_array(o, key);
    bool ok = list != NULL;
    for (int i = 0; ok && i < n; i++) ok = pb_json_add_i64(list, NULL, values[i]);
    return ok;
}

pb_status pb_latency_config(const pb_suite *suite, const pb_run_config *run, const char *model_sha,
                            pb_json **out) {
    pb_status status = PB_OK;
    const pb_latency *l = &suite->latency;
    void *self = NULL;
    char name[1024];
    *out = NULL;
    pb_json *o = cJSON_CreateObject();
    bool ok = pb_json_add_str(o, "method", run->method->name);
    pb_json *params = ok ? pb_json_add_object(o, "params") : NULL;
    if (!params) PB_FAIL(PB_E_OOM, "%s: no memory for the configuration", run->label);
    PB_TRY(run->method->create(run->method_params, run->label, &self));
    PB_TRY(run->method->describe(self, params));
    pb_run_model_name(run, name, sizeof name);
    pb_json *model = pb_json_add_object(o, "model");
    ok = pb_json_add_str(model, "name", name) && pb_json_add_str(model, "sha256", model_sha) &&
         pb_json_add_str(o, "dtype", pb_dtype_name(run->dtype)) &&
         pb_json_add_str(o, "device", run->device) &&
         pb_json_add_i64(o, "seed", (int64_t)run->seed);
    pb_json *grid = ok ? pb_json_add_object(o, "latency") : NULL;
    ok = grid && add_counts(grid, "batch", l->batch, l->n_batch) &&
         add_counts(grid, "length", l->length, l->n_length) &&
         pb_json_add_i64(grid, "repeats", l->repeats);
    if (!ok) PB_FAIL(PB_E_OOM, "%s: no memory for the configuration", run->label);
    *out = o;
    o = NULL;
done:
    if (self) run->method->destroy(self);
    pb_json_free(o);
    return status;
}

/* ---- lanes: a model that takes part, merged or not ---- */

typedef struct lane {
    const pb_run_config *run;
    int row;
    bool merged;
    pb_session session;
    pb_forward_timer timer;
    double *seconds[MAX_SHAPES];
    double flops[MAX_SHAPES];
} lane;

typedef struct bench {
    const pb_suite *suite;
    const pb_runner_options *options;
    const pb_run_config **runs; /* the rows at one seed */
    int n_runs;
    pb_model_config config;
    pb_safetensors *weights;
    char model_name[128], model_sha[PB_SHA256_HEX];
    lane *lanes;
    int n_lanes, n_shapes;
    pb_synthetic batch[MAX_SHAPES];
    pb_loader_bounds bounds; /* of the largest batch */
} bench;

static void shape_name(const bench *b, int shape, char out[32]) {
    const pb_latency *l = &b->suite->latency;
    snprintf(out, 32, "%" PRId64 "x%" PRId64, l->batch[shape / l->n_length],
             l->length[shape % l->n_length]);
}

static pb_status open_lane(bench *b, int row, bool merged) {
    lane *l = &b->lanes[b->n_lanes++];
    const pb_run_config *run = b->runs[row];
    *l = (lane){.run = run, .row = row, .merged = merged};
    pb_session_spec spec = {
        .device = run->device,
        .device_options = {.threads = b->options->threads,
                           .memory_budget = b->options->memory_budget},
        .config = &b->config,
        .weights = b->weights,
        .method = run->method,
        .method_params = run->method_params,
        .where = run->label,
        .model = {.dtype = run->dtype, .classes = b->config.causal ? 0 : CLASSES},
        .optim = {.kind = PB_OPT_ADAMW, .steps = 1},
        .seed = run->seed,
        .accumulate = 1,
        .eval = b->bounds,
        .no_optim = true,
    };
    PB_RETURN(pb_session_open(&l->session, &spec));
    PB_RETURN(pb_forward_timer_open(&l->timer, &l->session, &b->bounds));
    for (int s = 0; s < b->n_shapes; s++) {
        l->seconds[s] = calloc((size_t)b->suite->latency.repeats, sizeof(double));
        if (!l->seconds[s]) return PB_ERROR(PB_E_OOM, "no memory for %s", run->label);
    }
    return merged ? run->method->merge(l->session.self, l->session.dev) : PB_OK;
}

static void close_lane(lane *l, int n_shapes) {
    if (l->merged && l->session.self) l->run->method->unmerge(l->session.self, l->session.dev);
    pb_forward_timer_close(&l->timer);
    for (int s = 0; s < n_shapes; s++) free(l->seconds[s]);
    pb_session_close(&l->session);
}

/* Round by round every lane once; who begins changes from round to round. */
static pb_status time_shape(bench *b, int shape) {
    int64_t repeats = b->suite->latency.repeats;
    for (int64_t i = -WARMUP; i < repeats; i++) {
        for (int k = 0; k < b->n_lanes; k++) {
            lane *l = &b->lanes[(k + (int)(i + WARMUP)) % b->n_lanes];
            double seconds = 0.0;
            PB_RETURN(pb_forward_timer_pass(&l->timer, &b->batch[shape].batch, &seconds,
                                            &l->flops[shape]));
            if (i >= 0) l->seconds[shape][i] = seconds;
        }
    }
    return PB_OK;
}

static pb_status set_up(bench *b) {
    const pb_latency *l = &b->suite->latency;
    b->n_shapes = l->n_batch * l->n_length;
    b->lanes = calloc((size_t)b->n_runs * 2, sizeof *b->lanes);
    if (!b->lanes) return PB_ERROR(PB_E_OOM, "no memory for the rows");
    for (int s = 0; s < b->n_shapes; s++) {
        int64_t n = l->batch[s / l->n_length], length = l->length[s % l->n_length];
        PB_RETURN(pb_synthetic_new(&b->config, CLASSES, n, length, length, 1, &b->batch[s]));
        const pb_host_batch *hb = &b->batch[s].batch;
        if (hb->rows > b->bounds.rows) b->bounds.rows = hb->rows;
        if (hb->sequences > b->bounds.sequences) b->bounds.sequences = hb->sequences;
        if (hb->max_len > b->bounds.max_len) b->bounds.max_len = hb->max_len;
        if (hb->targets > b->bounds.targets) b->bounds.targets = hb->targets;
    }
    for (int row = 0; row < b->n_runs; row++) {
        const pb_method *m = b->runs[row]->method;
        PB_RETURN(open_lane(b, row, false));
        if (m->mergeable && m->merge && m->unmerge) PB_RETURN(open_lane(b, row, true));
    }
    return PB_OK;
}

/* ---- records ---- */

static pb_status describe_model(const bench *b, const lane *l, pb_record *r) {
    pb_params *params = pb_model_params(l->session.model);
    int64_t adapter = 0;
    for (int i = 0; i < pb_params_count(params); i++) {
        const pb_param *p = pb_params_at(params, i);
        if (p->role == PB_ROLE_ADAPTER) adapter += p->dim[0] * (p->ndim == 2 ? p->dim[1] : 1);
    }
    bool ok = pb_json_add_str(r->model, "name", b->model_name) &&
              pb_json_add_str(r->model, "sha256", b->model_sha) &&
              pb_json_add_str(r->model, "family", b->config.family) &&
              pb_json_add_i64(r->model, "params_total", pb_params_elements(params, false)) &&
              pb_json_add_i64(r->model, "params_trainable", pb_params_elements(params, true)) &&
              pb_json_add_i64(r->model, "params_adapter", adapter) &&
              pb_json_add_str(r->dataset, "name", "random tokens") &&
              pb_json_add_str(r->dataset, "sha256", "");
    return ok ? PB_OK : PB_ERROR(PB_E_OOM, "no memory for the record");
}

static pb_status add_lane(const bench *b, const lane *l, pb_record *r) {
    const pb_latency *grid = &b->suite->latency;
    const char *form = l->merged ? "merged" : "unmerged";
    for (int s = 0; s < b->n_shapes; s++) {
        char shape[32], metric[96];
        PB_RETURN(pb_forward_record(r, "time", form, grid->batch[s / grid->n_length],
                                    grid->length[s % grid->n_length], l->seconds[s], grid->repeats));
        shape_name(b, s, shape);
        snprintf(metric, sizeof metric, "work/infer_%s/flops@shape=%s", form, shape);
        PB_RETURN(pb_record_known(r, metric, l->flops[s], 1));
    }
    return PB_OK;
}

static pb_status write_row(const bench *b, int row, const char *started) {
    pb_status status = PB_OK;
    const pb_run_config *run = b->runs[row];
    pb_record r = {.seed = run->seed};
    char text[512];
    pb_copy(r.suite, sizeof r.suite, b->suite->name);
    pb_copy(r.method, sizeof r.method, run->method->name);
    pb_copy(r.label, sizeof r.label, run->label);
    pb_copy(r.verified, sizeof r.verified, "not_verified");
    pb_copy(r.started, sizeof r.started, started);
    pb_utc_now(r.ended);
    r.model = cJSON_CreateObject();
    r.dataset = cJSON_CreateObject();
    PB_TRY(pb_latency_config(b->suite, run, b->model_sha, &r.config));
    PB_TRY(pb_run_id_of(r.config, r.run_id));
    PB_TRY(pb_environment_json(run->device, b->options->threads, &r.environment));
    for (int k = 0; k < b->n_lanes; k++) {
        const lane *l = &b->lanes[k];
        if (l->row != row) continue;
        if (!l->merged) {
            pb_device_describe(l->session.dev, text, sizeof text);
            PB_TRY(pb_environment_add_gpu(r.environment, text));
            PB_TRY(describe_model(b, l, &r));
        }
        PB_TRY(add_lane(b, l, &r));
    }
    PB_TRY(pb_record_write(&r, b->options->out_dir));
done:
    pb_record_free(&r);
    return status;
}

static pb_status run_bench(bench *b) {
    pb_status status = PB_OK;
    char started[32];
    pb_utc_now(started);
    PB_TRY(set_up(b));
    for (int s = 0; s < b->n_shapes; s++) {
        char shape[32];
        shape_name(b, s, shape);
        if (b->options->log)
            fprintf(b->options->log, "[%d/%d] batch x length %s, seed %" PRIu64 ", %d models in turns\n",
                    s + 1, b->n_shapes, shape, b->runs[0]->seed, b->n_lanes);
        PB_TRY(time_shape(b, s));
    }
    for (int row = 0; row < b->n_runs; row++) PB_TRY(write_row(b, row, started));
done:
    for (int k = 0; k < b->n_lanes; k++) close_lane(&b->lanes[k], b->n_shapes);
    for (int s = 0; s < MAX_SHAPES; s++) pb_synthetic_free(&b->batch[s]);
    free(b->lanes);
    return status;
}

/* ---- in a process of its own: no thread may start where runs are forked ---- */

static pb_status run_child(bench *b, int *signal_number) {
    int wait_status = 0;
    pid_t parent = getpid();
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) return PB_ERROR(PB_E_ENV, "no process for the bench: %s", strerror(errno));
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) _exit(1);
        pb_runner_signals(false);
        signal(SIGINT, SIG_DFL);
        signal(SIGTERM, SIG_DFL);
        pb_status status = run_bench(b);
        if (status != PB_OK) fprintf(stderr, "peftbench: %s\n", pb_error_message());
        _exit(status == PB_OK ? 0 : 64 + (int)status);
    }
    while (waitpid(pid, &wait_status, 0) != pid) {
        if (errno != EINTR) return PB_ERROR(PB_E_ENV, "waiting failed: %s", strerror(errno));
        if (pb_runner_caught()) kill(pid, SIGKILL);
    }
    *signal_number = pb_runner_caught();
    if (*signal_number) return PB_ERROR(PB_E_INTERRUPTED, "stopped by signal %d", *signal_number);
    if (WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0) return PB_OK;
    int code = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) - 64 : 0;
    bool known = code > 0 && code <= PB_E_INTERRUPTED;
    return PB_ERROR(known ? (pb_status)code : PB_E_CHECK,
                    "the latency bench ended early (%s %d)",
                    WIFSIGNALED(wait_status) ? "signal" : "status",
                    WIFSIGNALED(wait_status) ? WTERMSIG(wait_status) : WEXITSTATUS(wait_status));
}

/* One bench measures all rows of a seed side by side: when one record is missing, all are made again. */
static pb_status look(const bench *b, int *n_there) {
    pb_status status = PB_OK;
    pb_json *config = NULL;
    char *suite = pb_path_join(b->options->out_dir, b->suite->name), *dir = NULL, *path = NULL;
    char id[PB_RUN_ID];
    *n_there = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < b->n_runs && suite; i++) {
            pb_record record = {0};
            PB_TRY(pb_latency_config(b->suite, b->runs[i], b->model_sha, &config));
            PB_TRY(pb_run_id_of(config, id));
            pb_json_free(config);
            config = NULL;
            free(dir);
            free(path);
            dir = pb_path_join(suite, id);
            path = dir ? pb_path_join(dir, "record.json") : NULL;
            if (!path) PB_FAIL(PB_E_OOM, "no memory for a path");
            if (pass == 0 && pb_file_exists(path) && !b->options->again &&
                pb_record_read(path, false, &record) == PB_OK)
                ++*n_there;
            pb_error_clear();
            pb_record_free(&record);
            if (pass == 1) PB_TRY(pb_remove_tree(dir));
        }
        if (*n_there == b->n_runs) break;
    }
done:
    pb_json_free(config);
    free(path);
    free(dir);
    free(suite);
    return status;
}

static pb_status load_model(bench *b) {
    pb_assets assets;
    PB_RETURN(pb_assets_load_model(&b->suite->runs[0], &assets));
    b->config = assets.config;
    b->weights = assets.weights;
    assets.weights = NULL;
    pb_copy(b->model_name, sizeof b->model_name, assets.model_name);
    pb_copy(b->model_sha, sizeof b->model_sha, assets.model_sha256);
    pb_assets_free(&assets);
    return PB_OK;
}

/* The rows of one seed, which stands for one process: another one places everything elsewhere. */
static pb_status run_seed(bench *b, uint64_t seed, pb_runner_summary *out) {
    int there = 0;
    b->n_runs = 0;
    for (int i = 0; i < b->suite->n_runs; i++)
        if (b->suite->runs[i].seed == seed) b->runs[b->n_runs++] = &b->suite->runs[i];
    PB_RETURN(look(b, &there));
    if (there == b->n_runs) {
        out->n_skipped += there;
        return PB_OK;
    }
    PB_RETURN(run_child(b, &out->signal));
    out->n_done += b->n_runs;
    return PB_OK;
}

pb_status pb_latency_run(const pb_suite *suite, const pb_runner_options *options,
                         pb_runner_summary *out) {
    pb_status status = PB_OK;
    bench *b = calloc(1, sizeof *b);
    *out = (pb_runner_summary){.n_runs = suite->n_runs};
    if (!b) return PB_ERROR(PB_E_OOM, "no memory for the bench");
    b->suite = suite;
    b->options = options;
    b->runs = calloc((size_t)suite->n_runs, sizeof *b->runs);
    pb_runner_signals(true);
    if (!b->runs) PB_FAIL(PB_E_OOM, "no memory for the rows");
    PB_TRY(load_model(b));
    for (int i = 0; i < suite->n_runs; i++) {
        bool before = false;
        for (int k = 0; k < i; k++) before = before || suite->runs[k].seed == suite->runs[i].seed;
        if (!before) PB_TRY(run_seed(b, suite->runs[i].seed, out));
    }
    if (out->n_skipped && options->log)
        fprintf(options->log, "%d rows were measured already (--again repeats them)\n", out->n_skipped);
done:
    pb_runner_signals(false);
    pb_safetensors_close(b->weights);
    free(b->runs);
    free(b);
    return status;
}
