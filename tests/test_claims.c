/* Claims: every committed file against the suites that ship, every operator's truth table, verdicts,
 * broken files, facts, what the command returns. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "harness/claims_facts.h"
#include "harness/cli.h"
#include "harness/latency.h"
#include "reports/report.h"
#include "tests/claim_lab.h"
#include "tests/support.h"
#include "tests/synthetic_records.h"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])
#define N_CLAIMS 62

static void write_text(const char *dir, const char *name, const char *text) {
    char *path = pb_path_join(dir, name);
    pb_assert_ok(pb_file_write_atomic(path, text, strlen(text)));
    free(path);
}

/* ---- the committed files ---- */

/* A latency suite: every batch with every length. */
static bool in_grid(const pb_json *latency, const char *shape) {
    const pb_json *b = NULL, *l = NULL;
    cJSON_ArrayForEach (b, pb_json_get(latency, "batch"))
        cJSON_ArrayForEach (l, pb_json_get(latency, "length")) {
            char text[64];
            snprintf(text, sizeof text, "%.0fx%.0f", b->valuedouble, l->valuedouble);
            if (strcmp(text, shape) == 0) return true;
        }
    return false;
}

static bool has_shape(const pb_json *suite, const char *tag) {
    const pb_json *e = NULL;
    const char *shape = strstr(tag, "@shape=");
    if (!shape) return true;
    if (pb_json_get(suite, "latency")) return in_grid(pb_json_get(suite, "latency"), shape + 7);
    cJSON_ArrayForEach (e, pb_json_get(pb_json_get(suite, "eval"), "infer_shapes"))
        if (strcmp(e->valuestring, shape + 7) == 0) return true;
    return false;
}

static bool has_rank(const pb_json *row, const char *tag) {
    const char *rank = strstr(tag, "@rank=");
    const pb_json *most = pb_json_get(pb_json_get(row, "params"), "rank");
    return !rank || (strcmp(pb_json_get(row, "method")->valuestring, "dylora") == 0 &&
                     atoi(rank + 6) <= most->valueint);
}

static bool has_cut(const pb_json *row, const char *tag) {
    const char *cut = strstr(tag, "@cut=");
    const pb_json *most = pb_json_get(pb_json_get(row, "params"), "rank");
    return !cut || (cJSON_IsTrue(pb_json_get(row, "cuts")) && atoi(cut + 5) < most->valueint);
}

/* A sample of validations needs validations, a latency repetitions, a change of weights checkpoints. */
static bool is_measured(const pb_json *suite, const char *tag) {
    const pb_json *eval = pb_json_get(suite, "eval"), *every = pb_json_get(eval, "every"),
                  *repeats = pb_json_get(eval, "infer_repeats");
    if (strstr(tag, "/before")) return cJSON_IsTrue(pb_json_get(eval, "before"));
    if (strncmp(tag, "curve/", 6) == 0) return every && every->valuedouble > 0;
    if (strncmp(tag, "gradient/adapter/", 17) == 0) {
        const pb_json *gradients = pb_json_get(eval, "gradients");
        return gradients && gradients->valuedouble > 0;
    }
    if (strncmp(tag, "change/", 7) == 0) {
        const pb_json *weights = pb_json_get(eval, "weights");
        return weights && weights->valuedouble > 0;
    }
    if (strncmp(tag, "time/infer/", 11) == 0 || strncmp(tag, "check/merge", 11) == 0)
        return !repeats || repeats->valuedouble > 0;
    return true;
}

/* The labels a row expands to: over its rates, over the numbers of examples. */
static bool row_gives(const pb_json *suite, const pb_json *row, const char *label) {
    const pb_json *sizes = pb_json_get(suite, "examples"), *lr = pb_json_get(row, "lr"), *e = NULL;
    const char *own = pb_json_get(row, "label")->valuestring;
    char text[160], number[PB_F64_CHARS];
    if (cJSON_IsArray(lr)) {
        cJSON_ArrayForEach (e, lr) {
            pb_format_f64(number, e->valuedouble);
            snprintf(text, sizeof text, "%s lr %s", own, number);
            if (pb_glob(label, text)) return true;
        }
        return false;
    }
    if (!sizes) return pb_glob(label, own);
    cJSON_ArrayForEach (e, sizes) {
        snprintf(text, sizeof text, "%s n%.0f", own, e->valuedouble);
        if (pb_glob(label, text)) return true;
    }
    return false;
}

/* The suite's file; "NAME-*" is NAME on a model that the user names. */
static void file_of(const char *suite, char name[64]) {
    snprintf(name, 64, "%.*s", (int)(strlen(suite) - (cl_is_pattern(suite) ? 2 : 0)), suite);
}

/* The rate that the trials of claims-main chose for a row, as its finals among the committed records have it. */
static double chosen_rate(const pb_record *records, int n, const char *label) {
    for (int i = 0; i < n; i++)
        if (strcmp(records[i].label, label) == 0) return pb_json_number(records[i].config, "lr");
    ck_abort_msg("no record of claims-main has label %s", label);
}

/* Rates that no suite tuned for itself are those of trials, on a seed that is no seed of theirs. */
START_TEST(fixed_rates_are_those_that_trials_chose) {
    static const char *const suites[] = {"data", "ranks", "variants", "quant", "direction"};
    static const char *const rows[][2] = {{"lora", "LoRA r8"},   {"adalora", "AdaLoRA 12 to 8"}, {"dylora", "DyLoRA r8"},
                                          {"dora", "DoRA r8"}, {"qlora", "QLoRA NF4 DQ"},    {"full", "full"}};
    pb_record *records = NULL;
    int n = 0, checked = 0;
    pb_assert_ok(pb_records_load("results/reference/claims-main", false, &records, &n));
    for (size_t i = 0; i < COUNT(suites); i++) {
        char path[128];
        pb_json *suite = NULL;
        const pb_json *row = NULL;
        snprintf(path, sizeof path, "harness/suites/claims-%s.json", suites[i]);
        pb_assert_ok(pb_json_load(path, 1 << 20, &suite));
        cJSON_ArrayForEach (row, pb_json_get(suite, "runs"))
            for (size_t k = 0; k < COUNT(rows); k++) {
                if (strcmp(pb_json_text(row, "method"), rows[k][0]) != 0) continue;
                double rate = pb_json_number(row, "lr"), chosen = chosen_rate(records, n, rows[k][1]);
                /* The trials end an eighth of a decade apart; neighbours there may be equal but for rounding. */
                ck_assert_msg(fabs(log10(rate / chosen)) < 0.126, "%s: %s at %g, chosen was %g", suites[i],
                              pb_json_text(row, "label"), rate, chosen);
                checked++;
            }
        ck_assert_msg(strstr(pb_json_text(suite, "title"), "claims-main") != NULL, "%s: whose rates?", suites[i]);
        pb_json_free(suite);
    }
    ck_assert_int_eq(checked, 31);
    pb_records_free(records, n);
}
END_TEST

static pb_status row_exists(void *user, const char *suite, const char *label, const char *tag) {
    const char *claim = user;
    char path[256], name[64];
    pb_json *json = NULL;
    const pb_json *row = NULL;
    bool found = false;
    file_of(suite, name);
    snprintf(path, sizeof path, "harness/suites/%s.json", name);
    ck_assert_msg(pb_json_load(path, 1 << 20, &json) == PB_OK, "%s names suite %s: %s", claim, suite,
                  pb_error_message());
    ck_assert_msg(cl_is_pattern(suite) == !pb_json_get(json, "model"), "%s: %s: who names the model?", claim,
                  suite);
    cJSON_ArrayForEach (row, pb_json_get(json, "runs")) {
        if (!row_gives(json, row, label)) continue;
        found = true;
        if (!tag) continue;
        ck_assert_msg(has_shape(json, tag), "%s: %s has no such shape: %s", claim, suite, tag);
        ck_assert_msg(has_rank(row, tag), "%s: %s, %s has no such rank: %s", claim, suite, label, tag);
        ck_assert_msg(has_cut(row, tag), "%s: %s, %s is not cut so: %s", claim, suite, label, tag);
        ck_assert_msg(is_measured(json, tag), "%s: %s does not measure %s", claim, suite, tag);
    }
    pb_json_free(json);
    ck_assert_msg(found, "%s: suite %s has no row '%s'", claim, suite, label);
    return PB_OK;
}

START_TEST(every_claim_names_what_the_suites_have) {
    pb_claim_file *claims = NULL;
    int n = 0;
    pb_assert_ok(pb_claims_load("reports/claims", &claims, &n));
    ck_assert_int_eq(n, N_CLAIMS);
    for (int i = 0; i < n; i++) {
        pb_assert_ok(pb_claim_facts_check(&claims[i]));
        pb_assert_ok(pb_claim_rows(&claims[i], row_exists, claims[i].id));
    }
    for (char c = 'a'; c <= 'j'; c++) { /* the field's own rules can all be tested here */
        const pb_claim_file *claim = NULL;
        char id[16];
        snprintf(id, sizeof id, "art-%c", c);
        pb_assert_ok(pb_claims_find(claims, n, id, &claim));
        ck_assert_int_ne(claim->scale, PB_SCALE_NONE);
    }
    pb_claims_free(claims, n);
}
END_TEST

/* The runs of a suite as records that hold what the suite file says of them and nothing measured. */
static int planned_records(const char *name, pb_record *records, int cap) {
    pb_suite suite;
    int n = 0;
    char file[64];
    file_of(name, file);
    pb_suite_overrides over = {.model = cl_is_pattern(name) ? "shape:llama-7b" : NULL};
    pb_assert_ok(pb_suite_load(file, &over, &suite));
    for (int i = 0; i < suite.n_runs; i++) {
        const pb_run_config *run = &suite.runs[i];
        pb_record *r = &records[n];
        ck_assert_int_lt(n, cap);
        if (strcmp(run->origin.phase, "trial") == 0) continue;
        *r = (pb_record){.seed = run->seed, .status = PB_RUN_OK};
        pb_copy(r->suite, sizeof r->suite, suite.name);
        pb_copy(r->label, sizeof r->label, run->label);
        if (suite.is_latency) pb_assert_ok(pb_latency_config(&suite, run, "m", &r->config));
        else pb_assert_ok(pb_run_config_json(run, "m", "d", &r->config));
        pb_assert_ok(pb_run_id_of(r->config, r->run_id));
        r->model = cJSON_CreateObject();
        r->dataset = cJSON_CreateObject();
        ck_assert(pb_json_add_str(r->model, "name", "m") && pb_json_add_str(r->dataset, "name", "d"));
        pb_json *splits = pb_json_add_object(r->dataset, "splits");
        ck_assert(pb_json_add_i64(splits, "train", run->limit[0]) &&
                  pb_json_add_i64(splits, "test", run->limit[2]));
        n++;
    }
    pb_suite_free(&suite);
    return n;
}

/* What the files of the suites say already: each claim compares rows that differ in nothing but the
 * method's own, or waives the difference by name; and what it waives is really there. */
START_TEST(claims_compare_like_with_like) {
    enum { CAP = 4096 };
    pb_record *records = calloc(CAP, sizeof *records);
    pb_claim_file *claims = NULL;
    int n = 0;
    ck_assert(records != NULL);
    pb_assert_ok(pb_claims_load("reports/claims", &claims, &n));
    for (int i = 0; i < n; i++) {
        cl_context x = {.claim = &claims[i], .records = records};
        const pb_json *a = NULL;
        const char *names[CL_WAIVERS];
        pb_waivers waivers;
        pb_text waived = {0};
        for (int s = 0; s < claims[i].n_suites; s++)
            x.n_records += planned_records(claims[i].suites[s], records + x.n_records,
                                           CAP - x.n_records);
        cJSON_ArrayForEach (a, pb_json_get(claims[i].json, "assertions")) {
            char stop[400];
            pb_assert_ok(cl_parity(&x, a, stop, &waived));
            ck_assert_msg(!*stop, "%s: %s: %s", claims[i].id, pb_json_get(a, "says")->valuestring,
                          stop);
        }
        pb_assert_ok(cl_waivers(&claims[i], names, &waivers));
        ck_assert_msg(!waivers.n || waived.len, "%s waives what no two of its rows differ in",
                      claims[i].id);
        pb_text_free(&waived);
        for (int k = 0; k < x.n_records; k++) pb_record_free(&records[k]);
    }
    free(records);
    pb_claims_free(claims, n);
}
END_TEST

/* Every suite that a claim names is run by claims-small, so that one command makes them all; but those whose
 * model the user names, and their parts are optional. */
