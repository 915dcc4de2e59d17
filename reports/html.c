/* The page: one file that opens from disk. All text is escaped; figures are inlined as SVG in the
 * page's own colours. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "reports/doc.h"
#include "reports/page.h"

#define SVG_MAX_BYTES (16u << 20)

static void add_escaped(pb_text *t, const char *s) {
    for (; *s; s++) {
        const char *e = *s == '&'    ? "&amp;"
                        : *s == '<'  ? "&lt;"
                        : *s == '>'  ? "&gt;"
                        : *s == '"'  ? "&quot;"
                        : *s == '\'' ? "&#39;"
                                     : NULL;
        if (e)
            pb_text_add_bytes(t, e, strlen(e));
        else if ((unsigned char)*s >= 0x20 || *s == '\n' || *s == '\t')
            pb_text_add_bytes(t, s, 1);
        else
            pb_text_add_bytes(t, " ", 1);
    }
}

static void element(pb_text *t, const char *open, const char *text, const char *close) {
    pb_text_add(t, "%s", open);
    add_escaped(t, text ? text : "");
    pb_text_add(t, "%s\n", close);
}

/* ---- figures ---- */

/* gnuplot's ink, grid and darkest row colour follow the page; the others are written shorter. */
static size_t add_colour(pb_text *t, const char *s) {
    int v[3] = {0}, n = 0;
    size_t i = 4; /* behind "rgb(" */
    while (s[i] && s[i] != ')' && i < 40) {
        if (s[i] >= '0' && s[i] <= '9' && n < 3)
            v[n] = v[n] * 10 + (s[i] - '0');
        else if (s[i] == ',')
            n++;
        i++;
    }
    int key = v[0] << 16 | v[1] << 8 | v[2];
    if (s[i] != ')' || n != 2)
        pb_text_add(t, "currentColor");
    else if (key == 0x33383D)
        pb_text_add(t, "var(--ink)");
    else if (key == 0xC8CCD0)
        pb_text_add(t, "var(--line)");
    else if (key == 0x404040)
        pb_text_add(t, "var(--dark-row)");
    else
        pb_text_add(t, "#%06x", (unsigned)key);
    return s[i] == ')' ? i + 1 : i;
}

static bool starts(const char *s, const char *with) {
    return strncmp(s, with, strlen(with)) == 0;
}

/* Skips from s to behind `end`. */
static const char *past(const char *s, const char *end) {
    const char *at = strstr(s, end);
    return at ? at + strlen(end) : s + strlen(s);
}

/* The inside of gnuplot's <svg>: ids made unique by `name`, titles dropped, colours adapted. */
static void add_svg_body(pb_text *t, const char *s, const char *name) {
    while (*s && !starts(s, "</svg>")) {
        if (starts(s, "<title>")) {
            s = past(s, "</title>");
        } else if (starts(s, "<desc>")) {
            s = past(s, "</desc>");
        } else if (starts(s, "rgb(")) {
            s += add_colour(t, s);
        } else if (starts(s, " id='") || starts(s, " id=\"")) {
            pb_text_add(t, " id=%c%s-", s[4], name);
            s += 5;
        } else if (starts(s, "xlink:href='#")) {
            pb_text_add(t, "href='#%s-", name);
            s += 13;
        } else if (starts(s, "url(#")) {
            pb_text_add(t, "url(#%s-", name);
            s += 5;
        } else if (starts(s, "fill=\"#ffffff\"/>") || starts(s, "fill=\"#FFFFFF\"/>")) {
            pb_text_add(t, "fill=\"none\"/>");
            s += 16;
        } else {
            pb_text_add_bytes(t, s++, 1);
        }
    }
}

/* gnuplot escapes labels; should one ever slip through, the figure is left out of the page. */
static bool is_harmless(const char *svg) {
    static const char *const bad[] = {"<script", "<foreignObject", "javascript:", "<iframe",
                                      "onload=", "onclick=",       "onerror="};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (strcasestr(svg, bad[i])) return false;
    return true;
}

static pb_status add_figure(pb_text *t, const rp_block *b, const char *dir, int number) {
    pb_status status = PB_OK;
    char *svg = NULL, name[16], *file = NULL, *path = NULL;
    size_t len = 0;
    if (asprintf(&file, "%s%s", b->path ? b->path : "", b->figure.svg) < 0) file = NULL;
    path = file ? pb_path_join(dir, file) : NULL;
    if (!path) PB_FAIL(PB_E_OOM, "no memory for a path");
    PB_TRY(pb_file_read(path, SVG_MAX_BYTES, &svg, &len));
    const char *box = strstr(svg, "viewBox=\""), *body = strstr(svg, "<svg");
    body = body ? strchr(body, '>') : NULL;
    if (!box || !body || !is_harmless(svg)) {
        element(t, "<p class=\"note\">This figure could not be put into the page: ", b->figure.svg,
                "</p>");
        goto done;
    }
    snprintf(name, sizeof name, "f%d", number);
    pb_text_add(t, "<figure>\n<svg role=\"img\" aria-label=\"");
    add_escaped(t, b->figure.title);
    pb_text_add(t, "\" viewBox=\"%.*s\" xmlns=\"http://www.w3.org/2000/svg\">",
                (int)strcspn(box + 9, "\"<>&"), box + 9);
    add_svg_body(t, body + 1, name);
    pb_text_add(t, "</svg>\n");
    element(t, "<figcaption>", b->text, "</figcaption>");
    pb_text_add(t, "</figure>\n");
done:
    free(svg);
    free(path);
    free(file);
    return status;
}

/* ---- tables ---- */

