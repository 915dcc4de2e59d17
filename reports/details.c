/* What the report says, second part: memory and time in tables, ranks, what the run was, warnings,
 * runs that failed. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "reports/model.h"
#include "reports/parity.h"

#define MAX_TAGS 24

/* ---- memory and time ---- */

/* The memory tags of the chapter in the order of the records, "total" last. */
static int memory_tags(const rp_chapter *m, const char *tags[MAX_TAGS]) {
    int n = 0;
    const char *total = NULL;
    for (int i = 0; i < m->n_rows; i++) {
        const pb_record *r = pb_row_example(m->rows[i].row);
        for (int k = 0; k < r->n_memory; k++) {
            const char *tag = r->memory[k].tag;
            int at = 0;
            if (strcmp(tag, "total") == 0) {
                total = tag;
                continue;
            }
            while (at < n && strcmp(tags[at], tag) != 0) at++;
            if (at == n && n < MAX_TAGS - 1) tags[n++] = tag;
        }
    }
    if (total) tags[n++] = total;
    return n;
}

static void memory_cell(rp_doc *doc, pb_stat predicted, pb_stat measured) {
    rp_word a, b;
    const double mib = 1048576;
    if (!measured.n && !predicted.n) {
        rp_cell_add(doc, NAN, "\xe2\x80\x93");
    } else if (!measured.n) {
        rp_cell_add(doc, NAN, "\xe2\x80\x93 / %s", rp_number(a, predicted.mean / mib));
    } else if (!predicted.n || (predicted.mean == 0 && measured.mean > 0)) {
        rp_cell_add(doc, measured.mean, "%s / \xe2\x80\x93", rp_number(a, measured.mean / mib));
    } else if (measured.mean == 0 && predicted.mean == 0) {
        rp_cell_add(doc, 0, "0");
    } else {
        double off = 100 * (predicted.mean - measured.mean) / measured.mean;
        rp_cell_add(doc, measured.mean, isfinite(off) ? "%s / %s (%+.1f %%)" : "%s / %s",
                    rp_number(a, measured.mean / mib), rp_number(b, predicted.mean / mib), off);
    }
}

static void memory_table(const rp_chapter *m, rp_doc *doc) {
    const char *tags[MAX_TAGS];
    int n = memory_tags(m, tags);
    if (!n) return;
    rp_add(doc, RP_HEADING, "Memory by purpose");
    rp_add(doc, RP_TEXT,
           "Measured peak / predicted before the run, in MiB, and how far the prediction is off. "
           "Each purpose has "
           "its own peak; the total is the peak of all together.");
    rp_add_table(doc);
    rp_column_add(doc, "Row", false, NULL);
    for (int i = 0; i < n; i++) {
        char title[64];
        size_t k = 0;
        for (; tags[i][k] && k < sizeof title - 1; k++)
            title[k] = tags[i][k] == '_' ? ' ' : tags[i][k];
        title[k] = 0;
        rp_column_add(doc, title, true, NULL);
    }
    rp_column_add(doc, "resident (process)", true, "Peak resident memory of the run's own process");
    for (int i = 0; i < m->n_rows; i++) {
        rp_word w;
        const rp_row *r = &m->rows[i];
        rp_row_add(doc, r->colour);
        rp_cell_add(doc, i, "%s", r->row->label);
        for (int k = 0; k < n; k++)
            memory_cell(doc, pb_row_memory(r->row, tags[k], true),
                        pb_row_memory(r->row, tags[k], false));
        rp_cell_add(doc, r->rss.mean, "%s", rp_number(w, r->rss.mean / 1048576));
    }
}

static void time_table(const rp_chapter *m, rp_doc *doc) {
    bool any = false;
    for (int i = 0; i < m->n_rows; i++) any = any || m->rows[i].step.n;
    if (!any) return;
    rp_add(doc, RP_HEADING, "Time of a training step by phase");
    rp_add(doc, RP_TEXT, "Medians over the steps behind the warm-up, mean over seeds.");
    rp_add_table(doc);
    rp_column_add(doc, "Row", false, NULL);
    rp_column_add(doc, "Forward (ms)", true, NULL);
    rp_column_add(doc, "Backward (ms)", true, NULL);
    rp_column_add(doc, "Optimizer (ms)", true, NULL);
    rp_column_add(doc, "Whole step (ms)", true, NULL);
    rp_column_add(doc, "All steps (s)", true, "Training only: no evaluation, loading or saving");
    rp_column_add(doc, "Tokens/s", true, NULL);
    for (int i = 0; i < m->n_rows; i++) {
        const rp_row *r = &m->rows[i];
        if (!r->step.n) continue;
        const pb_stat *columns[] = {&r->forward, &r->backward, &r->optimizer, &r->step};
        rp_word w;
        rp_row_add(doc, r->colour);
        rp_cell_add(doc, i, "%s", r->row->label);
        for (int k = 0; k < 4; k++)
            rp_cell_add(doc, columns[k]->mean, "%s", rp_spread(w, *columns[k], 1e3));
        rp_cell_add(doc, r->total.mean, "%s", rp_number(w, r->total.mean));
        rp_cell_add(doc, r->tokens.mean, "%s", rp_count(w, round(r->tokens.mean)));
    }
}

