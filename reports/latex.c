/* The tables of a report for a paper: LaTeX with booktabs, each captioned by the heading above, cut
 * into parts that fit the page. Sentences become comments, so that the numbers keep their verdicts. */
#include <string.h>

#include "reports/doc.h"

/* Everything that is special to LaTeX, and the few characters beyond ASCII that our numbers use;
 * others stay UTF-8, which LaTeX has read by default since 2018. */
static const struct {
    const char *from, *to;
} escapes[] = {{"\\", "\\textbackslash{}"},
               {"&", "\\&"},
               {"%", "\\%"},
               {"$", "\\$"},
               {"#", "\\#"},
               {"_", "\\_"},
               {"{", "\\{"},
               {"}", "\\}"},
               {"~", "\\textasciitilde{}"},
               {"^", "\\textasciicircum{}"},
               {"<", "\\textless{}"},
               {">", "\\textgreater{}"},
               {"\xc2\xb1", "$\\pm$"},
               {"\xc3\x97", "$\\times$"},
               {"\xe2\x80\x93", "--"},
               {"\xe2\x88\x92", "$-$"}};

static void add_escaped(pb_text *t, const char *s) {
    while (s && *s) {
        const char *to = NULL;
        size_t n = 1;
        for (size_t i = 0; i < sizeof escapes / sizeof escapes[0] && !to; i++) {
            size_t len = strlen(escapes[i].from);
            if (strncmp(s, escapes[i].from, len) != 0) continue;
            to = escapes[i].to;
            n = len;
        }
        if (to)
            pb_text_add(t, "%s", to);
        else
            pb_text_add_bytes(t, (unsigned char)*s < 0x20 ? " " : s, 1);
        s += n;
    }
}

/* One line of a comment: no line break may end it early. */
static void comment(pb_text *t, const char *s) {
    pb_text_add(t, "%% ");
    for (; s && *s; s++) pb_text_add_bytes(t, (unsigned char)*s < 0x20 ? " " : s, 1);
    pb_text_add(t, "\n");
}

/* ---- fitting a page: \footnotesize on a text width of 345 pt, about 4 pt a character ---- */

enum { PAGE_WIDTH = 78, GAP = 3, TEXT_WIDTH = 28, PAGE_ROWS = 45 };

/* Characters, not bytes. */
static int length_of(const char *s) {
    int n = 0;
    for (; s && *s; s++) n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

/* The widest cell; a heading is broken at its spaces and counts by its longest word. */
static int width_of(const rp_table *table, int column) {
    int widest = 0, word = 0;
    for (const char *s = table->columns[column].title; *s; s++) {
        word = *s == ' ' ? 0 : word + (((unsigned char)*s & 0xc0) != 0x80);
        if (word > widest) widest = word;
    }
    for (int r = 0; r < table->n_rows; r++) {
        int n = length_of(table->cells[r * table->n_columns + column].text);
        if (n > widest) widest = n;
    }
    return widest < TEXT_WIDTH ? widest : TEXT_WIDTH;
}

static void add_heading(pb_text *t, const rp_table *table, int column) {
    int width = width_of(table, column), used = 0;
    char word[64];
    pb_text_add(t, "\\shortstack[%c]{", table->columns[column].number ? 'r' : 'l');
    for (const char *s = table->columns[column].title; *s;) {
        size_t n = strcspn(s, " ");
        if (n >= sizeof word) n = sizeof word - 1;
        memcpy(word, s, n);
        word[n] = 0;
        if (used > 0) pb_text_add(t, used + 1 + length_of(word) > width ? "\\\\" : " ");
        used = used > 0 && used + 1 + length_of(word) <= width ? used + 1 + length_of(word)
                                                               : length_of(word);
        add_escaped(t, word);
        s += n + (s[n] == ' ');
    }
    pb_text_add(t, "}");
}

static void add_cell(pb_text *t, const rp_cell *c) {
    pb_text_add(t, c->strong ? "\\textbf{" : "");
    add_escaped(t, c->text);
    pb_text_add(t, c->strong ? "}" : "");
}

/* The first column and those from `from` to before `to`. What is longer than a page breaks there. */
static void add_part(pb_text *t, const rp_table *table, const char *caption, int from, int to) {
    bool breaks = table->n_rows > PAGE_ROWS;
    const char *form = breaks ? "longtable" : "tabular";
    pb_text_add(t, breaks ? "{\\footnotesize\n" : "\\begin{table}\n\\centering\n\\caption{");
    if (!breaks) add_escaped(t, caption);
    pb_text_add(t, "%s\\begin{%s}{", breaks ? "" : "}\n\\footnotesize\n", form);
    for (int i = 0; i < to; i = i ? i + 1 : from) {
        if (width_of(table, i) == TEXT_WIDTH)
            pb_text_add(t, ">{\\raggedright\\arraybackslash}p{%.2f\\textwidth}",
                        (double)TEXT_WIDTH / (PAGE_WIDTH + GAP));
        else
            pb_text_add(t, table->columns[i].number ? "r" : "l");
    }
    pb_text_add(t, "}\n");
    if (breaks) {
        pb_text_add(t, "\\caption{");
        add_escaped(t, caption);
        pb_text_add(t, "} \\\\\n");
    }
    pb_text_add(t, "\\toprule\n");
    for (int i = 0; i < to; i = i ? i + 1 : from) {
        pb_text_add(t, i ? " & " : "");
        add_heading(t, table, i);
    }
    pb_text_add(t, " \\\\\n\\midrule\n%s", breaks ? "\\endhead\n" : "");
    for (int r = 0; r < table->n_rows; r++) {
        for (int i = 0; i < to; i = i ? i + 1 : from) {
            pb_text_add(t, i ? " & " : "");
            add_cell(t, &table->cells[r * table->n_columns + i]);
        }
        pb_text_add(t, " \\\\\n");
    }
    pb_text_add(t, "\\bottomrule\n\\end{%s}\n%s\n", form, breaks ? "}\n" : "\\end{table}\n");
}

/* What is wider than a page comes in parts, the first column before each. */
static void add_table(pb_text *t, const rp_table *table, const char *caption) {
    int from = table->n_columns > 1 ? 1 : 0;
    do {
        int to = from, used = width_of(table, 0);
        while (to < table->n_columns && (to == from || used + GAP + width_of(table, to) <= PAGE_WIDTH))
            used += GAP + width_of(table, to++);
        add_part(t, table, caption, from, to);
        from = to;
    } while (from < table->n_columns);
}

pb_status rp_render_latex(const rp_doc *doc, pb_text *t) {
    const char *caption = "Comparison";
    pb_text_add(t, "%% needs \\usepackage{array,booktabs,longtable}\n");
    for (int i = 0; i < doc->n_blocks; i++) {
        const rp_block *b = &doc->blocks[i];
        switch (b->kind) {
        case RP_TITLE:
        case RP_HEADING:
        case RP_SUBHEADING:
        case RP_FOLD:
            caption = b->text;
            comment(t, b->text);
            break;
        case RP_TEXT:
        case RP_NOTE:
        case RP_ITEM:
        case RP_CODE:
            comment(t, b->text);
            break;
        case RP_TABLE:
            add_table(t, &b->table, caption);
            break;
        case RP_FIGURE:
        case RP_TILE:
        case RP_FOLD_END:
            break;
        }
    }
    return pb_text_status(t);
}
