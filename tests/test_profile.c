/* Where the time goes: what a tracer sees of a step, how it is added up, what reaches the record and the trace file. */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "harness/profile/mfu.h"
#include "harness/profile/profile.h"
#include "plots/plots.h"
#include "reports/report.h"
#include "results/profile_table.h"
#include "tests/lab.h"
#include "tests/support.h"

/* --- scopes --- */

START_TEST(a_scope_ends_those_inside_it) {
    pb_device *dev = NULL;
    pb_assert_ok(pb_device_open("cpu", NULL, &dev));
    ck_assert_str_eq(pb_device_scope_name(dev, PB_SCOPE_PART), "");
    pb_device_scope(dev, PB_SCOPE_PHASE, "forward");
    pb_device_scope(dev, PB_SCOPE_SITE, "layers.0.attn.q");
    pb_device_scope(dev, PB_SCOPE_PART, "low_rank");
    ck_assert_str_eq(pb_device_scope_name(dev, PB_SCOPE_PART), "low_rank");
    pb_device_scope(dev, PB_SCOPE_SITE, "layers.0.attn.k");
    ck_assert_str_eq(pb_device_scope_name(dev, PB_SCOPE_PHASE), "forward");
    ck_assert_str_eq(pb_device_scope_name(dev, PB_SCOPE_PART), "");
    pb_device_scope(dev, PB_SCOPE_PHASE, "backward");
    ck_assert_str_eq(pb_device_scope_name(dev, PB_SCOPE_SITE), "");
    pb_device_close(dev);
}
END_TEST

/* --- a traced step --- */

static pb_status traced(pb_lab *lab, int steps, pb_profile *p) {
    const pb_tracer *tracer = NULL;
    void *trace = NULL;
    char why[256];
    PB_RETURN(pb_trace_begin(lab->session.dev, p, &tracer, &trace, why));
    for (int i = 0; i < steps; i++) {
        pb_event *a = NULL, *b = NULL;
        double ns = 0.0;
        PB_RETURN(pb_event_new(lab->session.dev, &a));
        PB_RETURN(pb_event_new(lab->session.dev, &b));
        PB_RETURN(pb_event_record(a));
        PB_RETURN(pb_lab_train(lab, 1));
        PB_RETURN(pb_event_record(b));
        PB_RETURN(pb_event_elapsed(a, b, &ns));
        PB_RETURN(pb_profile_step(p, ns * 1e-9));
        pb_event_free(a);
        pb_event_free(b);
    }
    return tracer->end(trace);
}

static bool open_lab(pb_lab *lab, pb_lab_model model, const pb_method *method, const char *device) {
    char *dir = pb_test_dir();
    bool trains = false;
    pb_lab_write_model(model, dir);
    pb_lab_options o = {.model = model, .method = method, .device = device, .dropout = 0.1};
    pb_assert_ok(pb_lab_open(lab, dir, &o, &trains));
    free(dir);
    return trains;
}

static const char *name_of(const pb_profile *p, const pb_span *s, pb_by by) {
    return p->names[by].name[s->name[by]];
}

/* Every method, both families: no op of a step without its phase and part; ops at sites name one that exists. */
START_TEST(every_op_of_a_step_has_its_place) {
    const pb_method *method = pb_method_registry[_i / PB_LAB_MODELS];
    pb_lab lab;
    pb_profile p = {0};
    if (!open_lab(&lab, (pb_lab_model)(_i % PB_LAB_MODELS), method, "cpu")) return;
    pb_assert_ok(traced(&lab, 2, &p));
    ck_assert_str_eq(p.tracer, "host");
    ck_assert(p.n_spans > 20 && p.steps == 2 && (int64_t)p.records == p.n_spans && p.dropped == 0);
    int n = 0;
    const pb_site *sites = pb_model_sites(lab.session.model, &n);
    for (int64_t i = 0; i < p.n_spans; i++) {
        const pb_span *s = &p.spans[i];
        const char *site = name_of(&p, s, PB_BY_SITE), *phase = name_of(&p, s, PB_BY_PHASE);
        bool known = !*site || strcmp(site, "head") == 0;
        for (int k = 0; k < n && !known; k++) known = strcmp(sites[k].name, site) == 0;
        ck_assert_msg(known, "%s: %s at '%s'", method->name, name_of(&p, s, PB_BY_OP), site);
        ck_assert_msg(*phase, "%s: %s has no phase", method->name, name_of(&p, s, PB_BY_OP));
        if (strcmp(phase, "load") == 0) continue;
        ck_assert_msg(*name_of(&p, s, PB_BY_PART), "%s: %s at '%s' in %s has no part", method->name,
                      name_of(&p, s, PB_BY_OP), site, phase);
        ck_assert(s->ns >= 0.0 && s->start_ns >= 0.0 && s->step >= 0 && s->step < 2);
    }
    pb_profile_free(&p);
    pb_lab_close(&lab);
}
END_TEST

