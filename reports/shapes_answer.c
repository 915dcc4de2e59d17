/* Forward passes over batch x length in plain sentences: slower and faster are bound to p <= 0.05 after Holm, as in
 * answer.c. */
#include <math.h>
#include <string.h>

#include "reports/shapes.h"

/* ", from 1.05× (1.01–1.09) at 8x256 to 1.35× (0.98–1.73) at 1x256; one by one slower at 3" */
static void add_range(pb_text *t, const rp_shapes *s, const rp_shape_line *l) {
    int low = -1, high = -1, slower = 0, faster = 0;
    rp_word a, b;
    for (int k = 0; k < s->n_shapes; k++) {
        const pb_ratio *r = &l->at[k].ratio;
        if (!r->n) continue;
        if (low < 0 || r->ratio < l->at[low].ratio.ratio) low = k;
        if (high < 0 || r->ratio > l->at[high].ratio.ratio) high = k;
        slower += rp_is_apart(&l->at[k]) && r->ratio > 1;
        faster += rp_is_apart(&l->at[k]) && r->ratio < 1;
    }
    if (low < 0 || low == high) return;
    pb_text_add(t, ", from %s at %s to %s at %s", rp_shape_words(a, &l->at[low].ratio), s->shapes[low],
                rp_shape_words(b, &l->at[high].ratio), s->shapes[high]);
    if (l->all.ratio.n < 2) return;
    if (slower) pb_text_add(t, "; one by one slower at %d", slower);
    if (faster) pb_text_add(t, slower ? ", faster at %d" : "; one by one faster at %d", faster);
    if (!slower && !faster) pb_text_add(t, "; one by one told apart at none");
}

/* family: how many lines are held against the same reference. */
static void say(const rp_view *v, const rp_shapes *s, const rp_shape_line *l, const char *reference, int family,
                rp_doc *doc) {
    const pb_ratio *r = &l->all.ratio;
    pb_text t = {0};
    rp_word w;
    int shapes = 0;
    if (l->stop)
        rp_add(doc, RP_ITEM, "No verdict on the forward pass of %s, %s, beside %s: %s, %s against %s.",
               v->c->entries[l->row].name, rp_shape_forms[l->form], reference, l->stop->title, l->stop->a, l->stop->b);
    if (!r->n) return;
    for (int k = 0; k < s->n_shapes; k++) shapes += l->at[k].ratio.n > 0;
    const char *how = r->n < 2                ? "beside"
                      : !rp_is_apart(&l->all) ? "cannot be told apart from"
                      : r->ratio > 1          ? "is slower than"
                                              : "is faster than";
    pb_text_add(&t, "%s, %s, %s %s: %s its time of a forward pass over %d shape%s of batch " TIMES " length",
                v->c->entries[l->row].name, rp_shape_forms[l->form], how, reference, rp_shape_words(w, r), shapes,
                shapes == 1 ? "" : "s");
    if (r->n > 1 && !rp_is_apart(&l->all))
        pb_text_add(&t, " (%.2f" TIMES " would have shown)",
                    pb_ratio_detectable(r, PB_STAT_ALPHA / family, PB_STAT_POWER));
    add_range(&t, s, l);
    rp_add(doc, RP_ITEM, "%s.", t.data ? t.data : "");
    doc->failed = doc->failed || t.failed;
    pb_text_free(&t);
}

/* Said first: it bounds what follows. Where other measures have seeds, that was said of these already. */
static void few_processes(const rp_view *v, const rp_shapes *s, rp_doc *doc) {
    int least = s->has_base ? s->base.all.ratio.n : 0;
    for (int i = 0; i < s->n_lines; i++) {
        int n = s->lines[i].all.ratio.n;
        if (n && (!least || n < least)) least = n;
    }
    if (!least || least >= PB_FAIR_SEEDS || pb_fewest_seeds(v->c, -1, NULL)) return;
    rp_add(doc, RP_ITEM, "%d process%s of each row: fewer than five; %s. Five make a fair comparison.", least,
           least == 1 ? "" : "es", least == 1 ? "one tells nothing apart" : "only large differences can show");
}

static bool can_merge(const rp_shapes *s, int row) {
    for (int i = 0; i < s->n_lines; i++)
        if (s->lines[i].row == row && s->lines[i].form == RP_MERGED) return true;
    return false;
}

void rp_shapes_answer(const rp_view *v, rp_doc *doc) {
    rp_shapes s;
    if (!rp_shapes_make(v, &s)) {
        doc->failed = doc->failed || s.failed;
        return;
    }
    if (*s.reference) few_processes(v, &s, doc);
    if (s.has_base) say(v, &s, &s.base, s.base_name, 1, doc);
    int family = 0;
    for (int i = 0; i < s.n_lines; i++) family += s.lines[i].all.ratio.n > 0;
    for (int pass = 0; pass < 2; pass++) /* what cannot be merged first: that is what merging is for */
        for (int i = 0; i < s.n_lines; i++) {
            const rp_shape_line *l = &s.lines[i];
            bool head = pb_is_head_only(v->c->entries[l->row].row->method);
            if (!head && can_merge(&s, l->row) == (pass == 1)) say(v, &s, l, s.reference, family, doc);
        }
    rp_shapes_free(&s);
}