START_TEST(claims_small_runs_every_suite) {
    pb_claim_file *claims = NULL;
    pb_json *all = NULL;
    int n = 0;
    pb_assert_ok(pb_claims_load("reports/claims", &claims, &n));
    pb_assert_ok(pb_json_load("harness/suites/claims-small.json", 1 << 20, &all));
    for (int i = 0; i < n; i++)
        for (int k = 0; k < claims[i].n_suites; k++) {
            const pb_json *e = NULL;
            bool found = cl_is_pattern(claims[i].suites[k]);
            cJSON_ArrayForEach (e, pb_json_get(all, "suites"))
                found = found || strcmp(e->valuestring, claims[i].suites[k]) == 0;
            ck_assert_msg(found, "%s: %s is no part of claims-small", claims[i].id,
                          claims[i].suites[k]);
        }
    for (int i = 0; i < n; i++) {
        const pb_json *a = NULL;
        cJSON_ArrayForEach (a, pb_json_get(claims[i].json, "assertions")) {
            char *text = pb_json_print(a, false);
            ck_assert_msg(!strstr(text, "-*\"") || cl_is_optional(a), "%s: not optional: %s", claims[i].id, text);
            free(text);
        }
    }
    pb_json_free(all);
    pb_claims_free(claims, n);
}
END_TEST

/* ---- what is committed about them ---- */

#define VERDICTS "results/reference/claims-small/claims.json"
#define BEGIN "<!-- claims: begin -->\n"
#define END "<!-- claims: end -->\n"
#define RENEW "renew it with results/reference/refresh.sh readme"

static void assert_text(const pb_claim_file *c, const pb_json *here, const pb_json *there, const char *key) {
    const char *now = pb_json_text(here, key), *then = pb_json_text(there, key);
    ck_assert_msg(strcmp(now, then) == 0,
                  "%s: %s: reports/claims says\n  %s\nand " VERDICTS "\n  %s\ncheck and renew it with "
                  "results/reference/refresh.sh",
                  c->id, key, now, then);
}

/* What the verdict is on, word by word; bounds, terms, facts and waivers by the file's sum. */
static void assert_same_claim(const pb_claim_file *c, const pb_json *result) {
    static const char *const texts[] = {"method", "statement", "reported", "conditions", "full_scale", "small_scale", "scale"};
    const pb_json *parts = pb_json_get(result, "assertions"), *a = NULL;
    char sha256[PB_SHA256_HEX];
    int k = 0;
    for (size_t i = 0; i < COUNT(texts); i++) assert_text(c, c->json, result, texts[i]);
    ck_assert_msg(pb_json_number(result, "seeds") == (double)c->seeds, "%s: seeds", c->id);
    ck_assert_msg(cJSON_Compare(pb_json_get(c->json, "source"), pb_json_get(result, "source"), true), "%s: source", c->id);
    cJSON_ArrayForEach (a, pb_json_get(c->json, "assertions")) {
        const pb_json *r = cJSON_GetArrayItem(parts, k++);
        ck_assert_msg(r != NULL, "%s: " VERDICTS " has no part \"%s\"", c->id, pb_json_text(a, "says"));
        assert_text(c, a, r, "says");
        assert_text(c, a, r, "op");
        ck_assert_msg(cl_role_of(a) == cl_role_of(r), "%s: %s: decides", c->id, pb_json_text(a, "says"));
        ck_assert_msg(cl_is_optional(a) == cl_is_optional(r), "%s: %s: optional", c->id, pb_json_text(a, "says"));
    }
    ck_assert_msg(k == cJSON_GetArraySize(parts), "%s: " VERDICTS " has more parts", c->id);
    pb_assert_ok(pb_claim_sha256(c, sha256));
    ck_assert_msg(strcmp(pb_json_text(result, "sha256"), sha256) == 0,
                  "%s: a bound, term, fact or waiver is not the one of " VERDICTS "; check and renew it with "
                  "results/reference/refresh.sh",
                  c->id);
}

/* The committed verdicts are of the claims that are here, each once, as they stand here. */
START_TEST(the_committed_verdicts_are_of_these_claims) {
    pb_claim_file *claims = NULL;
    pb_json *results = NULL;
    const pb_json *c = NULL;
    int n = 0, i = 0;
    pb_assert_ok(pb_claims_load("reports/claims", &claims, &n));
    pb_assert_ok(pb_json_load(VERDICTS, 16u << 20, &results));
    cJSON_ArrayForEach (c, pb_json_get(results, "claims")) { /* both sorted by id */
        const char *id = pb_json_get(c, "id")->valuestring, *verdict = pb_json_get(c, "verdict")->valuestring;
        ck_assert_msg(i < n && strcmp(claims[i].id, id) == 0, VERDICTS " has %s where reports/claims has %s", id,
                      i < n ? claims[i].id : "no more");
        bool untestable = strcmp(verdict, pb_claim_verdict_name(PB_CLAIM_NOT_TESTABLE)) == 0;
        ck_assert_msg(untestable == (claims[i].scale == PB_SCALE_NONE), "%s: %s", id, verdict);
        assert_same_claim(&claims[i], c);
        i++;
    }
    ck_assert_msg(i == n, VERDICTS " ends before %s", claims[i < n ? i : 0].id);
    pb_json_free(results);
    pb_claims_free(claims, n);
}
END_TEST

/* README.md between its marks, letter by letter: counts, rows, verdicts, what decided. */
START_TEST(the_readme_shows_the_committed_verdicts) {
    pb_json *results = NULL;
    pb_text table = {0};
    char *readme = NULL;
    pb_assert_ok(pb_json_load(VERDICTS, 16u << 20, &results));
    pb_assert_ok(pb_claims_table(results, &table));
    pb_assert_ok(pb_file_read("README.md", 16u << 20, &readme, NULL));
    char *at = strstr(readme, BEGIN), *end = strstr(readme, END);
    ck_assert_msg(at && end && at < end, "README.md has no " BEGIN " before a " END);
    *end = 0;
    at += strlen(BEGIN);
    for (const char *want = table.data; *want || *at;) {
        int here = (int)strcspn(at, "\n"), there = (int)strcspn(want, "\n");
        ck_assert_msg(here == there && strncmp(at, want, (size_t)here) == 0,
                      "README.md says\n  %.*s\nand the committed verdicts\n  %.*s\n" RENEW, here, at, there, want);
        at += here + (at[here] == '\n');
        want += there + (want[there] == '\n');
    }
    free(readme);
    pb_text_free(&table);
    pb_json_free(results);
}
END_TEST

static void assert_part(const char *claims, const char *row) {
    pb_json *results = NULL;
    pb_text table = {0}, text = {0};
    pb_text_add(&text, "{\"records\":3,\"claims\":[%s]}", claims);
    pb_assert_ok(pb_json_parse("test", text.data, text.len, &results));
    pb_assert_ok(pb_claims_table(results, &table));
    ck_assert_msg(strstr(table.data, row) != NULL, "%s\nwanted: %s", table.data, row);
    pb_text_free(&text);
    pb_text_free(&table);
    pb_json_free(results);
}

/* What a row shows: the part that made the verdict; numbers as their kind is read. */
START_TEST(a_row_shows_the_part_that_decided) {
#define BRIEF(verdict, parts) "{\"id\":\"x\",\"statement\":\"a | b\",\"verdict\":\"" verdict "\",\"assertions\":[" parts "]}"
#define BRIEF_PART(says, decides, finding, what, numbers) \
    "{\"says\":\"" says "\",\"decides\":" decides ",\"finding\":\"" finding "\",\"what\":\"" what "\"," numbers "}"
#define BRIEF_HOLDS BRIEF_PART("first", "true", "holds", "ratio", "\"n\":5,\"value\":1.23456,\"low\":1.1,\"high\":2")
#define BRIEF_ASIDE BRIEF_PART("aside", "false", "fails", "value", "\"n\":0,\"value\":1,\"low\":1,\"high\":1")
#define BRIEF_LESSER BRIEF_PART("part", "\"in part\"", "fails", "value", "\"n\":0,\"value\":50465865728,\"low\":1,\"high\":2")
#define BRIEF_OPEN BRIEF_PART("open", "true", "unclear", "difference", "\"n\":1,\"value\":-2,\"low\":null,\"high\":null")
#define BRIEF_LOST BRIEF_PART("lost", "true", "missing", "", "\"n\":0,\"value\":null,\"low\":null,\"high\":null")
#define BRIEF_FAILS BRIEF_PART("no GB", "true", "fails", "value", "\"n\":0,\"value\":50465865728,\"low\":1,\"high\":2")
#define BRIEF_COUNT "{\"says\":\"count\",\"op\":\"equal\",\"wanted\":\"equal to 1\",\"decides\":true,\"finding\":\"holds\",\"what\":\"value\",\"n\":0,\"value\":1}"
#define BRIEF_HELD_PART BRIEF_PART("part", "\"in part\"", "holds", "value", "\"n\":0,\"value\":1,\"low\":1,\"high\":1")
    assert_part(BRIEF("supported", BRIEF_ASIDE "," BRIEF_HOLDS), "| x | a \\| b | supported | first: ratio 1.23 [1.1, 2] |");
    assert_part(BRIEF("supported in part", BRIEF_HOLDS "," BRIEF_LESSER), "| part: 5.05e+10 |");
    assert_part(BRIEF("inconclusive", BRIEF_HOLDS "," BRIEF_LESSER "," BRIEF_OPEN), "| open: difference -2 |");
    assert_part(BRIEF("not run", BRIEF_OPEN "," BRIEF_LOST), "| lost: nothing |");
    assert_part(BRIEF("not run", BRIEF_LOST), ", 1 not run;");
    assert_part(BRIEF("contradicted", BRIEF_LESSER "," BRIEF_OPEN "," BRIEF_FAILS), "| no GB: 47.0 GiB |");
    assert_part(BRIEF("not testable at this scale", ""), "1 need a larger model");
    /* where all hold: no count that must be met, and nothing that decides in part alone, before what is claimed */
    assert_part(BRIEF("supported", BRIEF_COUNT "," BRIEF_HELD_PART "," BRIEF_HOLDS), "| first: ratio");
    assert_part(BRIEF("supported", BRIEF_COUNT "," BRIEF_HELD_PART), "| count: 1 |");
    assert_part(BRIEF("supported", BRIEF_PART("n", "true", "holds", "value", "\"n\":0,\"value\":37748736,\"low\":1,\"high\":1")),
                "| n: 37,748,736 |");
}
END_TEST

/* A verdict that falls with the correction over all parts is marked, and their number is told. */
START_TEST(a_row_shows_that_its_verdict_falls) {
    static const struct {
        const char *a, *b, *told; /* the verdicts over all parts; NULL: a result without any */
    } cases[] = {{"supported", "contradicted", "all 7 parts that data decide is held at\n5 % (Holm), every verdict stays.\n\n|"},
                 {"inconclusive", "contradicted", "1 verdict (\xe2\x80\xa0) becomes another, 1 of them inconclusive.\n\n|"},
                 {"supported in part", "inconclusive", "2 verdicts (\xe2\x80\xa0) become another, 1 of them inconclusive.\n\n|"},
                 {NULL, NULL, "or one no worse).\n\n|"}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        pb_text text = {0}, table = {0}, row = {0};
        pb_json *results = NULL;
        pb_text_add(&text, "{\"records\":3,");
        if (cases[i].a) pb_text_add(&text, "\"family\":{\"parts\":7,\"decided\":5},");
        pb_text_add(&text, "\"claims\":[");
        for (int k = 0; k < 2; k++) {
            const char *verdict = k ? "contradicted" : "supported", *family = k ? cases[i].b : cases[i].a;
            pb_text_add(&text, "%s{\"id\":\"x%d\",\"statement\":\"s\",\"verdict\":\"%s\",", k ? "," : "", k, verdict);
            if (family) pb_text_add(&text, "\"verdict_family\":\"%s\",", family);
            pb_text_add(&text, "\"assertions\":[" BRIEF_HOLDS "]}");
            pb_text_add(&row, "| x%d | s | %s%s | first: ratio 1.23 [1.1, 2] |\n", k, verdict,
                        family && strcmp(family, verdict) != 0 ? " \xe2\x80\xa0" : "");
        }
        pb_text_add(&text, "]}");
        pb_assert_ok(pb_json_parse("test", text.data, text.len, &results));
        pb_assert_ok(pb_claims_table(results, &table));
        ck_assert_msg(strstr(table.data, cases[i].told) != NULL, "%s\nwanted: %s", table.data, cases[i].told);
        ck_assert_msg(strstr(table.data, row.data) != NULL, "%s\nwanted: %s", table.data, row.data);
        pb_text_free(&text);
        pb_text_free(&table);
        pb_text_free(&row);
        pb_json_free(results);
    }
}
END_TEST

