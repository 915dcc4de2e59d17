/* harness/suite*.c: what is refused and how it is said, how rows expand, what a run's identity
 * rests on. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "harness/suite.h"
#include "tests/support.h"
#include "tests/tiny_suite.h"

/* Pieces of a valid suite that needs no file but a data folder. */
#define DATA "\"data\": {\"dir\": \"texts\"}"
#define TRAIN "\"train\": {\"steps\": 4}"
#define RUNS "\"runs\": [{\"method\": \"lora\", \"lr\": 1e-3}]"
#define MODEL "\"model\": \"shape:minilm\""

static pb_status load(const char *json, const pb_suite_overrides *over, pb_suite *suite) {
    char *dir = pb_test_dir(), *path = pb_path_join(dir, "s.json");
    char *texts = pb_path_join(dir, "texts");
    pb_assert_ok(pb_make_dirs(texts));
    pb_tiny_write(dir, "s.json", json);
    pb_status status = pb_suite_load(path, over, suite);
    free(texts);
    free(path);
    free(dir);
    return status;
}

static void refused(const char *json, const char *part) {
    pb_suite suite;
    pb_status status = load(json, NULL, &suite);
    ck_assert_msg(status != PB_OK, "accepted: %s", json);
    ck_assert_msg(strstr(pb_error_message(), part) != NULL, "%s\nsaid: %s\nwanted: %s", json,
                  pb_error_message(), part);
    ck_assert_ptr_null(suite.runs);
}

