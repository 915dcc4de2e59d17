/* The same report in GitHub's Markdown. Texts are escaped so that no label becomes markup. */
#include <string.h>

#include "reports/doc.h"

static void add_escaped(pb_text *t, const char *s) {
    for (; s && *s; s++) {
        if (*s == '<' || *s == '>' || *s == '&') {
            pb_text_add(t, "%s", *s == '<' ? "&lt;" : *s == '>' ? "&gt;" : "&amp;");
            continue;
        }
        char c = (unsigned char)*s < 0x20 ? ' ' : *s;
        if (strchr("\\`*_[]|#~!", c)) pb_text_add_bytes(t, "\\", 1);
        pb_text_add_bytes(t, &c, 1);
    }
}

static void line(pb_text *t, const char *before, const char *text, const char *after) {
    pb_text_add(t, "%s", before);
    add_escaped(t, text);
    pb_text_add(t, "%s", after);
}

static void add_table(pb_text *t, const rp_table *table) {
    for (int i = 0; i < table->n_columns; i++) line(t, "| ", table->columns[i].title, " ");
    pb_text_add(t, "|\n");
    for (int i = 0; i < table->n_columns; i++)
        pb_text_add(t, table->columns[i].number ? "|---:" : "|---");
    pb_text_add(t, "|\n");
    for (int r = 0; r < table->n_rows; r++) {
        for (int i = 0; i < table->n_columns; i++) {
            const rp_cell *c = &table->cells[r * table->n_columns + i];
            bool strong = c->strong && c->text && *c->text;
            line(t, strong ? "| **" : "| ", c->text, strong ? "** " : " ");
        }
        pb_text_add(t, "|\n");
    }
    pb_text_add(t, "\n");
}

/* Spaces in a target are written %20. */
static void add_target(pb_text *t, const char *s) {
    for (; s && *s; s++) {
        if (*s == ' ' || *s == '(' || *s == ')')
            pb_text_add(t, "%%%02X", (unsigned)*s);
        else
            pb_text_add_bytes(t, s, 1);
    }
}

static void add_figure(pb_text *t, const rp_block *b) {
    line(t, "![", b->figure.title, "](");
    add_target(t, b->path);
    add_target(t, b->figure.png);
    line(t, ")\n\n", b->text, "\n\n");
}

/* A fence longer than any run of backticks in the code. */
static void add_code(pb_text *t, const char *code) {
    int longest = 2, run = 0;
    for (const char *p = code; *p; p++) {
        run = *p == '`' ? run + 1 : 0;
        if (run > longest) longest = run;
    }
    for (int i = 0; i <= longest; i++) pb_text_add(t, "`");
    pb_text_add(t, "\n%s\n", code);
    for (int i = 0; i <= longest; i++) pb_text_add(t, "`");
    pb_text_add(t, "\n\n");
}

pb_status rp_render_markdown(const rp_doc *doc, pb_text *t) {
    for (int i = 0; i < doc->n_blocks; i++) {
        const rp_block *b = &doc->blocks[i];
        bool last_item = i + 1 == doc->n_blocks ||
                         (doc->blocks[i + 1].kind != RP_ITEM && doc->blocks[i + 1].kind != RP_TILE);
        switch (b->kind) {
        case RP_TITLE:
            line(t, "# ", b->text, "\n\n");
            break;
        case RP_HEADING:
            line(t, "## ", b->text, "\n\n");
            break;
        case RP_SUBHEADING:
        case RP_FOLD:
            line(t, "### ", b->text, "\n\n");
            break;
        case RP_TEXT:
            line(t, "", b->text, "\n\n");
            break;
        case RP_ITEM:
            line(t, "- ", b->text, last_item ? "\n\n" : "\n");
            break;
        case RP_NOTE:
            line(t, "> ", b->text, "\n\n");
            break;
        case RP_CODE:
            add_code(t, b->text);
            break;
        case RP_TABLE:
            add_table(t, &b->table);
            break;
        case RP_FIGURE:
            add_figure(t, b);
            break;
        case RP_TILE: /* the items say the same in words */
        case RP_FOLD_END:
            break;
        }
    }
    return pb_text_status(t);
}