static bool has_part(const pb_profile *p, const char *part) {
    for (int i = 0; i < p->names[PB_BY_PART].n; i++)
        if (strcmp(p->names[PB_BY_PART].name[i], part) == 0) return true;
    return false;
}

START_TEST(methods_name_what_they_add) {
    static const struct {
        const char *method, *part;
        bool there;
    } expected[] = {
        {"lora", "low_rank", true},          {"lora", "weight_norm", false},
        {"dora", "weight_norm", true},       {"dora", "magnitude", true},
        {"adalora", "orthogonality", true},  {"adalora", "importance", true},
        {"adapter", "bottleneck", true},     {"adapter", "low_rank", false},
        {"full", "weight_gradients", true},  {"qlora", "base_product", true},
        {"dylora", "low_rank", true},        {"full", "optimizer", true},
    };
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        pb_lab lab;
        pb_profile p = {0};
        ck_assert(open_lab(&lab, PB_LAB_BERT, pb_method_find(expected[i].method), "cpu"));
        pb_assert_ok(traced(&lab, 1, &p));
        ck_assert_msg(has_part(&p, expected[i].part) == expected[i].there, "%s: %s",
                      expected[i].method, expected[i].part);
        pb_profile_free(&p);
        pb_lab_close(&lab);
    }
}
END_TEST

/* On a plan device time is predicted and exact: the spans are the step, without a gap, and their work is the device's. */
START_TEST(a_planned_step_is_the_sum_of_its_spans) {
    pb_lab lab;
    pb_profile p = {0};
    double busy = 0.0, ns = 0.0, flops = 0.0;
    ck_assert(open_lab(&lab, PB_LAB_LLAMA, pb_method_find("dora"), "plan:cpu"));
    double before = pb_device_work(lab.session.dev).flops;
    pb_assert_ok(traced(&lab, 1, &p));
    for (int64_t i = 0; i < p.n_spans; i++) {
        ns += p.spans[i].ns;
        flops += p.spans[i].work.flops;
    }
    pb_assert_ok(pb_profile_busy(&p, &busy));
    ck_assert(p.step_s[0] > 0.0 && fabs(ns * 1e-9 - p.step_s[0]) < 1e-9 * p.step_s[0]);
    ck_assert(fabs(busy - p.step_s[0]) < 1e-9 * p.step_s[0]);
    ck_assert(flops == pb_device_work(lab.session.dev).flops - before);
    pb_profile_free(&p);
    pb_lab_close(&lab);
}
END_TEST

START_TEST(tracing_changes_no_bit) {
    char hex[2][PB_SHA256_HEX];
    for (int trace = 0; trace < 2; trace++) {
        pb_lab lab;
        pb_profile p = {0};
        ck_assert(open_lab(&lab, PB_LAB_BERT, pb_method_find("adalora"), "cpu"));
        if (trace) pb_assert_ok(traced(&lab, 3, &p));
        else pb_assert_ok(pb_lab_train(&lab, 3));
        ck_assert(!pb_device_observed(lab.session.dev));
        pb_assert_ok(pb_lab_hash(&lab, true, hex[trace]));
        pb_profile_free(&p);
        pb_lab_close(&lab);
    }
    ck_assert_str_eq(hex[0], hex[1]);
}
END_TEST