static const struct fault {
    const char *json, *part;
} faults[] = {
    {"[1]", "expected an object"},
    {"{" MODEL "," DATA "," TRAIN "," RUNS ", \"sed\": [1]}", "seeds"},
    {"{" DATA "," TRAIN "," RUNS "}", "model: missing"},
    {"{\"title\": \"on a decoder\"," DATA "," TRAIN "," RUNS "}", "--model DIR (on a decoder)"},
    {"{\"model\": 3," DATA "," TRAIN "," RUNS "}", "model"},
    {"{\"model\": \"shape:minilmm\"," DATA "," TRAIN "," RUNS "}", "minilm"},
    {"{\"model\": \"no-such-model\"," DATA "," TRAIN "," RUNS "}", "./run.sh"},
    {"{\"model\": \"no-such-model\"," DATA "," TRAIN "," RUNS "}", "--model"},
    {"{" MODEL "," TRAIN "," RUNS "}", "either source"},
    {"{" MODEL ",\"data\": {\"dir\": \"texts\", \"source\": \"wordnet\"}," TRAIN "," RUNS "}",
     "either source"},
    {"{" MODEL ",\"data\": {\"source\": \"wordnets\"}," TRAIN "," RUNS "}",
     "did you mean 'wordnet'"},
    {"{" MODEL ",\"data\": {\"dir\": \"nowhere\"}," TRAIN "," RUNS "}", "is no folder"},
    {"{" MODEL ",\"data\": {\"dir\": \"texts\", \"max_len\": 1}," TRAIN "," RUNS "}",
     "data: \"max_len\""},
    {"{" MODEL ",\"data\": {\"dir\": \"texts\", \"train\": -1}," TRAIN "," RUNS "}",
     "data: \"train\""},
    {"{" MODEL ",\"data\": {\"dir\": \"texts\", \"length\": 1}," TRAIN "," RUNS "}", "length"},
    {"{" MODEL ",\"data\": 3," TRAIN "," RUNS "}", "expected an object"},
    {"{" MODEL "," DATA "," RUNS "}", "steps or epochs is missing"},
    {"{" MODEL "," DATA ",\"train\": {\"steps\": 0}," RUNS "}", "train: \"steps\""},
    {"{" MODEL "," DATA ",\"train\": {\"steps\": 4, \"epochs\": 1}," RUNS "}", "one of the two"},
    {"{" MODEL "," DATA ",\"train\": {\"steps\": 4, \"batch\": 0}," RUNS "}", "train: \"batch\""},
    {"{" MODEL "," DATA ",\"train\": {\"steps\": 4, \"schedule\": \"lineer\"}," RUNS "}", "linear"},
    {"{" MODEL "," DATA ",\"train\": {\"steps\": 4, \"optimizer\": \"sgd\"}," RUNS "}", "adamw"},
    {"{" MODEL "," DATA ",\"train\": {\"steps\": 4, \"beta2\": 1}," RUNS "}", "beta2"},
    {"{" MODEL "," DATA ",\"train\": {\"steps\": 4, \"head_dropout\": 1}," RUNS "}",
     "head_dropout"},
    {"{" MODEL "," DATA ",\"train\": {\"steps\": 4, \"stepz\": 4}," RUNS "}", "steps"},
    {"{" MODEL "," DATA "," TRAIN ",\"eval\": {\"evry\": 4}," RUNS "}", "every"},
    {"{" MODEL "," DATA "," TRAIN ",\"eval\": {\"infer_shapes\": [\"8x\"]}," RUNS "}", "8x128"},
    {"{" MODEL "," DATA "," TRAIN ",\"eval\": {\"infer_shapes\": [\"0x8\"]}," RUNS "}", "8x128"},
    {"{" MODEL "," DATA "," TRAIN ",\"eval\": {\"infer_shapes\": [\"8x128 \"]}," RUNS "}", "8x128"},
    {"{" MODEL "," DATA "," TRAIN ",\"eval\": {\"infer_shapes\": \"8x128\"}," RUNS "}", "array"},
    {"{" MODEL "," DATA "," TRAIN ",\"eval\": {\"shape_repeats\": 4}," RUNS "}", "infer_shapes"},
    {"{" MODEL "," DATA "," TRAIN ",\"eval\": {\"infer_shapes\": [\"1x8\"], \"shape_repeats\": 0}," RUNS "}", "shape_repeats"},
    {"{" MODEL "," DATA "," TRAIN ",\"eval\": {\"infer_shapes\": [\"1x8\", \"1x8\"]}," RUNS "}",
     "stands twice"},
    {"{" MODEL "," DATA "," TRAIN ",\"dtype\": \"f16\"," RUNS "}", "bf16"},
    {"{" MODEL "," DATA "," TRAIN ",\"device\": \"gpu\"," RUNS "}", "cpu"},
    {"{" MODEL "," DATA "," TRAIN ",\"seeds\": []," RUNS "}", "seeds: expected an array"},
    {"{" MODEL "," DATA "," TRAIN ",\"seeds\": [1, 1]," RUNS "}", "seeds[1]: 1 stands twice"},
    {"{" MODEL "," DATA "," TRAIN ",\"seeds\": [1.5]," RUNS "}", "seeds[0]"},
    {"{" MODEL "," DATA "," TRAIN ",\"seeds\": [-1]," RUNS "}", "seeds[0]"},
    {"{" MODEL "," DATA "," TRAIN ", \"runs\": []}", "runs: expected an array"},
    {"{" MODEL "," DATA "," TRAIN ", \"runs\": [3]}", "runs[0]: expected an object"},
    {"{" MODEL "," DATA "," TRAIN ", \"runs\": [{\"lr\": 1e-3}]}", "runs[0]: method: missing"},
    {"{" MODEL "," DATA "," TRAIN ", \"runs\": [{\"method\": \"lorra\", \"lr\": 1}]}",
     "did you mean 'lora'"},
    {"{" MODEL "," DATA "," TRAIN ", \"runs\": [{\"method\": \"lora\"}]}", "runs[0]: lr: missing"},
    {"{" MODEL "," DATA "," TRAIN ", \"runs\": [{\"method\": \"lora\", \"lr\": 0}]}",
     "runs[0]: lr"},
    {"{" MODEL "," DATA "," TRAIN ", \"runs\": [{\"method\": \"lora\", \"lr\": [1e-3, 1e-3]}]}",
     "stands twice"},
    {"{" MODEL "," DATA "," TRAIN ", \"runs\": [{\"method\": \"lora\", \"lr\": \"1e-3\"}]}",
     "lr: expected numbers"},
    {"{" MODEL "," DATA "," TRAIN
     ", \"runs\": [{\"method\": \"lora\", \"lr\": 1, \"params\": {\"rank\": 0}}]}",
     "runs[0].params"},
    {"{" MODEL "," DATA "," TRAIN
     ", \"runs\": [{\"method\": \"lora\", \"lr\": 1, \"params\": {\"rnak\": 8}}]}",
     "rank"},
    {"{" MODEL "," DATA "," TRAIN
     ", \"runs\": [{\"method\": \"lora\", \"lr\": 1, \"label\": \"\"}]}",
     "runs[0]: label"},
    {"{" MODEL "," DATA "," TRAIN
     ", \"runs\": [{\"method\": \"lora\", \"lr\": 1, \"lable\": \"x\"}]}",
     "label"},
    {"{" MODEL "," DATA "," TRAIN
     ", \"runs\": [{\"method\": \"lora\", \"lr\": 1, \"train\": {\"batch\": 0}}]}",
     "runs[0].train: \"batch\""},
    {"{" MODEL "," DATA "," TRAIN
     ", \"runs\": [{\"method\": \"dora\", \"lr\": 1, \"cuts\": true}]}",
     "runs[0]: cuts: dora cannot be cut"},
    {"{" MODEL "," DATA "," TRAIN
     ", \"runs\": [{\"method\": \"lora\", \"lr\": 1}, {\"method\": \"lora\", \"lr\": 1}]}",
     "label: 'LoRA' is the label of runs[0] already"},
    {"{" MODEL "," DATA "," TRAIN
     ", \"runs\": [{\"label\": \"a\", \"method\": \"lora\", \"lr\": 1},"
     "{\"label\": \"b\", \"method\": \"lora\", \"lr\": 1, \"params\": {\"rank\": 8}}]}",
     "'a' and 'b' have the same settings"},
    {"{" MODEL, "s.json:1:"},
};

