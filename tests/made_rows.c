#include "tests/made_rows.h"

#include <gsl/gsl_randist.h>
#include <gsl/gsl_rng.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "tests/support.h"

static const char usual[] =
    "{\"dtype\":\"bf16\",\"device\":\"cpu\",\"lr\":0.002,"
    "\"model\":{\"name\":\"tiny\",\"sha256\":\"aa\"},"
    "\"data\":{\"name\":\"texts\",\"sha256\":\"bb\",\"max_len\":64,\"subsample_seed\":1},"
    "\"train\":{\"steps\":16,\"batch\":32,\"accumulate\":1,\"schedule\":\"linear\",\"warmup\":0.06,"
    "\"optimizer\":\"adamw\",\"beta1\":0.9,\"beta2\":0.999,\"eps\":1e-8,\"weight_decay\":0.01,"
    "\"clip\":1,\"hidden_dropout\":\"model\",\"attention_dropout\":\"model\","
    "\"head_dropout\":\"model\"},"
    "\"eval\":{\"batch\":64,\"every\":8},\"deterministic\":true}";
static const char machine[] =
    "{\"machine\":{\"cpu\":\"Example 2 GHz\",\"cores_online\":2},\"system\":{\"os\":\"Debian\"},"
    "\"build\":{\"revision\":\"r1\",\"dirty\":false},\"libraries\":{\"products\":\"oneDNN 2\"},"
    "\"threads\":2,\"order\":1,\"argv\":[\"peftbench\"]}";

static pb_json *parse(const char *text) {
    pb_json *o = NULL;
    pb_assert_ok(pb_json_parse("test", text, strlen(text), &o));
    return o;
}

/* Members of `changes` into `o`; objects are merged. */
static void change(pb_json *o, const char *text) {
    pb_json *changes = parse(text);
    for (pb_json *c = changes->child; c; c = c->next) {
        pb_json *old = cJSON_GetObjectItemCaseSensitive(o, c->string);
        if (cJSON_IsObject(old) && cJSON_IsObject(c)) {
            char *inner = pb_json_print(c, false);
            change(old, inner);
            free(inner);
        } else {
            cJSON_DeleteItemFromObjectCaseSensitive(o, c->string);
            cJSON_AddItemToObject(o, c->string, cJSON_Duplicate(c, true));
        }
    }
    pb_json_free(changes);
}

void made_row_make(made_row *r, const char *method, const char *label, int seeds,
                   const char *params, const char *changes) {
    *r = (made_row){0};
    for (int s = 0; s < seeds; s++) {
        pb_record *k = &r->records[s];
        k->status = PB_RUN_OK;
        k->seed = (uint64_t)s + 1;
        snprintf(k->run_id, sizeof k->run_id, "%08x%08x", (unsigned)s, (unsigned)strlen(label));
        pb_copy(k->suite, sizeof k->suite, "made");
        pb_copy(k->method, sizeof k->method, method);
        pb_copy(k->label, sizeof k->label, label);
        pb_copy(k->verified, sizeof k->verified, "passed");
        k->config = parse(usual);
        ck_assert(pb_json_add_str(k->config, "method", method));
        ck_assert(pb_json_add_i64(k->config, "seed", s + 1));
        cJSON_AddItemToObject(k->config, "params", parse(params));
        k->model = parse("{\"name\":\"tiny\",\"sha256\":\"aa\",\"params_total\":1000}");
        k->dataset = parse("{\"name\":\"texts\",\"sha256\":\"bb\",\"task\":\"classify\"}");
        k->environment = parse(machine);
        if (changes) change(k->config, changes);
        bool f32 = strcmp(pb_json_get(k->config, "dtype")->valuestring, "f32") == 0;
        pb_assert_ok(pb_record_memory(k, "master", f32 ? 0 : 4000, f32 ? 0 : 4000));
        r->runs[s] = k;
    }
    r->row = (pb_row){.method = r->records[0].method,
                      .label = r->records[0].label,
                      .runs = r->runs,
                      .n_runs = seeds,
                      .n_ok = seeds};
}

void made_row_environment(made_row *r, const char *changes) {
    for (int s = 0; s < r->row.n_runs; s++) change(r->records[s].environment, changes);
}

void made_row_free(made_row *r) {
    for (int s = 0; s < r->row.n_runs; s++) pb_record_free(&r->records[s]);
}

void made_row_values(made_row *r, int s, int n, double nll, double shift, double noise) {
    gsl_rng *z = gsl_rng_alloc(gsl_rng_mt19937);
    double *loss = calloc((size_t)n, sizeof *loss), *right = calloc((size_t)n, sizeof *right),
           *id = calloc((size_t)n, sizeof *id), sum = 0, hits = 0;
    gsl_rng_set(z, 77); /* the examples are the same for every row and run */
    for (int i = 0; i < n; i++) {
        loss[i] = nll + shift + 0.4 * gsl_ran_ugaussian(z);
        id[i] = i;
    }
    gsl_rng_set(z, 1000 + 31 * (unsigned long)s + (unsigned long)r->row.label[0] * 7 +
                       (unsigned long)strlen(r->row.label));
    for (int i = 0; i < n; i++) {
        loss[i] += noise * gsl_ran_ugaussian(z);
        right[i] = loss[i] < 1;
        sum += loss[i] / n;
        hits += right[i] / n;
    }
    pb_record *k = &r->records[s];
    pb_assert_ok(pb_record_sample(k, "eval/test/nll", loss, n));
    pb_assert_ok(pb_record_sample(k, "eval/test/correct", right, n));
    pb_assert_ok(pb_record_sample(k, "eval/test/id", id, n));
    pb_assert_ok(pb_record_metric(k, "quality/test/nll", sum, "nats", -1, n, ""));
    pb_assert_ok(pb_record_metric(k, "quality/test/accuracy", hits, "1", 1, n, ""));
    free(loss);
    free(right);
    free(id);
    gsl_rng_free(z);
}

void made_row_cost(made_row *r, int s, double step_s, double bytes) {
    pb_assert_ok(pb_record_metric(&r->records[s], "time/step/median", step_s, "s", -1, 1, ""));
    pb_assert_ok(pb_record_metric(&r->records[s], "memory/peak/total", bytes, "bytes", -1, 1, ""));
}