/* --- adding up --- */

/* Ops of the step that is being made. */
static int64_t ops_of(const pb_profile *p) {
    int64_t n = 0;
    for (int64_t i = 0; i < p->n_spans; i++) n += p->spans[i].step == p->steps;
    return n;
}

static void add(pb_profile *p, const char *kernel, const char *part, const char *phase,
                double start_ns, double ns, double flops) {
    const char *const names[PB_BY_COUNT] = {kernel, kernel, "layers.1.attn.q", part, phase};
    pb_span s = {.start_ns = start_ns, .ns = ns, .step = p->steps, .op = ops_of(p), .work = {.flops = flops}};
    if (s.op >= p->ops_in_step) p->ops_in_step = s.op + 1;
    for (int by = 0; by < PB_BY_COUNT; by++)
        s.name[by] = pb_profile_name(p, (pb_by)by, names[by]);
    pb_assert_ok(pb_profile_span(p, &s));
}

/* Two steps of 1 us; the spans of the first overlap. */
static void make_profile(pb_profile *p) {
    strcpy(p->tracer, "host");
    strcpy(p->counters.reason, "none here");
    add(p, "put", "", "load", 0, 500, 0);
    add(p, "linear", "base_product", "forward", 1000, 400, 8);
    add(p, "lowrank", "low_rank", "forward", 1200, 400, 2);
    pb_assert_ok(pb_profile_step(p, 1e-6));
    add(p, "linear", "base_product", "forward", 3000, 300, 8);
    add(p, "adamw", "optimizer", "optimizer", 3500, 100, 0);
    pb_assert_ok(pb_profile_step(p, 1e-6));
    p->records = 5;
    p->memory = (pb_device_memory){.known = true, .used = 3 << 20, .arenas = 2 << 20, .capacity = 8 << 20};
}

START_TEST(equal_names_make_one_row) {
    pb_profile p = {0};
    pb_profile_row *rows = NULL;
    int64_t n = 0;
    double busy = 0.0;
    make_profile(&p);
    pb_assert_ok(pb_profile_rows(&p, &rows, &n));
    ck_assert_int_eq((int)n, 4);
    ck_assert_str_eq(p.names[PB_BY_OP].name[rows[1].name[PB_BY_OP]], "linear");
    ck_assert(rows[1].calls == 2 && fabs(rows[1].seconds - 7e-7) < 1e-15);
    ck_assert(rows[1].work.flops == 16 && rows[2].calls == 1);
    pb_assert_ok(pb_profile_busy(&p, &busy)); /* 600 + 300 + 100: an overlap once, loading not */
    ck_assert(fabs(busy - 1e-6) < 1e-15);
    ck_assert(fabs(pb_profile_op_seconds(&p, "linear") - 7e-7) < 1e-15);
    free(rows);
    pb_profile_free(&p);
}
END_TEST

/* --- the record --- */

/* Every op moves its number, from 1, times the counter's, from 1. */
static void give_counters(pb_profile *p) {
    p->counters = (pb_counters){.available = true, .ranges = 4, .passes = 1};
    for (int64_t i = 0; i < p->n_spans; i++)
        for (int c = 0; c < PB_COUNT_COUNT; c++)
            p->spans[i].counted[c] = (double)(p->spans[i].op + 1) * (c + 1);
}

static void describe_record(pb_record *r, const char *method, const char *label) {
    strcpy(r->suite, "s");
    strcpy(r->method, method);
    strcpy(r->label, label);
    strcpy(r->verified, "passed");
    strcpy(r->started, "2026-01-01T00:00:00Z");
    strcpy(r->ended, "2026-01-01T00:00:01Z");
    r->config = cJSON_CreateObject();
    r->model = cJSON_CreateObject();
    r->dataset = cJSON_CreateObject();
    ck_assert(pb_json_add_str(r->model, "name", "m") && pb_json_add_str(r->dataset, "name", "d"));
    ck_assert(pb_json_add_str(r->config, "label", label));
    pb_assert_ok(pb_run_id_of(r->config, r->run_id));
}

