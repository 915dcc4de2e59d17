/* plots/ and reports/: what they write from synthetic records of every kind is well-formed,
 * escaped, complete and the same in every locale; what is missing is said. */
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "plots/plots.h"
#include "reports/doc.h"
#include "reports/report.h"
#include "results/group.h"
#include "tests/support.h"
#include "tests/synthetic_records.h"

/* ---- helpers ---- */

static char *read_text(const char *dir, const char *name) {
    char *path = pb_path_join(dir, name), *text = NULL;
    pb_assert_ok(pb_file_read(path, 1 << 26, &text, NULL));
    free(path);
    return text;
}

static bool has_file(const char *dir, const char *name) {
    char *path = pb_path_join(dir, name);
    struct stat st;
    bool there = stat(path, &st) == 0 && st.st_size > 0;
    free(path);
    return there;
}

#define assert_has(text, part) ck_assert_msg(strstr((text), (part)) != NULL, "no \"%s\"", (part))
#define assert_lacks(text, part)                                                                   \
    ck_assert_msg(strstr((text), (part)) == NULL, "there is \"%s\"", (part))

static int count(const char *text, const char *part) {
    int n = 0;
    for (const char *p = text; (p = strstr(p, part)); p += strlen(part)) n++;
    return n;
}

/* True for elements that HTML never closes. */
static bool is_void(const char *name) {
    static const char *const names[] = {"meta", "br", "hr", "img", "!DOCTYPE"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(names[i], name) == 0) return true;
    return false;
}

/* Every element is closed in order, ids are unique within reason, attributes are quoted. */
static void assert_balanced(const char *html) {
    char stack[64][24];
    int depth = 0;
    for (const char *p = html; (p = strchr(p, '<'));) {
        char name[24] = "";
        bool closing = p[1] == '/';
        const char *start = p + 1 + closing;
        size_t n = strcspn(start, " \t\n/>");
        ck_assert_msg(n > 0 && n < sizeof name, "odd tag at: %.60s", p);
        memcpy(name, start, n);
        char quote = 0;
        for (p = start + n; *p && (quote || *p != '>'); p++) {
            ck_assert_msg(quote || *p != '<', "'<' inside a tag: %.60s", start);
            if (quote ? *p == quote : *p == '"' || *p == '\'') quote = quote ? 0 : *p;
        }
        ck_assert_msg(*p == '>', "unclosed tag %s", name);
        if (closing) {
            ck_assert_msg(depth > 0 && strcmp(stack[depth - 1], name) == 0, "</%s> closes <%s>",
                          name, depth ? stack[depth - 1] : "nothing");
            depth--;
        } else if (p[-1] != '/' && !is_void(name)) {
            ck_assert_int_lt(depth, 64);
            memcpy(stack[depth++], name, sizeof name);
            if (strcmp(name, "script") == 0 || strcmp(name, "style") == 0) { /* raw text */
                char end[32];
                snprintf(end, sizeof end, "</%s>", name);
                p = strstr(p, end);
                ck_assert_ptr_nonnull(p);
            }
        }
    }
    ck_assert_msg(depth == 0, "<%s> is never closed", depth ? stack[depth - 1] : "");
}

static void assert_self_contained(const char *html) {
    static const char *const outside[] = {
        "http-equiv=\"refresh\"", "src=",        "@import",   "<link", "<iframe", "fetch(",
        "XMLHttpRequest",         "href=\"http", "href='http"};
    for (size_t i = 0; i < sizeof outside / sizeof outside[0]; i++) assert_lacks(html, outside[i]);
    assert_has(html, "name=\"viewport\"");
    assert_has(html, "prefers-color-scheme");
}

/* A report of everything under dir; the log is thrown away. */
static void report(const char *dir, const char *out, bool *no_plots) {
    pb_report_options options = {.out_dir = out, .command = "peftbench report results/quick"};
    pb_assert_ok(pb_report_write(dir, &options, NULL, no_plots));
}

static void write_record(const char *root, pb_record *r) {
    pb_assert_ok(pb_record_write(r, root));
    pb_record_free(r);
}

