/* The parity guard: what two rows may differ in and still be compared. Before a verdict every pair
 * of rows is diffed, run by run at equal seeds, on everything a record says about how it was
 * trained. What is a method's own (its parameters, its rank, its tuned learning rate, the 4 bits of
 * QLoRA's base) is left out; every other difference stops the comparison unless waived by name. A
 * setting that the guard has never heard of stops it too. The table of fields: parity.c; what each
 * is for: reports/STATISTICS.md. Test: tests/test_parity.c. */
#ifndef PB_REPORTS_PARITY_H
#define PB_REPORTS_PARITY_H

#include "base/text.h"
#include "results/group.h"

typedef struct pb_waivers {
    const char *const *names; /* "scale", "software", or a setting's path, "train.warmup" */
    int n;
} pb_waivers;

/* One field in which two rows differ. */
typedef struct pb_parity_finding {
    char field[64];               /* the name to waive it by */
    const char *setting;          /* or the setting's own path, "train.steps"; "" = none */
    char title[64];               /* "effective scale (alpha / r)" */
    char a[128], b[128];          /* the values */
    const pb_record *on_a, *on_b; /* where it was found first */
    bool cost_only;               /* moves time or memory, not quality */
    bool general_only;            /* moves what is measured on general text, and nothing else */
    bool waived;
} pb_parity_finding;

typedef struct pb_parity {
    pb_parity_finding *items;
    int n;
    int common; /* seeds that both rows finished */
} pb_parity;

/* Diffs two rows. Runs that did not finish take no part. A row whose own runs differ in more than
 * the seed is a finding "row". Free with pb_parity_free. */
pb_status pb_parity_check(const pb_row *a, const pb_row *b, const pb_waivers *waivers,
                          pb_parity *out);
void pb_parity_free(pb_parity *p);
/* The same for two records whatever their seeds, for whole folders. */
pb_status pb_parity_records(const pb_record *a, const pb_record *b, const pb_waivers *waivers,
                            pb_parity *out);

/* Does a finding stop the comparison of this kind of metric? The first that does, else NULL. */
const pb_parity_finding *pb_parity_stop(const pb_parity *p, bool cost);
/* The same for what is measured on general text: that must be one text, too. */
const pb_parity_finding *pb_parity_stop_general(const pb_parity *p);

/* "scale, targets, ...": names that always can be waived; other settings by their path. */
void pb_parity_fields(pb_text *out);
/* PB_E_INPUT with the nearest name when a waiver names no field of the table and no setting of
 * the table or of these records. `what` leads the message: "--waive". */
pb_status pb_waivers_check(const char *what, const pb_waivers *waivers, const pb_record *records,
                           int n);

/* "scale,software": names separated by commas, checked against the records. NULL or "" = none. */
typedef struct pb_waiver_list {
    pb_waivers list;
    char *text; /* owns the names */
    const char **names;
} pb_waiver_list;
pb_status pb_waivers_parse(const char *text, const pb_record *records, int n, pb_waiver_list *out);
void pb_waivers_free(pb_waiver_list *w);

/* Appends the settings in which the runs of a row differ from its first one, the seed apart;
 * nothing when it is one row indeed. */
pb_status pb_row_drift(const pb_row *row, pb_text *out);

#endif
