/* The budget map: who wins at each memory and model size. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "harness/advise.h"
#include "plots/plots.h"

static const char *const models[] = {"qwen2.5-0.5b", "llama-3.2-1b", "llama-3.2-3b", "llama-2-7b",
                                     "llama-2-13b",  "llama-33b",    "llama-2-70b"};
static const double memories[] = {8, 12, 16, 24, 32, 48, 80, 140}; /* GiB */
enum {
    N_MODELS = sizeof models / sizeof models[0],
    N_MEMORIES = sizeof memories / sizeof memories[0]
};

static bool add_cell(pb_json *list, const char *model, double gib, const pb_advise *a) {
    pb_json *o = pb_json_add_object(list, NULL);
    const pb_advice *row = a->chosen < 0 ? NULL : &a->rows[a->chosen];
    return pb_json_add_str(o, "model", model) && pb_json_add_f64(o, "gpu_memory_gib", gib) &&
           pb_json_add_str(o, "method", row ? row->method->name : NULL) &&
           pb_json_add_str(o, "change", row ? row->change : "") &&
           pb_json_add_i64(o, "bytes", row ? (int64_t)row->use_p.total : 0) &&
           pb_json_add_str(o, "reason", a->reason);
}

/* What the cell says under the method's name. */
static const char *note(const pb_advice *row) {
    if (row->use.length < row->asked.length) return "shorter";
    if (row->use.paged) return "paged optimizer";
    if (row->use.adamw8 && !row->asked.adamw8) return "8-bit optimizer";
    if (row->use.checkpoint) return "checkpointing";
    return row->use.batch < row->asked.batch ? "smaller batch" : "";
}

static pb_status fill(const pb_advise_request *request, const pb_evidence *evidence, pb_plan_cache *cache,
                      pb_map_cell *cells, pb_json *list) {
    for (int m = 0; m < N_MODELS; m++) {
        pb_plan_cache_clear(cache);
        for (int g = 0; g < N_MEMORIES; g++) {
            pb_advise a;
            pb_advise_request r = *request;
            pb_map_cell *cell = &cells[m * N_MEMORIES + g];
            r.model = models[m];
            r.brief = true;
            r.cache = cache;
            if (evidence) r.evidence = evidence;
            r.memory = (uint64_t)(memories[g] * 1073741824.0);
            PB_RETURN(pb_model_shape(models[m], &r.config));
            if (r.length > r.config.P) r.length = r.config.P;
            pb_status status = pb_advise_make(&r, &a);
            bool ok = status != PB_OK || add_cell(list, models[m], memories[g], &a);
            if (status == PB_OK && a.chosen >= 0) {
                pb_copy(cell->method, sizeof cell->method, a.rows[a.chosen].method->name);
                pb_copy(cell->title, sizeof cell->title, a.rows[a.chosen].method->title);
                pb_copy(cell->note, sizeof cell->note, note(&a.rows[a.chosen]));
            }
            pb_advise_free(&a);
            PB_RETURN(status);
            if (!ok) return PB_ERROR(PB_E_OOM, "no memory for the map");
        }
    }
    return PB_OK;
}

pb_status pb_advise_map(const pb_advise_request *request, const char *dir, FILE *paths) {
    pb_status status = PB_OK;
    pb_map_cell cells[N_MODELS * N_MEMORIES];
    char names[N_MODELS][32], sizes[N_MEMORIES][16], title[160], *path = NULL;
    const char *rows[N_MODELS], *columns[N_MEMORIES];
    pb_figure figure;
    memset(cells, 0, sizeof cells);
    pb_json *list = cJSON_CreateArray();
    pb_plan_cache *cache = NULL;
    pb_evidence *evidence = NULL;
    for (int i = 0; i < N_MODELS; i++) {
        pb_copy(names[i], sizeof names[i], models[i]);
        rows[i] = names[i];
    }
    for (int i = 0; i < N_MEMORIES; i++) {
        snprintf(sizes[i], sizeof sizes[i], "%g", memories[i]);
        columns[i] = sizes[i];
    }
    PB_TRY(pb_make_dirs(dir));
    cache = calloc(1, sizeof *cache);
    if (!cache) PB_FAIL(PB_E_OOM, "no memory for the map");
    if (!request->evidence) PB_TRY(pb_evidence_load(request->records, &evidence));
    PB_TRY(fill(request, evidence, cache, cells, list));
    path = pb_path_join(dir, "budget_map.json");
    if (!path) PB_FAIL(PB_E_OOM, "no memory for the map");
    PB_TRY(pb_json_save(list, path));
    fprintf(paths, "%s\n", path);
    snprintf(title, sizeof title, "Recommended method: batch %" PRId64 " of %" PRId64 " tokens, %s", request->batch,
             request->length, pb_dtype_name(request->dtype));
    pb_budget_map map = {.title = title,
                         .rows = rows,
                         .columns = columns,
                         .n_rows = N_MODELS,
                         .n_columns = N_MEMORIES,
                         .cells = cells};
    PB_TRY(pb_plots_draw_map(&map, dir, &figure));
    fprintf(paths, "%s/%s\n%s/%s\n", dir, figure.svg, dir, figure.png);
done:
    free(path);
    pb_plan_cache_clear(cache);
    free(cache);
    pb_evidence_free(evidence);
    pb_json_free(list);
    return status;
}