static void make_record_of(pb_record *r, const char *method, const char *label, bool counters) {
    pb_profile p = {0};
    pb_roofs roofs = {.bytes_per_s = {1e9}, .flops_per_s = {1e10}, .n = 1};
    describe_record(r, method, label);
    make_profile(&p);
    if (strcmp(method, "dora") == 0) add(&p, "dora_norm", "weight_norm", "forward", 3350, 50, 4);
    for (int64_t i = 0; i < p.n_spans; i++) p.spans[i].work.bytes = 2;
    if (counters) give_counters(&p);
    if (counters) p.memory_seen = (pb_memory_seen){.known = true, .records = 9, .peak = 7 << 20, .other = 3 << 20, .used = 9 << 20};
    else strcpy(p.memory_seen.reason, "nobody recorded");
    p.memory_seen.seen[PB_MEM_ACT] = p.memory_seen.blocks[PB_MEM_ACT] = 5 << 20;
    p.memory_seen.taken[PB_MEM_ACT] = 4 << 20;
    pb_assert_ok(pb_profile_record(&p, true, r));
    pb_assert_ok(pb_roofs_record(&roofs, r));
    pb_profile_free(&p);
}

static void make_record(pb_record *r) { make_record_of(r, "lora", "LoRA", false); }

static pb_status write_and_verify(const pb_record *r, char *message, size_t cap) {
    char *dir = pb_test_dir(), *text = NULL;
    size_t len = 0;
    int n = 0, bad = 0;
    pb_assert_ok(pb_record_write(r, dir));
    FILE *out = open_memstream(&text, &len);
    pb_status status = pb_records_verify(dir, out, &n, &bad);
    fclose(out);
    snprintf(message, cap, "%s", text);
    ck_assert_int_eq(n, 1);
    free(text);
    free(dir);
    return status;
}

START_TEST(a_profile_comes_back_from_its_record) {
    pb_record r = {0}, back = {0};
    pb_profile_table t;
    pb_profile_sum *sums = NULL;
    int n = 0;
    char *dir = pb_test_dir(), path[1200];
    make_record(&r);
    pb_assert_ok(pb_record_write(&r, dir));
    snprintf(path, sizeof path, "%s/%s/%s/record.json", dir, r.suite, r.run_id);
    pb_assert_ok(pb_record_read(path, true, &back));
    pb_assert_ok(pb_profile_table_read(&back, &t));
    ck_assert(t.n == 4 && t.steps == 2 && fabs(t.step_s - 1e-6) < 1e-15);
    ck_assert_str_eq(t.lines[2].name[PB_KEY_PART], "low_rank");
    ck_assert(!pb_profile_in_step(&t.lines[0]) && pb_profile_in_step(&t.lines[1]));
    pb_assert_ok(pb_profile_sums(&t, PB_GROUP_LAYER, &sums, &n));
    ck_assert(n == 1 && strcmp(sums[0].name, "layers.1") == 0);
    ck_assert(fabs(sums[0].seconds - 6e-7) < 1e-15 && sums[0].flops == 9);
    ck_assert(fabs(pb_record_value(&back, "profile/part/low_rank") - 2e-7) < 1e-15);
    ck_assert(fabs(pb_record_value(&back, "profile/idle_share") - 0.5) < 1e-9);
    free(sums);
    pb_profile_table_free(&t);
    pb_record_free(&r);
    pb_record_free(&back);
    free(dir);
}
END_TEST