static bool gnuplot_is_here(void) {
    bool here = pb_plots_available() == PB_OK;
    pb_error_clear();
    return here;
}

/* The axis of a bar figure names its rows and shows no numbers between them: labels of that axis,
 * and no others, end at their place. */
static void assert_rows_alone(const char *out, const char *figure, int rows) {
    char name[96];
    snprintf(name, sizeof name, "plots/%s.svg", figure);
    char *svg = read_text(out, name);
    assert_has(svg, ">LoRA r8<");
    ck_assert_msg(count(svg, "text-anchor=\"end\"") == rows, "%s has stray tics", figure);
    free(svg);
}

/* ---- whole reports ---- */

START_TEST(report_of_every_kind_of_run_is_whole) {
    char *root = pb_test_dir(), *out = pb_test_dir();
    bool no_plots = true;
    pb_assert_ok(pb_synthetic_suite(root, "quick", 3));
    pb_assert_ok(pb_synthetic_failures(root, "quick"));
    report(root, out, &no_plots);
    ck_assert_int_eq(no_plots, !gnuplot_is_here());
    char *html = read_text(out, "report.html"), *md = read_text(out, "report.md"),
         *csv = read_text(out, "summary.csv");
    assert_balanced(html);
    assert_self_contained(html);
    static const char *const said[] = {
        "LoRA r8",
        "AdaLoRA 12 to 8",
        "head only",
        "24 finished",
        "1 oom",
        "1 diverged",
        "1 interrupted",
        "1 failed",
        "NaN in the gradient of layers.3.attn.q.lora_B at step 41",
        "predicted 17.2 GiB",
        "most frequent class",
        "re-quantises the 4-bit base",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "Example CPU 2.0 GHz",
        "rank=8",
        "over seeds",
        "peftbench report results/quick"};
    for (size_t i = 0; i < sizeof said / sizeof said[0]; i++) assert_has(html, said[i]);
    assert_has(md, "| **LoRA r8** |");
    assert_has(md, "24 of 28 runs finished");
    ck_assert_int_eq(count(csv, "\r\n"), 29);
    if (!no_plots) {
        static const char *const figures[] = {"accuracy_memory",   "accuracy_time", "loss_curves",
                                              "memory_by_purpose", "time_by_phase", "dylora_rank",
                                              "adalora_rank_map"};
        ck_assert_int_eq(count(html, "<figure>"), 7);
        for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++) {
            char name[96];
            snprintf(name, sizeof name, "plots/%s.svg", figures[i]);
            ck_assert_msg(has_file(out, name), "%s", name);
            snprintf(name, sizeof name, "plots/%s.png", figures[i]);
            ck_assert_msg(has_file(out, name), "%s", name);
            assert_has(md, name);
        }
    }
    free(html);
    free(md);
    free(csv);
    free(root);
    free(out);
}
END_TEST

START_TEST(report_is_a_function_of_the_records) {
    char *root = pb_test_dir(), *a = pb_test_dir(), *b = pb_test_dir();
    static const char *const files[] = {"report.html", "report.md", "summary.csv"};
    bool no_plots;
    pb_assert_ok(pb_synthetic_suite(root, "quick", 2));
    report(root, a, &no_plots);
    report(root, b, &no_plots);
    for (int i = 0; i < 3; i++) {
        char *x = read_text(a, files[i]), *y = read_text(b, files[i]);
        ck_assert_msg(strcmp(x, y) == 0, "%s differs", files[i]);
        free(x);
        free(y);
    }
    free(root);
    free(a);
    free(b);
}
END_TEST

