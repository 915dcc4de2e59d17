/* reports/parity: what stops a comparison, what does not, waivers. The three mistakes that are
 * known from published comparisons are here by name. */
#include <stdio.h>

#include "reports/parity.h"
#include "tests/made_rows.h"
#include "tests/support.h"

static const char lora[] =
    "{\"rank\":8,\"alpha\":16,\"scale\":2,\"dropout\":0,\"targets\":[\"*\"],"
    "\"rslora\":false,\"bias\":\"none\"}";
static made_row a, b;

static void setup(void) {
    made_row_make(&a, "lora", "LoRA", 3, lora, NULL);
}

static void teardown(void) {
    made_row_free(&a);
    made_row_free(&b);
    a = b = (made_row){0};
}

/* The finding of `field`, which must be there once; NULL when none. */
static const pb_parity_finding *find(const pb_parity *p, const char *field) {
    const pb_parity_finding *found = NULL;
    for (int i = 0; i < p->n; i++)
        if (strcmp(p->items[i].field, field) == 0 && !found) found = &p->items[i];
    return found;
}

/* Exactly one difference, in `field`, with these values, that stops quality too or only costs; a
 * waiver of that name lifts it, another does not. */
static void assert_one(const char *field, const char *left, const char *right, bool cost_only) {
    pb_parity p;
    pb_assert_ok(pb_parity_check(&a.row, &b.row, NULL, &p));
    for (int i = 0; i < p.n; i++)
        ck_assert_msg(strcmp(p.items[i].field, field) == 0, "also %s (%s): %s, %s",
                      p.items[i].field, p.items[i].title, p.items[i].a, p.items[i].b);
    const pb_parity_finding *f = find(&p, field);
    ck_assert_msg(f != NULL, "%s was not found", field);
    ck_assert_str_eq(f->a, left);
    ck_assert_str_eq(f->b, right);
    ck_assert(pb_parity_stop(&p, true) == f);
    ck_assert(pb_parity_stop(&p, false) == (cost_only ? NULL : f));
    pb_parity_free(&p);
    const char *names[] = {field}, *others[] = {"clipping"};
    pb_assert_ok(pb_parity_check(&a.row, &b.row, &(pb_waivers){names, 1}, &p));
    ck_assert(pb_parity_stop(&p, true) == NULL && p.items[0].waived);
    pb_parity_free(&p);
    pb_assert_ok(pb_parity_check(&a.row, &b.row, &(pb_waivers){others, 1}, &p));
    ck_assert(pb_parity_stop(&p, true) != NULL);
    pb_parity_free(&p);
}

static void assert_none(void) {
    pb_parity p;
    pb_assert_ok(pb_parity_check(&a.row, &b.row, NULL, &p));
    ck_assert_msg(p.n == 0, "%s: %s against %s", p.items[0].title, p.items[0].a, p.items[0].b);
    pb_parity_free(&p);
}

/* ---- what is a method's own ---- */

