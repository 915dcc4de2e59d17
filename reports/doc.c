/* Blocks, tables and readable numbers. */
#include "reports/doc.h"

#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* vasprintf in the C locale: a report has points wherever it is made. */
static char *format(rp_doc *doc, const char *fmt, va_list args) {
    char *text = NULL;
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    locale_t old = c ? uselocale(c) : (locale_t)0;
    if (vasprintf(&text, fmt, args) < 0) {
        text = NULL;
        doc->failed = true;
    }
    if (c) {
        uselocale(old);
        freelocale(c);
    }
    return text;
}

static char *copy(rp_doc *doc, const char *s) {
    char *text = s ? strdup(s) : NULL;
    if (s && !text) doc->failed = true;
    return text;
}

static rp_block *block(rp_doc *doc, rp_kind kind) {
    static rp_block spare; /* takes what is said after memory ran out */
    if (doc->n_blocks == doc->cap) {
        int cap = doc->cap ? doc->cap * 2 : 64;
        rp_block *bigger = realloc(doc->blocks, (size_t)cap * sizeof *bigger);
        if (!bigger) {
            doc->failed = true;
            spare = (rp_block){.kind = kind};
            return &spare;
        }
        doc->blocks = bigger;
        doc->cap = cap;
    }
    rp_block *b = &doc->blocks[doc->n_blocks++];
    *b = (rp_block){.kind = kind};
    return b;
}

rp_block *rp_add(rp_doc *doc, rp_kind kind, const char *fmt, ...) {
    rp_block *b = block(doc, kind);
    va_list args;
    va_start(args, fmt);
    char *text = format(doc, fmt, args);
    va_end(args);
    if (doc->failed)
        free(text);
    else
        b->text = text;
    return b;
}

void rp_add_tile(rp_doc *doc, const char *title, const char *value, const char *detail) {
    rp_block *b = rp_add(doc, RP_TILE, "%s", title);
    if (doc->failed) return;
    b->value = copy(doc, value);
    b->detail = copy(doc, detail);
}

void rp_add_figure(rp_doc *doc, const pb_figure *figure, const char *path) {
    rp_block *b = rp_add(doc, RP_FIGURE, "%s", figure->caption);
    if (doc->failed) return;
    b->figure = *figure;
    b->path = copy(doc, path);
}

void rp_add_table(rp_doc *doc) {
    block(doc, RP_TABLE);
}

static rp_table *table(rp_doc *doc) {
    if (doc->failed || !doc->n_blocks) return NULL;
    rp_block *b = &doc->blocks[doc->n_blocks - 1];
    PB_ASSERT(b->kind == RP_TABLE);
    return &b->table;
}

void rp_column_add(rp_doc *doc, const char *title, bool number, const char *hint) {
    rp_table *t = table(doc);
    if (!t) return;
    PB_ASSERT(t->n_rows == 0);
    rp_column *bigger = realloc(t->columns, (size_t)(t->n_columns + 1) * sizeof *bigger);
    if (!bigger) {
        doc->failed = true;
        return;
    }
    t->columns = bigger;
    t->columns[t->n_columns++] = (rp_column){copy(doc, title), copy(doc, hint), number};
}

void rp_row_add(rp_doc *doc, unsigned colour) {
    rp_table *t = table(doc);
    if (!t) return;
    PB_ASSERT(t->n_rows == 0 || t->at == t->n_columns);
    size_t rows = (size_t)t->n_rows + 1, columns = (size_t)t->n_columns;
    rp_cell *cells = realloc(t->cells, rows * columns * sizeof *cells);
    if (cells) t->cells = cells;
    unsigned *colours = realloc(t->colours, rows * sizeof *colours);
    if (colours) t->colours = colours;
    if (!cells || !colours) {
        doc->failed = true;
        return;
    }
    memset(cells + (rows - 1) * columns, 0, columns * sizeof *cells);
    colours[t->n_rows++] = colour;
    t->at = 0;
}

void rp_cell_add(rp_doc *doc, double sort, const char *fmt, ...) {
    rp_table *t = table(doc);
    va_list args;
    if (!t) return;
    PB_ASSERT(t->n_rows > 0 && t->at < t->n_columns);
    va_start(args, fmt);
    t->cells[(t->n_rows - 1) * t->n_columns + t->at++] =
        (rp_cell){format(doc, fmt, args), sort, false};
    va_end(args);
}

