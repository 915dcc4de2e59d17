/* The tables of a report for a paper: LaTeX with booktabs, one table environment each, captioned by
 * the heading above. Sentences become comments, so that the numbers keep their verdicts. */
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

static void add_table(pb_text *t, const rp_table *table, const char *caption) {
    pb_text_add(t, "\\begin{table}\n\\centering\n\\caption{");
    add_escaped(t, caption);
    pb_text_add(t, "}\n\\begin{tabular}{");
    for (int i = 0; i < table->n_columns; i++) pb_text_add(t, table->columns[i].number ? "r" : "l");
    pb_text_add(t, "}\n\\toprule\n");
    for (int i = 0; i < table->n_columns; i++) {
        pb_text_add(t, i ? " & " : "");
        add_escaped(t, table->columns[i].title);
    }
    pb_text_add(t, " \\\\\n\\midrule\n");
    for (int r = 0; r < table->n_rows; r++) {
        for (int i = 0; i < table->n_columns; i++) {
            const rp_cell *c = &table->cells[r * table->n_columns + i];
            pb_text_add(t, "%s%s", i ? " & " : "", c->strong ? "\\textbf{" : "");
            add_escaped(t, c->text);
            pb_text_add(t, "%s", c->strong ? "}" : "");
        }
        pb_text_add(t, " \\\\\n");
    }
    pb_text_add(t, "\\bottomrule\n\\end{tabular}\n\\end{table}\n\n");
}

pb_status rp_render_latex(const rp_doc *doc, pb_text *t) {
    const char *caption = "Comparison";
    pb_text_add(t, "%% needs \\usepackage{booktabs}\n");
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
