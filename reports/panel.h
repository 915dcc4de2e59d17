/* Private to reports/: what one comparison of `compare` is made of, from one suite folder or from
 * several. */
#ifndef PB_REPORTS_PANEL_H
#define PB_REPORTS_PANEL_H

#include "reports/compare.h"
#include "reports/verdicts.h"

typedef struct cp_side {
    const char *dir;
    char name[96]; /* last part of the path, the whole path where that is ambiguous */
    pb_record *records;
    pb_chapter *chapters;
    int n_records, n_chapters;
} cp_side;

typedef struct cp_panel {
    char suite[256];
    const char *model, *dataset;
    bool tokens;
    pb_entry *entries;
    unsigned *colours;
    int n, baseline;
    char anchor[160]; /* "" = none */
    pb_comparison comparison;
} cp_panel;

typedef struct cp_panels {
    cp_side *sides;
    cp_panel *panels;
    int n_sides, n_panels;
    pb_waiver_list waivers;
} cp_panels;

/* Loads, checks and compares; see pb_compare. Free with cp_panels_free, also after an error. */
pb_status cp_panels_make(const char *const *dirs, int n, const pb_compare_options *options,
                         cp_panels *out);
void cp_panels_free(cp_panels *p);
rp_view cp_view_of(const cp_panels *all, const cp_panel *p);

/* The gates of --fail-on against all panels: reasons, with "; " between them, are appended to `why`. */
pb_status cp_gates_check(const char *fail_on, const cp_panels *all, pb_text *why);

pb_status cp_render_json(const cp_panels *all, const char *tripped, pb_text *out);

#endif