/* With CUPTI shares are of the step as it runs without it; the host tracer's own steps are what it has. */
START_TEST(idle_is_a_share_of_the_step_without_cupti) {
    static const double again[] = {8e-7, 9e-7, 7e-7};
    pb_record r = {0};
    pb_profile p = {0};
    char message[4096];
    describe_record(&r, "lora", "LoRA");
    make_profile(&p);
    if (_i == 0) strcpy(p.tracer, "cupti");
    memcpy(p.untraced_s, again, sizeof again);
    p.untraced = 3;
    pb_assert_ok(pb_profile_record(&p, true, &r));
    double step_s = _i == 0 ? 8e-7 : 1e-6;
    ck_assert(fabs(pb_record_value(&r, "profile/busy") - 5e-7) < 1e-15);
    ck_assert(fabs(pb_record_value(&r, "profile/idle_share") - (1 - 5e-7 / step_s)) < 1e-9);
    ck_assert(fabs(pb_record_value(&r, "profile/products_share") - 5.5e-7 / step_s) < 1e-9);
    ck_assert(isnan(pb_record_value(&r, "profile/untraced")) == (_i == 1));
    pb_status status = write_and_verify(&r, message, sizeof message);
    ck_assert_msg(status == PB_OK, "%s", message);
    pb_profile_free(&p);
    pb_record_free(&r);
}
END_TEST

static pb_metric *metric(pb_record *r, const char *tag) {
    for (int i = 0; i < r->n_metrics; i++)
        if (strcmp(r->metrics[i].tag, tag) == 0) return &r->metrics[i];
    ck_abort_msg("no metric %s", tag);
    return NULL;
}

static pb_sample *sample(pb_record *r, const char *tag) {
    for (int i = 0; i < r->n_samples; i++)
        if (strcmp(r->samples[i].tag, tag) == 0) return &r->samples[i];
    ck_abort_msg("no sample %s", tag);
    return NULL;
}

/* Each way in which a profile can say something its table does not. */
START_TEST(verify_derives_a_profile_again) {
    static const struct {
        const char *what, *found;
    } faults[] = {
        {"none", ""},
        {"part", "profile/part/low_rank"},
        {"idle", "profile/idle_share"},
        {"index", "is none of the"},
        {"calls", "expected a count"},
        {"seconds", "expected a number"},
        {"missing", "metrics profile/op/*"},
    };
    pb_record r = {0};
    char message[4096];
    make_record(&r);
    if (_i == 1) metric(&r, "profile/part/low_rank")->value *= 2;
    if (_i == 2) metric(&r, "profile/idle_share")->value = 0.25;
    if (_i == 3) sample(&r, "profile/table/site")->values[1] = 9;
    if (_i == 4) sample(&r, "profile/table/calls")->values[1] = 0.5;
    if (_i == 5) sample(&r, "profile/table/seconds")->values[1] = -1;
    if (_i == 6) strcpy(metric(&r, "profile/op/adamw")->tag, "profile/op2/adamw");
    pb_status status = write_and_verify(&r, message, sizeof message);
    ck_assert_msg(status == (_i == 0 ? PB_OK : PB_E_CHECK), "%s: %s", faults[_i].what, message);
    ck_assert_msg(strstr(message, faults[_i].found) != NULL, "%s: %s", faults[_i].what, message);
    pb_record_free(&r);
}
END_TEST

/* --- counters --- */

START_TEST(counters_come_back_from_their_record) {
    pb_record r = {0}, back = {0};
    pb_profile_table t;
    pb_profile_sum *sums = NULL;
    int n = 0;
    char *dir = pb_test_dir(), path[1200], message[4096];
    make_record_of(&r, "lora", "LoRA", true);
    pb_assert_ok(pb_record_write(&r, dir));
    snprintf(path, sizeof path, "%s/%s/%s/record.json", dir, r.suite, r.run_id);
    pb_assert_ok(pb_record_read(path, true, &back));
    pb_assert_ok(pb_profile_table_read(&back, &t));
    ck_assert(t.counted && t.n == 4);
    ck_assert(t.lines[1].counted[PB_COUNT_DRAM_READ] == 2 * 2 + 1 * 2); /* linear: op 1 of step 0, op 0 of step 1 */
    pb_assert_ok(pb_profile_sums(&t, PB_GROUP_OP, &sums, &n));
    ck_assert(n == 3 && strcmp(sums[0].name, "linear") == 0); /* a step of two: half of it */
    ck_assert(sums[0].counted[PB_COUNT_L2] == 6 && sums[0].counted[PB_COUNT_CYCLES] == 10.5);
    ck_assert(pb_profile_traffic(&sums[0], true) == 3 + 4.5 && pb_profile_traffic(&sums[0], false) == 2);
    free(sums);
    pb_profile_table_free(&t);
    /* Said to be there, a column must be; and what it holds must be counts. */
    sample(&r, "profile/table/counted_l2")->values[1] = -1;
    ck_assert_int_eq(write_and_verify(&r, message, sizeof message), PB_E_CHECK);
    ck_assert_msg(strstr(message, "profile/table/counted_l2[1]: -1") != NULL, "%s", message);
    strcpy(sample(&r, "profile/table/counted_l2")->file, "profile-table-counted_l3.f64");
    strcpy(sample(&r, "profile/table/counted_l2")->tag, "profile/table/counted_l3");
    ck_assert_int_eq(write_and_verify(&r, message, sizeof message), PB_E_CHECK);
    ck_assert_msg(strstr(message, "profile/table/counted_l2 is missing") != NULL, "%s", message);
    pb_record_free(&r);
    pb_record_free(&back);
    free(dir);
}
END_TEST