START_TEST(a_methods_own_settings_do_not_stop_it) {
    static const struct {
        const char *method, *params, *changes;
    } rows[] = {
        {"dora",
         "{\"rank\":8,\"alpha\":16,\"scale\":2,\"dropout\":0,\"targets\":[\"*\"],"
         "\"exact_norm_gradient\":false}",
         "{\"lr\":0.004}"},
        {"qlora", "{\"rank\":8,\"alpha\":16,\"dropout\":0,\"targets\":[\"*\"],\"code\":\"nf4\"}",
         "{\"lr\":0.004}"},
        {"lora", "{\"rank\":64,\"alpha\":128,\"dropout\":0,\"targets\":[\"*\"]}", NULL},
        {"lora", "{\"rank\":16,\"alpha\":8,\"rslora\":true,\"dropout\":0,\"targets\":[\"*\"]}",
         NULL},
        {"adalora",
         "{\"init_rank\":12,\"target_rank\":8,\"alpha\":24,\"scale\":1.99999833,"
         "\"dropout\":0,\"targets\":[\"*\"],\"beta1\":0.85}",
         NULL},
        {"dylora", "{\"rank\":8,\"alpha\":16,\"dropout\":0,\"targets\":[\"*\"],\"frozen\":false}",
         NULL},
        {"adapter", "{\"size\":64,\"variant\":\"houlsby\"}", "{\"lr\":0.01}"},
        {"full", "{}", "{\"lr\":0.0001}"},
        {"full", "{\"targets\":[\"*.norm\"]}", "{\"lr\":0.001}"},
        {"head", "{}",
         "{\"lr\":0.1,\"eval\":{\"every\":4},\"phase\":\"final\","
         "\"tuning\":{\"trials\":3}}"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        made_row_make(&b, rows[i].method, rows[i].method, 3, rows[i].params, rows[i].changes);
        made_row_environment(&b, "{\"order\":7,\"argv\":[\"x\"]}");
        assert_none();
        made_row_free(&b);
    }
    made_row_make(&b, "full", "full", 3, "{}", NULL);
}
END_TEST

/* ---- the known failures ---- */

START_TEST(adalora_at_a_sixteenth_of_loras_scale_is_stopped) {
    made_row_make(&b, "adalora", "AdaLoRA", 3,
                  "{\"init_rank\":64,\"target_rank\":32,\"alpha\":8,\"scale\":0.124999980,"
                  "\"dropout\":0,\"targets\":[\"*\"]}",
                  NULL);
    assert_one("scale", "2", "0.125", false);
    made_row_free(&b); /* the scale follows from alpha and rank too */
    made_row_make(&b, "dylora", "DyLoRA", 3,
                  "{\"rank\":64,\"alpha\":8,\"dropout\":0,\"targets\":[\"*\"]}", NULL);
    assert_one("scale", "2", "0.125", false);
}
END_TEST

START_TEST(full_fine_tuning_in_pure_bf16_against_f32_adapters_is_stopped) {
    made_row_make(&b, "full", "full", 3, "{}", NULL);
    for (int s = 0; s < 3; s++) b.records[s].memory[0].peak = b.records[s].memory[0].predicted = 0;
    assert_one("precision", "f32", "bf16", false);
}
END_TEST

START_TEST(a_run_with_fewer_steps_is_stopped) {
    made_row_make(&b, "dora", "DoRA", 3, lora, "{\"train\":{\"steps\":8}}");
    assert_one("steps", "16", "8", false);
    made_row_free(&b);
    /* Epochs against steps: what was done counts, not how it was said. */
    made_row_make(&b, "dora", "DoRA", 3, lora, NULL);
    double loss[16] = {0}, tokens[16];
    for (int i = 0; i < 16; i++) tokens[i] = 100 + i;
    for (int s = 0; s < 3; s++) {
        pb_json *train = cJSON_GetObjectItemCaseSensitive(b.records[s].config, "train");
        cJSON_DeleteItemFromObjectCaseSensitive(train, "steps");
        ck_assert(pb_json_add_f64(train, "epochs", 1));
        pb_assert_ok(pb_record_sample(&a.records[s], "loss/train", loss, 16));
        pb_assert_ok(pb_record_sample(&b.records[s], "loss/train", loss, 16));
        pb_assert_ok(pb_record_sample(&a.records[s], "step/tokens", tokens, 16));
        tokens[3] -= s == 1; /* fewer tokens in one run */
        pb_assert_ok(pb_record_sample(&b.records[s], "step/tokens", tokens, 16));
        tokens[3] += s == 1;
    }
    assert_one("tokens", "1720", "1719", false);
}
END_TEST

/* ---- one by one ---- */

START_TEST(every_shared_setting_stops_when_it_differs) {
    static const struct {
        const char *changes, *field, *a, *b;
        bool cost_only;
    } cases[] = {
        {"{\"dtype\":\"f32\"}", "precision", "bf16", "f32", false},
        {"{\"train\":{\"optimizer\":\"adamw8\"}}", "optimizer", "adamw", "adamw8", false},
        {"{\"train\":{\"beta2\":0.95}}", "optimizer", "0.999", "0.95", false},
        {"{\"train\":{\"schedule\":\"cosine\"}}", "schedule", "linear", "cosine", false},
        {"{\"train\":{\"warmup\":0}}", "schedule", "0.06", "0", false},
        {"{\"train\":{\"clip\":0}}", "clip", "1", "0", false},
        {"{\"train\":{\"weight_decay\":0}}", "decay", "0.01", "0", false},
        {"{\"train\":{\"hidden_dropout\":0.1}}", "dropout", "model", "0.1", false},
        {"{\"data\":{\"max_len\":32}}", "data", "64", "32", false},
        {"{\"data\":{\"subsample_seed\":2}}", "data", "1", "2", false},
        {"{\"device\":\"ref\"}", "device", "cpu", "ref", false},
        {"{\"train\":{\"batch\":16,\"accumulate\":2}}", "accumulate", "32", "16", true},
        {"{\"train\":{\"checkpoint\":true}}", "checkpoint", "not given", "true", true},
        {"{\"train\":{\"paged\":true}}", "paged", "not given", "true", true},
        {"{\"deterministic\":false}", "deterministic", "true", "false", false},
        {"{\"train\":{\"new_option\":3}}", "train.new_option", "not given", "3", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        made_row_make(&b, "full", "full", 3, "{}", cases[i].changes);
        assert_one(cases[i].field, cases[i].a, cases[i].b, cases[i].cost_only);
        made_row_free(&b);
    }
    made_row_make(&b, "full", "full", 3, "{}", "{\"train\":{\"batch\":16}}");
    pb_parity p; /* half the sequences a step: quality and cost */
    pb_assert_ok(pb_parity_check(&a.row, &b.row, NULL, &p));
    ck_assert(find(&p, "batch") && find(&p, "accumulate"));
    ck_assert_str_eq(pb_parity_stop(&p, false)->field, "batch");
    pb_parity_free(&p);
}
END_TEST

START_TEST(low_rank_methods_share_targets_and_dropout) {
    made_row_make(&b, "dora", "DoRA", 3,
                  "{\"rank\":8,\"alpha\":16,\"dropout\":0,\"targets\":[\"*.attn.q\",\"*.attn.v\"]}",
                  NULL);
    assert_one("targets", "[\"*\"]", "[\"*.attn.q\",\"*.attn.v\"]", false);
    made_row_free(&b);
    made_row_make(&b, "dora", "DoRA", 3,
                  "{\"rank\":8,\"alpha\":16,\"dropout\":0.1,\"targets\":[\"*\"]}", NULL);
    assert_one("dropout", "0", "0.1", false);
}
END_TEST

/* Without a branch targets are the method's own: no row without a scale is held to another's, nor two such to each other. */
START_TEST(targets_of_what_has_no_branch_are_its_own) {
    made_row_make(&b, "full", "norms only", 3, "{\"targets\":[\"*.norm\"],\"bias\":\"all\"}", NULL);
    assert_none();
    teardown();
    made_row_make(&a, "full", "top layer", 3, "{\"targets\":[\"layers.5.*\"]}", NULL);
    made_row_make(&b, "full", "norms only", 3, "{\"targets\":[\"*.norm\"]}", NULL);
    assert_none();
    made_row_free(&b);
    made_row_make(&b, "full", "full", 3, "{}", NULL);
    assert_none();
    teardown(); /* with one on both sides they are held to each other, biases too */
    made_row_make(&a, "lora", "LoRA", 3, lora, NULL);
    made_row_make(&b, "lora", "LoRA, biases", 3,
                  "{\"rank\":8,\"alpha\":16,\"dropout\":0,\"targets\":[\"*\"],\"bias\":\"all\"}", NULL);
    assert_one("targets", "none", "all", false);
}
END_TEST

START_TEST(machine_software_and_threads_are_compared) {
    made_row_make(&b, "full", "full", 3, "{}", NULL);
    made_row_environment(&b, "{\"machine\":{\"cpu\":\"Other 3 GHz\"}}");
    assert_one("machine", "Example 2 GHz", "Other 3 GHz", false);
    made_row_environment(&b,
                         "{\"machine\":{\"cpu\":\"Example 2 GHz\"},"
                         "\"build\":{\"revision\":\"r2\"}}");
    assert_one("software", "r1", "r2", false);
    made_row_environment(&b, "{\"build\":{\"revision\":\"r1\"},\"threads\":4}");
    assert_one("threads", "2", "4", true);
    made_row_environment(&b, "{\"threads\":2}");
    assert_none();
    /* Only one seed was made elsewhere: found all the same. */
    made_row_free(&b);
    made_row_make(&b, "full", "full", 3, "{}", NULL);
    cJSON_ReplaceItemInObjectCaseSensitive(b.records[2].environment, "threads",
                                           cJSON_CreateNumber(8));
    assert_one("threads", "2", "8", true);
}
END_TEST

/* A revision names a build from unchanged sources. Of others the executable must be the same one. */
START_TEST(changed_sources_are_no_revision) {
    static const struct {
        const char *a, *b, *left, *right; /* NULL: no difference */
    } cases[] = {
        {"\"dirty\":false", "\"dirty\":true", "unchanged", "changed"},
        {"\"dirty\":true", "\"dirty\":true", NULL, NULL}, /* old records say no more */
        {"\"dirty\":true,\"executable\":\"aa\"", "\"dirty\":true,\"executable\":\"aa\"", NULL, NULL},
        {"\"dirty\":true,\"executable\":\"aa\"", "\"dirty\":true,\"executable\":\"bb\"",
         "changed, executable aa", "changed, executable bb"},
        {"\"dirty\":true,\"executable\":\"aa\"", "\"dirty\":true", "changed, executable aa", "changed"},
        {"\"dirty\":false,\"executable\":\"aa\"", "\"dirty\":false,\"executable\":\"bb\"", NULL, NULL},
        {"\"revision\":\"\",\"executable\":\"aa\"", "\"revision\":\"\",\"executable\":\"bb\"",
         "changed, executable aa", "changed, executable bb"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char changes[128];
        teardown();
        made_row_make(&a, "lora", "LoRA", 3, lora, NULL);
        made_row_make(&b, "full", "full", 3, "{}", NULL);
        snprintf(changes, sizeof changes, "{\"build\":{%s}}", cases[i].a);
        made_row_environment(&a, changes);
        snprintf(changes, sizeof changes, "{\"build\":{%s}}", cases[i].b);
        made_row_environment(&b, changes);
        if (cases[i].left) assert_one("software", cases[i].left, cases[i].right, false);
        else assert_none();
    }
}
END_TEST

static void mark_final(made_row *r, int trials, int runs) {
    for (int s = 0; s < r->row.n_runs; s++) strcpy(r->records[s].phase, "final");
    r->row.n_trials = trials;
    r->row.n_trial_runs = runs;
}

START_TEST(tuning_budgets_are_compared) {
    made_row_make(&b, "full", "full", 3, "{}", NULL);
    mark_final(&b, 9, 9);
    assert_one("tuning", "given", "chosen on the validation data", false);
    mark_final(&a, 9, 9);
    assert_none();
    mark_final(&b, 6, 9);
    assert_one("tuning", "9 in 9 runs", "6 in 9 runs", false);
    mark_final(&b, 9, 18); /* as many values on twice the seeds */
    assert_one("tuning", "9 in 9 runs", "9 in 18 runs", false);
    mark_final(&b, 9, 9);
    a.row.trial_steps = 1152;
    assert_none(); /* b's records do not say */
    b.row.trial_steps = 496; /* halving */
    assert_one("tuning", "9 in 9 runs, 1152 steps", "9 in 9 runs, 496 steps", false);
    b.row.trial_steps = 1152;
    a.row.trial_decades = 3;
    b.row.trial_decades = 3.0001; /* elsewhere, but as wide: full fine-tuning needs smaller rates */
    assert_none();
    b.row.trial_decades = 6;
    assert_one("tuning", "9 in 9 runs, rates over 3 decades", "9 in 9 runs, rates over 6 decades", false);
    b.row.trial_decades = 3;
    /* As wide, but in the wrong place, and never left. */
    static const char *const edges[] = {"none", "cliff", "high", "low"};
    for (int i = 0; i < 4; i++) {
        for (int s = 0; s < 3; s++) {
            pb_json_free(b.records[s].tuning);
            b.records[s].tuning = cJSON_CreateObject();
            ck_assert(pb_json_add_str(b.records[s].tuning, "edge", edges[i]));
        }
        b.row.n_trials_beyond = 2; /* two trials went on */
        assert_none();
        b.row.n_trials_beyond = 0;
        if (i < 2) assert_none();
        else
            assert_one("tuning", "9 in 9 runs",
                       "9 in 9 runs, the best at the end of its grid and nothing tried beyond", false);
    }
    b.row.n_trials_beyond = 2;
    for (int s = 0; s < 3; s++) {
        pb_json *mine = pb_json_add_object(a.records[s].dataset, "splits"),
                *theirs = pb_json_add_object(b.records[s].dataset, "splits");
        ck_assert(pb_json_add_i64(mine, "valid", 500) && pb_json_add_i64(theirs, "valid", 100));
    }
    assert_one("data", "500", "100", false);
}
END_TEST

/* Lists of target modules are long, and may part late: they are compared whole. */
START_TEST(long_values_are_compared_whole) {
    char params[2][400];
    for (int k = 0; k < 2; k++) {
        int n = snprintf(params[k], sizeof params[k], "{\"scale\":2,\"targets\":[");
        for (int i = 0; i < 14; i++)
            n += snprintf(params[k] + n, sizeof params[k] - (size_t)n, "%s\"layers.%d.attn.q\"", i ? "," : "",
                          i == 13 && k ? 99 : i);
        snprintf(params[k] + n, sizeof params[k] - (size_t)n, "]}");
    }
    teardown();
    made_row_make(&a, "lora", "LoRA", 3, params[0], NULL);
    made_row_make(&b, "dora", "DoRA", 3, params[1], NULL);
    assert_one("targets", "\xe2\x80\xa6yers.12.attn.q\",\"layers.13.attn.q\"]",
               "\xe2\x80\xa6yers.12.attn.q\",\"layers.99.attn.q\"]", false);
    made_row_free(&b);
    made_row_make(&b, "dora", "DoRA", 3, params[0], NULL);
    assert_none();
}
END_TEST

START_TEST(data_and_their_order_are_compared) {
    made_row_make(&b, "full", "full", 3, "{}", NULL);
    double tokens[4] = {3, 5, 4, 6}, turned[4] = {5, 3, 4, 6}, id[4] = {0, 1, 2, 3};
    for (int s = 0; s < 3; s++) {
        pb_assert_ok(pb_record_sample(&a.records[s], "step/tokens", tokens, 4));
        pb_assert_ok(pb_record_sample(&b.records[s], "step/tokens", turned, 4));
        /* Hashes are taken by the writer; here they are put in. */
        strcpy(a.records[s].samples[0].sha256, "0123456789abcdef");
        strcpy(b.records[s].samples[0].sha256, "fedcba9876543210");
    }
    assert_one("order", "tokens per step 0123456789ab", "tokens per step fedcba987654", false);
    for (int s = 0; s < 3; s++) {
        ck_assert(pb_json_add_str(a.records[s].dataset, "order_sha256", "same"));
        ck_assert(pb_json_add_str(b.records[s].dataset, "order_sha256", "same"));
    }
    assert_none(); /* the order's own hash is believed before the tokens of steps */
    for (int s = 0; s < 3; s++) {
        pb_assert_ok(pb_record_sample(&a.records[s], "eval/test/id", id, 4));
        pb_assert_ok(pb_record_sample(&b.records[s], "eval/test/id", id, 3));
    }
    assert_one("data", "4, ids ", "3, ids ", false);
}
END_TEST

START_TEST(a_row_that_is_two_rows_is_stopped) {
    made_row_make(&b, "full", "full", 3, "{}", NULL);
    cJSON_ReplaceItemInObjectCaseSensitive(b.records[1].config, "lr", cJSON_CreateNumber(0.5));
    assert_one("row", "nothing", "lr", false);
}
END_TEST

/* A setting stands only where it is on: the first run need not have it. */
START_TEST(what_only_a_later_run_has_is_seen) {
    made_row_make(&b, "full", "full", 3, "{}", NULL);
    pb_json *eval = cJSON_GetObjectItemCaseSensitive(b.records[1].config, "eval");
    ck_assert(pb_json_add_i64(eval, "weights", 2));
    assert_one("row", "nothing", "eval.weights", false);
    pb_json *train = cJSON_GetObjectItemCaseSensitive(b.records[1].config, "train");
    cJSON_ReplaceItemInObjectCaseSensitive(b.records[1].config, "lr", cJSON_CreateNumber(0.5));
    cJSON_DeleteItemFromObjectCaseSensitive(train, "clip");
    pb_text text = {0};
    pb_assert_ok(pb_row_drift(&b.row, &text)); /* each of them once */
    ck_assert_str_eq(text.data, "lr, train.clip, eval.weights");
    pb_text_free(&text);
}
END_TEST

/* Two general texts: two measures hang on them, the others do not. */
START_TEST(a_general_text_stops_only_what_it_measures) {
    static const char text[] = "{\"eval\":{\"general\":{\"name\":\"%s\",\"sha256\":\"%s\",\"examples\":%d}}}";
    static const struct {
        const char *name, *sha;
        int examples;
        const char *left, *right;
    } cases[] = {{"wiki", "aa", 500, NULL, NULL},
                 {"news", "aa", 500, "wiki", "news"},
                 {"wiki", "bb", 500, "aa", "bb"},
                 {"wiki", "aa", 100, "500", "100"}};
    const char *names[] = {"general"};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char changes[160];
        pb_parity p;
        teardown();
        snprintf(changes, sizeof changes, text, "wiki", "aa", 500);
        made_row_make(&a, "lora", "LoRA", 3, lora, changes);
        snprintf(changes, sizeof changes, text, cases[i].name, cases[i].sha, cases[i].examples);
        made_row_make(&b, "full", "full", 3, "{}", changes);
        pb_assert_ok(pb_parity_check(&a.row, &b.row, NULL, &p));
        const pb_parity_finding *f = pb_parity_stop_general(&p);
        ck_assert_int_eq(p.n, cases[i].left != NULL);
        ck_assert_ptr_null(pb_parity_stop(&p, true));
        if (f) {
            ck_assert_str_eq(f->field, "general");
            ck_assert_str_eq(f->a, cases[i].left);
            ck_assert_str_eq(f->b, cases[i].right);
        }
        pb_parity_free(&p);
        pb_assert_ok(pb_parity_check(&a.row, &b.row, &(pb_waivers){names, 1}, &p));
        ck_assert_ptr_null(pb_parity_stop_general(&p));
        pb_parity_free(&p);
    }
    teardown(); /* what stops every quality stops these, too */
    made_row_make(&a, "lora", "LoRA", 3, lora, NULL);
    made_row_make(&b, "full", "full", 3, "{}", "{\"train\":{\"steps\":8}}");
    pb_parity p;
    pb_assert_ok(pb_parity_check(&a.row, &b.row, NULL, &p));
    ck_assert_str_eq(pb_parity_stop_general(&p)->field, "steps");
    pb_parity_free(&p);
}
END_TEST

START_TEST(runs_are_paired_by_seed_and_unfinished_ones_left_out) {
    pb_parity p;
    made_row_make(&b, "full", "full", 3, "{}", NULL);
    b.records[1].status = PB_RUN_DIVERGED;
    pb_assert_ok(pb_parity_check(&a.row, &b.row, NULL, &p));
    ck_assert_int_eq(p.common, 2);
    pb_parity_free(&p);
    for (int s = 0; s < 3; s++) b.records[s].seed += 10;
    pb_assert_ok(pb_parity_check(&a.row, &b.row, NULL, &p));
    ck_assert_int_eq(p.common, 0);
    pb_parity_free(&p);
}
END_TEST

START_TEST(waivers_name_a_field_or_a_setting) {
    made_row_make(&b, "full", "full", 1, "{}", "{\"train\":{\"new_option\":3}}");
    const char *good[] = {"scale", "train.new_option", "row"}, *bad[] = {"scle"}, *empty[] = {""};
    const char *path[] = {"train.warmup"};
    pb_assert_ok(pb_waivers_check("--waive", &(pb_waivers){good, 3}, b.records, 1));
    pb_assert_ok(pb_waivers_check("--waive", &(pb_waivers){path, 1}, NULL, 0));
    pb_assert_fails(pb_waivers_check("--waive", &(pb_waivers){bad, 1}, b.records, 1), PB_E_INPUT,
                    "nearest is \"scale\"");
    pb_assert_fails(pb_waivers_check("--waive", &(pb_waivers){empty, 1}, b.records, 1), PB_E_INPUT,
                    "--waive");
    /* A setting's path waives that setting and not its whole field. */
    made_row_free(&b);
    made_row_make(&b, "full", "full", 3, "{}",
                  "{\"train\":{\"warmup\":0,\"schedule\":\"cosine\"}}");
    pb_parity p;
    pb_assert_ok(pb_parity_check(&a.row, &b.row, &(pb_waivers){path, 1}, &p));
    ck_assert_int_eq(p.n, 2);
    for (int i = 0; i < 2; i++) {
        ck_assert_str_eq(p.items[i].field, "schedule");
        ck_assert(p.items[i].waived == (strcmp(p.items[i].setting, "train.warmup") == 0));
    }
    pb_parity_free(&p);
}
END_TEST

int main(void) {
    Suite *s = suite_create("parity");
    TCase *t = pb_test_case(s, "parity");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_methods_own_settings_do_not_stop_it);
    tcase_add_test(t, adalora_at_a_sixteenth_of_loras_scale_is_stopped);
    tcase_add_test(t, full_fine_tuning_in_pure_bf16_against_f32_adapters_is_stopped);
    tcase_add_test(t, a_run_with_fewer_steps_is_stopped);
    tcase_add_test(t, every_shared_setting_stops_when_it_differs);
    tcase_add_test(t, low_rank_methods_share_targets_and_dropout);
    tcase_add_test(t, targets_of_what_has_no_branch_are_its_own);
    tcase_add_test(t, machine_software_and_threads_are_compared);
    tcase_add_test(t, changed_sources_are_no_revision);
    tcase_add_test(t, tuning_budgets_are_compared);
    tcase_add_test(t, long_values_are_compared_whole);
    tcase_add_test(t, data_and_their_order_are_compared);
    tcase_add_test(t, a_row_that_is_two_rows_is_stopped);
    tcase_add_test(t, what_only_a_later_run_has_is_seen);
    tcase_add_test(t, a_general_text_stops_only_what_it_measures);
    tcase_add_test(t, runs_are_paired_by_seed_and_unfinished_ones_left_out);
    tcase_add_test(t, waivers_name_a_field_or_a_setting);
    return pb_run_suite(s);
}