START_TEST(faults_are_named) {
    refused(faults[_i].json, faults[_i].part);
}
END_TEST

START_TEST(names_of_suites_are_checked) {
    pb_suite suite;
    char **names = NULL;
    size_t n = 0;
    pb_assert_fails(pb_suite_load("quik", NULL, &suite), PB_E_INPUT, "did you mean 'quick'");
    pb_assert_fails(pb_suite_load("", NULL, &suite), PB_E_INPUT, "no suite");
    pb_assert_fails(pb_suite_load("../quick", NULL, &suite), PB_E_INPUT, "no suite");
    pb_assert_fails(pb_suite_load("nowhere.json", NULL, &suite), PB_E_INPUT, "nowhere.json");
    pb_assert_ok(pb_suite_names(&names, &n));
    ck_assert_uint_ge(n, 1);
    bool quick = false;
    for (size_t i = 0; i < n; i++) quick = quick || strcmp(names[i], "quick") == 0;
    ck_assert(quick);
    pb_names_free(names, n);
}
END_TEST

START_TEST(defaults_are_filled_in) {
    pb_suite suite;
    pb_assert_ok(load("{" MODEL "," DATA "," TRAIN "," RUNS "}", NULL, &suite));
    const pb_run_config *r = &suite.runs[0];
    ck_assert_int_eq(suite.n_runs, 1);
    ck_assert_str_eq(suite.name, "s");
    ck_assert_str_eq(r->suite, "s");
    ck_assert_str_eq(r->label, "LoRA");
    ck_assert_str_eq(r->device, "cpu");
    ck_assert_str_eq(r->model, "shape:minilm");
    ck_assert_uint_eq(r->seed, 1);
    ck_assert_int_eq(r->steps, 4);
    ck_assert_int_eq(r->batch, 32);
    ck_assert_int_eq(r->accumulate, 1);
    ck_assert_int_eq(r->max_len, 128);
    ck_assert_int_eq(r->schedule, PB_SCHEDULE_LINEAR);
    ck_assert_int_eq(r->optimizer, PB_OPT_ADAMW);
    ck_assert(r->lr == 1e-3 && r->warmup == 0.06 && r->beta1 == 0.9 && r->beta2 == 0.999 &&
              r->eps == 1e-8);
    ck_assert(r->weight_decay == 0.01 && r->clip == 1 && r->hidden_dropout < 0 && r->epochs == 0);
    pb_suite_free(&suite);
}
END_TEST

#define MANY                                                                                      \
    "{" MODEL "," DATA "," TRAIN                                                                  \
    ", \"seeds\": [5, 6, \"9007199254740993\"], \"dtype\": \"f32\", \"runs\": ["                  \
    "{\"label\": \"sweep\", \"method\": \"lora\", \"lr\": [1e-3, 2e-3]},"                         \
    "{\"label\": \"other\", \"method\": \"full\", \"lr\": 1e-4, \"dtype\": \"bf16\", \"seeds\": " \
    "[7],"                                                                                        \
    " \"train\": {\"epochs\": 2, \"batch\": 8}},"                                                 \
    "{\"label\": \"wide\", \"method\": \"lora\", \"lr\": 1e-3, \"params\": {\"rank\": 16}}]}"