/* ---- convergence and overfitting ---- */

/* "1.25 (1.21 to 1.28)". */
static void mean_cell(pb_mean v, double scale, rp_doc *doc) {
    rp_word w, low, high;
    if (v.n > 1 && v.interval.high > v.interval.low)
        rp_cell_add(doc, v.mean, "%s (%s to %s)", rp_number(w, v.mean * scale),
                    rp_number(low, v.interval.low * scale), rp_number(high, v.interval.high * scale));
    else
        rp_cell_add(doc, v.mean, "%s", rp_number(w, v.mean * scale));
}

/* Runs that failed, diverged or ran out of memory, of those that were not interrupted. */
static void failed_cell(const pb_row *row, rp_doc *doc) {
    int failed = 0, all = 0;
    for (int i = 0; i < row->n_runs; i++) {
        all += row->runs[i]->status != PB_RUN_INTERRUPTED;
        failed += row->runs[i]->status != PB_RUN_INTERRUPTED && row->runs[i]->status != PB_RUN_OK;
    }
    pb_interval w = pb_wilson(failed, all, PB_STAT_LEVEL);
    if (!all)
        rp_cell_add(doc, NAN, "\xe2\x80\x93");
    else
        rp_cell_add(doc, (double)failed / all, "%d of %d (%.0f\xe2\x80\x93%.0f %%)", failed, all,
                    100 * w.low, 100 * w.high);
    if (failed) rp_cell_strong(doc);
}

static void stability_table(const rp_chapter *m, rp_doc *doc) {
    bool trained = m->c->n_ok < m->c->n_runs;
    for (int i = 0; i < m->n_rows; i++)
        trained = trained || m->rows[i].step.n || m->rows[i].nll.n || m->rows[i].accuracy.n;
    if (!trained) return;
    rp_add(doc, RP_HEADING, "Convergence and overfitting");
    rp_add_table(doc);
    rp_column_add(doc, "Row", false, NULL);
    rp_column_add(doc, "Failed", true,
                  "Runs that failed, diverged or ran out of memory, with Wilson's 95 % interval");
    rp_column_add(doc, "Roughness of the loss (nats)", true,
                  "Noise of the training loss around its trend, mean over seeds");
    rp_column_add(doc, "Test NLL, sd over seeds", true, NULL);
    rp_column_add(doc, "Test accuracy, sd over seeds (points)", true, NULL);
    rp_column_add(doc, "Test less training NLL (nats)", true,
                  "The gap of a run: mean and 95 % interval over seeds; the larger the more was "
                  "learnt by heart");
    rp_column_add(doc, "Upturn of validation (%)", true,
                  "How far the last validation loss lies above the least: mean and 95 % interval over seeds");
    for (int i = 0; i < m->n_rows; i++) {
        const rp_row *r = &m->rows[i];
        pb_stat rough = pb_row_stat(r->row, "loss/train/roughness");
        rp_word w;
        rp_row_add(doc, r->colour);
        rp_cell_add(doc, i, "%s", r->row->label);
        failed_cell(r->row, doc);
        rp_cell_add(doc, rough.mean, "%s", rp_number(w, rough.mean));
        rp_cell_add(doc, r->nll.sd, "%s", rp_number(w, r->nll.n > 1 ? r->nll.sd : NAN));
        rp_cell_add(doc, r->accuracy.sd, "%s",
                    rp_number(w, r->accuracy.n > 1 ? 100 * r->accuracy.sd : NAN));
        mean_cell(r->gap, 1, doc);
        mean_cell(r->upturn, 100, doc);
    }
}

/* ---- variants and ranks ---- */

