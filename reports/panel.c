/* Folders into comparisons: which rows take part under which name, against which baseline, relative
 * to which anchor. */
#include "reports/panel.h"

#include <stdlib.h>
#include <string.h>

#include "plots/plots.h"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

/* ---- sides ---- */

static const char *last_part(const char *path, size_t *len) {
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    size_t at = n;
    while (at > 0 && path[at - 1] != '/') at--;
    *len = n - at;
    return path + at;
}

static void name_sides(cp_panels *p) {
    bool clash = false;
    for (int i = 0; i < p->n_sides; i++) {
        size_t len;
        const char *part = last_part(p->sides[i].dir, &len);
        snprintf(p->sides[i].name, sizeof p->sides[i].name, "%.*s", (int)len, part);
        for (int k = 0; k < i; k++)
            clash = clash || strcmp(p->sides[i].name, p->sides[k].name) == 0;
    }
    for (int i = 0; clash && i < p->n_sides; i++)
        pb_copy(p->sides[i].name, sizeof p->sides[i].name, p->sides[i].dir);
}

static pb_status load_side(const char *dir, cp_side *s) {
    s->dir = dir;
    PB_RETURN(pb_records_load(dir, true, &s->records, &s->n_records));
    PB_RETURN(pb_chapters_make(s->records, s->n_records, &s->chapters, &s->n_chapters));
    if (s->n_chapters == 0)
        return PB_ERROR(PB_E_INPUT, "%s holds trials of a tuning and no run to compare", dir);
    return PB_OK;
}

/* What keeps two records of two folders from being compared: model, data, and without an anchor the machine; NULL when
 * nothing does. *rank: how far down that list it stands. */
static const pb_parity_finding *stop_of(const pb_parity *p, const char *anchor, int *rank) {
    static const char *const names[] = {"model", "data", "machine"};
    for (int f = 0; f < (anchor ? 2 : 3); f++)
        for (int k = 0; k < p->n; k++) {
            *rank = f;
            if (!p->items[k].waived && strcmp(p->items[k].field, names[f]) == 0) return &p->items[k];
        }
    return NULL;
}

static pb_status refuse(const pb_parity_finding *f, int rank) {
    return PB_ERROR(PB_E_INPUT, "%s/record.json and %s/record.json differ in %s: %s against %s, and no two rows of these "
                    "folders are nearer; %s", f->on_a->dir, f->on_b->dir, f->title, f->a, f->b,
                    rank == 2 ? "across machines only ratios to a method that ran on both can be compared: name it "
                                "with --anchor"
                              : "they cannot be compared (--waive with the field's name mixes them all the same)");
}

/* Folders may hold sweeps, over training examples say: one row of each that can be compared is enough, and what keeps
 * others apart is said of each pair. Where there is none, the pair that comes nearest says why. */
static pb_status check_pair(const cp_side *a, const cp_side *b, const cp_panels *p, const char *anchor) {
    pb_status status = PB_OK;
    pb_parity now = {0};
    pb_parity_finding nearest = {0};
    int least = -1, rank = 0;
    const pb_chapter *x = a->chapters, *y = b->chapters;
    for (int i = 0; i < x->n_rows; i++)
        for (int k = 0; k < y->n_rows; k++) {
            pb_parity_free(&now);
            PB_TRY(pb_parity_records(pb_row_example(&x->rows[i]), pb_row_example(&y->rows[k]), &p->waivers.list, &now));
            const pb_parity_finding *stop = stop_of(&now, anchor, &rank);
            if (!stop) goto done;
            if (rank > least) nearest = *stop;
            least = rank > least ? rank : least;
        }
    if (least >= 0) PB_TRY(refuse(&nearest, least));
done:
    pb_parity_free(&now);
    return status;
}

static pb_status check_sides(const cp_panels *p, const char *anchor) {
    for (int i = 1; i < p->n_sides; i++) PB_RETURN(check_pair(&p->sides[0], &p->sides[i], p, anchor));
    return PB_OK;
}

/* ---- rows ---- */

/* Is `name` in the list separated by commas? NULL lists everything. */
static bool is_listed(const char *list, const char *name) {
    size_t n = strlen(name);
    if (!list) return true;
    for (const char *p = list; *p;) {
        size_t len = strcspn(p, ",");
        if (len == n && strncmp(p, name, n) == 0) return true;
        p += len + (p[len] == ',');
    }
    return false;
}

/* Every name of --rows must be that of a row somewhere: one that is misspelt would silently leave out
 * what it meant. */
static pb_status check_rows(const cp_panels *all, const char *list) {
    for (const char *p = list; p && *p;) {
        char wanted[160], full[160];
        const char *names[64];
        size_t len = strcspn(p, ","), n = 0;
        bool found = false;
        snprintf(wanted, sizeof wanted, "%.*s", (int)(len < 150 ? len : 150), p);
        for (int i = 0; i < all->n_sides && !found; i++)
            for (int k = 0; k < all->sides[i].n_chapters && !found; k++)
                for (int r = 0; r < all->sides[i].chapters[k].n_rows && !found; r++) {
                    const char *label = all->sides[i].chapters[k].rows[r].label;
                    snprintf(full, sizeof full, "%s [%s]", label, all->sides[i].name);
                    found = strcmp(label, wanted) == 0 || strcmp(full, wanted) == 0;
                    if (n < COUNT(names)) names[n++] = label;
                }
        if (!found)
            return PB_ERROR(PB_E_INPUT, "--rows: no row is called \"%s\"; the nearest is \"%s\"", wanted,
                            n ? pb_nearest(wanted, names, n) : "");
        p += len + (p[len] == ',');
    }
    return PB_OK;
}

