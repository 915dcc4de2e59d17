/* Words and colours of the figures: quoting for gnuplot, short labels, the palette. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "plots/figure.h"

void pb_gp_quote(pb_text *t, const char *s) {
    pb_text_add_bytes(t, "'", 1);
    for (; *s; s++) {
        char c = (unsigned char)*s < 0x20 || *s == 0x7f ? ' ' : *s;
        pb_text_add_bytes(t, &c, 1);
        if (c == '\'') pb_text_add_bytes(t, "'", 1);
    }
    pb_text_add_bytes(t, "'", 1);
}

void pb_gp_array(pb_text *t, const char *name, int n) {
    pb_text_add(t, "array %s[%d]\n", name, n);
}

void pb_gp_item(pb_text *t, const char *name, int index, const char *s) {
    pb_text_add(t, "%s[%d] = ", name, index + 1);
    pb_gp_quote(t, s);
    pb_text_add(t, "\n");
}

int pb_text_width(const char *s) {
    int n = 0;
    for (; *s; s++) n += ((unsigned char)*s & 0xC0) != 0x80;
    return n;
}

void pb_short_label(char out[128], const char *label, int max) {
    size_t n = 0;
    int chars = 0;
    bool cut = pb_text_width(label) > max;
    for (const char *p = label; *p && n < 120; p++) {
        bool first = ((unsigned char)*p & 0xC0) != 0x80;
        if (first && cut && chars == max - 1) break;
        chars += first;
        out[n++] = *p;
    }
    if (cut) memcpy(out + n, "\xe2\x80\xa6", 3);
    out[n + (cut ? 3 : 0)] = 0;
}

void pb_figure_caption(figure *f, const char *name, const char *title, const char *fmt, ...) {
    va_list args;
    pb_copy(f->out.name, sizeof f->out.name, name);
    pb_copy(f->out.title, sizeof f->out.title, title);
    va_start(args, fmt);
    vsnprintf(f->out.caption, sizeof f->out.caption, fmt, args);
    va_end(args);
}

#define KEY_CHARACTER 9.6 /* pixels */

void pb_figure_legend(figure *f, const char *const *names, const unsigned *colours,
                      const int *points, int n) {
    int widest = 1;
    for (int i = 0; i < n; i++)
        if (pb_text_width(names[i]) > widest) widest = pb_text_width(names[i]);
    int step = (int)(42 + KEY_CHARACTER * widest), columns = (f->width - 10) / step;
    if (columns > 4) columns = 4;
    if (columns < 1) columns = 1;
    int rows = n ? (n + columns - 1) / columns : 1;
    pb_text_add(&f->vars, "NKEY = %d\nKEYROWS = %d\nKEYSTEP = %d\n", n, rows, step);
    if (n == 0) return;
    pb_gp_array(&f->vars, "KEY", n);
    pb_gp_array(&f->vars, "KEYCOLOUR", n);
    pb_gp_array(&f->vars, "KEYPOINT", n);
    for (int i = 0; i < n; i++) {
        pb_gp_item(&f->vars, "KEY", i, names[i]);
        pb_text_add(&f->vars, "KEYCOLOUR[%d] = %u\nKEYPOINT[%d] = %d\n", i + 1, colours[i], i + 1,
                    points[i]);
    }
    f->height += 25 * rows + 8;
}

/* Okabe and Ito's palette (darker yellow and sky for thin lines on white), by reading order of the
 * methods. */
static const unsigned method_colours[] = {0x0072B2, 0x2FA4DC, 0x009E73, 0xE08E00,
                                          0xD55E00, 0xB8558F, 0x404040, 0x8C8C8C};
static const unsigned spare_colours[] = {0x7A4FBF, 0x8A6D1B, 0x00808A, 0xA01C3C,
                                         0x5B7F00, 0x1B3A8A, 0xC07850, 0x5C5C8A};
#define N_METHODS (int)(sizeof method_colours / sizeof method_colours[0])
#define N_SPARE (int)(sizeof spare_colours / sizeof spare_colours[0])

/* The row's number among the rows with results, which come first; the others follow. */
int pb_row_number(const pb_chapter *c, int row) {
    int n = 0;
    bool ok = c->rows[row].n_ok > 0;
    for (int i = 0; i < c->n_rows; i++) {
        bool other = c->rows[i].n_ok > 0;
        n += i < row ? other == ok || other : other && !ok;
    }
    return n;
}

/* True when the row is the first of its method, rows with results before the others. */
static bool leads(const pb_chapter *c, int row) {
    for (int i = 0; i < c->n_rows; i++)
        if (c->rows[i].order == c->rows[row].order && pb_row_number(c, i) < pb_row_number(c, row))
            return false;
    return c->rows[row].order < N_METHODS;
}

unsigned pb_row_colour(const pb_chapter *c, int row) {
    int spare = 0;
    if (leads(c, row)) return method_colours[c->rows[row].order];
    for (int i = 0; i < c->n_rows; i++)
        spare += pb_row_number(c, i) < pb_row_number(c, row) && !leads(c, i);
    return spare_colours[spare % N_SPARE];
}

unsigned pb_method_colour(const char *method) {
    int order = pb_reading_order(method);
    return order < N_METHODS ? method_colours[order] : spare_colours[0];
}