static void variant_rows(const rp_row *r, rp_doc *doc) {
    const pb_record *example = pb_row_example(r->row);
    for (int i = 0; i < example->n_metrics; i++) {
        const char *tag = example->metrics[i].tag, *at = strchr(tag, '@');
        char nll[96];
        double sort = NAN;
        rp_word a, b;
        if (!at || strncmp(tag, "quality/test/accuracy@", 22) != 0) {
            if (!at || strncmp(tag, "quality/test/nll@", 17) != 0) continue;
            char accuracy[112];
            snprintf(accuracy, sizeof accuracy, "quality/test/accuracy%.80s", at);
            if (pb_record_find(example, accuracy)) continue; /* its row stands already */
        }
        snprintf(nll, sizeof nll, "quality/test/nll%.70s", at);
        const char *equals = strchr(at, '=');
        if (equals) pb_parse_f64(equals + 1, &sort);
        pb_stat accuracy = {0};
        if (strncmp(tag, "quality/test/accuracy@", 22) == 0) accuracy = pb_row_stat(r->row, tag);
        pb_stat loss = pb_row_stat(r->row, nll);
        rp_row_add(doc, r->colour);
        rp_cell_add(doc, NAN, "%s", r->row->label);
        rp_cell_add(doc, sort, "%s", at + 1);
        rp_cell_add(doc, accuracy.n ? accuracy.mean : NAN, "%s", rp_percent(a, accuracy));
        rp_cell_add(doc, loss.mean, "%s", rp_spread(b, loss, 1));
    }
}

static void variant_table(const rp_chapter *m, rp_doc *doc) {
    bool any = false;
    for (int i = 0; i < m->n_rows; i++) {
        const pb_record *r = pb_row_example(m->rows[i].row);
        for (int k = 0; k < r->n_metrics; k++)
            any = any || strncmp(r->metrics[k].tag, "quality/test/nll@", 17) == 0 ||
                  strncmp(r->metrics[k].tag, "quality/test/accuracy@", 22) == 0;
    }
    if (!any) return;
    rp_add(doc, RP_HEADING, "One training, several forms");
    rp_add(doc, RP_TEXT,
           "The same trained weights, evaluated in other forms without further training: rank = an "
           "adapter that was trained for all ranks at once, cut to this one; weights = merged: an "
           "adapter folded into a 4-bit base, which is quantised again and loses a part of it.");
    rp_add_table(doc);
    rp_column_add(doc, "Row", false, NULL);
    rp_column_add(doc, "Variant", true, NULL);
    rp_column_add(doc, "Test accuracy (%)", true, NULL);
    rp_column_add(doc, "Test NLL (nats)", true, NULL);
    for (int i = 0; i < m->n_rows; i++) variant_rows(&m->rows[i], doc);
}

typedef struct rank_sum {
    double total, min, max;
    int n;
} rank_sum;

static rank_sum sum_ranks(const pb_json *ranks) {
    rank_sum s = {0, INFINITY, 0, 0};
    for (const pb_json *e = ranks ? ranks->child : NULL; e; e = e->next) {
        if (!cJSON_IsNumber(e)) continue;
        s.total += e->valuedouble;
        s.min = fmin(s.min, e->valuedouble);
        s.max = fmax(s.max, e->valuedouble);
        s.n++;
    }
    return s;
}

static void rank_table(const rp_chapter *m, rp_doc *doc) {
    bool begun = false;
    for (int i = 0; i < m->n_rows; i++)
        for (int k = 0; k < m->rows[i].row->n_runs; k++) {
            const pb_record *r = m->rows[i].row->runs[k];
            const pb_json *ranks = pb_json_get(r->report, "ranks");
            rank_sum s = sum_ranks(ranks);
            if (!cJSON_IsObject(ranks) || !s.n) continue;
            if (!begun) {
                rp_add(doc, RP_HEADING, "Ranks after training");
                rp_add(doc, RP_TEXT,
                       "AdaLoRA moves its budget of ranks to where it helps. The figure above "
                       "shows the map; "
                       "this is its sum per run.");
                rp_add_table(doc);
                rp_column_add(doc, "Row", false, NULL);
                rp_column_add(doc, "Seed", true, NULL);
                rp_column_add(doc, "Matrices", true, NULL);
                rp_column_add(doc, "Ranks in all", true, NULL);
                rp_column_add(doc, "Mean rank", true, NULL);
                rp_column_add(doc, "Least", true, NULL);
                rp_column_add(doc, "Most", true, NULL);
                begun = true;
            }
            rp_row_add(doc, m->rows[i].colour);
            rp_cell_add(doc, i, "%s", m->rows[i].row->label);
            rp_cell_add(doc, (double)r->seed, "%llu", (unsigned long long)r->seed);
            rp_cell_add(doc, s.n, "%d", s.n);
            rp_cell_add(doc, s.total, "%.0f", s.total);
            rp_cell_add(doc, s.total / s.n, "%.2f", s.total / s.n);
            rp_cell_add(doc, s.min, "%.0f", s.min);
            rp_cell_add(doc, s.max, "%.0f", s.max);
        }
}