static bool is_named(const pb_entry *e, const char *wanted) {
    return strcmp(e->name, wanted) == 0 || strcmp(e->row->label, wanted) == 0;
}

/* The row by name or label, else the first finished one of this method; -1 when none. */
static int find_row(const pb_entry *entries, int n, const char *wanted) {
    for (int i = 0; i < n; i++)
        if (is_named(&entries[i], wanted)) return i;
    for (int i = 0; i < n; i++)
        if (entries[i].row->n_ok && strcmp(entries[i].row->method, wanted) == 0) return i;
    return -1;
}

static const pb_row *find_anchor(const pb_chapter *c, const char *wanted) {
    for (int i = 0; i < c->n_rows; i++)
        if (c->rows[i].n_ok && strcmp(c->rows[i].label, wanted) == 0) return &c->rows[i];
    for (int i = 0; i < c->n_rows; i++)
        if (c->rows[i].n_ok && strcmp(c->rows[i].method, wanted) == 0) return &c->rows[i];
    return NULL;
}

static pb_status choose_baseline(cp_panel *p, const char *wanted) {
    const char *labels[64];
    size_t n = 0;
    p->baseline = wanted ? find_row(p->entries, p->n, wanted) : PB_BASELINE_AUTO;
    if (!wanted || p->baseline >= 0) return PB_OK;
    for (int i = 0; i < p->n && n < COUNT(labels); i++) labels[n++] = p->entries[i].row->label;
    return PB_ERROR(PB_E_INPUT,
                    "baseline \"%s\": no row has this label, and no finished row this method; the nearest label is "
                    "\"%s\"",
                    wanted, pb_nearest(wanted, labels, n));
}

static pb_status no_anchor(const cp_side *side, const pb_chapter *c, const char *wanted) {
    const char *labels[64];
    size_t n = 0;
    for (int i = 0; i < c->n_rows && n < COUNT(labels); i++)
        if (c->rows[i].n_ok) labels[n++] = c->rows[i].label;
    if (n == 0) return PB_ERROR(PB_E_INPUT, "%s: no finished row \"%s\" that could be the anchor", side->dir, wanted);
    return PB_ERROR(PB_E_INPUT, "%s: no finished row \"%s\" that could be the anchor; the nearest is \"%s\"",
                    side->dir, wanted, pb_nearest(wanted, labels, n));
}

static bool is_tokens(const pb_record *r) {
    const pb_json *task = pb_json_get(r->dataset, "task");
    return cJSON_IsString(task) && strcmp(task->valuestring, "classify") != 0;
}

static bool elsewhere(const cp_panels *all, const cp_side *side, const char *label) {
    for (int i = 0; i < all->n_sides; i++)
        for (int k = 0; &all->sides[i] != side && k < all->sides[i].chapters->n_rows; k++)
            if (strcmp(all->sides[i].chapters->rows[k].label, label) == 0) return true;
    return false;
}

/* Adds the rows of a chapter that take part; the anchor itself takes none. */
static pb_status add_rows(const cp_panels *all, const cp_side *side, const pb_chapter *c,
                          const pb_compare_options *o, cp_panel *p) {
    const pb_row *anchor = o->anchor ? find_anchor(c, o->anchor) : NULL;
    size_t room = (size_t)(p->n + c->n_rows + 1);
    if (o->anchor && !anchor) return no_anchor(side, c, o->anchor);
    pb_entry *entries = realloc(p->entries, room * sizeof *entries);
    if (entries) p->entries = entries;
    unsigned *colours = realloc(p->colours, room * sizeof *colours);
    if (colours) p->colours = colours;
    if (!entries || !colours) return PB_ERROR(PB_E_OOM, "%s: no memory for its rows", side->dir);
    for (int i = 0; i < c->n_rows; i++) {
        pb_entry *e = &p->entries[p->n];
        *e = (pb_entry){.row = &c->rows[i], .anchor = anchor};
        bool twice = all->n_sides > 1 && elsewhere(all, side, c->rows[i].label);
        snprintf(e->name, sizeof e->name, twice ? "%s [%s]" : "%s", c->rows[i].label, side->name);
        if (&c->rows[i] == anchor) continue;
        if (!is_listed(o->rows, e->name) && !is_listed(o->rows, c->rows[i].label)) continue;
        p->colours[p->n++] = pb_row_colour(c, i);
    }
    if (anchor) pb_copy(p->anchor, sizeof p->anchor, anchor->label);
    return PB_OK;
}