START_TEST(report_lands_beside_the_records_by_default) {
    char *base = pb_test_dir(), *root = pb_path_join(base, "Ergebnisse für 'alle' $(x) 數據");
    bool no_plots = true;
    pb_assert_ok(pb_synthetic_suite(root, "quick", 1));
    pb_assert_ok(pb_report_write(root, NULL, NULL, &no_plots));
    ck_assert(has_file(root, "report.html") && has_file(root, "report.md") &&
              has_file(root, "summary.csv"));
    if (!no_plots) ck_assert(has_file(root, "plots/accuracy_memory.png"));
    pb_assert_ok(pb_report_write(root, NULL, NULL, &no_plots)); /* its own output is no record */
    char *html = read_text(root, "report.html");
    assert_balanced(html);
    assert_has(html, "spread over seeds is unknown"); /* one seed */
    assert_has(html, "No verdict on");
    assert_lacks(html, "cannot be told apart");
    assert_lacks(html, " is better than ");
    free(html);
    free(root);
    free(base);
}
END_TEST

START_TEST(nothing_to_report_is_an_error) {
    char *root = pb_test_dir();
    bool no_plots;
    pb_report_options options = {.baseline = "nobody"};
    pb_assert_fails(pb_report_write(root, NULL, NULL, &no_plots), PB_E_INPUT, "holds no run");
    ck_assert(!has_file(root, "report.html"));
    pb_assert_ok(pb_synthetic_suite(root, "quick", 1));
    pb_assert_fails(pb_report_write(root, &options, NULL, &no_plots), PB_E_INPUT, "nobody");
    options.baseline = "full";
    pb_assert_ok(pb_report_write(root, &options, NULL, &no_plots));
    char *html = read_text(root, "report.html");
    assert_has(html, "\xc3\x97 full");
    free(html);
    free(root);
}
END_TEST

START_TEST(only_failed_runs_make_a_report_too) {
    char *root = pb_test_dir();
    bool no_plots;
    pb_assert_ok(pb_synthetic_failures(root, "quick"));
    report(root, root, &no_plots);
    char *html = read_text(root, "report.html"), *md = read_text(root, "report.md");
    assert_balanced(html);
    assert_has(html, "No run finished");
    assert_has(md, "No run finished");
    assert_lacks(html, "nan");
    free(html);
    free(md);
    free(root);
}
END_TEST

START_TEST(missing_metrics_leave_dashes) {
    char *root = pb_test_dir();
    bool no_plots;
    pb_record r;
    pb_synthetic bare = {
        .suite = "quick", .method = "lora", .label = "bare", .seed = 1, .sparse = true};
    pb_assert_ok(pb_synthetic_record(&bare, &r));
    write_record(root, &r);
    pb_synthetic partial = {.suite = "quick",
                            .method = "mystery",
                            .label = "partial",
                            .seed = 1,
                            .accuracy = 0.5,
                            .nll = 1,
                            .step_s = 0.1,
                            .peak_mb = 300,
                            .trainable = 1000,
                            .examples = 50};
    pb_assert_ok(pb_synthetic_record(&partial, &r));
    write_record(root, &r);
    report(root, root, &no_plots);
    char *html = read_text(root, "report.html"), *csv = read_text(root, "summary.csv");
    assert_balanced(html);
    assert_lacks(html, ">nan");
    assert_lacks(html, "nan<");
    assert_lacks(html, "inf");
    assert_has(html, "\xe2\x80\x93");
    assert_lacks(csv, "nan");
    free(html);
    free(csv);
    free(root);
}
END_TEST