START_TEST(a_device_without_counters_says_so) {
    pb_device *dev = NULL;
    const pb_counter_reader *reader = NULL;
    pb_assert_ok(pb_device_open("cpu", NULL, &dev));
    pb_assert_fails(pb_counter_reader_find(dev, &reader), PB_E_ENV, "on a GPU only, this is cpu");
    pb_device_close(dev);
}
END_TEST

/* --- the memory pass --- */

typedef struct pass_case {
    pb_status (*pass)(void *user, pb_memory_seen *out);
    const char *reason; /* NULL = it answers */
} pass_case;

static pb_status answers(void *user, pb_memory_seen *out) {
    *out = (pb_memory_seen){.known = true, .peak = 7, .seen = {[PB_MEM_ACT] = 5}};
    *(int *)user = 1; /* in its own process: nobody sees it */
    return PB_OK;
}
static pb_status refuses(void *user, pb_memory_seen *out) {
    (void)user;
    out->known = true;
    return PB_ERROR(PB_E_ENV, "no records here");
}
static pb_status crashes(void *user, pb_memory_seen *out) {
    (void)user;
    (void)out;
    signal(SIGTERM, SIG_DFL);
    raise(SIGTERM);
    return PB_OK;
}
static pb_status hangs(void *user, pb_memory_seen *out) {
    (void)user;
    (void)out;
    while (pause() != 0) {}
    return PB_OK;
}

START_TEST(a_memory_pass_ends_however_it_ends) {
    static const pass_case cases[] = {{answers, NULL},
                                      {refuses, "no records here"},
                                      {crashes, "without an answer (signal 15; 1 s were allowed)"},
                                      {hangs, "without an answer (signal 9; 1 s were allowed)"}};
    int touched = 0;
    volatile int stop = 0;
    pb_memory_seen seen;
    pb_assert_ok(pb_memory_pass(cases[_i].pass, &touched, 1, &stop, &seen));
    ck_assert_int_eq(touched, 0);
    ck_assert(seen.known == (cases[_i].reason == NULL));
    if (seen.known) ck_assert(seen.peak == 7 && seen.seen[PB_MEM_ACT] == 5);
    else ck_assert_msg(strstr(seen.reason, cases[_i].reason) != NULL, "%s", seen.reason);
    stop = 2;
    if (cases[_i].pass == hangs) pb_assert_fails(pb_memory_pass(hangs, &touched, 60, &stop, &seen), PB_E_INTERRUPTED, "signal 2");
}
END_TEST

/* --- what is told of it --- */

static bool listed(const pb_figure *list, int n, const char *name) {
    for (int i = 0; i < n; i++)
        if (strcmp(list[i].name, name) == 0) return true;
    return false;
}