START_TEST(rows_expand_over_rates_and_seeds) {
    pb_suite suite;
    pb_assert_ok(load(MANY, NULL, &suite));
    ck_assert_int_eq(suite.n_runs, 2 * 3 + 1 + 3);
    ck_assert_str_eq(suite.runs[0].label, "sweep lr 0.001");
    ck_assert_str_eq(suite.runs[3].label, "sweep lr 0.002");
    ck_assert_uint_eq(suite.runs[2].seed, 9007199254740993u);
    const pb_run_config *other = &suite.runs[6];
    ck_assert_str_eq(other->label, "other");
    ck_assert_int_eq(other->dtype, PB_BF16);
    ck_assert_int_eq(suite.runs[0].dtype, PB_F32);
    ck_assert_uint_eq(other->seed, 7);
    ck_assert(other->epochs == 2 && other->steps == 0 && other->batch == 8);
    ck_assert_int_eq(suite.runs[0].batch, 32);
    pb_suite_free(&suite);
}
END_TEST

START_TEST(overrides_choose_and_change) {
    pb_suite suite;
    pb_suite_overrides o = {.methods = "lora", .seeds = 2};
    pb_assert_ok(load(MANY, &o, &suite));
    ck_assert_int_eq(suite.n_runs, 2 * 2 + 2);
    ck_assert_str_eq(suite.name, "s");
    ck_assert_uint_eq(suite.runs[0].seed, 1);
    ck_assert_uint_eq(suite.runs[1].seed, 2);
    pb_suite_free(&suite);
    o = (pb_suite_overrides){.methods = "other,wide",
                             .steps = 7,
                             .batch = 3,
                             .max_len = 24,
                             .has_lr = true,
                             .lr = 0.5,
                             .dtype = "f32",
                             .model = "shape:bert-base",
                             .data = "wordnet",
                             .device = "ref"};
    pb_assert_ok(load(MANY, &o, &suite));
    ck_assert_int_eq(suite.n_runs, 1 + 3);
    ck_assert_msg(strncmp(suite.name, "s-wordnet-shape-bert-base-f32-ref-steps7-batch3-", 40) == 0,
                  "%s", suite.name);
    for (int i = 0; i < suite.n_runs; i++) {
        const pb_run_config *r = &suite.runs[i];
        ck_assert(r->steps == 7 && r->epochs == 0 && r->batch == 3 && r->max_len == 24 &&
                  r->lr == 0.5);
        ck_assert_int_eq(r->dtype, PB_F32);
        ck_assert_str_eq(r->device, "ref");
        ck_assert_str_eq(r->data_name, "wordnet");
        ck_assert_str_eq(r->data_dir, "");
        ck_assert_str_eq(r->suite, suite.name);
    }
    pb_suite_free(&suite);
    o = (pb_suite_overrides){.methods = "lora,nothing"};
    pb_assert_fails(load(MANY, &o, &suite), PB_E_INPUT, "'nothing' is no label or method");
    o = (pb_suite_overrides){.data = "no-such-data"};
    pb_assert_fails(load(MANY, &o, &suite), PB_E_INPUT, "--data");
    o = (pb_suite_overrides){.model = "/no/such/model"};
    pb_assert_fails(load(MANY, &o, &suite), PB_E_ENV, "--model");
    o = (pb_suite_overrides){.dtype = "f64"};
    pb_assert_fails(load(MANY, &o, &suite), PB_E_INPUT, "--dtype");
    o = (pb_suite_overrides){.has_lr = true, .lr = -1};
    pb_assert_fails(load(MANY, &o, &suite), PB_E_INPUT, "--lr");
}
END_TEST

/* ---- identity ---- */

static void id_of(const char *json, char id[PB_RUN_ID]) {
    pb_suite suite;
    pb_json *config = NULL;
    pb_assert_ok(load(json, NULL, &suite));
    pb_assert_ok(pb_run_config_json(&suite.runs[0], "m", "d", &config));
    pb_assert_ok(pb_run_id_of(config, id));
    pb_json_free(config);
    pb_suite_free(&suite);
}

static const char base_json[] = "{\"model\": \"shape:minilm\", \"data\": {\"dir\": \"texts\", "
                                "\"max_len\": 64, \"train\": 10, \"valid\": 11, \"test\": 12,"
                                "\"subsample_seed\": 3}, \"dtype\": \"f32\", \"device\": \"cpu\", "
                                "\"seeds\": [4], \"train\": {\"steps\": 5, \"batch\": 6,"
                                "\"accumulate\": 7, \"schedule\": \"linear\", \"warmup\": 0.25, "
                                "\"optimizer\": \"adamw\", \"beta1\": 0.5, \"beta2\": 0.75,"
                                "\"eps\": 1e-6, \"weight_decay\": 0.125, \"clip\": 2.5, "
                                "\"hidden_dropout\": 0.15, \"attention_dropout\": 0.35,"
                                "\"head_dropout\": 0.45}, \"eval\": {\"batch\": 13, \"every\": 14, "
                                "\"train_examples\": 15, \"infer_repeats\": 16},"
                                "\"runs\": [{\"label\": \"x\", \"method\": \"lora\", \"lr\": "
                                "0.0625, \"params\": {\"rank\": 17}}]}";