/* ---- what the run was ---- */

static bool is_seed(const char *path) {
    const char *dot = strrchr(path, '.');
    return strcmp(dot ? dot + 1 : path, "seed") == 0;
}

/* Settings of every row, flattened; freed by free_settings. */
typedef struct settings {
    rp_flat **flat;
    int *n, rows;
} settings;

static void free_settings(settings *s) {
    for (int i = 0; s->flat && s->n && i < s->rows; i++) rp_flat_free(s->flat[i], s->n[i]);
    free(s->flat);
    free(s->n);
    *s = (settings){0};
}

static pb_status load_settings(const rp_chapter *m, bool environment, settings *s) {
    s->rows = m->n_rows;
    s->flat = calloc((size_t)m->n_rows + 1, sizeof *s->flat);
    s->n = calloc((size_t)m->n_rows + 1, sizeof *s->n);
    if (!s->flat || !s->n) return PB_ERROR(PB_E_OOM, "no memory for settings");
    for (int i = 0; i < m->n_rows; i++) {
        const pb_record *r = pb_row_example(m->rows[i].row);
        PB_RETURN(rp_flatten(environment ? r->environment : r->config, &s->flat[i], &s->n[i]));
    }
    return PB_OK;
}

/* Does every row have this path with this value? */
static bool is_common(const settings *s, const char *path, const char *value) {
    for (int i = 0; i < s->rows; i++) {
        const char *theirs = rp_flat_find(s->flat[i], s->n[i], path);
        if (!theirs || strcmp(theirs, value) != 0) return false;
    }
    return true;
}

static void pair(rp_doc *doc, const char *key, const char *value) {
    rp_row_add(doc, 0);
    rp_cell_add(doc, NAN, "%s", key);
    rp_cell_add(doc, NAN, "%s", value);
}

static void begin_pairs(rp_doc *doc, const char *key, const char *value) {
    rp_add_table(doc);
    rp_column_add(doc, key, false, NULL);
    rp_column_add(doc, value, false, NULL);
}

/* Name, hash and figures of a part, as they stand in the record. */
static pb_status part_pairs(rp_doc *doc, const char *prefix, const pb_json *part) {
    rp_flat *flat = NULL;
    int n = 0;
    PB_RETURN(rp_flatten(part, &flat, &n));
    for (int i = 0; i < n; i++) {
        pb_text key = {0};
        pb_text_add(&key, "%s.%s", prefix, flat[i].path);
        bool varies = strcmp(flat[i].path, "params_total") == 0 ||
                      strcmp(flat[i].path, "params_trainable") == 0 ||
                      strcmp(flat[i].path, "params_adapter") == 0;
        if (key.data && !varies) pair(doc, key.data, flat[i].value);
        pb_text_free(&key);
    }
    rp_flat_free(flat, n);
    return PB_OK;
}

static pb_status differences(const rp_chapter *m, const settings *s, rp_doc *doc) {
    rp_add(doc, RP_SUBHEADING, "Settings in which the rows differ");
    begin_pairs(doc, "Row", "Settings");
    for (int i = 0; i < m->n_rows; i++) {
        pb_text t = {0};
        for (int k = 0; k < s->n[i]; k++) {
            const rp_flat *f = &s->flat[i][k];
            if (is_seed(f->path) || strcmp(f->path, "label") == 0 ||
                is_common(s, f->path, f->value))
                continue;
            pb_text_add(&t, "%s%s = %s", t.len ? "; " : "", f->path, f->value);
        }
        rp_row_add(doc, m->rows[i].colour);
        rp_cell_add(doc, i, "%s", m->rows[i].row->label);
        rp_cell_add(doc, NAN, "%s", t.data ? t.data : "none");
        doc->failed = doc->failed || t.failed;
        pb_text_free(&t);
    }
    return PB_OK;
}