static void add_cell(pb_text *t, const rp_cell *c, bool number, unsigned colour) {
    char sort[PB_F64_CHARS];
    bool is_short = !colour && c->text && strlen(c->text) <= 22;
    pb_text_add(t, number     ? "<td class=\"n\""
                   : colour   ? "<td class=\"l\""
                   : is_short ? "<td class=\"s\""
                              : "<td");
    if (number && isfinite(c->sort)) {
        pb_format_f64(sort, c->sort);
        pb_text_add(t, " data-s=\"%s\"", sort);
    }
    pb_text_add(t, ">");
    if (colour == 0x404040)
        pb_text_add(t, "<span class=\"dot\" style=\"background:var(--dark-row)\"></span>");
    else if (colour)
        pb_text_add(t, "<span class=\"dot\" style=\"background:#%06x\"></span>", colour);
    if (c->strong) pb_text_add(t, "<strong>");
    add_escaped(t, c->text ? c->text : "");
    pb_text_add(t, c->strong ? "</strong></td>" : "</td>");
}

static void add_table(pb_text *t, const rp_table *table) {
    bool keys = table->n_columns == 2;
    pb_text_add(t, "<div class=\"wide\" tabindex=\"0\"><table class=\"%s\">\n<thead><tr>",
                keys ? "keys" : "sortable");
    for (int i = 0; i < table->n_columns; i++) {
        const rp_column *c = &table->columns[i];
        pb_text_add(t, "<th scope=\"col\"%s", c->number ? " class=\"n\"" : "");
        if (c->hint) {
            pb_text_add(t, " title=\"");
            add_escaped(t, c->hint);
            pb_text_add(t, "\"");
        }
        pb_text_add(t, keys ? ">" : "><button type=\"button\">");
        add_escaped(t, c->title ? c->title : "");
        pb_text_add(t, keys ? "</th>" : "</button></th>");
    }
    pb_text_add(t, "</tr></thead>\n<tbody>\n");
    for (int r = 0; r < table->n_rows; r++) {
        pb_text_add(t, "<tr>");
        for (int i = 0; i < table->n_columns; i++)
            add_cell(t, &table->cells[r * table->n_columns + i], table->columns[i].number,
                     i ? 0 : table->colours[r]);
        pb_text_add(t, "</tr>\n");
    }
    pb_text_add(t, "</tbody></table></div>\n");
}

/* ---- the page ---- */

/* Blocks of one kind in a row share a container. */
static void change_group(pb_text *t, rp_kind *group, rp_kind next) {
    if (*group == next) return;
    if (*group == RP_ITEM) pb_text_add(t, "</ul>\n");
    if (*group == RP_TILE || *group == RP_FIGURE) pb_text_add(t, "</div>\n");
    if (next == RP_ITEM) pb_text_add(t, "<ul>\n");
    if (next == RP_TILE) pb_text_add(t, "<div class=\"tiles\">\n");
    if (next == RP_FIGURE) pb_text_add(t, "<div class=\"figures\">\n");
    *group = next;
}

static void add_tile(pb_text *t, const rp_block *b) {
    element(t, "<div class=\"tile\"><b>", b->text, "</b>");
    element(t, "<strong>", b->value, "</strong>");
    element(t, "<span>", b->detail, "</span></div>");
}

static pb_status add_block(pb_text *t, const rp_block *b, const char *dir, int number) {
    switch (b->kind) {
    case RP_TITLE:
        element(t, "<h1>", b->text, "</h1>");
        break;
    case RP_HEADING:
        element(t, "<h2>", b->text, "</h2>");
        break;
    case RP_SUBHEADING:
        element(t, "<h3>", b->text, "</h3>");
        break;
    case RP_TEXT:
        element(t, "<p>", b->text, "</p>");
        break;
    case RP_ITEM:
        element(t, "<li>", b->text, "</li>");
        break;
    case RP_NOTE:
        element(t, "<p class=\"note\">", b->text, "</p>");
        break;
    case RP_CODE:
        element(t, "<pre>", b->text, "</pre>");
        break;
    case RP_TILE:
        add_tile(t, b);
        break;
    case RP_TABLE:
        add_table(t, &b->table);
        break;
    case RP_FIGURE:
        PB_RETURN(add_figure(t, b, dir, number));
        break;
    case RP_FOLD:
        element(t, "<details><summary>", b->text, "</summary>");
        break;
    case RP_FOLD_END:
        pb_text_add(t, "</details>\n");
        break;
    }
    return PB_OK;
}

/* Tiles come before the items of their section, wherever they were added. */
static pb_status add_section(pb_text *t, const rp_doc *doc, int from, int to, const char *dir) {
    rp_kind group = RP_TITLE;
    for (int pass = 0; pass < 2; pass++)
        for (int i = from; i < to; i++) {
            const rp_block *b = &doc->blocks[i];
            bool first = i == from || b->kind == RP_TILE;
            if ((pass == 0) != first) continue;
            change_group(t, &group, b->kind);
            PB_RETURN(add_block(t, b, dir, i));
        }
    change_group(t, &group, RP_TITLE);
    return PB_OK;
}

pb_status rp_render_html(const rp_doc *doc, const char *dir, pb_text *t) {
    pb_text_add(t, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                   "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                   "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
                   "style-src 'unsafe-inline'; "
                   "script-src 'unsafe-inline'; img-src data:\">\n");
    element(t, "<title>", doc->title, "</title>");
    pb_text_add(t, "<style>\n%s</style>\n</head>\n<body>\n<main>\n", rp_page_style);
    for (int i = 0, end; i < doc->n_blocks; i = end) {
        for (end = i + 1; end < doc->n_blocks && doc->blocks[end].kind != RP_HEADING;) end++;
        PB_RETURN(add_section(t, doc, i, end, dir));
    }
    pb_text_add(t, "</main>\n<script>\n%s</script>\n</body>\n</html>\n", rp_page_script);
    return pb_text_status(t);
}