/* ---- made-up claims over made-up records ---- */

#define HEAD                                                                                     \
    "{\"id\":\"t\",\"method\":\"lora\",\"statement\":\"s\",\"source\":{\"work\":\"w\","           \
    "\"evidence\":\"paper\"},\"reported\":\"r\",\"full_scale\":\"f\",\"small_scale\":\"s\","      \
    "\"seeds\":3,"
#define LEFT "\"left\":{\"suite\":\"s\",\"label\":\"a\",\"metric\":\"quality/test/nll\"}"
#define RIGHT "\"right\":{\"suite\":\"s\",\"label\":\"b\",\"metric\":\"quality/test/nll\"}"
#define OF "\"of\":{\"suite\":\"s\",\"label\":\"a\",\"metric\":\"quality/test/nll\"}"
#define ROW(l) "{\"suite\":\"s\",\"label\":\"" l "\",\"metric\":\"quality/test/nll\"}"

/* A run with one metric; a value that is not finite is a diverged run. */
static pb_record run_of(const char *label, uint64_t seed, double value) {
    pb_record r = {.seed = seed, .status = isfinite(value) ? PB_RUN_OK : PB_RUN_DIVERGED};
    pb_copy(r.suite, sizeof r.suite, "s");
    pb_copy(r.label, sizeof r.label, label);
    snprintf(r.run_id, sizeof r.run_id, "%.4s%012llu", label, (unsigned long long)seed);
    if (isfinite(value))
        pb_assert_ok(pb_record_metric(&r, "quality/test/nll", value, "nats", -1, 1, ""));
    return r;
}

typedef struct truth {
    const char *assertion; /* without says */
    double a[6], b[6], c[6]; /* by seed; 0 = none */
    const char *finding, *verdict;
} truth;

static int add_runs(pb_record *records, int n, const char *label, const double v[6]) {
    for (int i = 0; i < 6; i++)
        if (v[i] != 0) records[n++] = run_of(label, (uint64_t)i + 1, v[i]);
    return n;
}

static const char *text_at(const pb_json *results, const char *key, const char *assertion_key) {
    const pb_json *c = cJSON_GetArrayItem(pb_json_get(results, "claims"), 0);
    if (assertion_key) c = cJSON_GetArrayItem(pb_json_get(c, "assertions"), 0);
    return pb_json_get(c, assertion_key ? assertion_key : key)->valuestring;
}

#define SAME "same direction at small scale"
static const truth truths[] = {
    /* clear, reversed, across, too few, missing */
    {"\"op\":\"less\"," LEFT "," RIGHT, {1, 1.1, 1.2}, {2, 2.2, 2.3}, {0}, "holds", SAME},
    {"\"op\":\"less\"," LEFT "," RIGHT, {2, 2.2, 2.3}, {1, 1.1, 1.2}, {0}, "fails", "contradicted"},
    {"\"op\":\"less\"," LEFT "," RIGHT, {1, 3, 1}, {2, 1, 2}, {0}, "unclear", "inconclusive"},
    {"\"op\":\"less\"," LEFT "," RIGHT, {1, 1.1}, {2, 2.2}, {0}, "too few seeds", "inconclusive"},
    {"\"op\":\"less\"," LEFT "," RIGHT, {1, 1.1, 1.2}, {0}, {0}, "missing", "not run"},
    {"\"op\":\"less\"," LEFT "," RIGHT, {1, 1.1, 0}, {0, 0, 3}, {0}, "missing", "not run"},
    {"\"op\":\"less\",\"margin\":2," LEFT "," RIGHT, {1, 1.1, 1.2}, {2, 2.2, 2.3}, {0}, "fails", "contradicted"},
    {"\"op\":\"less\",\"relative\":true,\"margin\":0.4," LEFT "," RIGHT, {1, 1.1, 1.2}, {2, 2.2, 2.3}, {0}, "holds", SAME},
    {"\"op\":\"less\",\"relative\":true,\"margin\":0.6," LEFT "," RIGHT, {1, 1.1, 1.2}, {2, 2.2, 2.3}, {0}, "fails", "contradicted"},
    /* what was measured and is equal for every seed says nothing about the next seed */
    {"\"op\":\"less\"," LEFT "," RIGHT, {1, 2, 3}, {1, 2, 3}, {0}, "unclear", "inconclusive"},
    {"\"op\":\"less\"," LEFT "," RIGHT, {1.1, 1.2, 1.3}, {2.1, 2.2, 2.3}, {0}, "unclear", "inconclusive"},
    {"\"op\":\"less\",\"relative\":true," LEFT "," RIGHT, {1, 2, 3}, {2, 4, 6}, {0}, "unclear", "inconclusive"},
    {"\"op\":\"within\",\"high\":2," OF, {1, 1, 1}, {0}, {0}, "unclear", "inconclusive"},
    {"\"op\":\"slope\",\"x\":[1,4],\"low\":-0.6,\"of\":[" ROW("a") "," ROW("b") "]", {4, 4, 4}, {2, 2, 2}, {0}, "unclear", "inconclusive"},
    {"\"op\":\"greater\"," LEFT "," RIGHT, {2, 2.2, 2.3}, {1, 1.1, 1.2}, {0}, "holds", SAME},
    {"\"op\":\"greater\"," LEFT "," RIGHT, {1, 1.1, 1.2}, {2, 2.2, 2.3}, {0}, "fails", "contradicted"},
    {"\"op\":\"greater\",\"margin\":5," LEFT "," RIGHT, {2, 2.2, 2.3}, {1, 1.1, 1.2}, {0}, "fails", "contradicted"},
    {"\"op\":\"within\",\"low\":0.9,\"high\":1.1," OF, {1, 1.01, 0.99}, {0}, {0}, "holds", SAME},
    {"\"op\":\"within\",\"low\":2," OF, {1, 1.01, 0.99}, {0}, {0}, "fails", "contradicted"},
    {"\"op\":\"within\",\"low\":1," OF, {1, 1.01, 0.99}, {0}, {0}, "unclear", "inconclusive"},
    {"\"op\":\"within\",\"high\":3,\"of\":{\"ratio\":[" ROW("a") "," ROW("b") "]}", {4, 4.1, 3.9}, {2, 2.1, 1.9}, {0}, "holds", SAME},
    {"\"op\":\"within\",\"low\":8.9,\"high\":9.1,\"of\":{\"sum\":[" ROW("a") "," ROW("b") "," ROW("c") "]}", {4, 4, 4.01}, {2, 2, 2}, {3, 3, 3}, "holds", SAME},
    {"\"op\":\"within\",\"low\":7.9,\"high\":8.1,\"of\":{\"product\":[" ROW("a") "," ROW("b") "]}", {4, 4, 4.01}, {2, 2, 2}, {0}, "holds", SAME},
    {"\"op\":\"equal\"," LEFT ",\"right\":{\"value\":3}", {3, 3, 3}, {0}, {0}, "holds", SAME},
    {"\"op\":\"equal\"," LEFT ",\"right\":{\"value\":3}", {3, 3.0001, 3}, {0}, {0}, "fails", "contradicted"},
    {"\"op\":\"equal\",\"tolerance\":0.001," LEFT ",\"right\":{\"value\":3}", {3, 3.0001, 3}, {0}, {0}, "holds", SAME},
    {"\"op\":\"equal\",\"digits\":3," LEFT ",\"right\":{\"value\":3.14}", {3.1415, 3.1416, 3.142}, {0}, {0}, "holds", SAME},
    {"\"op\":\"equal\",\"digits\":3," LEFT ",\"right\":{\"value\":3.14}", {3.1415, 3.1416, 3.146}, {0}, {0}, "fails", "contradicted"},
    {"\"op\":\"equivalent\",\"margin\":0.1," LEFT "," RIGHT, {1, 1.01, 0.99}, {1, 1, 1}, {0}, "holds", SAME},
    {"\"op\":\"equivalent\",\"margin\":0.1," LEFT "," RIGHT, {1.5, 1.51, 1.49}, {1, 1, 1}, {0}, "fails", "contradicted"},
    {"\"op\":\"equivalent\",\"margin\":0.1," LEFT "," RIGHT, {1, 1.5, 0.6}, {1, 1, 1}, {0}, "unclear", "inconclusive"},
    {"\"op\":\"equivalent\",\"relative\":true,\"margin\":0.01," LEFT "," RIGHT, {10, 20, 30}, {10.01, 20.01, 30.02}, {0}, "holds", SAME},
    {"\"op\":\"equivalent\",\"relative\":true,\"margin\":0.01," LEFT "," RIGHT, {10.5, 21, 31.6}, {10, 20, 30}, {0}, "fails", "contradicted"},
    {"\"op\":\"non_inferior\",\"margin\":0.1,\"better\":\"lower\"," LEFT "," RIGHT, {1.05, 1.06, 1.05}, {1, 1, 1}, {0}, "holds", SAME},
    {"\"op\":\"non_inferior\",\"margin\":0.1,\"better\":\"lower\"," LEFT "," RIGHT, {0.5, 0.51, 0.5}, {1, 1, 1}, {0}, "holds", SAME},
    {"\"op\":\"non_inferior\",\"margin\":0.1,\"better\":\"lower\"," LEFT "," RIGHT, {1.5, 1.51, 1.5}, {1, 1, 1}, {0}, "fails", "contradicted"},
    {"\"op\":\"non_inferior\",\"margin\":0.1,\"better\":\"higher\"," LEFT "," RIGHT, {0.5, 0.51, 0.5}, {1, 1, 1}, {0}, "fails", "contradicted"},
    {"\"op\":\"non_inferior\",\"margin\":0.1,\"better\":\"higher\"," LEFT "," RIGHT, {0.95, 0.96, 0.95}, {1, 1, 1}, {0}, "holds", SAME},
    {"\"op\":\"non_inferior\",\"margin\":0.1,\"better\":\"higher\"," LEFT "," RIGHT, {0.7, 1.1, 0.9}, {1, 1, 1}, {0}, "unclear", "inconclusive"},
    {"\"op\":\"ordered\",\"direction\":\"rising\",\"of\":[" ROW("a") "," ROW("b") "," ROW("c") "]", {1, 1, 1}, {2, 2, 2.1}, {3, 3, 3}, "holds", SAME},
    {"\"op\":\"ordered\",\"direction\":\"falling\",\"of\":[" ROW("a") "," ROW("b") "," ROW("c") "]", {1, 1, 1}, {2, 2, 2.1}, {3, 3, 3}, "fails", "contradicted"},
    {"\"op\":\"ordered\",\"direction\":\"rising\",\"of\":[" ROW("a") "," ROW("b") "," ROW("c") "]", {1, 1, 1}, {2, 2, 2.1}, {1.9, 3, 1}, "unclear", "inconclusive"},
    {"\"op\":\"ordered\",\"direction\":\"rising\",\"margin\":1.5,\"of\":[" ROW("a") "," ROW("b") "]", {2, 2, 2.1}, {1, 1, 1}, {0}, "holds", SAME},
    {"\"op\":\"ordered\",\"direction\":\"rising\",\"of\":[" ROW("a") "," ROW("b") "," ROW("c") "]", {1, 1, 1}, {2, 2, 2.1}, {0}, "missing", "not run"},
    {"\"op\":\"ordered\",\"direction\":\"rising\",\"of\":[" ROW("a") "," ROW("b") "," ROW("c") "]", {1, 1, 1}, {2, 2, 2.1}, {3, 3, 0}, "too few seeds", "inconclusive"},
    {"\"op\":\"slope\",\"x\":[1,4,16],\"low\":-0.6,\"high\":-0.4,\"of\":[" ROW("a") "," ROW("b") "," ROW("c") "]", {4, 4, 4.01}, {2, 2, 2}, {1, 1, 1}, "holds", SAME},
    {"\"op\":\"slope\",\"x\":[1,4,16],\"low\":-0.1,\"high\":0.1,\"of\":[" ROW("a") "," ROW("b") "," ROW("c") "]", {4, 4, 4.01}, {2, 2, 2}, {1, 1, 1}, "fails", "contradicted"},
    {"\"op\":\"share\",\"above\":5,\"low\":0.4," OF, {9, 9, 9, 9, 9, 9}, {0}, {0}, "holds", SAME},
    {"\"op\":\"share\",\"above\":5,\"low\":0.7," OF, {1, 1, 1, 1, 1, 1}, {0}, {0}, "fails", "contradicted"},
    {"\"op\":\"share\",\"above\":5,\"low\":0.4," OF, {9, 9, 9, 1, 1, 1}, {0}, {0}, "unclear", "inconclusive"},
    {"\"op\":\"share\",\"above\":5,\"low\":0.4," OF, {NAN, NAN, NAN, NAN, NAN, NAN}, {0}, {0}, "holds", SAME},
    {"\"op\":\"rarer\",\"below\":5," LEFT "," RIGHT, {9, 9, 9, 9, 9, 9}, {1, 1, 1, 1, NAN, NAN}, {0}, "holds", SAME},
    {"\"op\":\"rarer\",\"below\":5," LEFT "," RIGHT, {1, 1, 1, 1, 1, NAN}, {9, 9, 9, 9, 9, 9}, {0}, "fails", "contradicted"},
    {"\"op\":\"rarer\",\"below\":5," LEFT "," RIGHT, {9, 9, 9, 1, 1, 1}, {9, 9, 1, 1, 1, 1}, {0}, "unclear", "inconclusive"},
    /* one run has no interval and decides nothing; bit for bit it needs none */
    {"\"op\":\"within\",\"seeds\":1,\"low\":0.9,\"high\":1.1," OF, {1}, {0}, {0}, "unclear", "inconclusive"},
    {"\"op\":\"within\",\"seeds\":1,\"low\":2," OF, {1}, {0}, {0}, "unclear", "inconclusive"},
    {"\"op\":\"less\",\"seeds\":1," LEFT "," RIGHT, {1}, {2}, {0}, "unclear", "inconclusive"},
    {"\"op\":\"less\",\"seeds\":1,\"relative\":true," LEFT "," RIGHT, {1}, {2}, {0}, "unclear", "inconclusive"},
    {"\"op\":\"ordered\",\"seeds\":1,\"direction\":\"rising\",\"of\":[" ROW("a") "," ROW("b") "]", {1}, {2}, {0}, "unclear", "inconclusive"},
    {"\"op\":\"equal\",\"seeds\":1," LEFT ",\"right\":{\"value\":3}", {3}, {0}, {0}, "holds", SAME},
    {"\"op\":\"spread\",\"low\":1," LEFT "," RIGHT, {1, 100, 200, 50, 7, 160}, {1, 1.1, 1.2, 1, 1.05, 1.1}, {0}, "holds", SAME},
    {"\"op\":\"spread\",\"low\":1," LEFT "," RIGHT, {1, 1.1, 1.2, 1, 1.05, 1.1}, {1, 100, 200, 50, 7, 160}, {0}, "fails", "contradicted"},
    {"\"op\":\"spread\",\"low\":1," LEFT "," RIGHT, {1, 1.1, 1.2, 1, 1.05, 1.1}, {1, 1.2, 1.1, 1, 1.1, 1.05}, {0}, "unclear", "inconclusive"},
};

