/* A comparison for programs: every number of the tables, in the units of the records. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "reports/panel.h"

static bool add_row(const cp_panel *p, int i, pb_json *rows) {
    const pb_comparison *c = &p->comparison;
    const pb_row *row = p->entries[i].row;
    pb_json *o = pb_json_add_object(rows, NULL);
    bool ok =
        pb_json_add_str(o, "name", p->entries[i].name) && pb_json_add_str(o, "label", row->label) &&
        pb_json_add_str(o, "method", row->method) && pb_json_add_i64(o, "runs", row->n_runs) &&
        pb_json_add_i64(o, "finished", row->n_ok) &&
        pb_json_add_str(o, "against", c->against[i] >= 0 ? p->entries[c->against[i]].name : NULL) &&
        pb_json_add_str(o, "front_of", c->front_class[i] >= 0 ? p->entries[c->front_class[i]].name : NULL) &&
        pb_json_add_f64(o, "front_time", c->front[0][i]) &&
        pb_json_add_f64(o, "front_memory", c->front[1][i]);
    pb_json *all = ok ? pb_json_add_object(o, "measures") : NULL;
    ok = all != NULL;
    for (int m = 0; ok && m < PB_MEASURES; m++) {
        if (!pb_measure_present(c, m)) continue;
        const pb_estimate *e = pb_estimate_of(c, m, i);
        pb_json *one = pb_json_add_object(all, pb_measures[m].name);
        ok = pb_json_add_i64(one, "seeds", e->n_seeds) && pb_json_add_f64(one, "mean", e->mean) &&
             pb_json_add_f64(one, "sd", e->sd) && pb_json_add_f64(one, "low", e->interval.low) &&
             pb_json_add_f64(one, "high", e->interval.high) &&
             pb_json_add_i64(one, "rank", c->best[m * c->n + i]) &&
             pb_json_add_i64(one, "rank_last", c->worst[m * c->n + i]);
    }
    return ok;
}

static bool add_verdict(const cp_panel *p, int m, int a, int b, pb_json *list) {
    const pb_verdict *v = pb_verdict_of(&p->comparison, m, a, b);
    pb_json *o = pb_json_add_object(list, NULL);
    bool base = p->comparison.against[a] == b || p->comparison.against[b] == a;
    return pb_json_add_str(o, "a", p->entries[a].name) &&
           pb_json_add_str(o, "b", p->entries[b].name) &&
           pb_json_add_str(o, "measure", pb_measures[m].name) &&
           pb_json_add_str(o, "kind", pb_measures[m].ratio ? "ratio" : "difference") &&
           pb_json_add_str(o, "verdict", pb_verdict_name(v->kind)) &&
           pb_json_add_str(o, "why", v->why) &&
           pb_json_add_str(o, "family", base ? "baseline" : "others") &&
           pb_json_add_i64(o, "family_size", p->comparison.family[m][!base]) &&
           pb_json_add_i64(o, "seeds", v->n_seeds) &&
           pb_json_add_i64(o, "examples", v->n_examples) &&
           pb_json_add_f64(o, "estimate", v->estimate) &&
           pb_json_add_f64(o, "low", v->interval.low) &&
           pb_json_add_f64(o, "high", v->interval.high) && pb_json_add_f64(o, "p", v->p) &&
           pb_json_add_f64(o, "p_holm", v->p_holm) && pb_json_add_f64(o, "p_seeds", v->p_seeds) &&
           pb_json_add_f64(o, "p_examples", v->p_examples) &&
           pb_json_add_f64(o, "detectable", v->detectable);
}

/* The differences that were found, waived or not. */
static bool add_parity(const cp_panel *p, int a, int b, pb_json *list) {
    const pb_parity *parity = pb_parity_between(&p->comparison, a, b);
    bool ok = true;
    for (int i = 0; ok && i < parity->n; i++) {
        const pb_parity_finding *f = &parity->items[i];
        pb_json *o = pb_json_add_object(list, NULL);
        ok = pb_json_add_str(o, "a", p->entries[a].name) &&
             pb_json_add_str(o, "b", p->entries[b].name) && pb_json_add_str(o, "field", f->field) &&
             pb_json_add_str(o, "title", f->title) && pb_json_add_str(o, "value_a", f->a) &&
             pb_json_add_str(o, "value_b", f->b) &&
             pb_json_add_bool(o, "cost_only", f->cost_only) &&
             pb_json_add_bool(o, "waived", f->waived);
    }
    return ok;
}

static bool add_panel(const cp_panels *all, const cp_panel *p, pb_json *list) {
    pb_json *o = pb_json_add_object(list, NULL);
    int fewest = pb_fewest_seeds(&p->comparison, -1, NULL);
    bool ok =
        pb_json_add_str(o, "suite", p->suite) && pb_json_add_str(o, "model", p->model) &&
        pb_json_add_str(o, "dataset", p->dataset) &&
        pb_json_add_str(o, "baseline", p->baseline >= 0 ? p->entries[p->baseline].name : NULL) &&
        pb_json_add_str(o, "anchor", p->anchor[0] ? p->anchor : NULL) &&
        pb_json_add_i64(o, "fewest_seeds", fewest) &&
        pb_json_add_bool(o, "fewer_than_five_seeds", fewest && fewest < PB_FAIR_SEEDS);
    pb_json *waived = ok ? pb_json_add_array(o, "waived") : NULL;
    ok = waived != NULL;
    for (int i = 0; ok && i < all->waivers.list.n; i++)
        ok = pb_json_add_str(waived, NULL, all->waivers.list.names[i]);
    pb_json *rows = ok ? pb_json_add_array(o, "rows") : NULL;
    pb_json *verdicts = rows ? pb_json_add_array(o, "verdicts") : NULL;
    pb_json *parity = verdicts ? pb_json_add_array(o, "differences") : NULL;
    ok = parity != NULL;
    for (int i = 0; ok && i < p->n; i++) ok = add_row(p, i, rows);
    const int *against = p->comparison.against;
    for (int m = 0; m < PB_MEASURES; m++)
        for (int a = 0; a < p->n; a++)
            for (int b = 0; ok && b < p->n && pb_measure_present(&p->comparison, m); b++) {
                /* With its baseline: the row against it; other pairs once. */
                bool wanted = against[a] == b || (a < b && against[b] != a);
                if (a != b && wanted) ok = add_verdict(p, m, a, b, verdicts);
            }
    for (int a = 0; a < p->n; a++)
        for (int b = a + 1; ok && b < p->n; b++) ok = add_parity(p, a, b, parity);
    return ok;
}

pb_status cp_render_json(const cp_panels *all, const char *tripped, pb_text *out) {
    pb_json *root = cJSON_CreateObject();
    pb_json *list = pb_json_add_array(root, "comparisons");
    bool ok = list != NULL;
    for (int i = 0; ok && i < all->n_panels; i++) ok = add_panel(all, &all->panels[i], list);
    ok = ok && pb_json_add_bool(root, "failed", tripped != NULL) &&
         pb_json_add_str(root, "reason", tripped ? tripped : "");
    char *text = ok ? pb_json_print(root, true) : NULL;
    pb_json_free(root);
    if (!text) return PB_ERROR(PB_E_OOM, "no memory for the comparison as JSON");
    pb_text_add(out, "%s\n", text);
    free(text);
    return pb_text_status(out);
}