static pb_status finish(const cp_panels *all, const pb_compare_options *o, cp_panel *p) {
    if (p->n == 0)
        return PB_ERROR(PB_E_INPUT, "%s: no row takes part%s%s", p->suite,
                        o->rows ? "; --rows names " : "", o->rows ? o->rows : "");
    PB_RETURN(choose_baseline(p, o->baseline));
    PB_RETURN(pb_comparison_make(p->entries, p->n, p->baseline, &all->waivers.list, &p->comparison));
    p->baseline = p->comparison.baseline;
    return PB_OK;
}

static void head(const pb_chapter *c, cp_panel *p) {
    pb_copy(p->suite, sizeof p->suite, c->suite);
    p->model = c->model;
    p->dataset = c->dataset;
    p->tokens = is_tokens(pb_row_example(&c->rows[0]));
}

static pb_status one_folder(cp_panels *all, const pb_compare_options *o) {
    cp_side *side = &all->sides[0];
    int with_baseline = 0;
    for (int i = 0; i < side->n_chapters; i++) {
        cp_panel *p = &all->panels[all->n_panels++];
        head(&side->chapters[i], p);
        pb_status status = add_rows(all, side, &side->chapters[i], o, p);
        if (status == PB_OK) status = finish(all, o, p);
        /* A baseline or row that one suite lacks is no fault of the others. */
        bool skip = status == PB_E_INPUT && side->n_chapters > 1 && p->comparison.n == 0;
        if (!skip) PB_RETURN(status);
        with_baseline += status == PB_OK;
        if (!skip) continue;
        if (i + 1 == side->n_chapters && with_baseline == 0) return status;
        pb_error_clear();
        free(p->entries);
        free(p->colours);
        *p = (cp_panel){0};
        all->n_panels--;
    }
    return PB_OK;
}

static pb_status several_folders(cp_panels *all, const pb_compare_options *o) {
    cp_panel *p = &all->panels[all->n_panels++];
    for (int i = 0; i < all->n_sides; i++) {
        const cp_side *side = &all->sides[i];
        if (side->n_chapters != 1)
            return PB_ERROR(PB_E_INPUT,
                            "%s holds %d comparisons (suites, models, data sets); of several "
                            "folders each must hold one: name the suite's folder",
                            side->dir, side->n_chapters);
    }
    PB_RETURN(check_sides(all, o->anchor));
    head(&all->sides[0].chapters[0], p);
    for (int i = 0; i < all->n_sides; i++)
        PB_RETURN(add_rows(all, &all->sides[i], all->sides[i].chapters, o, p));
    for (int i = 1; i < all->n_sides; i++) {
        size_t at = strlen(p->suite);
        if (strcmp(p->suite, all->sides[i].chapters->suite) != 0 && at < sizeof p->suite - 80)
            snprintf(p->suite + at, sizeof p->suite - at, ", %.70s", all->sides[i].chapters->suite);
    }
    return finish(all, o, p);
}

pb_status cp_panels_make(const char *const *dirs, int n, const pb_compare_options *options,
                         cp_panels *out) {
    size_t chapters = 1;
    *out = (cp_panels){0};
    out->sides = calloc((size_t)n + 1, sizeof *out->sides);
    if (!out->sides) return PB_ERROR(PB_E_OOM, "no memory for %d folders", n);
    for (int i = 0; i < n; i++) {
        out->n_sides++;
        PB_RETURN(load_side(dirs[i], &out->sides[i]));
        chapters += (size_t)out->sides[i].n_chapters;
        for (int k = 0; k < i; k++)
            if (strcmp(dirs[i], dirs[k]) == 0)
                return PB_ERROR(PB_E_INPUT, "%s is given twice", dirs[i]);
    }
    name_sides(out);
    PB_RETURN(check_rows(out, options->rows));
    out->panels = calloc(chapters, sizeof *out->panels);
    if (!out->panels) return PB_ERROR(PB_E_OOM, "no memory for %zu comparisons", chapters);
    PB_RETURN(pb_waivers_parse(options->waive, out->sides[0].records, out->sides[0].n_records,
                               &out->waivers));
    if (n == 1) return one_folder(out, options);
    return several_folders(out, options);
}

void cp_panels_free(cp_panels *p) {
    for (int i = 0; p->panels && i < p->n_panels; i++) {
        pb_comparison_free(&p->panels[i].comparison);
        free(p->panels[i].entries);
        free(p->panels[i].colours);
    }
    for (int i = 0; p->sides && i < p->n_sides; i++) {
        pb_chapters_free(p->sides[i].chapters, p->sides[i].n_chapters);
        pb_records_free(p->sides[i].records, p->sides[i].n_records);
    }
    free(p->panels);
    free(p->sides);
    pb_waivers_free(&p->waivers);
    *p = (cp_panels){0};
}

rp_view cp_view_of(const cp_panels *all, const cp_panel *p) {
    return (rp_view){.c = &p->comparison,
                     .colours = p->colours,
                     .waivers = &all->waivers.list,
                     .tokens = p->tokens,
                     .anchored = p->anchor[0] != 0,
                     .anchor = p->anchor};
}