START_TEST(operators_decide_as_said) {
    const truth *t = &truths[_i];
    pb_text text = {0};
    pb_record records[18];
    int n = add_runs(records, 0, "a", t->a);
    n = add_runs(records, n, "b", t->b);
    n = add_runs(records, n, "c", t->c);
    pb_text_add(&text, HEAD "\"scale\":\"small\",\"assertions\":[{\"says\":\"x\",%s}]}", t->assertion);
    pb_json *results = pb_lab_checked(text.data, records, n);
    const char *finding = text_at(results, NULL, "finding"), *verdict = text_at(results, "verdict", NULL);
    ck_assert_msg(strcmp(finding, t->finding) == 0, "%s\nfinding %s (%s), expected %s", t->assertion,
                  finding, text_at(results, NULL, "seen"), t->finding);
    ck_assert_msg(strcmp(verdict, t->verdict) == 0, "%s\nverdict %s, expected %s", t->assertion, verdict,
                  t->verdict);
    pb_json_free(results);
    pb_text_free(&text);
    for (int i = 0; i < n; i++) pb_record_free(&records[i]);
}
END_TEST

/* ---- verdicts ---- */

#define LESS "{\"says\":\"x\",\"op\":\"less\"," LEFT "," RIGHT "}"
#define LEFT_AGAIN "\"right\":{\"suite\":\"s\",\"label\":\"a\",\"metric\":\"quality/test/nll\"}"
#define MORE "{\"says\":\"y\",\"op\":\"greater\"," LEFT "," RIGHT "}"
#define OTHER "{\"says\":\"z\",\"op\":\"less\"," LEFT ",\"right\":" ROW("zz") "}"
#define PART "{\"says\":\"y\",\"decides\":\"in part\",\"op\":\"greater\"," LEFT "," RIGHT "}"
#define PART_OPEN "{\"says\":\"y\",\"decides\":\"in part\",\"seeds\":7,\"op\":\"greater\"," LEFT "," RIGHT "}"
#define PART_GONE "{\"says\":\"y\",\"decides\":\"in part\",\"op\":\"less\"," LEFT ",\"right\":" ROW("zz") "}"
#define PART_HELD "{\"says\":\"y\",\"decides\":\"in part\",\"op\":\"less\"," LEFT "," RIGHT "}"
#define BARE "{\"says\":\"y\",\"op\":\"less\"," LEFT "," LEFT_AGAIN "}"
#define CROSSING "{\"says\":\"y\",\"op\":\"less\",\"margin\":1.05," LEFT "," RIGHT "}"
#define UNMET "{\"says\":\"when\",\"decides\":\"condition\",\"op\":\"greater\"," LEFT "," RIGHT "}"
#define MET "{\"says\":\"when\",\"decides\":\"condition\",\"op\":\"less\"," LEFT "," RIGHT "}"
#define ASIDE "{\"says\":\"y\",\"decides\":false,\"op\":\"greater\"," LEFT "," RIGHT "}"

static void verdict_is(const char *rest, const char *verdict, const char *why) {
    static const double a[6] = {1, 1.1, 1.2}, b[6] = {2, 2.2, 2.3};
    pb_text text = {0};
    pb_record records[12];
    int n = add_runs(records, add_runs(records, 0, "a", a), "b", b);
    pb_text_add(&text, HEAD "%s}", rest);
    pb_json *results = pb_lab_checked(text.data, records, n);
    ck_assert_msg(strcmp(text_at(results, "verdict", NULL), verdict) == 0, "%s: %s, expected %s", rest,
                  text_at(results, "verdict", NULL), verdict);
    ck_assert_msg(strstr(text_at(results, "why", NULL), why) != NULL, "%s: why: %s", rest,
                  text_at(results, "why", NULL));
    pb_json_free(results);
    pb_text_free(&text);
    for (int i = 0; i < n; i++) pb_record_free(&records[i]);
}

START_TEST(verdicts_say_no_more_than_is_there) {
    verdict_is("\"scale\":\"full\",\"assertions\":[" LESS "]", "supported", "");
    verdict_is("\"scale\":\"small\",\"assertions\":[" LESS "]", SAME, "");
    verdict_is("\"scale\":\"small\",\"assertions\":[" LESS "," MORE "]", "contradicted", "");
    verdict_is("\"scale\":\"small\",\"assertions\":[" LESS "," BARE "]", "inconclusive", "no interval");
    verdict_is("\"scale\":\"small\",\"assertions\":[" CROSSING "," BARE "]", "inconclusive", "crosses its bound");
    verdict_is("\"scale\":\"small\",\"assertions\":[" LESS "," ASIDE "]", SAME, "");
    /* what did not run supports nothing, whatever else holds */
    verdict_is("\"scale\":\"full\",\"assertions\":[" LESS "," OTHER "]", "not run", "s: zz");
    verdict_is("\"scale\":\"full\",\"assertions\":[" MORE "," OTHER "]", "contradicted", "");
    verdict_is("\"scale\":\"full\",\"assertions\":[{\"says\":\"x\",\"seeds\":7,\"op\":\"less\"," LEFT
               "," RIGHT "}]", "inconclusive",
               "too few seeds: 3 there, 7 needed");
    verdict_is("\"scale\":\"not testable\",\"why\":\"no room\"", "not testable at this scale", "no room");
    /* a part that fails alone costs the word "supported", and no more; open, it leaves the whole open */
    verdict_is("\"scale\":\"full\",\"assertions\":[" LESS "," PART "]", "supported in part", "that fails: y");
    verdict_is("\"scale\":\"small\",\"assertions\":[" LESS "," PART "]",
               "same direction in part at small scale", "that fails: y");
    verdict_is("\"scale\":\"full\",\"assertions\":[" LESS "," PART_HELD "]", "supported", "");
    verdict_is("\"scale\":\"full\",\"assertions\":[" MORE "," PART_HELD "]", "contradicted", "");
    verdict_is("\"scale\":\"full\",\"assertions\":[" LESS "," PART "," PART_OPEN "]", "inconclusive", "too few");
    verdict_is("\"scale\":\"full\",\"assertions\":[" LESS "," PART "," PART_GONE "]", "not run", "zz");
    /* a condition that does not hold leaves everything open, for and against; one that does changes nothing */
    verdict_is("\"scale\":\"full\",\"assertions\":[" LESS "," UNMET "]", "inconclusive", "does not hold: when");
    verdict_is("\"scale\":\"full\",\"assertions\":[" MORE "," UNMET "]", "inconclusive", "does not hold: when");
    verdict_is("\"scale\":\"full\",\"assertions\":[" LESS "," MET "]", "supported", "");
    verdict_is("\"scale\":\"full\",\"assertions\":[" MORE "," MET "]", "contradicted", "");
    verdict_is("\"scale\":\"full\",\"assertions\":[" LESS "," OTHER "," UNMET "]", "not run", "zz");
}
END_TEST

/* Facts are there in the second look, too: a row in terms of a fact keeps its finding over the family. */
START_TEST(a_family_knows_its_facts) {
    static const double a[6] = {1, 1.01, 0.99};
    pb_claim_file claim;
    pb_record records[6];
    pb_json *results = NULL, *facts = NULL;
    int n = add_runs(records, 0, "a", a);
    static const char given[] = "{\"t\": {\"f\": {\"flops\": 2}}}";
    pb_assert_ok(pb_lab_claim(
        HEAD "\"facts\":{\"f\":{\"model\":\"llama-7b\",\"method\":\"full\"}},\"scale\":\"small\","
             "\"assertions\":[{\"says\":\"x\",\"op\":\"within\",\"low\":0.4,\"high\":0.6,\"of\":{\"ratio\":["
             ROW("a") ",{\"fact\":\"f\",\"field\":\"flops\"}]}}]}", &claim));
    pb_assert_ok(pb_json_parse("facts", given, strlen(given), &facts));
    const pb_claim_file *list[] = {&claim};
    pb_assert_ok(pb_claims_check(list, 1, records, n, facts, &results));
    ck_assert_str_eq(text_at(results, "verdict", NULL), SAME);
    ck_assert_str_eq(text_at(results, "verdict_family", NULL), SAME);
    pb_json_free(results);
    pb_json_free(facts);
    pb_json_free(claim.json);
    for (int i = 0; i < n; i++) pb_record_free(&records[i]);
}
END_TEST

/* Rates of one seed are one observation: six runs of three seeds are three. */
START_TEST(shares_count_seeds_and_not_runs) {
    static const double high[6] = {9, 9, 9}, low[6] = {1, 1, 1};
    static const struct {
        const char *op, *finding;
        int need;
    } cases[] = {{"\"op\":\"share\",\"above\":5,\"low\":0.4,\"of\":" ROW("a*"), "too few seeds", 4},
                 {"\"op\":\"share\",\"above\":5,\"low\":0.4,\"of\":" ROW("a*"), "holds", 3},
                 /* of six runs Wilson's interval would start at 0.61 */
                 {"\"op\":\"share\",\"above\":5,\"low\":0.5,\"of\":" ROW("a*"), "unclear", 3},
                 {"\"op\":\"rarer\",\"above\":5,\"left\":" ROW("b*") ",\"right\":" ROW("a*"), "too few seeds", 4},
                 /* two rates: where between them a seed fails is not seen, and three seeds alike do not say it */
                 {"\"op\":\"rarer\",\"above\":5,\"left\":" ROW("b*") ",\"right\":" ROW("a*"), "unclear", 3}};
    pb_record records[24];
    int n = add_runs(records, add_runs(records, 0, "a lr 1", high), "a lr 2", high);
    n = add_runs(records, add_runs(records, n, "b lr 1", low), "b lr 2", low);
    for (int i = 0; i < n; i++) snprintf(records[i].run_id, sizeof records[i].run_id, "%016d", i);
    for (size_t i = 0; i < COUNT(cases); i++) {
        pb_text text = {0};
        pb_text_add(&text, HEAD "\"scale\":\"small\",\"assertions\":[{\"says\":\"x\",\"seeds\":%d,%s}]}",
                    cases[i].need, cases[i].op);
        pb_json *results = pb_lab_checked(text.data, records, n);
        const pb_json *c = cJSON_GetArrayItem(pb_json_get(results, "claims"), 0);
        const pb_json *r = cJSON_GetArrayItem(pb_json_get(c, "assertions"), 0);
        ck_assert_msg(strcmp(text_at(results, NULL, "finding"), cases[i].finding) == 0, "case %zu: %s", i,
                      text_at(results, NULL, "finding"));
        ck_assert_int_eq(pb_json_get(r, "n")->valueint, 3);
        pb_json_free(results);
        pb_text_free(&text);
    }
    for (int i = 0; i < n; i++) pb_record_free(&records[i]);
}
END_TEST