void rp_cell_strong(rp_doc *doc) {
    rp_table *t = table(doc);
    if (t && t->at > 0) t->cells[(t->n_rows - 1) * t->n_columns + t->at - 1].strong = true;
}

pb_status rp_doc_status(const rp_doc *doc) {
    return doc->failed ? PB_ERROR(PB_E_OOM, "no memory for the report") : PB_OK;
}

void rp_doc_free(rp_doc *doc) {
    for (int i = 0; i < doc->n_blocks; i++) {
        rp_block *b = &doc->blocks[i];
        rp_table *t = &b->table;
        for (int k = 0; k < t->n_columns; k++) {
            free(t->columns[k].title);
            free(t->columns[k].hint);
        }
        for (int k = 0; k < t->n_rows * t->n_columns; k++) free(t->cells[k].text);
        free(t->columns);
        free(t->cells);
        free(t->colours);
        free(b->text);
        free(b->value);
        free(b->detail);
        free(b->path);
    }
    free(doc->blocks);
    free(doc->title);
    *doc = (rp_doc){0};
}

/* ---- numbers ---- */

#define PLUS_MINUS " \xc2\xb1 "

const char *rp_word_set(rp_word out, const char *fmt, ...) {
    char buf[256];
    va_list args;
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    locale_t old = c ? uselocale(c) : (locale_t)0;
    va_start(args, fmt);
    vsnprintf(buf, sizeof buf, fmt, args);
    va_end(args);
    if (c) {
        uselocale(old);
        freelocale(c);
    }
    pb_copy(out, sizeof(rp_word), buf);
    return out;
}

/* Digits behind the point for three significant ones. */
static int digits(double v) {
    double a = fabs(v);
    if (!(a > 0) || !isfinite(a)) return 0;
    int d = 2 - (int)floor(log10(a) + 1e-9);
    return d < 0 ? 0 : d > 6 ? 6 : d;
}

const char *rp_percent(rp_word out, pb_stat s) {
    if (!s.n) return rp_word_set(out, DASH);
    if (s.n == 1) return rp_word_set(out, "%.1f", s.mean * 100);
    return rp_word_set(out, "%.1f" PLUS_MINUS "%.1f", s.mean * 100, s.sd * 100);
}

const char *rp_spread(rp_word out, pb_stat s, double scale) {
    double mean = s.mean * scale;
    int d = digits(mean);
    if (!s.n) return rp_word_set(out, DASH);
    if (fabs(mean) >= 1e7 || (mean != 0 && fabs(mean) < 1e-5))
        return rp_word_set(out, "%.3g", mean);
    if (s.n == 1) return rp_word_set(out, "%.*f", d, mean);
    for (double sd = s.sd * scale; sd > 0 && sd < 0.5 * pow(10, -d) && d < 6;) d++;
    return rp_word_set(out, "%.*f" PLUS_MINUS "%.*f", d, mean, d, s.sd * scale);
}

const char *rp_number(rp_word out, double v) {
    if (isnan(v)) return rp_word_set(out, DASH);
    if (fabs(v) >= 1e7 || (v != 0 && fabs(v) < 1e-5)) return rp_word_set(out, "%.3g", v);
    return rp_word_set(out, "%.*f", digits(v), v);
}

const char *rp_ratio(rp_word out, double v) {
    return isfinite(v) ? rp_word_set(out, "%.2f" TIMES, v) : rp_word_set(out, DASH);
}

const char *rp_bytes(rp_word out, double bytes) {
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB"};
    int u = 0;
    if (isnan(bytes)) return rp_word_set(out, DASH);
    for (; u < 5 && fabs(bytes) >= 1024; u++) bytes /= 1024;
    return rp_word_set(out, "%.*f %s", u == 0 ? 0 : digits(bytes), bytes, units[u]);
}

const char *rp_count(rp_word out, double n) {
    char plain[40], grouped[64];
    size_t k = 0;
    if (!(fabs(n) < 1e15)) return rp_number(out, n);
    int len = snprintf(plain, sizeof plain, "%lld", (long long)n);
    for (int i = 0; i < len; i++) {
        if (i && (len - i) % 3 == 0 && plain[i - 1] != '-') grouped[k++] = ',';
        grouped[k++] = plain[i];
    }
    grouped[k] = 0;
    return rp_word_set(out, "%s", grouped);
}