/* A decoder's task: what accuracy means there is said, and that most texts did not fit. */
START_TEST(completion_is_told_from_classification) {
    char *root = pb_test_dir();
    bool no_plots;
    pb_record r;
    pb_synthetic run = {.suite = "quick",
                        .method = "lora",
                        .label = "LoRA r8",
                        .seed = 1,
                        .accuracy = 0.3,
                        .nll = 3,
                        .step_s = 0.1,
                        .peak_mb = 300,
                        .trainable = 1000,
                        .steps = 8,
                        .examples = 50};
    pb_assert_ok(pb_synthetic_suite(root, "quick", 1));
    report(root, root, &no_plots);
    char *html = read_text(root, "report.html");
    assert_lacks(html, "target tokens");
    assert_lacks(html, "longer than the length limit");
    assert_lacks(html, "before training and after");
    free(html);
    free(root);
    root = pb_test_dir();
    pb_assert_ok(pb_synthetic_record(&run, &r));
    cJSON_DeleteItemFromObjectCaseSensitive(r.dataset, "majority");
    cJSON_DeleteItemFromObjectCaseSensitive(r.dataset, "classes");
    pb_json_add_str(r.dataset, "task", "complete");
    pb_json *cut = pb_json_add_object(r.dataset, "truncated");
    pb_json_add_i64(cut, "train", 4070);
    pb_json_add_i64(cut, "valid", 994);
    pb_json_add_i64(cut, "test", 1989);
    pb_assert_ok(pb_record_metric(&r, "quality/test/nll/before", 4.25, "nats", -1, 50, ""));
    pb_assert_ok(pb_record_metric(&r, "quality/test/perplexity/before", 70.1, "1", -1, 50, ""));
    write_record(root, &r);
    run.seed = 2; /* the same before training: no spread is shown */
    pb_assert_ok(pb_synthetic_record(&run, &r));
    pb_assert_ok(pb_record_metric(&r, "quality/test/nll/before", 4.25, "nats", -1, 50, ""));
    pb_assert_ok(pb_record_metric(&r, "quality/test/perplexity/before", 70.1, "1", -1, 50, ""));
    write_record(root, &r);
    report(root, root, &no_plots);
    char *text = read_text(root, "report.md");
    assert_has(text, "## Test data before training and after");
    assert_has(text, "| LoRA r8 | 4.25 | ");
    assert_has(text, " | 70.1 | ");
    free(text);
    html = read_text(root, "report.html");
    assert_has(html, "accuracy is the share of target tokens");
    assert_has(html, "7053 of 7096 examples (99 %) were longer than the length limit");
    if (!no_plots) assert_rows_alone(root, "memory_by_purpose", 1);
    if (!no_plots) assert_rows_alone(root, "time_by_phase", 1);
    free(html);
    free(root);
}
END_TEST

START_TEST(chapters_are_kept_apart) {
    char *root = pb_test_dir(), *out = pb_test_dir();
    bool no_plots;
    pb_assert_ok(pb_synthetic_suite(root, "quick", 1));
    pb_assert_ok(pb_synthetic_suite(root, "Other Suite", 1));
    report(root, out, &no_plots);
    char *html = read_text(out, "report.html");
    assert_balanced(html);
    assert_has(html, "2 comparisons");
    ck_assert_int_eq(count(html, "<h2>In short</h2>"), 2);
    if (!no_plots) {
        ck_assert(has_file(out, "plots/other-suite-1/accuracy_memory.svg"));
        ck_assert(has_file(out, "plots/quick-2/accuracy_memory.svg"));
    }
    free(html);
    free(root);
    free(out);
}
END_TEST

/* ---- tuning, claims ---- */

/* A run of LoRA under `label` in a phase, its rate and number as in `tuning`. */
static void write_phase(const char *root, const char *label, uint64_t seed, const char *phase,
                        const char *tuning, double valid) {
    bool trial = strcmp(phase, "trial") == 0;
    pb_synthetic s = {.suite = "tuned",
                      .method = "lora",
                      .label = label,
                      .seed = seed,
                      .accuracy = 0.7,
                      .nll = 0.8,
                      .step_s = 0.1,
                      .peak_mb = 200,
                      .trainable = 1000,
                      .steps = 16,
                      .examples = 50,
                      .sparse = trial};
    pb_record r;
    pb_assert_ok(pb_synthetic_record(&s, &r));
    pb_copy(r.phase, sizeof r.phase, phase);
    pb_assert_ok(pb_json_parse("test", tuning, strlen(tuning), &r.tuning));
    if (trial) pb_assert_ok(pb_record_metric(&r, "quality/valid/nll", valid, "nats", -1, 1, ""));
    write_record(root, &r);
}