/* A curve's least value lies at 2 of 4 steps, its end is a quarter above it; 8 steps of 2 x 5 are five
 * epochs of 16 examples. */
START_TEST(curves_and_epochs_are_read) {
    static const double curve[] = {5, 3, 2, 2.2, 2.5};
    static const char config[] = "{\"train\":{\"steps\":8,\"batch\":5,\"accumulate\":2}}";
    static const struct {
        const char *term;
        double value;
    } cases[] = {{"\"sample\":\"curve/valid/nll\",\"how\":\"turn\"", 0.5},
                 {"\"sample\":\"curve/valid/nll\",\"how\":\"rise\"", 0.25},
                 {"\"sample\":\"curve/valid/nll\",\"how\":\"last\",\"steps\":[2,7]", 2.2},
                 {"\"sample\":\"curve/valid/nll\",\"how\":\"max\",\"steps\":[3,6]", 2.2},
                 {"\"sample\":\"curve/valid/nll\",\"how\":\"max\",\"steps\":[2,4]", 3},
                 {"\"sample\":\"curve/valid/nll\",\"how\":\"median\",\"steps\":[4,100]", 2.2},
                 {"\"field\":\"train.epochs\"", 5}};
    static const double steps[] = {0, 2, 4, 6, 8};
    pb_record records[3];
    for (int i = 0; i < 3; i++) {
        records[i] = run_of("a", (uint64_t)i + 1, 1);
        pb_assert_ok(pb_record_sample(&records[i], "curve/valid/nll", curve, COUNT(curve)));
        pb_assert_ok(pb_record_sample(&records[i], "curve/step", steps, COUNT(steps)));
        pb_assert_ok(pb_json_parse("test", config, sizeof config - 1, &records[i].config));
        records[i].dataset = cJSON_CreateObject();
        ck_assert(pb_json_add_i64(pb_json_add_object(records[i].dataset, "splits"), "train", 16));
    }
    for (size_t i = 0; i < COUNT(cases); i++) {
        pb_text text = {0};
        pb_text_add(&text, HEAD "\"scale\":\"small\",\"assertions\":[{\"says\":\"x\",\"op\":\"equal\",\"left\":"
                    "{\"suite\":\"s\",\"label\":\"a\",%s},\"right\":{\"value\":%.17g}}]}", cases[i].term, cases[i].value);
        pb_json *results = pb_lab_checked(text.data, records, 3);
        ck_assert_msg(strcmp(text_at(results, NULL, "finding"), "holds") == 0, "%s: %s", cases[i].term,
                      text_at(results, NULL, "seen"));
        pb_json_free(results);
        pb_text_free(&text);
    }
    for (int i = 0; i < 3; i++) pb_record_free(&records[i]);
}
END_TEST

/* Over the family a part whose interval is close to its bound no longer decides, one that is far from it
 * still does; arithmetic and equality to the bit, which have no error, never enter. */
START_TEST(a_family_of_parts_has_one_error) {
    static const double a[6] = {1, 1.1, 1.2}, b[6] = {2, 2.2, 2.3};
    /* b - a = 1.0667 with sd 0.0577, se 0.0333: half intervals of 4.30 se at 0.05, 11.8 at 0.05 / 7,
     * 8.9 at 0.05 / 4, 7.6 at 0.05 / 3 */
    static const struct {
        double margin;
        const char *alone, *family;
    } parts[] = {{0.5, "holds", "holds"},    /* 17 se away: outside at every level here */
                 {0.75, "holds", "holds"},   /* 9.5 se: not at 0.05 / 7, but at 0.05 / 4 in the second step */
                 {0.9, "holds", "unclear"},  /* 5 se */
                 {1.5, "fails", "fails"},    /* 13 se */
                 {1.3, "fails", "unclear"},  /* 7 se */
                 {1.05, "unclear", "unclear"},
                 {0.4, "holds", "holds"}};
    pb_text text = {0};
    pb_record records[12];
    int n = add_runs(records, add_runs(records, 0, "a", a), "b", b);
    pb_text_add(&text, HEAD "\"scale\":\"small\",\"assertions\":[");
    for (size_t i = 0; i < COUNT(parts); i++)
        pb_text_add(&text, "{\"says\":\"x\",\"op\":\"less\",\"margin\":%g," LEFT "," RIGHT "},", parts[i].margin);
    pb_text_add(&text, "{\"says\":\"x\",\"op\":\"equal\"," LEFT "," LEFT_AGAIN "},");
    pb_text_add(&text, "{\"says\":\"x\",\"op\":\"less\",\"left\":{\"value\":1},\"right\":{\"value\":2}}]}");
    pb_json *results = pb_lab_checked(text.data, records, n);
    const pb_json *claim = cJSON_GetArrayItem(pb_json_get(results, "claims"), 0), *family = pb_json_get(results, "family");
    for (size_t i = 0; i < COUNT(parts); i++) {
        const pb_json *r = cJSON_GetArrayItem(pb_json_get(claim, "assertions"), (int)i);
        ck_assert_msg(strcmp(pb_json_get(r, "finding")->valuestring, parts[i].alone) == 0, "%zu: %s", i,
                      pb_json_get(r, "finding")->valuestring);
        ck_assert_msg(strcmp(pb_json_get(r, "finding_family")->valuestring, parts[i].family) == 0, "%zu: %s", i,
                      pb_json_get(r, "finding_family")->valuestring);
    }
    ck_assert_int_eq(pb_json_get(family, "parts")->valueint, (int)COUNT(parts));
    ck_assert_int_eq(pb_json_get(family, "decided")->valueint, 4);
    ck_assert_str_eq(text_at(results, "verdict_family", NULL), "contradicted");
    pb_json_free(results);
    pb_text_free(&text);
    for (int i = 0; i < n; i++) pb_record_free(&records[i]);
}
END_TEST

/* One part alone is its own family: nothing changes. Its verdict falls where one more part stands by it. */
START_TEST(a_family_of_one_changes_nothing) {
    static const double a[6] = {1, 1.1, 1.2}, b[6] = {2, 2.2, 2.3};
    for (int parts = 1; parts <= 3; parts++) {
        pb_text text = {0};
        pb_record records[12];
        int n = add_runs(records, add_runs(records, 0, "a", a), "b", b);
        pb_text_add(&text, HEAD "\"scale\":\"small\",\"assertions\":[");
        for (int i = 0; i < parts; i++)
            pb_text_add(&text, "%s{\"says\":\"x\",\"op\":\"less\",\"margin\":0.9," LEFT "," RIGHT "}", i ? "," : "");
        pb_text_add(&text, "]}");
        pb_json *results = pb_lab_checked(text.data, records, n);
        ck_assert_str_eq(text_at(results, "verdict", NULL), SAME);
        ck_assert_str_eq(text_at(results, "verdict_family", NULL), parts == 1 ? SAME : "inconclusive");
        pb_json_free(results);
        pb_text_free(&text);
        for (int i = 0; i < n; i++) pb_record_free(&records[i]);
    }
}
END_TEST

/* A run that two suites ask for lies in both folders under one id: each suite has it. Two copies in one suite are one. */
START_TEST(suites_may_share_runs) {
    static const double a[6] = {1, 1.1, 1.2}, b[6] = {2, 2.2, 2.3};
    pb_record records[24];
    int n = add_runs(records, 0, "a", a);
    for (int i = 0; i < n; i++) pb_copy(records[i].suite, sizeof records[i].suite, "r");
    n = add_runs(records, add_runs(records, n, "a", a), "b", b);
    pb_json *results = pb_lab_checked(HEAD "\"scale\":\"full\",\"assertions\":[" LESS "]}", records, n);
    ck_assert_str_eq(text_at(results, "verdict", NULL), "supported");
    pb_json_free(results);
    n = add_runs(records + n, 0, "b", b) + n;
    results = pb_lab_checked(HEAD "\"scale\":\"full\",\"assertions\":[{\"says\":\"x\",\"seeds\":4,\"op\":\"less\"," LEFT
                           "," RIGHT "}]}", records, n);
    ck_assert_str_eq(text_at(results, "why", NULL), "too few seeds: 3 there, 4 needed");
    pb_json_free(results);
    for (int i = 0; i < n; i++) pb_record_free(&records[i]);
}
END_TEST

#define TIME(l) "{\"suite\":\"s\",\"label\":\"" l "\",\"metric\":\"time/step/median\"}"
#define BESIDE(l) "{\"suite\":\"s\",\"label\":\"" l "\",\"metric\":\"ratio/infer/merged/median@shape=1x16\"}"
#define ALIKE "{\"method\":\"dora\",\"params\":{\"scale\":2,\"rank\":3},\"lr\":1,\"train\":{\"steps\":16}}"
#define SHORTER "{\"method\":\"dora\",\"params\":{\"scale\":2},\"train\":{\"steps\":8}}"
#define WEAKER "{\"method\":\"dora\",\"params\":{\"scale\":0.25},\"train\":{\"steps\":8}}"

/* Rows a and b with `train` settings of b as given: three seeds, a clearly below b. */
static pb_json *checked_with(const char *claim, const char *b_config, const char *b_environment) {
    static const double a[6] = {1, 1.1, 1.2}, b[6] = {2, 2.2, 2.3, 0, 0, 9};
    pb_record records[12];
    int n = add_runs(records, add_runs(records, 0, "a", a), "b", b);
    for (int i = 0; i < n; i++) {
        const char *config = strcmp(records[i].label, "b") == 0
                                 ? b_config
                                 : "{\"method\":\"lora\",\"params\":{\"scale\":2},\"train\":{\"steps\":16}}";
        const char *environment = records[i].seed == 6 /* no partner: compared with nothing */
                                      ? "{\"threads\":2,\"machine\":{\"cpu\":\"y\"}}"
                                  : strcmp(records[i].label, "b") == 0 ? b_environment
                                                                     : "{\"threads\":2}";
        pb_assert_ok(pb_record_metric(&records[i], "time/step/median", 1, "s", -1, 1, ""));
        pb_assert_ok(pb_record_metric(&records[i], "ratio/infer/merged/median@shape=1x16", 1, "1", -1, 1, ""));
        pb_assert_ok(pb_json_parse("test", config, strlen(config), &records[i].config));
        pb_assert_ok(pb_json_parse("test", environment, strlen(environment), &records[i].environment));
    }
    pb_json *results = pb_lab_checked(claim, records, n);
    for (int i = 0; i < n; i++) pb_record_free(&records[i]);
    return results;
}

