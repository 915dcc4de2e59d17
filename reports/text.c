/* A report for a terminal: paragraphs in 100 columns, tables aligned; figures are only named. */
#include <stdlib.h>
#include <string.h>

#include "reports/doc.h"

#define WIDTH 100

/* Characters, not bytes: what a terminal needs. */
static int columns(const char *s) {
    int n = 0;
    for (; s && *s; s++) n += (*s & 0xC0) != 0x80;
    return n;
}

/* Words of `s` filled to WIDTH behind `first`, further lines behind as many spaces. */
static void fill(pb_text *t, const char *first, const char *s) {
    int at = columns(first), indent = at;
    bool begun = false;
    pb_text_add(t, "%s", first);
    while (s && *s) {
        size_t n = strcspn(s, " \n");
        char word[512];
        snprintf(word, sizeof word, "%.*s", (int)(n < 500 ? n : 500), s);
        int wide = columns(word);
        if (begun && at + 1 + wide > WIDTH) {
            pb_text_add(t, "\n%*s", indent, "");
            at = indent;
        } else if (begun) {
            pb_text_add(t, " ");
            at++;
        }
        pb_text_add(t, "%s", word);
        at += wide;
        begun = true;
        s += n;
        while (*s == ' ' || *s == '\n') s++;
    }
    pb_text_add(t, "\n");
}

static void pad(pb_text *t, int n) {
    for (; n > 0; n--) pb_text_add(t, " ");
}

static void add_cell(pb_text *t, const char *s, int width, bool right, bool last) {
    int rest = width - columns(s);
    if (right) pad(t, rest);
    for (; s && *s; s++) pb_text_add_bytes(t, (unsigned char)*s < 0x20 ? " " : s, 1);
    if (!right && !last) pad(t, rest);
    if (!last) pb_text_add(t, "  ");
}

static void add_table(pb_text *t, const rp_table *table) {
    int *widths = calloc((size_t)table->n_columns + 1, sizeof *widths);
    if (!widths) {
        t->failed = true;
        return;
    }
    for (int i = 0; i < table->n_columns; i++) {
        widths[i] = columns(table->columns[i].title);
        for (int r = 0; r < table->n_rows; r++) {
            int w = columns(table->cells[r * table->n_columns + i].text);
            if (w > widths[i]) widths[i] = w;
        }
    }
    for (int r = -1; r < table->n_rows; r++) {
        for (int i = 0; i < table->n_columns; i++)
            add_cell(t,
                     r < 0 ? table->columns[i].title : table->cells[r * table->n_columns + i].text,
                     widths[i], table->columns[i].number, i + 1 == table->n_columns);
        pb_text_add(t, "\n");
    }
    pb_text_add(t, "\n");
    free(widths);
}

pb_status rp_render_text(const rp_doc *doc, pb_text *t) {
    for (int i = 0; i < doc->n_blocks; i++) {
        const rp_block *b = &doc->blocks[i];
        bool last_item = i + 1 == doc->n_blocks ||
                         (doc->blocks[i + 1].kind != RP_ITEM && doc->blocks[i + 1].kind != RP_TILE);
        switch (b->kind) {
        case RP_TITLE:
        case RP_HEADING:
        case RP_SUBHEADING:
        case RP_FOLD:
            fill(t, "", b->text);
            pb_text_add(t, "\n");
            break;
        case RP_TEXT:
        case RP_NOTE:
        case RP_CODE:
            fill(t, "", b->text);
            pb_text_add(t, "\n");
            break;
        case RP_ITEM:
            fill(t, "  - ", b->text);
            if (last_item) pb_text_add(t, "\n");
            break;
        case RP_TABLE:
            add_table(t, &b->table);
            break;
        case RP_FIGURE: /* a terminal shows none; items say what tiles say */
        case RP_TILE:
        case RP_FOLD_END:
            break;
        }
    }
    return pb_text_status(t);
}