START_TEST(report_and_figures_show_it) {
    pb_record r[2] = {{.n_metrics = 0}};
    char *dir = pb_test_dir(), *text = NULL, *path = pb_path_join(dir, "report.md");
    size_t len = 0;
    bool no_plots = false;
    pb_figure *figures = NULL;
    int n = 0;
    pb_report_options options = {.command = NULL};
    make_record_of(&r[0], "lora", "LoRA", _i > 0);
    make_record_of(&r[1], "dora", "DoRA", false);
    for (int i = 0; i < 2; i++) pb_assert_ok(pb_record_write(&r[i], dir));
    if (pb_plots_available() == PB_OK) {
        char *plots = pb_path_join(dir, "plots");
        pb_assert_ok(pb_plots_draw(r, 2, NULL, plots, &figures, &n));
        ck_assert(listed(figures, n, "time_by_part") && listed(figures, n, "waterfall_1"));
        ck_assert(listed(figures, n, "roofline") && !listed(figures, n, "waterfall_2"));
        for (int i = 0; i < n; i++) {
            if (strcmp(figures[i].name, "roofline") != 0) continue;
            ck_assert((strstr(figures[i].caption, "by the GPU's counters") != NULL) == (_i > 0));
            ck_assert((strstr(figures[i].caption, "of its least traffic") != NULL) == (_i == 0));
        }
        free(figures);
        free(plots);
    }
    FILE *paths = fopen("/dev/null", "w");
    pb_assert_ok(pb_report_write(dir, &options, paths, &no_plots));
    fclose(paths);
    pb_assert_ok(pb_file_read(path, 1 << 24, &text, &len));
    ck_assert(strstr(text, "Where the time of a step goes") != NULL);
    ck_assert(strstr(text, "| weight norm | – |") != NULL); /* LoRA has none */
    ck_assert(strstr(text, "3.00 MiB as the driver says, 2.00 MiB in the arenas") != NULL);
    ck_assert(strstr(text, "layers.1") != NULL && strstr(text, "No hardware counters: none here") != NULL);
    ck_assert((strstr(text, "Hardware counters were read in 1 of 2 runs") != NULL) == (_i > 0));
    ck_assert((strstr(text, "| activation | 5.00 MiB | 5.00 MiB | 4.00 MiB |") != NULL) == (_i > 0));
    ck_assert((strstr(text, "| libraries | 3.00 MiB | – | – |") != NULL) == (_i > 0));
    ck_assert((strstr(text, "Device memory was not recorded: nobody recorded.") != NULL) == (_i == 0));
    for (int i = 0; i < 2; i++) pb_record_free(&r[i]);
    free(text);
    free(path);
    free(dir);
}
END_TEST

/* --- the trace file --- */

START_TEST(the_trace_is_chrome_json) {
    pb_profile p = {0};
    pb_json *json = NULL;
    char *dir = pb_test_dir(), *path = pb_path_join(dir, "trace.json"), *text = NULL;
    size_t len = 0;
    int complete = 0, metadata = 0;
    make_profile(&p);
    add(&p, "kernel<\"a\\b\">", "optimizer", "optimizer", 4000, 10, 0);
    pb_assert_ok(pb_profile_trace_json(&p, path));
    pb_assert_ok(pb_file_read(path, 1 << 20, &text, &len));
    pb_assert_ok(pb_json_parse(path, text, len, &json));
    for (const pb_json *e = pb_json_get(json, "traceEvents")->child; e; e = e->next) {
        const char *ph = pb_json_get(e, "ph")->valuestring;
        metadata += strcmp(ph, "M") == 0;
        if (strcmp(ph, "X") != 0) continue;
        complete++;
        ck_assert(cJSON_IsNumber(pb_json_get(e, "ts")) && cJSON_IsNumber(pb_json_get(e, "dur")));
    }
    ck_assert_int_eq(metadata, 4);
    ck_assert_int_eq(complete, 6 + 3 + 5); /* spans; steps 0, 1, 2; phases load forward | forward optimizer | optimizer */
    pb_json_free(json);
    free(text);
    free(path);
    free(dir);
    pb_profile_free(&p);
}
END_TEST

/* --- roofs --- */