/* A claim that compares runs which differ in what it does not speak of decides nothing. */
START_TEST(claims_are_held_to_parity) {
    static const struct {
        const char *waive, *b, *environment, *verdict, *why, *waived;
    } cases[] = {
        {"", ALIKE, "{\"threads\":2}", SAME, "", ""},
        {"", SHORTER, "{\"threads\":2}", "inconclusive", "a / b differ in steps (training steps): 16 against 8", ""},
        {"\"waive\":[\"steps\"],", SHORTER, "{\"threads\":2}", SAME, "", "training steps (16 / 8)"},
        {"\"waive\":[\"train.steps\"],", SHORTER, "{\"threads\":2}", SAME, "", "training steps (16 / 8)"},
        {"\"waive\":[\"scale\"],", SHORTER, "{\"threads\":2}", "inconclusive", "steps", ""},
        {"\"waive\":[\"steps\"],", WEAKER, "{\"threads\":2}", "inconclusive", "differ in scale", ""},
        {"\"waive\":[\"steps\",\"scale\"],", WEAKER, "{\"threads\":2}", SAME, "", "effective scale"},
        /* threads move no loss, another processor might */
        {"", ALIKE, "{\"threads\":4}", SAME, "", ""},
        {"", ALIKE, "{\"threads\":2,\"machine\":{\"cpu\":\"x\"}}", "inconclusive", "machine", ""},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        pb_text text = {0};
        pb_text_add(&text, HEAD "%s\"scale\":\"small\",\"assertions\":[" LESS "]}", cases[i].waive);
        pb_json *results = checked_with(text.data, cases[i].b, cases[i].environment);
        const char *verdict = text_at(results, "verdict", NULL), *why = text_at(results, "why", NULL);
        ck_assert_msg(strcmp(verdict, cases[i].verdict) == 0, "case %zu: %s (%s)", i, verdict, why);
        ck_assert_msg(strstr(why, cases[i].why) != NULL, "case %zu: %s", i, why);
        ck_assert_msg(strstr(text_at(results, NULL, "waived"), cases[i].waived) != NULL, "case %zu: %s", i,
                      text_at(results, NULL, "waived"));
        if (strcmp(cases[i].verdict, "inconclusive") == 0)
            ck_assert_str_eq(text_at(results, NULL, "finding"), "not comparable");
        pb_json_free(results);
        pb_text_free(&text);
    }
    /* Times and their ratios hang on the threads, however deep they stand; what is not there is still "not run". */
    static const struct {
        const char *assertion, *finding, *note;
    } costs[] = {
        {"\"op\":\"less\",\"left\":" TIME("a") ",\"right\":" TIME("b"), "not comparable", "threads"},
        {"\"op\":\"within\",\"low\":0,\"of\":{\"ratio\":[" TIME("a") ",{\"sum\":[" ROW("a") "," TIME("b") "]}]}",
         "not comparable", "threads"},
        {"\"op\":\"less\",\"left\":" BESIDE("a") ",\"right\":" BESIDE("b"), "not comparable", "threads"}, /* over a time of its own */
        {"\"op\":\"less\",\"left\":" TIME("a") ",\"right\":" TIME("a"), "unclear", ""},
        {"\"op\":\"less\",\"left\":" TIME("a") ",\"right\":" TIME("z"), "missing", "s: z"},
    };
    for (size_t i = 0; i < COUNT(costs); i++) {
        pb_text text = {0};
        pb_text_add(&text, HEAD "\"scale\":\"small\",\"assertions\":[{\"says\":\"x\",%s}]}",
                    costs[i].assertion);
        pb_json *results = checked_with(text.data, ALIKE, "{\"threads\":4}");
        ck_assert_str_eq(text_at(results, NULL, "finding"), costs[i].finding);
        ck_assert_ptr_nonnull(strstr(text_at(results, NULL, "note"), costs[i].note));
        pb_json_free(results);
        pb_text_free(&text);
    }
}
END_TEST

#define ALONE "\"op\":\"within\",\"low\":0,\"of\":" ROW("b")
#define LESS_B "\"op\":\"less\"," LEFT "," RIGHT

/* What no two runs show: the runs of one row under two settings, two runs at one seed, unequal tuning budgets. */
START_TEST(rows_of_claims_are_rows) {
    enum { NOTHING, DRIFT, TWICE, FOLDERS, BUDGET };
    static const struct {
        int what;
        const char *waive, *assertion, *finding, *note, *waived;
    } cases[] = {
        {NOTHING, "", LESS_B, "holds", "", ""},
        {NOTHING, "", ALONE, "holds", "", ""},
        {DRIFT, "", LESS_B, "not comparable", "a / b differ in row (runs of one row differ in): nothing against params.rank", ""},
        {DRIFT, "", ALONE, "not comparable", "row", ""},
        {DRIFT, "\"waive\":[\"row\"],", LESS_B, "holds", "", "runs of one row"},
        {DRIFT, "", "\"op\":\"within\",\"low\":0,\"of\":" ROW("a"), "holds", "", ""}, /* the other row */
        {TWICE, "", LESS_B, "not comparable", "b has two runs at seed 2 (row): s/", ""},
        {TWICE, "", ALONE, "not comparable", "b has two runs at seed 2 (row): s/", ""},
        {TWICE, "\"waive\":[\"row\"],", ALONE, "holds", "", "two runs at one seed"},
        {FOLDERS, "", ALONE, "not comparable", "s-steps4/b000000000002 against s-steps8/twice", ""},
        {BUDGET, "", LESS_B, "not comparable", "tuning (trials of the tuning): 2 in 2 runs against 1 in 1 runs", ""},
        {BUDGET, "\"waive\":[\"tuning\"],", LESS_B, "holds", "", "trials of the tuning"},
    };
    static const double va[6] = {1, 1.1, 1.2}, vb[6] = {2, 2.2, 2.3};
    for (size_t i = 0; i < COUNT(cases); i++) {
        pb_record records[12];
        pb_text text = {0};
        int what = cases[i].what, n = add_runs(records, add_runs(records, 0, "a", va), "b", vb);
        for (int k = 0; k < n; k++) {
            char config[128];
            bool other = what == DRIFT && k == n - 1;
            snprintf(config, sizeof config, "{\"params\":{\"scale\":2,\"rank\":%d},\"train\":{\"steps\":16},\"seed\":%d}",
                     other ? 64 : 8, k % 3 + 1);
            pb_assert_ok(pb_json_parse("test", config, strlen(config), &records[k].config));
            if (what == FOLDERS) pb_copy(records[k].suite, sizeof records[k].suite, "s-steps4");
            if (what == BUDGET) pb_copy(records[k].phase, sizeof records[k].phase, "final");
        }
        if (what == TWICE || what == FOLDERS) { /* the same settings, as far as these tell */
            records[n] = run_of("b", 2, 2.2);
            records[n].config = cJSON_Duplicate(records[4].config, true);
            pb_copy(records[n].run_id, sizeof records[n].run_id, "twice");
            if (what == FOLDERS) pb_copy(records[n].suite, sizeof records[n].suite, "s-steps8");
            n++;
        }
        for (int k = 0; k < 3 && what == BUDGET; k++, n++) {
            char label[32], tuning[64];
            snprintf(label, sizeof label, "%c lr %d", k < 2 ? 'a' : 'b', k);
            snprintf(tuning, sizeof tuning, "{\"row\":\"%c\",\"why\":\"grid\"}", label[0]);
            records[n] = run_of(label, 101, 1);
            pb_copy(records[n].phase, sizeof records[n].phase, "trial");
            pb_assert_ok(pb_json_parse("test", tuning, strlen(tuning), &records[n].tuning));
        }
        pb_text_add(&text, HEAD "%s\"scale\":\"small\",\"assertions\":[{\"says\":\"x\",%s}]}", cases[i].waive,
                    cases[i].assertion);
        pb_json *results = pb_lab_checked(text.data, records, n);
        ck_assert_msg(strcmp(text_at(results, NULL, "finding"), cases[i].finding) == 0, "case %zu: %s (%s)", i,
                      text_at(results, NULL, "finding"), text_at(results, NULL, "note"));
        ck_assert_msg(strstr(text_at(results, NULL, "note"), cases[i].note) != NULL, "case %zu: %s", i,
                      text_at(results, NULL, "note"));
        ck_assert_msg(strstr(text_at(results, NULL, "waived"), cases[i].waived) != NULL, "case %zu: %s", i,
                      text_at(results, NULL, "waived"));
        pb_json_free(results);
        pb_text_free(&text);
        for (int k = 0; k < n; k++) pb_record_free(&records[k]);
    }
}
END_TEST

/* Records of the real shape: differences pair the examples. */
START_TEST(qualities_pair_their_examples) {
    char *root = pb_test_dir();
    pb_record *records = NULL;
    int n = 0;
    pb_assert_ok(pb_synthetic_suite(root, "s", 3));
    pb_assert_ok(pb_records_load(root, true, &records, &n));
    pb_json *results = pb_lab_checked(
        HEAD "\"scale\":\"small\",\"assertions\":[{\"says\":\"x\",\"op\":\"less\",\"left\":"
             "{\"suite\":\"s\",\"label\":\"LoRA r8\",\"metric\":\"quality/test/nll\"},\"right\":"
             "{\"suite\":\"s\",\"label\":\"head only\",\"metric\":\"quality/test/nll\"}}]}",
        records, n);
    ck_assert_str_eq(text_at(results, NULL, "finding"), "holds");
    pb_json_free(results);
    /* claims.json in the folder puts the table into its report */
    bool no_plots = false;
    char *path = pb_path_join(root, "report.md"), *text = NULL;
    results = pb_lab_checked(HEAD "\"scale\":\"not testable\",\"why\":\"no room at all\"}", records, n);
    pb_assert_ok(pb_report_write(root, NULL, NULL, &no_plots));
    pb_assert_ok(pb_file_read(path, 1 << 24, &text, NULL));
    ck_assert_ptr_null(strstr(text, "no room at all"));
    free(text);
    pb_assert_ok(pb_claims_write(results, root, NULL));
    pb_assert_ok(pb_report_write(root, NULL, NULL, &no_plots));
    pb_assert_ok(pb_file_read(path, 1 << 24, &text, NULL));
    ck_assert_ptr_nonnull(strstr(text, "no room at all"));
    free(text);
    free(path);
    path = pb_path_join(root, "claims.html");
    pb_assert_ok(pb_file_read(path, 1 << 24, &text, NULL));
    ck_assert_ptr_nonnull(strstr(text, "no room at all"));
    free(text);
    free(path);
    write_text(root, "claims.json", "{\"claims\": 3}");
    pb_assert_fails(pb_report_write(root, NULL, NULL, &no_plots), PB_E_INPUT, "claims.json");
    pb_json_free(results);
    pb_records_free(records, n);
    free(root);
}
END_TEST

/* A run with other settings stands in only where the suite itself has none, and is named. */
START_TEST(rehearsals_are_named) {
    static const double a[6] = {1, 1.1, 1.2}, b[6] = {2, 2.2, 2.3};
    pb_record records[12];
    int n = add_runs(records, add_runs(records, 0, "a", a), "b", b);
    for (int i = 0; i < n; i++) pb_copy(records[i].suite, sizeof records[i].suite, "s-steps8");
    pb_json *results = pb_lab_checked(HEAD "\"scale\":\"small\",\"assertions\":[" LESS "]}", records, n);
    ck_assert_str_eq(text_at(results, "overridden", NULL), "s-steps8");
    ck_assert_str_eq(text_at(results, "verdict", NULL), SAME);
    pb_json_free(results);
    for (int i = 0; i < n; i++) pb_copy(records[i].suite, sizeof records[i].suite, "s-other");
    results = pb_lab_checked(HEAD "\"scale\":\"small\",\"assertions\":[" LESS "]}", records, n);
    ck_assert_str_eq(text_at(results, "verdict", NULL), "not run");
    pb_json_free(results);
    for (int i = 0; i < n; i++) pb_record_free(&records[i]);
}
END_TEST

/* ---- broken files ---- */

