/* Private to reports/: a report as a list of blocks, composed once (content.c) and rendered per
 * format (html.c, markdown.c). Texts are plain UTF-8; escaping is the renderers' duty. */
#ifndef PB_REPORTS_DOC_H
#define PB_REPORTS_DOC_H

#include <stdbool.h>

#include "base/text.h"
#include "plots/plots.h"

#define DASH  "\xe2\x80\x93" /* en dash: of ranges, and where nothing is known */
#define TIMES "\xc3\x97"

typedef struct rp_cell {
    char *text;
    double sort; /* NaN: sorted last, by text */
    bool strong;
} rp_cell;

typedef struct rp_column {
    char *title, *hint; /* hint: what it means, shown on demand; may be NULL */
    bool number;
} rp_column;

typedef struct rp_table {
    rp_column *columns;
    rp_cell *cells;    /* rows * columns */
    unsigned *colours; /* per row; 0 = none */
    int n_columns, n_rows;
    int at; /* next cell of the row that is being filled */
} rp_table;

typedef enum rp_kind {
    RP_TITLE,
    RP_HEADING,
    RP_SUBHEADING,
    RP_TEXT,
    RP_ITEM,
    RP_TILE,
    RP_NOTE,
    RP_CODE,
    RP_TABLE,
    RP_FIGURE,
    RP_FOLD,
    RP_FOLD_END
} rp_kind;

typedef struct rp_block {
    rp_kind kind;
    char *text;           /* figure: caption; tile: its title */
    char *value, *detail; /* tile */
    rp_table table;
    pb_figure figure;
    char *path; /* figure: folder of its files relative to the report, "" or ending in '/' */
} rp_block;

typedef struct rp_doc {
    char *title;
    rp_block *blocks;
    int n_blocks, cap;
    bool failed; /* memory ran out */
} rp_doc;

/* All of them note a failed allocation in doc->failed and go on; rp_doc_status tells. */
rp_block *rp_add(rp_doc *doc, rp_kind kind, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void rp_add_tile(rp_doc *doc, const char *title, const char *value, const char *detail);
void rp_add_figure(rp_doc *doc, const pb_figure *figure, const char *path);
/* The table under construction is the last block. */
void rp_add_table(rp_doc *doc);
void rp_column_add(rp_doc *doc, const char *title, bool number, const char *hint);
void rp_row_add(rp_doc *doc, unsigned colour);
void rp_cell_add(rp_doc *doc, double sort, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void rp_cell_strong(rp_doc *doc); /* the cell added last */
pb_status rp_doc_status(const rp_doc *doc);
void rp_doc_free(rp_doc *doc);

/* Numbers as people read them; `out` has 64 bytes. NaN gives an en dash. */
typedef char rp_word[64];
/* printf with points whatever the locale. */
const char *rp_word_set(rp_word out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
const char *rp_percent(rp_word out, pb_stat s);              /* 77.5 ± 0.8 */
const char *rp_spread(rp_word out, pb_stat s, double scale); /* three digits, ± sd when known */
const char *rp_number(rp_word out, double v);                /* three significant digits */
const char *rp_ratio(rp_word out, double v);                 /* 1.23× */
const char *rp_bytes(rp_word out, double bytes);             /* 12.3 MiB */
const char *rp_count(rp_word out, double n);                 /* 1,234,567 */

/* Renderers; `dir` is where the report lies (figures are read from there). */
pb_status rp_render_html(const rp_doc *doc, const char *dir, pb_text *out);
pb_status rp_render_markdown(const rp_doc *doc, pb_text *out);
pb_status rp_render_text(const rp_doc *doc, pb_text *out);
pb_status rp_render_latex(const rp_doc *doc, pb_text *out);

#endif