/* Every setting, as it stands in base_json and as something else. */
static const char *const changes[][2] = {
    {"shape:minilm", "shape:bert-base"},
    {"\"max_len\": 64", "\"max_len\": 65"},
    {"\"train\": 10", "\"train\": 20"},
    {"\"valid\": 11", "\"valid\": 21"},
    {"\"test\": 12", "\"test\": 22"},
    {"\"subsample_seed\": 3", "\"subsample_seed\": 4"},
    {"f32", "bf16"},
    {"\"cpu\"", "\"ref\""},
    {"[4]", "[5]"},
    {"\"steps\": 5", "\"steps\": 50"},
    {"\"steps\": 5", "\"epochs\": 5"},
    {"\"batch\": 6", "\"batch\": 60"},
    {"\"accumulate\": 7", "\"accumulate\": 8"},
    {"\"accumulate\": 7", "\"accumulate\": 7, \"paged\": true"},
    {"\"accumulate\": 7", "\"accumulate\": 7, \"checkpoint\": true"},
    {"\"accumulate\": 7", "\"accumulate\": 7, \"checkpoint\": 2"},
    {"\"linear\"", "\"cosine\""},
    {"0.25", "0.26"},
    {"\"adamw\"", "\"adamw8\""},
    {"\"beta1\": 0.5", "\"beta1\": 0.6"},
    {"0.75", "0.76"},
    {"1e-6", "1e-7"},
    {"0.125", "0.126"},
    {"2.5", "2.6"},
    {"0.15", "0.16"},
    {"0.35", "0.36"},
    {"0.45", "0.46"},
    {"\"batch\": 13", "\"batch\": 23"},
    {"\"every\": 14", "\"every\": 24"},
    {"\"train_examples\": 15", "\"train_examples\": 25"},
    {"\"infer_repeats\": 16", "\"infer_repeats\": 26"},
    {"\"infer_repeats\": 16", "\"infer_repeats\": 16, \"general\": {\"source\": \"wordnet\"}"},
    {"\"infer_repeats\": 16", "\"infer_repeats\": 16, \"general\": {\"source\": \"wordnet\", \"examples\": 7}"},
    {"\"infer_repeats\": 16", "\"infer_repeats\": 16, \"general\": {\"dir\": \"texts\"}"},
    {"\"infer_repeats\": 16", "\"infer_repeats\": 16, \"infer_shapes\": [\"1x8\"]"},
    {"\"infer_repeats\": 16", "\"infer_repeats\": 16, \"infer_shapes\": [\"8x8\"]"},
    {"\"infer_repeats\": 16", "\"infer_repeats\": 16, \"infer_shapes\": [\"1x8\"], \"shape_repeats\": 17"},
    {"\"infer_repeats\": 16", "\"infer_repeats\": 16, \"gradients\": 8"},
    {"\"infer_repeats\": 16", "\"infer_repeats\": 16, \"before\": true"},
    {"\"infer_repeats\": 16", "\"infer_repeats\": 16, \"weights\": 8"},
    {"\"lora\"", "\"dora\""},
    {"0.0625", "0.0626"},
    {"\"rank\": 17", "\"rank\": 18"},
    {"\"lr\": 0.0625", "\"cuts\": true, \"lr\": 0.0625"},
};
enum { N_CHANGES = sizeof changes / sizeof changes[0] };