#define ONE(a) HEAD "\"scale\":\"small\",\"assertions\":[" a "]}"
static const struct {
    const char *json, *part;
} faults[] = {
    {"[1]", "expected an object"},
    {"{", "t.json:1:"},
    {HEAD "\"scale\":\"small\",\"asertions\":[]}", "assertions"},
    {HEAD "\"scale\":\"smal\",\"assertions\":[" LESS "]}", "small"},
    {HEAD "\"scale\":\"small\"}", "at least one that decides"},
    {HEAD "\"scale\":\"small\",\"assertions\":[" ASIDE "]}", "at least one that decides"},
    {HEAD "\"scale\":\"small\",\"assertions\":[" PART "]}", "at least one that decides"},
    {ONE("{\"says\":\"x\",\"decides\":\"partly\",\"op\":\"less\"," LEFT "," RIGHT "}"), "decides: expected true, false, \"in part\" or \"condition\""},
    {ONE("{\"says\":\"x\",\"op\":\"within\",\"low\":0,\"of\":{\"difference\":[" ROW("a") "," ROW("b") "]}}"), "difference of qualities"},
    {ONE("{\"says\":\"x\",\"op\":\"within\",\"low\":0,\"of\":{\"product\":[{\"value\":2},{\"difference\":[" ROW("a") "," ROW("b") "]}]}}"), "difference of qualities"},
    {HEAD "\"scale\":\"not testable\"}", "why"},
    {HEAD "\"scale\":\"not testable\",\"why\":\"w\",\"assertions\":[" LESS "]}", "no assertions"},
    {HEAD "\"scale\":\"arithmetic\",\"assertions\":[" LESS "]}", "facts only"},
    {"{\"id\":\"u\"" , "t.json:1:"},
    {HEAD "\"waive\":[\"scael\"],\"scale\":\"small\",\"assertions\":[" LESS "]}", "nearest is \"scale\""},
    {HEAD "\"waive\":\"scale\",\"scale\":\"small\",\"assertions\":[" LESS "]}", "expected an array"},
    {ONE("{\"says\":\"x\",\"op\":\"lesser\"," LEFT "," RIGHT "}"), "did you mean \"less\""},
    {ONE("{\"says\":\"x\",\"op\":\"less\"," LEFT "}"), "assertions[0]: right: missing"},
    {ONE("{\"says\":\"x\",\"op\":\"less\"," LEFT "," RIGHT ",\"marign\":1}"), "margin"},
    {ONE("{\"says\":\"x\",\"op\":\"less\"," LEFT "," RIGHT ",\"low\":1}"), "low"},
    {ONE("{\"op\":\"less\"," LEFT "," RIGHT "}"), "says"},
    {ONE("{\"says\":\"x\",\"op\":\"equivalent\"," LEFT "," RIGHT "}"), "margin: missing"},
    {ONE("{\"says\":\"x\",\"op\":\"within\"," OF "}"), "low, high or both"},
    {ONE("{\"says\":\"x\",\"op\":\"within\",\"low\":2,\"high\":1," OF "}"), "low not above high"},
    {ONE("{\"says\":\"x\",\"op\":\"share\",\"low\":0.5," OF "}"), "above and below"},
    {ONE("{\"says\":\"x\",\"op\":\"non_inferior\",\"margin\":1," LEFT "," RIGHT "}"), "better: missing"},
    {ONE("{\"says\":\"x\",\"op\":\"non_inferior\",\"margin\":1,\"better\":\"lo\"," LEFT "," RIGHT "}"), "lower"},
    {ONE("{\"says\":\"x\",\"op\":\"ordered\",\"of\":[" ROW("a") "," ROW("b") "]}"), "direction: missing"},
    {ONE("{\"says\":\"x\",\"op\":\"ordered\",\"direction\":\"rising\",\"of\":[" ROW("a") "]}"), "2 to 16 terms"},
    {ONE("{\"says\":\"x\",\"op\":\"slope\",\"low\":0,\"x\":[1],\"of\":[" ROW("a") "," ROW("b") "]}"), "array of 2 numbers"},
    {ONE("{\"says\":\"x\",\"op\":\"slope\",\"low\":0,\"x\":[1,1],\"of\":[" ROW("a") "," ROW("b") "]}"), "x[1]"},
    {ONE("{\"says\":\"x\",\"op\":\"within\",\"low\":0,\"of\":{\"suite\":\"s\",\"label\":\"a\",\"metric\":\"quality/test/nl\"}}"), "quality/test/nll"},
    {ONE("{\"says\":\"x\",\"op\":\"within\",\"low\":0,\"of\":{\"suite\":\"s\",\"label\":\"a\",\"memory\":\"optimiser\"}}"), "optimizer"},
    {ONE("{\"says\":\"x\",\"op\":\"within\",\"low\":0,\"of\":{\"suite\":\"s\",\"label\":\"a\",\"field\":\"model.param_total\"}}"), "model.params_total"},
    {ONE("{\"says\":\"x\",\"op\":\"within\",\"low\":0,\"of\":{\"suite\":\"s\",\"label\":\"a\",\"sample\":\"loss/train\",\"how\":\"lst\"}}"), "last"},
    {ONE("{\"says\":\"x\",\"op\":\"within\",\"low\":0,\"of\":{\"suite\":\"s\",\"label\":\"a\",\"sample\":\"loss/train\"}}"), "how with sample"},
    {ONE("{\"says\":\"x\",\"op\":\"within\",\"low\":0,\"of\":{\"suite\":\"s\",\"label\":\"a\",\"sample\":\"loss/train\",\"how\":\"last\",\"steps\":[1,2]}}"), "steps goes with"},
    {ONE("{\"says\":\"x\",\"op\":\"within\",\"low\":0,\"of\":{\"suite\":\"s\",\"label\":\"a\",\"sample\":\"loss/valid\",\"how\":\"last\",\"steps\":[2,1]}}"), "first and the last"},
    {ONE("{\"says\":\"x\",\"op\":\"within\",\"low\":0,\"of\":{\"suite\":\"s\",\"label\":\"a\"}}"), "one of metric"},
    {ONE("{\"says\":\"x\",\"op\":\"within\",\"low\":0,\"of\":{\"suit\":\"s\"}}"), "did you mean \"suite\""},
    {ONE("{\"says\":\"x\",\"op\":\"within\",\"low\":0,\"of\":{\"ratio\":[" ROW("a") "]}}"), "array of two terms"},
    {ONE("{\"says\":\"x\",\"op\":\"within\",\"low\":0,\"of\":{\"ratio\":[" ROW("a") ",{\"value\":\"3\"}]}}"), "ratio[1]"},
    {ONE("{\"says\":\"x\",\"op\":\"within\",\"low\":0,\"of\":{\"fact\":\"f\",\"field\":\"flops\"}}"), "no facts"},
    {HEAD "\"facts\":{\"full\":{\"model\":\"llama-7b\",\"method\":\"full\"}},\"scale\":\"small\",\"assertions\":["
          "{\"says\":\"x\",\"op\":\"within\",\"low\":0,\"of\":{\"fact\":\"ful\",\"field\":\"flops\"}}]}", "full"},
    {HEAD "\"facts\":{\"full\":{\"model\":\"llama-7b\",\"method\":\"full\"}},\"scale\":\"small\",\"assertions\":["
          "{\"says\":\"x\",\"op\":\"within\",\"low\":0,\"of\":{\"fact\":\"full\",\"field\":\"bytes.totl\"}}]}", "bytes.total"},
};

START_TEST(faults_are_named) {
    pb_claim_file claim;
    pb_status status = pb_lab_claim(faults[_i].json, &claim);
    ck_assert_msg(status == PB_E_INPUT, "accepted: %s", faults[_i].json);
    ck_assert_msg(strstr(pb_error_message(), faults[_i].part) != NULL, "%s\nsaid: %s\nwanted: %s",
                  faults[_i].json, pb_error_message(), faults[_i].part);
    ck_assert_msg(strstr(pb_error_message(), "t.json") != NULL, "no file in: %s", pb_error_message());
}
END_TEST

static void sum_of(const char *assertion, char hex[PB_SHA256_HEX]) {
    pb_text text = {0};
    pb_text_add(&text, HEAD "\"scale\":\"small\",\"assertions\":[%s]}", assertion);
    pb_json *results = pb_lab_checked(text.data, NULL, 0);
    snprintf(hex, PB_SHA256_HEX, "%s", text_at(results, "sha256", NULL));
    pb_json_free(results);
    pb_text_free(&text);
}

/* A verdict says on what it is one: a bound that moved is another claim, a space is not. */
START_TEST(a_verdict_names_the_claim_by_its_sum) {
    char one[PB_SHA256_HEX], spaced[PB_SHA256_HEX], other[PB_SHA256_HEX];
    sum_of("{\"says\":\"y\",\"op\":\"within\",\"low\":0.9," OF "}", one);
    sum_of("{ \"says\": \"y\", \"op\": \"within\",\n \"low\": 0.9, " OF "}", spaced);
    sum_of("{\"says\":\"y\",\"op\":\"within\",\"low\":0.91," OF "}", other);
    ck_assert_uint_eq(strlen(one), 64);
    ck_assert_str_eq(one, spaced);
    ck_assert_str_ne(one, other);
}
END_TEST

START_TEST(a_claim_is_called_as_its_file) {
    char *dir = pb_test_dir();
    pb_claim_file *claims = NULL;
    int n = 0;
    pb_assert_fails(pb_claims_load(dir, &claims, &n), PB_E_INPUT, "no claim file");
    write_text(dir, "u.json", HEAD "\"scale\":\"not testable\",\"why\":\"w\"}");
    pb_assert_fails(pb_claims_load(dir, &claims, &n), PB_E_INPUT, "expected the file's name");
    free(dir);
}
END_TEST

/* ---- facts ---- */

static const struct {
    const char *recipe, *part;
} bad_recipes[] = {
    {"{\"model\":\"llama-7c\",\"method\":\"lora\"}", "llama-7b"},
    {"{\"model\":\"llama-7b\",\"method\":\"lorra\"}", "lora"},
    {"{\"model\":\"llama-7b\",\"method\":\"lora\",\"params\":{\"rnk\":3}}", "rank"},
    {"{\"model\":\"llama-7b\",\"method\":\"lora\",\"max_le\":3}", "max_len"},
    {"{\"weights\":\"gaussian\",\"code\":\"nf5\"}", "nf4"},
    {"{\"metod\":\"lora\"}", "expected model"},
};

START_TEST(recipes_are_checked) {
    for (size_t i = 0; i < COUNT(bad_recipes); i++) {
        pb_text text = {0};
        pb_claim_file claim;
        pb_text_add(&text, HEAD "\"facts\":{\"f\":%s},\"scale\":\"arithmetic\",\"assertions\":[{\"says\":\"x\","
                    "\"op\":\"within\",\"low\":0,\"of\":{\"fact\":\"f\",\"field\":\"flops\"}}]}", bad_recipes[i].recipe);
        pb_assert_ok(pb_lab_claim(text.data, &claim));
        pb_assert_fails(pb_claim_facts_check(&claim), PB_E_INPUT, bad_recipes[i].part);
        pb_json_free(claim.json);
        pb_text_free(&text);
    }
}
END_TEST

/* By hand: GPT-3's width 12288 in 96 layers; LLaMA-65B's linear weights; bits of block 64 and 256. */
START_TEST(facts_follow_from_shapes) {
    pb_claim_file claim;
    pb_json *facts = NULL;
    pb_assert_ok(pb_lab_claim(
        HEAD "\"facts\":{\"gpt3\":{\"model\":\"gpt3-175b\",\"method\":\"lora\",\"params\":{\"rank\":4,\"targets\":"
             "[\"*.attn.q\",\"*.attn.v\"]}},\"nf4\":{\"model\":\"llama-65b\",\"method\":\"qlora\"},"
             "\"normal\":{\"weights\":\"gaussian\",\"double_quant\":true},\"gone\":{\"weights\":\"no-such-model\"}},"
             "\"scale\":\"arithmetic\",\"assertions\":[{\"says\":\"x\",\"op\":\"within\",\"low\":0,\"of\":"
             "{\"fact\":\"gone\",\"field\":\"flops\"}}]}", &claim));
    const pb_claim_file *list[] = {&claim};
    pb_assert_ok(pb_claim_facts(list, 1, 2, &facts));
    const pb_json *of = pb_json_get(facts, "t");
    const pb_json *gpt3 = pb_json_get(of, "gpt3"), *nf4 = pb_json_get(of, "nf4"), *normal = pb_json_get(of, "normal");
    ck_assert(pb_json_get(gpt3, "params_adapter")->valuedouble == 2.0 * 96 * 2 * 12288 * 4);
    ck_assert(pb_json_get(gpt3, "bytes.adapter")->valuedouble == 2.0 * 2 * 96 * 2 * 12288 * 4);
    double linear = 80.0 * (4.0 * 8192 * 8192 + 3.0 * 8192 * 22016);
    ck_assert(pb_json_get(nf4, "weights_quantised")->valuedouble == linear);
    double bits = 8.0 / 64 + 32.0 / (64 * 256);
    ck_assert(fabs(pb_json_get(nf4, "constant_bits")->valuedouble - bits) < 1e-4);
    /* The table of Dettmers et al. on normal weights: the error lies near 0.095 of their spread. */
    double error = pb_json_get(normal, "relative_error")->valuedouble;
    ck_assert_msg(error > 0.08 && error < 0.11, "relative error %g", error);
    ck_assert(pb_json_get(normal, "constant_error")->valuedouble < 0.02);
    ck_assert_ptr_nonnull(pb_json_get(pb_json_get(of, "gone"), "missing"));
    pb_json *results = NULL; /* a fact that is missing supports nothing */
    pb_assert_ok(pb_claims_check(list, 1, NULL, 0, facts, &results));
    ck_assert_str_eq(text_at(results, "verdict", NULL), "not run");
    pb_json_free(results);
    pb_json_free(facts);
    pb_json_free(claim.json);
}
END_TEST