START_TEST(a_machine_has_roofs) {
    pb_device *dev = NULL;
    pb_roofs roofs;
    pb_assert_ok(pb_device_open("plan:cpu", NULL, &dev));
    pb_assert_ok(pb_roofs_measure(dev, PB_F32, &roofs));
    ck_assert(roofs.n == 5 && roofs.bytes_per_s[4] > 0 && roofs.flops_per_s[0] > 0);
    ck_assert(pb_device_mem_now(dev, PB_MEM_WORK) == 0);
    pb_device_close(dev);
    pb_device_options small = {.memory_budget = 1 << 20};
    pb_assert_ok(pb_device_open("plan:cpu", &small, &dev));
    pb_assert_fails(pb_roofs_measure(dev, PB_F32, &roofs), PB_E_OOM, "");
    pb_device_close(dev);
}
END_TEST

/* --- MFU --- */

START_TEST(only_known_gpus_have_a_peak) {
    ck_assert(pb_gpu_peak_flops("NVIDIA H200, driver 13.0", PB_BF16) > 9.8e14);
    ck_assert(pb_gpu_peak_flops("NVIDIA H200", PB_F32) < 1e14);
    ck_assert(pb_gpu_peak_flops("NVIDIA RTX 6000 Ada Generation, compute capability 8.9", PB_BF16) > 3.6e14);
    /* Namesakes, and a slice of a card: their rates are others. */
    static const char *const others[] = {"NVIDIA A10G", "NVIDIA GH200 480GB", "NVIDIA GeForce RTX 3060 Ti",
                                         "NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA H100 80GB HBM3 MIG 1g.10gb, 9.0"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        ck_assert_msg(pb_gpu_peak_flops(others[i], PB_BF16) == 0.0, "%s", others[i]);
    ck_assert(pb_gpu_peak_flops("AMD EPYC", PB_BF16) == 0.0 && pb_gpu_peak_flops("", PB_BF16) == 0.0);
    ck_assert(pb_gpu_peak_flops("NVIDIA H200", PB_U8) == 0.0);
}
END_TEST

/* 4 N with a frozen base, 6 N when it is trained; no peak here, so no MFU. */
START_TEST(model_flops_follow_what_is_trained) {
    double per_token[2];
    for (int full = 0; full < 2; full++) {
        pb_lab lab;
        ck_assert(open_lab(&lab, PB_LAB_LLAMA, pb_method_find(full ? "full" : "lora"), "cpu"));
        pb_mfu m = pb_mfu_of(&lab.session, 10, 1);
        ck_assert(!m.known && m.value == -1.0 && m.flops_per_token > 0);
        per_token[full] = m.flops_per_token;
        pb_lab_close(&lab);
    }
    ck_assert(per_token[1] == 1.5 * per_token[0]);
}
END_TEST

int main(void) {
    Suite *s = suite_create("profile");
    TCase *t = pb_test_case(s, "tracing");
    tcase_add_test(t, a_scope_ends_those_inside_it);
    tcase_add_loop_test(t, every_op_of_a_step_has_its_place, 0,
                        pb_method_registry_count * PB_LAB_MODELS);
    tcase_add_test(t, methods_name_what_they_add);
    tcase_add_test(t, a_planned_step_is_the_sum_of_its_spans);
    tcase_add_test(t, tracing_changes_no_bit);
    t = pb_test_case(s, "adding up");
    tcase_add_test(t, equal_names_make_one_row);
    t = pb_test_case(s, "record");
    tcase_add_test(t, a_profile_comes_back_from_its_record);
    tcase_add_loop_test(t, idle_is_a_share_of_the_step_without_cupti, 0, 2);
    tcase_add_loop_test(t, verify_derives_a_profile_again, 0, 7);
    tcase_add_test(t, counters_come_back_from_their_record);
    tcase_add_test(t, a_device_without_counters_says_so);
    tcase_add_loop_test(t, a_memory_pass_ends_however_it_ends, 0, 4);
    tcase_add_loop_test(t, report_and_figures_show_it, 0, 2);
    tcase_add_test(t, the_trace_is_chrome_json);
    tcase_add_test(t, a_machine_has_roofs);
    t = pb_test_case(s, "MFU");
    tcase_add_test(t, only_known_gpus_have_a_peak);
    tcase_add_test(t, model_flops_follow_what_is_trained);
    return pb_run_suite(s);
}