static char *replaced(const char *text, const char *from, const char *to) {
    pb_text t = {0};
    const char *at = strstr(text, from);
    ck_assert_msg(at != NULL, "%s is not there", from);
    pb_text_add(&t, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    return t.data;
}

/* Tuning looks at validation alone: neither the test split, nor that before training, nor general text. */
START_TEST(trials_see_validation_alone)
    {
        static const struct {
            const char *suite, *model;
        } suites[] = {{"claims-main", NULL}, {"claims-decoder", "shape:llama-7b"}};
        for (int i = 0; i < 2; i++) {
            pb_suite suite;
            int trials = 0, finals = 0;
            pb_suite_overrides over = {.model = suites[i].model};
            pb_assert_ok(pb_suite_load(suites[i].suite, &over, &suite));
            for (int k = 0; k < suite.n_runs; k++) {
                const pb_run_config *r = &suite.runs[k];
                bool trial = strcmp(r->origin.phase, "trial") == 0;
                trials += trial;
                finals += !trial;
                ck_assert(r->skip_test == trial);
                ck_assert_int_eq(r->general_examples, trial || i == 1 ? 0 : 200);
                ck_assert(r->before == (!trial && i == 1));
            }
            ck_assert_int_gt(trials, 0);
            ck_assert_int_gt(finals, 0);
            pb_suite_free(&suite);
        }
    }
END_TEST

START_TEST(every_setting_changes_the_id) {
    char ids[N_CHANGES + 1][PB_RUN_ID];
    id_of(base_json, ids[N_CHANGES]);
    for (int i = 0; i < N_CHANGES; i++) {
        char *json = replaced(base_json, changes[i][0], changes[i][1]);
        id_of(json, ids[i]);
        free(json);
        for (int j = 0; j < i; j++) ck_assert_msg(strcmp(ids[i], ids[j]) != 0, "%s", changes[i][1]);
        ck_assert_msg(strcmp(ids[i], ids[N_CHANGES]) != 0, "%s changes nothing", changes[i][1]);
    }
}
END_TEST

START_TEST(the_id_is_stable) {
    char id[PB_RUN_ID], same[PB_RUN_ID];
    pb_suite suite;
    pb_json *config = NULL;
    id_of(base_json, id);
    /* A default that is written out, a label, a title: the same run. */
    char *json = replaced(base_json, "\"rank\": 17", "\"rank\": 17, \"alpha\": 16");
    char *off = replaced(base_json, "\"accumulate\": 7", "\"accumulate\": 7, \"checkpoint\": false");
    id_of(off, same);
    ck_assert_str_eq(id, same);
    free(off);
    char *labelled = replaced(json, "\"label\": \"x\"", "\"label\": \"y\"");
    id_of(labelled, same);
    ck_assert_str_eq(id, same);
    free(labelled);
    free(json);
    /* Where things lie and what the hashes of model and data are. */
    pb_assert_ok(load(base_json, NULL, &suite));
    strcpy(suite.runs[0].data_dir, "/elsewhere/texts/");
    pb_assert_ok(pb_run_config_json(&suite.runs[0], "m", "d", &config));
    pb_assert_ok(pb_run_id_of(config, same));
    ck_assert_str_eq(id, same);
    pb_json_free(config);
    pb_assert_ok(pb_run_config_json(&suite.runs[0], "m2", "d", &config));
    pb_assert_ok(pb_run_id_of(config, same));
    ck_assert_str_ne(id, same);
    pb_json_free(config);
    pb_assert_ok(pb_run_config_json(&suite.runs[0], "m", "d2", &config));
    pb_assert_ok(pb_run_id_of(config, same));
    ck_assert_str_ne(id, same);
    pb_json_free(config);
    pb_suite_free(&suite);
}
END_TEST

START_TEST(shipped_suites_load) {
    char **names = NULL;
    size_t n = 0;
    pb_suite_overrides o = {.model = "shape:minilm"}; /* the model itself may not be here */
    pb_assert_ok(pb_suite_names(&names, &n));
    for (size_t i = 0; i < n; i++) {
        pb_suite suite;
        pb_assert_ok(pb_suite_load(names[i], &o, &suite));
        ck_assert_int_gt(suite.n_runs + suite.n_suites, 0);
        ck_assert_str_ne(suite.title, "");
        pb_suite_free(&suite);
    }
    pb_names_free(names, n);
}
END_TEST

int main(void) {
    Suite *s = suite_create("suite");
    TCase *t = pb_test_case(s, "reading");
    tcase_add_loop_test(t, faults_are_named, 0, (int)(sizeof faults / sizeof faults[0]));
    tcase_add_test(t, names_of_suites_are_checked);
    tcase_add_test(t, defaults_are_filled_in);
    tcase_add_test(t, shipped_suites_load);
    t = pb_test_case(s, "expanding");
    tcase_add_test(t, rows_expand_over_rates_and_seeds);
    tcase_add_test(t, overrides_choose_and_change);
    t = pb_test_case(s, "identity");
    tcase_add_test(t, every_setting_changes_the_id);
    tcase_add_test(t, trials_see_validation_alone);
    tcase_add_test(t, the_id_is_stable);
    return pb_run_suite(s);
}