static void common(const settings *s, rp_doc *doc, const char *prefix) {
    for (int k = 0; s->rows && k < s->n[0]; k++) {
        const rp_flat *f = &s->flat[0][k];
        pb_text key = {0};
        if (is_seed(f->path) || !is_common(s, f->path, f->value)) continue;
        pb_text_add(&key, "%s%s", prefix, f->path);
        if (key.data) pair(doc, key.data, f->value);
        pb_text_free(&key);
    }
}

static void run_ids(const rp_chapter *m, rp_doc *doc) {
    rp_add(doc, RP_FOLD, "Every run with its identity");
    rp_add_table(doc);
    rp_column_add(doc, "Row", false, NULL);
    rp_column_add(doc, "Seed", true, NULL);
    rp_column_add(doc, "Run", false,
                  "First 16 digits of the SHA-256 of the resolved configuration");
    rp_column_add(doc, "Status", false, NULL);
    rp_column_add(doc, "Operations verified", false,
                  "Against the unoptimised reference, on this run's shapes");
    rp_column_add(doc, "Started", false, NULL);
    rp_column_add(doc, "Ended", false, NULL);
    for (int i = 0; i < m->n_rows; i++)
        for (int k = 0; k < m->rows[i].row->n_runs; k++) {
            const pb_record *r = m->rows[i].row->runs[k];
            rp_row_add(doc, m->rows[i].colour);
            rp_cell_add(doc, i, "%s", r->label);
            rp_cell_add(doc, (double)r->seed, "%llu", (unsigned long long)r->seed);
            rp_cell_add(doc, NAN, "%s", r->run_id);
            rp_cell_add(doc, NAN, "%s", pb_run_status_name(r->status));
            rp_cell_add(doc, NAN, "%s",
                        strcmp(r->verified, "not_verified") == 0 ? "no" : r->verified);
            rp_cell_add(doc, NAN, "%s", r->started);
            rp_cell_add(doc, NAN, "%s", r->ended);
        }
    rp_add(doc, RP_FOLD_END, " ");
}

static pb_status what_it_was(const rp_chapter *m, rp_doc *doc) {
    pb_status status = PB_OK;
    settings config = {0}, environment = {0};
    const pb_record *example = pb_row_example(m->rows[m->baseline >= 0 ? m->baseline : 0].row);
    PB_TRY(load_settings(m, false, &config));
    PB_TRY(load_settings(m, true, &environment));
    rp_add(doc, RP_HEADING, "What was run");
    PB_TRY(differences(m, &config, doc));
    rp_add(doc, RP_SUBHEADING, "Model, data and machine");
    begin_pairs(doc, "What", "Value");
    PB_TRY(part_pairs(doc, "model", example->model));
    PB_TRY(part_pairs(doc, "data", example->dataset));
    common(&environment, doc, "");
    rp_add(doc, RP_FOLD, "Settings that all rows share");
    begin_pairs(doc, "Setting", "Value");
    pair(doc, "suite", m->c->suite);
    common(&config, doc, "");
    rp_add(doc, RP_FOLD_END, " ");
    run_ids(m, doc);
done:
    free_settings(&config);
    free_settings(&environment);
    return status;
}

/* ---- warnings ---- */

#define MANY_CUT 0.02 /* share of the examples from which a reader must know */

/* Each text once per row, with the number of runs that say it. */
static int row_warnings(const pb_row *row, rp_doc *doc) {
    int said = 0;
    for (int i = 0; i < row->n_runs; i++)
        for (int w = 0; w < row->runs[i]->n_warnings; w++) {
            const char *text = row->runs[i]->warnings[w];
            int runs = 0;
            bool earlier = false;
            for (int k = 0; k < row->n_runs; k++)
                for (int v = 0; v < row->runs[k]->n_warnings; v++) {
                    if (strcmp(row->runs[k]->warnings[v], text) != 0) continue;
                    earlier = earlier || k < i || (k == i && v < w);
                    runs++;
                }
            if (earlier) continue;
            rp_add(doc, RP_ITEM, "%s (%d of %d runs): %s", row->label, runs, row->n_runs, text);
            said++;
        }
    return said;
}