START_TEST(tunings_and_their_edges_are_told) {
    setenv("PATH", "/no/such/place", 1); /* no figures: they are the slow part and say nothing here */
    static const struct {
        const char *edge, *cell, *warning;
    } cases[] = {{"none", "| no |", NULL},
                 {"low", "| **the lowest tried** |", "is the lowest tried; a better one may lie beyond,"},
                 {"high", "| **the highest tried** |", "is the highest tried; a better one may lie beyond,"},
                 {"cliff", "| **the highest that trains** |",
                  "is the highest that trains; a better one may lie between it and the next one tried,"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *root = pb_test_dir(), tuning[128];
        bool no_plots;
        write_phase(root, "LoRA lr 0.001", 7, "trial", "{\"row\":\"LoRA\",\"trial\":1,\"lr\":0.001,\"why\":\"grid\"}",
                    0.95);
        write_phase(root, "LoRA lr 0.004", 7, "trial", "{\"row\":\"LoRA\",\"trial\":2,\"lr\":0.004,\"why\":\"grid\"}",
                    0.851);
        snprintf(tuning, sizeof tuning, "{\"row\":\"LoRA\",\"trial\":2,\"lr\":0.004,\"edge\":\"%s\"}", cases[i].edge);
        for (uint64_t seed = 1; seed <= 2; seed++) write_phase(root, "LoRA", seed, "final", tuning, 0);
        report(root, root, &no_plots);
        char *md = read_text(root, "report.md");
        assert_has(md, "| LoRA | 2 | 0.001 to 0.004 | 0.004 | 0.851 ");
        assert_has(md, cases[i].cell);
        if (cases[i].warning) assert_has(md, cases[i].warning);
        else assert_lacks(md, "a better one may lie b");
        free(md);
        free(root);
    }
    char *root = pb_test_dir();
    bool no_plots;
    pb_assert_ok(pb_synthetic_suite(root, "quick", 1));
    report(root, root, &no_plots);
    char *md = read_text(root, "report.md");
    assert_lacks(md, "Learning rates tried"); /* nothing was tuned */
    free(md);
    free(root);
}
END_TEST

static long place(const char *text, const char *part) {
    long at = 0;
    while (text[at] && strncmp(text + at, part, strlen(part)) != 0) at++;
    ck_assert_msg(text[at] != 0, "no \"%s\"", part);
    return at;
}

/* Verdicts on claims stand before the comparisons, in LaTeX too; what they rest on comes last. */
START_TEST(claims_open_the_report) {
    static const char claims[] =
        "{\"records\":3,\"claims\":[{\"id\":\"x-01\",\"statement\":\"Words of the claim.\",\"scale\":\"small\","
        "\"verdict\":\"supported\",\"verdict_family\":\"inconclusive\",\"source\":{\"work\":\"A work\","
        "\"place\":\"section 4\"},\"assertions\":[{\"says\":\"less than before\",\"seen\":\"0.5\","
        "\"finding\":\"holds\",\"wanted\":\"below 1\",\"value\":0.5,\"n\":3}]}],"
        "\"family\":{\"parts\":1,\"decided\":0}}";
    char *root = pb_test_dir(), *path = pb_path_join(root, "claims.json");
    bool no_plots;
    setenv("PATH", "/no/such/place", 1);
    pb_assert_ok(pb_synthetic_suite(root, "quick", 1));
    pb_assert_ok(pb_file_write_atomic(path, claims, strlen(claims)));
    report(root, root, &no_plots);
    char *md = read_text(root, "report.md"), *tex = read_text(root, "report.tex");
    ck_assert_int_lt(place(md, "Words of the claim."), place(md, "In short"));
    ck_assert_int_lt(place(md, "In short"), place(md, "below 1"));
    ck_assert_int_lt(place(tex, "x-01 & A work, section 4 & small & supported & inconclusive"),
                     place(tex, "LoRA r8"));
    free(md);
    free(tex);
    free(path);
    free(root);
}
END_TEST

/* A table that is longer than a page breaks there, one that is wider comes in parts with the first
 * column before each; every cell stands once, headings are broken at spaces. */
START_TEST(latex_tables_fit_a_page) {
    rp_doc doc = {0};
    pb_text t = {0};
    rp_add(&doc, RP_HEADING, "Wide & long");
    rp_add_table(&doc);
    rp_column_add(&doc, "Row", false, "");
    for (int i = 1; i < 8; i++) rp_column_add(&doc, "Peak of memory", true, "");
    for (int r = 0; r < 46; r++) {
        rp_row_add(&doc, 0);
        rp_cell_add(&doc, r, "row%d", r);
        for (int i = 1; i < 8; i++) rp_cell_add(&doc, i, "%016d", 100 * r + i);
    }
    pb_assert_ok(rp_doc_status(&doc));
    pb_assert_ok(rp_render_latex(&doc, &t));
    const char *tex = t.data;
    ck_assert_int_eq(count(tex, "\\begin{longtable}{rrrr}"), 0);
    ck_assert_int_eq(count(tex, "\\begin{longtable}{lrrr}"), 2); /* 16 and 3 of a gap: three beside the first */
    ck_assert_int_eq(count(tex, "\\begin{longtable}{lr}"), 1);
    ck_assert_int_eq(count(tex, "\\caption{Wide \\& long}"), 3);
    ck_assert_int_eq(count(tex, "\\shortstack[r]{Peak of memory}"), 7);
    ck_assert_int_eq(count(tex, "row45 & "), 3);
    for (int r = 0; r < 46; r++)
        for (int i = 1; i < 8; i++) {
            char cell[32];
            snprintf(cell, sizeof cell, " & %016d", 100 * r + i);
            ck_assert_int_eq(count(tex, cell), 1);
        }
    pb_text_free(&t);
    rp_doc_free(&doc);
}
END_TEST

/* ---- hostile text ---- */

static const char hostile[] = "<script>alert(1)</script> \"q\" 'a' & | `x` $(id) {";

static void write_hostile(const char *root) {
    for (int i = 0; i < 2; i++) {
        pb_synthetic s = {.suite = "quick",
                          .method = "lora",
                          .seed = 1,
                          .label = i ? "plain" : hostile,
                          .accuracy = 0.5,
                          .nll = 1,
                          .step_s = 0.1,
                          .peak_mb = 300.0 + i,
                          .trainable = 1000,
                          .steps = 20,
                          .examples = 50};
        pb_record r;
        pb_assert_ok(pb_synthetic_record(&s, &r));
        pb_assert_ok(pb_record_warn(&r, "%s\nsecond,line", hostile));
        write_record(root, &r);
    }
    pb_synthetic s = {
        .suite = "quick", .method = "dora", .seed = 1, .label = "failed", .status = PB_RUN_FAILED};
    pb_record r;
    pb_assert_ok(pb_synthetic_record(&s, &r));
    snprintf(r.reason, sizeof r.reason, "<img src=x onerror=alert(1)>, \"quoted\"\nnext line");
    write_record(root, &r);
}

/* Splits RFC 4180 text; every line must have as many fields as the first. */
static void assert_csv(const char *text, int want_lines) {
    int fields = 1, first = 0, lines = 0;
    bool quoted = false, at_start = true;
    for (const char *p = text; *p; p++) {
        if (quoted) {
            if (*p == '"' && p[1] == '"') {
                p++;
            } else if (*p == '"') {
                quoted = false;
                ck_assert(p[1] == ',' || p[1] == '\r');
            }
            continue;
        }
        ck_assert_msg(*p != '"' || at_start, "a quote inside an unquoted field");
        at_start = *p == ',' || *p == '\n';
        if (*p == '"') quoted = true;
        if (*p == ',') fields++;
        ck_assert(*p != '\n' || (p > text && p[-1] == '\r'));
        if (*p != '\n') continue;
        if (!lines++) first = fields;
        ck_assert_int_eq(fields, first);
        fields = 1;
    }
    ck_assert(!quoted);
    ck_assert_int_eq(lines, want_lines);
}

START_TEST(hostile_text_stays_text) {
    char *root = pb_test_dir();
    bool no_plots;
    write_hostile(root);
    report(root, root, &no_plots);
    char *html = read_text(root, "report.html"), *md = read_text(root, "report.md"),
         *csv = read_text(root, "summary.csv");
    assert_balanced(html);
    ck_assert_int_eq(count(html, "<script"), 1); /* the page's own */
    assert_lacks(html, "<img");
    assert_has(html, "&lt;script&gt;alert(1)&lt;/script&gt;");
    assert_has(html, "&lt;img src=x onerror=alert(1)&gt;");
    assert_lacks(html, "could not be put into the page");
    assert_lacks(md, "<script");
    assert_lacks(md, "<img");
    assert_has(md, "\\|");
    assert_csv(csv, 4);
    assert_has(csv, "\"<script>alert(1)</script> \"\"q\"\" 'a' & | `x` $(id) {\"");
    assert_has(csv, "\"\"quoted\"\"\nnext line");
    free(html);
    free(md);
    free(csv);
    free(root);
}
END_TEST

/* ---- surroundings ---- */

START_TEST(without_gnuplot_the_report_says_so) {
    char *root = pb_test_dir(), *empty = pb_test_dir();
    bool no_plots = false;
    pb_assert_ok(pb_synthetic_suite(root, "quick", 1));
    setenv("PATH", empty, 1);
    pb_assert_fails(pb_plots_available(), PB_E_ENV, "apt-get install");
    report(root, root, &no_plots);
    ck_assert(no_plots);
    char *html = read_text(root, "report.html"), *md = read_text(root, "report.md");
    assert_balanced(html);
    assert_has(html, "sudo apt-get install -y gnuplot-nox");
    assert_has(md, "gnuplot is not in PATH");
    assert_lacks(html, "<figure>");
    ck_assert(!has_file(root, "plots"));
    free(html);
    free(md);
    free(root);
    free(empty);
}
END_TEST

START_TEST(a_failing_gnuplot_is_named_and_leaves_nothing) {
    char *root = pb_test_dir(), *bin = pb_test_dir(), *fake = pb_path_join(bin, "gnuplot");
    static const char script[] = "#!/bin/sh\necho 'line 3: no such terminal' >&2\nexit 1\n";
    bool no_plots = false;
    pb_assert_ok(pb_synthetic_suite(root, "quick", 1));
    pb_assert_ok(pb_file_write_atomic(fake, script, sizeof script - 1));
    ck_assert_int_eq(chmod(fake, 0755), 0);
    setenv("PATH", bin, 1);
    report(root, root, &no_plots);
    ck_assert(no_plots);
    char *html = read_text(root, "report.html"), *plots = pb_path_join(root, "plots"),
         **names = NULL;
    size_t n = 1;
    assert_has(html, "line 3: no such terminal");
    pb_assert_ok(pb_list_dir(plots, &names, &n));
    ck_assert_uint_eq(n, 0);
    pb_names_free(names, n);
    free(plots);
    free(html);
    free(fake);
    free(bin);
    free(root);
}
END_TEST

START_TEST(comma_decimals_change_no_report) {
    char *root = pb_test_dir(), *a = pb_test_dir(), *b = pb_test_dir(), *command = NULL;
    bool no_plots;
    static const char *const files[] = {"report.html", "report.md", "summary.csv"};
    pb_assert_ok(pb_synthetic_suite(root, "quick", 2));
    report(root, a, &no_plots);
    ck_assert_int_gt(
        asprintf(&command, "localedef -i de_DE -f UTF-8 '%s/de_DE.UTF-8' >/dev/null 2>&1", root),
        0);
    int made = system(command);
    setenv("LOCPATH", root, 1);
    setenv("LC_ALL", "de_DE.UTF-8", 1);
    if (made == 0 && setlocale(LC_ALL, "de_DE.UTF-8"))
        ck_assert_str_eq(localeconv()->decimal_point, ",");
    report(root, b, &no_plots);
    setlocale(LC_ALL, "C");
    for (int i = 0; i < 3; i++) {
        char *x = read_text(a, files[i]), *y = read_text(b, files[i]);
        ck_assert_msg(strcmp(x, y) == 0, "%s differs", files[i]);
        free(x);
        free(y);
    }
    free(command);
    free(root);
    free(a);
    free(b);
}
END_TEST

START_TEST(a_damaged_record_stops_the_report) {
    char *root = pb_test_dir();
    bool no_plots;
    pb_record *records = NULL;
    int n = 0;
    pb_assert_ok(pb_synthetic_suite(root, "quick", 1));
    pb_assert_ok(pb_records_load(root, false, &records, &n));
    char *path = pb_path_join(records[0].dir, "loss-train.f64");
    ck_assert_int_eq(truncate(path, 8), 0);
    pb_assert_fails(pb_report_write(root, NULL, NULL, &no_plots), PB_E_INPUT, "loss-train.f64");
    ck_assert(!has_file(root, "report.html"));
    free(path);
    pb_records_free(records, n);
    free(root);
}
END_TEST

/* ---- plots on their own ---- */

START_TEST(plots_are_drawn_per_chapter_and_listed) {
    char *root = pb_test_dir(), *out = pb_test_dir();
    pb_record *records = NULL;
    pb_figure *figures = NULL;
    int n = 0, n_figures = 0;
    if (!gnuplot_is_here()) return;
    pb_assert_ok(pb_synthetic_suite(root, "a", 1));
    pb_assert_ok(pb_synthetic_suite(root, "b", 1));
    pb_assert_ok(pb_records_load(root, true, &records, &n));
    pb_assert_ok(pb_plots_draw(records, n, NULL, out, &figures, &n_figures));
    ck_assert_int_eq(n_figures, 14);
    for (int i = 0; i < n_figures; i++) {
        ck_assert_msg(has_file(out, figures[i].svg), "%s", figures[i].svg);
        ck_assert_msg(has_file(out, figures[i].png), "%s", figures[i].png);
        ck_assert(*figures[i].title && *figures[i].caption);
        char *svg = read_text(out, figures[i].svg);
        assert_has(svg, "</svg>");
        free(svg);
    }
    free(figures);
    pb_records_free(records, n);
    free(root);
    free(out);
}
END_TEST

START_TEST(rows_have_colours_of_their_own) {
    char *root = pb_test_dir();
    pb_record *records = NULL;
    pb_chapter *chapters = NULL;
    int n = 0, n_chapters = 0;
    pb_assert_ok(pb_synthetic_suite(root, "quick", 1));
    pb_assert_ok(pb_synthetic_failures(root, "quick"));
    pb_assert_ok(pb_records_load(root, false, &records, &n));
    pb_assert_ok(pb_chapters_make(records, n, &chapters, &n_chapters));
    for (int i = 0; i < chapters->n_rows; i++)
        for (int k = 0; k < i; k++)
            ck_assert(pb_row_colour(chapters, i) != pb_row_colour(chapters, k));
    pb_chapters_free(chapters, n_chapters);
    pb_records_free(records, n);
    free(root);
}
END_TEST

int main(void) {
    Suite *s = suite_create("reports");
    TCase *t = pb_test_case(s, "reports");
    tcase_add_test(t, report_of_every_kind_of_run_is_whole);
    tcase_add_test(t, report_is_a_function_of_the_records);
    tcase_add_test(t, report_lands_beside_the_records_by_default);
    tcase_add_test(t, nothing_to_report_is_an_error);
    tcase_add_test(t, only_failed_runs_make_a_report_too);
    tcase_add_test(t, missing_metrics_leave_dashes);
    tcase_add_test(t, completion_is_told_from_classification);
    tcase_add_test(t, chapters_are_kept_apart);
    tcase_add_test(t, tunings_and_their_edges_are_told);
    tcase_add_test(t, claims_open_the_report);
    tcase_add_test(t, latex_tables_fit_a_page);
    tcase_add_test(t, hostile_text_stays_text);
    t = pb_test_case(s, "surroundings");
    tcase_add_test(t, without_gnuplot_the_report_says_so);
    tcase_add_test(t, a_failing_gnuplot_is_named_and_leaves_nothing);
    tcase_add_test(t, comma_decimals_change_no_report);
    tcase_add_test(t, a_damaged_record_stops_the_report);
    t = pb_test_case(s, "plots");
    tcase_add_test(t, plots_are_drawn_per_chapter_and_listed);
    tcase_add_test(t, rows_have_colours_of_their_own);
    return pb_run_suite(s);
}
