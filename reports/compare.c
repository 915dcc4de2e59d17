/* peftbench compare: panels into a document, a document into a format, gates. */
#include "reports/compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "reports/panel.h"

/* ---- gates ---- */

typedef struct gate {
    pb_verdict_kind kind;
    int measure;
    double amount; /* in shown units: points, nats, per cent */
} gate;

static pb_status parse_gate(const char *text, gate *g) {
    static const char *const kinds[] = {"worse", "better"};
    const char *measures[PB_MEASURES];
    char parts[3][64] = {"", "", ""}, whole[128];
    int n = 0;
    pb_copy(whole, sizeof whole, text);
    for (int i = 0; i < PB_MEASURES; i++) measures[i] = pb_measures[i].name;
    for (const char *p = whole; n < 3; n++) {
        size_t len = strcspn(p, ":");
        snprintf(parts[n], sizeof parts[n], "%.*s", (int)(len < 60 ? len : 60), p);
        if (!p[len]) break;
        p += len + 1;
    }
    int kind = -1, measure = -1;
    for (int i = 0; i < 2; i++)
        if (strcmp(parts[0], kinds[i]) == 0) kind = i;
    for (int i = 0; i < PB_MEASURES; i++)
        if (strcmp(parts[1], measures[i]) == 0) measure = i;
    *g = (gate){kind == 1 ? PB_BETTER : PB_WORSE, measure, 0};
    if (kind < 0 || measure < 0) {
        pb_text all = {0};
        for (int i = 0; i < PB_MEASURES; i++) pb_text_add(&all, "%s%s", i ? "|" : "", measures[i]);
        pb_status status = PB_ERROR(PB_E_INPUT,
                                    "--fail-on %s: expected worse|better:%s[:AMOUNT]; the nearest to \"%s\" is "
                                    "\"%s\"",
                                    whole, all.data ? all.data : "", kind < 0 ? parts[0] : parts[1],
                                    kind < 0 ? pb_nearest(parts[0], kinds, 2)
                                             : pb_nearest(parts[1], measures, PB_MEASURES));
        pb_text_free(&all);
        return status;
    }
    if (n >= 3 || (n == 2 && (!pb_parse_f64(parts[2], &g->amount) || !(g->amount >= 0))))
        return PB_ERROR(PB_E_INPUT,
                        "--fail-on %s: the amount is a number from 0 in nats, points or per cent",
                        whole);
    return PB_OK;
}

static double amount_of(const pb_verdict *v, const pb_measure *m) {
    return m->ratio ? 100 * fabs(v->estimate - 1) : fabs(v->estimate) * m->scale;
}

/* True when the pair was judged, whatever the verdict. */
static bool check_row(const gate *g, const cp_panel *p, int i, pb_text *why) {
    const pb_measure *m = &pb_measures[g->measure];
    int against = p->comparison.against[i];
    const pb_verdict *v = pb_verdict_of(&p->comparison, g->measure, i, against);
    const char *name = p->entries[i].name, *base = p->entries[against].name;
    if (v->kind == PB_INCOMPARABLE)
        pb_text_add(why, "%s%s against %s in %s: no verdict (%s)", why->len ? "; " : "", name, base,
                    m->title, v->why);
    else if (v->kind == g->kind && amount_of(v, m) >= g->amount)
        pb_text_add(why, "%s%s is %s than %s in %s by %.3g %s", why->len ? "; " : "", name,
                    pb_verdict_name(v->kind), base, m->title, amount_of(v, m),
                    m->ratio ? "%" : m->unit);
    return v->kind != PB_INCOMPARABLE;
}

/* A gate that nothing went through has not been passed. */
static void check_gate(const gate *g, const cp_panels *all, pb_text *why) {
    int judged = 0;
    size_t before = why->len;
    for (int k = 0; k < all->n_panels; k++) {
        const cp_panel *p = &all->panels[k];
        if (p->baseline < 0)
            pb_text_add(why, "%s%s: no run finished", why->len ? "; " : "", p->suite);
        for (int i = 0; i < p->n && p->baseline >= 0; i++)
            if (!pb_is_baseline(&p->comparison, i) && !pb_is_head_only(p->entries[i].row->method))
                judged += check_row(g, p, i, why);
    }
    if (!judged && why->len == before)
        pb_text_add(why, "%sno row was judged against a baseline in %s", why->len ? "; " : "",
                    pb_measures[g->measure].title);
}

pb_status cp_gates_check(const char *fail_on, const cp_panels *all, pb_text *why) {
    for (const char *p = fail_on; p;) {
        char one[128];
        gate g;
        size_t len = strcspn(p, ",");
        if (!len)
            return PB_ERROR(PB_E_INPUT, "--fail-on '%s': a gate is empty; expected one such as worse:accuracy:1.0",
                            fail_on);
        snprintf(one, sizeof one, "%.*s", (int)(len < 120 ? len : 120), p);
        PB_RETURN(parse_gate(one, &g));
        if (all) check_gate(&g, all, why);
        p = p[len] ? p + len + 1 : NULL;
    }
    return pb_text_status(why);
}

/* ---- output ---- */

static void compose(const cp_panels *all, rp_doc *doc) {
    for (int i = 0; i < all->n_panels; i++) {
        const cp_panel *p = &all->panels[i];
        rp_view view = cp_view_of(all, p);
        rp_add(doc, RP_TITLE, "%s: %s on %s", p->suite, *p->model ? p->model : "unknown model",
               *p->dataset ? p->dataset : "unknown data");
        rp_answer(&view, doc);
        rp_comparison_table(&view, doc);
        rp_shapes_table(&view, doc);
        rp_verdict_tables(&view, doc);
        rp_add(doc, RP_HEADING, "How it was done");
        rp_how(&view, doc);
    }
}

static pb_status render(const cp_panels *all, pb_compare_format format, const char *tripped,
                        pb_text *text) {
    pb_status status = PB_OK;
    rp_doc doc = {0};
    if (format == PB_COMPARE_JSON) return cp_render_json(all, tripped, text);
    compose(all, &doc);
    PB_TRY(rp_doc_status(&doc));
    if (format == PB_COMPARE_MARKDOWN)
        PB_TRY(rp_render_markdown(&doc, text));
    else if (format == PB_COMPARE_LATEX)
        PB_TRY(rp_render_latex(&doc, text));
    else
        PB_TRY(rp_render_text(&doc, text));
done:
    rp_doc_free(&doc);
    return status;
}

pb_status pb_compare(const char *const *dirs, int n, const pb_compare_options *options, FILE *out) {
    pb_status status = PB_OK;
    pb_compare_options o = options ? *options : (pb_compare_options){0};
    cp_panels all = {0};
    pb_text text = {0}, why = {0};
    PB_TRY(cp_gates_check(o.fail_on, NULL, &why)); /* bad gates before long work */
    PB_TRY(cp_panels_make(dirs, n, &o, &all));
    PB_TRY(cp_gates_check(o.fail_on, &all, &why));
    PB_TRY(render(&all, o.format, why.data, &text));
    if (fwrite(text.data, 1, text.len, out) != text.len || fflush(out) != 0)
        PB_FAIL(PB_E_IO, "the comparison could not be written");
    if (why.len) PB_FAIL(PB_E_CHECK, "--fail-on %s: %s", o.fail_on, why.data);
done:
    cp_panels_free(&all);
    pb_text_free(&text);
    pb_text_free(&why);
    return status;
}