static pb_status automatic_warnings(const rp_chapter *m, rp_doc *doc, int *said) {
    pb_status status = PB_OK;
    settings environment = {0};
    pb_text t = {0};
    for (int i = 0; i < m->n_rows; i++) {
        pb_text_free(&t);
        PB_TRY(pb_row_drift(m->rows[i].row, &t));
        if (!t.len) continue;
        rp_add(doc, RP_ITEM,
               "%s: its runs differ in more than the seed (%s), so their mean mixes settings.",
               m->rows[i].row->label, t.data);
        ++*said;
    }
    pb_text_free(&t);
    PB_TRY(load_settings(m, true, &environment));
    for (int i = 0; i < m->n_rows; i++)
        for (int k = 0; k < environment.n[i]; k++) {
            const rp_flat *f = &environment.flat[i][k];
            if (strncmp(f->path, "argv", 4) == 0 || strcmp(f->path, "order") == 0 ||
                is_common(&environment, f->path, f->value))
                continue;
            if (t.data && strstr(t.data, f->path)) continue;
            pb_text_add(&t, "%s%s", t.len ? ", " : "", f->path);
        }
    if (t.len) {
        rp_add(doc, RP_ITEM,
               "The rows were not measured in the same environment; compare times and memory with "
               "care. They "
               "differ in: %s.",
               t.data);
        ++*said;
    }
    if (m->cut > MANY_CUT * m->examples) {
        rp_add(doc, RP_ITEM,
               "%.0f of %.0f examples (%.0f %%) were longer than the length limit and were cut; a "
               "larger max_len keeps more of them.",
               m->cut, m->examples, 100 * m->cut / m->examples);
        ++*said;
    }
    if (m->c->n_duplicates) {
        rp_add(doc, RP_ITEM, "%d run%s found in more than one folder and counted once.",
               m->c->n_duplicates, m->c->n_duplicates == 1 ? " was" : "s were");
        ++*said;
    }
done:
    pb_text_free(&t);
    free_settings(&environment);
    return status;
}

static int unverified(const rp_chapter *m) {
    int n = 0;
    for (int i = 0; i < m->n_rows; i++)
        for (int k = 0; k < m->rows[i].row->n_runs; k++) {
            const pb_record *r = m->rows[i].row->runs[k];
            n += r->status == PB_RUN_OK && strcmp(r->verified, "passed") != 0;
        }
    return n;
}

static pb_status warnings(const rp_chapter *m, rp_doc *doc) {
    int said = 0, n = unverified(m);
    rp_add(doc, RP_HEADING, "Warnings");
    for (int i = 0; i < m->n_rows; i++) said += row_warnings(m->rows[i].row, doc);
    said += rp_tuning_warnings(m, doc);
    PB_RETURN(automatic_warnings(m, doc, &said));
    if (n)
        rp_add(doc, RP_ITEM,
               "%d finished run%s without the check of operations against the reference.", n,
               n == 1 ? "" : "s");
    if (!said && !n) rp_add(doc, RP_TEXT, "None.");
    return PB_OK;
}

static void failures(const rp_chapter *m, rp_doc *doc) {
    if (m->c->n_ok == m->c->n_runs) return;
    rp_add(doc, RP_HEADING, "Runs that did not finish");
    rp_add_table(doc);
    rp_column_add(doc, "Row", false, NULL);
    rp_column_add(doc, "Seed", true, NULL);
    rp_column_add(doc, "Status", false, NULL);
    rp_column_add(doc, "Reason", false, NULL);
    rp_column_add(doc, "Run", false, NULL);
    for (int i = 0; i < m->n_rows; i++)
        for (int k = 0; k < m->rows[i].row->n_runs; k++) {
            const pb_record *r = m->rows[i].row->runs[k];
            if (r->status == PB_RUN_OK) continue;
            rp_row_add(doc, m->rows[i].colour);
            rp_cell_add(doc, i, "%s", r->label);
            rp_cell_add(doc, (double)r->seed, "%llu", (unsigned long long)r->seed);
            rp_cell_add(doc, NAN, "%s", pb_run_status_name(r->status));
            rp_cell_add(doc, NAN, "%s", r->reason);
            rp_cell_add(doc, NAN, "%s", r->run_id);
        }
}

pb_status rp_compose_details(const rp_chapter *m, rp_doc *doc) {
    rp_tuning_table(m, doc);
    rp_before_table(m, doc);
    stability_table(m, doc);
    time_table(m, doc);
    PB_RETURN(rp_compose_profile(m, doc));
    memory_table(m, doc);
    variant_table(m, doc);
    rank_table(m, doc);
    failures(m, doc);
    PB_RETURN(warnings(m, doc));
    PB_RETURN(what_it_was(m, doc));
    PB_RETURN(rp_doc_status(doc));
    return PB_OK;
}