/* What the rule of memory is held against as one that "fits, too" does fit, by its own plan, at the claim's figure. */
START_TEST(rivals_that_fit_do_fit) {
    pb_claim_file claim;
    pb_json *facts = NULL, *results = NULL;
    const pb_json *a = NULL;
    int rivals = 0, plans = 0;
    pb_assert_ok(pb_claim_load("reports/claims/art-j.json", &claim));
    const pb_claim_file *list[] = {&claim};
    pb_assert_ok(pb_claim_facts(list, 1, 2, &facts));
    pb_assert_ok(pb_claims_check(list, 1, NULL, 0, facts, &results));
    cJSON_ArrayForEach (a, pb_json_get(cJSON_GetArrayItem(pb_json_get(results, "claims"), 0), "assertions")) {
        const char *says = pb_json_get(a, "says")->valuestring;
        if (strstr(says, "16 GB") && strstr(says, "which fits, too")) rivals++;
        if (!strstr(says, "fits 16 GB, too")) continue;
        plans++;
        ck_assert_msg(strcmp(pb_json_get(a, "finding")->valuestring, "holds") == 0, "%s: %.0f bytes", says,
                      pb_json_get(a, "value")->valuedouble);
    }
    ck_assert_int_gt(rivals, 0);
    ck_assert_int_eq(rivals, plans);
    pb_json_free(results);
    pb_json_free(facts);
    pb_json_free(claim.json);
}
END_TEST

/* ---- the command ---- */

static int call(const char *a, const char *b, const char *c, const char *d, const char *e, const char *f) {
    char *argv[] = {(char *)"peftbench", (char *)"claims", (char *)a, (char *)b,
                    (char *)c, (char *)d, (char *)e, (char *)f, NULL};
    int argc = 2;
    while (argc < 8 && argv[argc]) argc++;
    return pb_cli_main(argc, argv);
}

START_TEST(the_command_returns_what_it_says) {
    char *dir = pb_test_dir();
    ck_assert_int_eq(call("list", "--format", "json", NULL, NULL, NULL), 0);
    ck_assert_int_eq(call("lst", NULL, NULL, NULL, NULL, NULL), 2);
    ck_assert_int_eq(call("list", "--claims", "art-z", NULL, NULL, NULL), 2);
    ck_assert_int_eq(call("run", NULL, NULL, NULL, NULL, NULL), 2);
    ck_assert_int_eq(call("check", dir, NULL, NULL, NULL, NULL), 2); /* empty */
    char *other = pb_test_dir(), *path = pb_path_join(dir, "claims.json");
    pb_assert_ok(pb_synthetic_suite(dir, "s", 1));
    ck_assert_int_eq(call("check", dir, other, "--claims", "lora-11", NULL), 2); /* one of two empty */
    pb_assert_ok(pb_synthetic_suite(other, "t", 1));
    ck_assert_int_eq(call("check", other, "--claims", "lora-11", "--out", dir), 0);
    pb_json *one = NULL, *both = NULL;
    pb_assert_ok(pb_json_load(path, 1 << 24, &one));
    ck_assert_int_eq(call("check", dir, other, "--claims", "lora-11", NULL), 0);
    pb_assert_ok(pb_json_load(path, 1 << 24, &both)); /* it lies in the first */
    ck_assert(pb_json_get(both, "records")->valuedouble == 2 * pb_json_get(one, "records")->valuedouble);
    pb_json_free(one);
    pb_json_free(both);
    free(path);
    free(other);
    ck_assert_int_eq(call("run", "lora-11", "--out", dir, NULL, NULL), 0);
    ck_assert_int_eq(call("run", "art-b", "--out", dir, "--format", "markdown"), 0);
    ck_assert_int_eq(call("run", "art-b", "--out", dir, "--fail-on", "contradicted"), 1);
    ck_assert_int_eq(call("run", "lora-11", "--out", dir, "--fail-on", "contradicted"), 0);
    free(dir);
}
END_TEST

static int judged(const char *verdict, const char *parts) {
    pb_json *results = NULL;
    pb_text text = {0};
    pb_text_add(&text, "{\"claims\":[{\"id\":\"x\",\"verdict\":\"%s\",\"assertions\":[%s]}]}", verdict, parts);
    pb_assert_ok(pb_json_parse("test", text.data, text.len, &results));
    int n = pb_claims_judged(results);
    pb_text_free(&text);
    pb_json_free(results);
    return n;
}

/* A gate that nothing went through has not been passed. */
START_TEST(a_gate_that_judges_nothing_has_not_been_passed) {
#define FOUND(decides, finding) "{\"decides\":" decides ",\"finding\":\"" finding "\"}"
    ck_assert_int_eq(judged("supported", FOUND("true", "holds")), 1);
    ck_assert_int_eq(judged("contradicted", FOUND("true", "missing") "," FOUND("true", "fails")), 1);
    ck_assert_int_eq(judged("inconclusive", FOUND("true", "unclear")), 1);
    ck_assert_int_eq(judged("inconclusive", FOUND("true", "too few seeds")), 0);
    ck_assert_int_eq(judged("inconclusive", FOUND("true", "not comparable") "," FOUND("false", "holds")), 0);
    ck_assert_int_eq(judged("not run", FOUND("true", "holds") "," FOUND("true", "missing")), 0);
    ck_assert_int_eq(judged("not testable at this scale", ""), 0);
    ck_assert_int_eq(judged("inconclusive", FOUND("\"condition\"", "fails") "," FOUND("true", "holds")), 0);
    ck_assert_int_eq(judged("inconclusive", FOUND("\"condition\"", "holds") "," FOUND("true", "unclear")), 1);
    ck_assert_int_eq(judged("inconclusive", FOUND("\"condition\"", "holds")), 0);
    char *dir = pb_test_dir();
    pb_assert_ok(pb_synthetic_suite(dir, "s", 1));
    ck_assert_int_eq(call("check", dir, "--claims", "ada-01", NULL, NULL), 0); /* not run */
    ck_assert_int_eq(call("check", dir, "--claims=ada-01", "--fail-on", "contradicted", NULL), 1);
    ck_assert_ptr_nonnull(strstr(pb_error_message(), "none was judged (1 not run, 0 not testable, 0 inconclusive)"));
    ck_assert_int_eq(call("check", dir, "--claims=ada-01,lora-11", "--fail-on", "contradicted", NULL), 0);
    free(dir);
}
END_TEST

/* Every id on one line: only the last word is wrong. */
START_TEST(all_claims_fit_on_one_line) {
    pb_claim_file *claims = NULL;
    int n = 0;
    pb_assert_ok(pb_claims_load("reports/claims", &claims, &n));
    char **argv = calloc((size_t)n + 5, sizeof *argv);
    argv[0] = (char *)(uintptr_t)"peftbench";
    argv[1] = (char *)(uintptr_t)"claims";
    argv[2] = (char *)(uintptr_t)"run";
    for (int i = 0; i < n; i++) argv[3 + i] = claims[i].id;
    argv[3 + n] = (char *)(uintptr_t)"art-z";
    ck_assert_int_eq(pb_cli_main(n + 4, argv), 2);
    ck_assert_ptr_nonnull(strstr(pb_error_message(), "unknown claim 'art-z'"));
    free(argv);
    pb_claims_free(claims, n);
}
END_TEST

/* The ids of DIR/claims.json in its order, "a,b". */
static void assert_claims(const char *dir, const char *want) {
    pb_text ids = {0};
    pb_json *results = NULL;
    const pb_json *c = NULL;
    char *path = pb_path_join(dir, "claims.json");
    pb_assert_ok(pb_json_load(path, 1 << 24, &results));
    cJSON_ArrayForEach (c, pb_json_get(results, "claims"))
        pb_text_add(&ids, "%s%s", ids.len ? "," : "", pb_json_text(c, "id"));
    ck_assert_str_eq(ids.data, want);
    double total = 0;
    const pb_json *count = NULL;
    cJSON_ArrayForEach (count, pb_json_get(results, "counts")) total += count->valuedouble;
    ck_assert(total == cJSON_GetArraySize(pb_json_get(results, "claims")));
    pb_text_free(&ids);
    pb_json_free(results);
    free(path);
}

/* A check of some claims takes none of the others out of the files. */
START_TEST(other_claims_of_a_folder_stay) {
    char *dir = pb_test_dir(), *other = pb_test_dir(), *made = pb_test_dir();
    ck_assert_int_eq(call("run", "lora-11", "--out", made, NULL, NULL), 0); /* arithmetic: no folder of records */
    ck_assert_int_eq(call("run", "art-b", "--out", made, NULL, NULL), 0);
    assert_claims(made, "art-b,lora-11");
    pb_assert_ok(pb_synthetic_suite(dir, "s", 1));
    pb_assert_ok(pb_synthetic_suite(other, "t", 1));
    ck_assert_int_eq(call("check", dir, other, "--claims", "lora-11,ada-01", NULL), 0);
    assert_claims(dir, "ada-01,lora-11");
    /* Half of the records: the others cannot be renewed from them. */
    ck_assert_int_eq(call("check", dir, "--claims", "art-b", "--fail-on", "contradicted"), 1);
    assert_claims(dir, "ada-01,lora-11");
    ck_assert_int_eq(call("check", dir, other, "--claims", "art-b", NULL), 0);
    assert_claims(dir, "ada-01,art-b,lora-11");
    /* The gate sees what was asked for alone: art-b is contradicted. */
    ck_assert_int_eq(call("check", dir, other, "--claims=lora-11", "--fail-on", "contradicted"), 0);
    assert_claims(dir, "ada-01,art-b,lora-11");
    /* `run` without runs reads the records that the others need. */
    ck_assert_int_eq(call("check", other, "--claims", "ada-01", "--out", other), 0);
    ck_assert_int_eq(call("run", "lora-11", "--out", other, NULL, NULL), 0);
    assert_claims(other, "ada-01,lora-11");
    free(dir);
    free(other);
    free(made);
}
END_TEST

int main(void) {
    Suite *s = suite_create("claims");
    TCase *files = pb_test_case(s, "files"), *verdicts = pb_test_case(s, "verdicts"),
          *facts = pb_test_case(s, "facts");
    tcase_add_test(files, every_claim_names_what_the_suites_have);
    tcase_add_test(files, claims_compare_like_with_like);
    tcase_add_test(files, claims_small_runs_every_suite);
    tcase_add_test(files, fixed_rates_are_those_that_trials_chose);
    tcase_add_test(files, the_committed_verdicts_are_of_these_claims);
    tcase_add_test(files, the_readme_shows_the_committed_verdicts);
    tcase_add_test(files, a_row_shows_the_part_that_decided);
    tcase_add_test(files, a_row_shows_that_its_verdict_falls);
    tcase_add_loop_test(files, faults_are_named, 0, (int)COUNT(faults));
    tcase_add_test(files, a_claim_is_called_as_its_file);
    tcase_add_test(files, a_verdict_names_the_claim_by_its_sum);
    tcase_add_loop_test(verdicts, operators_decide_as_said, 0, (int)COUNT(truths));
    tcase_add_test(verdicts, verdicts_say_no_more_than_is_there);
    tcase_add_test(verdicts, a_family_of_parts_has_one_error);
    tcase_add_test(verdicts, a_family_of_one_changes_nothing);
    tcase_add_test(verdicts, a_family_knows_its_facts);
    tcase_add_test(verdicts, shares_count_seeds_and_not_runs);
    tcase_add_test(verdicts, curves_and_epochs_are_read);
    tcase_add_test(verdicts, suites_may_share_runs);
    tcase_add_test(verdicts, claims_are_held_to_parity);
    tcase_add_test(verdicts, rows_of_claims_are_rows);
    tcase_add_test(verdicts, qualities_pair_their_examples);
    tcase_add_test(verdicts, rehearsals_are_named);
    tcase_add_test(facts, recipes_are_checked);
    tcase_add_test(facts, facts_follow_from_shapes);
    tcase_add_test(facts, rivals_that_fit_do_fit);
    tcase_add_test(facts, the_command_returns_what_it_says);
    tcase_add_test(facts, all_claims_fit_on_one_line);
    tcase_add_test(facts, a_gate_that_judges_nothing_has_not_been_passed);
    tcase_add_test(facts, other_claims_of_a_folder_stay);
    return pb_run_suite(s);
}
