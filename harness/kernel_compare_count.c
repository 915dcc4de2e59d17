/* The second gauge of a comparison of builds, instructions: harness/kernel_compare.h. */
#include <string.h>

#include "harness/kernel_compare.h"
#include "harness/kernel_count.h"

static pb_status count_side(const pb_compare_request *q, const char *program, pb_gauge gauge,
                            const pb_kernel_folder *folder, pb_counts *out) {
    pb_kernel_process p = {
        .program = program, .options = q->count_options, .filter = q->filter};
    PB_RETURN(pb_kernel_process_count(&p, pb_gauge_name(gauge), folder));
    return pb_counts_read(folder->samples, out);
}

static pb_status join(const pb_counts *a, const pb_counts *b, pb_comparison_of_builds *c) {
    for (int i = 0; i < a->n; i++) {
        const pb_count *then = &a->items[i], *now = NULL;
        pb_compared *k;
        for (int n = 0; n < b->n && !now; n++)
            if (strcmp(then->name, b->items[n].name) == 0) now = &b->items[n];
        if (!now) continue; /* the tables of cases say so already */
        PB_RETURN(pb_compared_find(c, then->name, false, &k));
        if (!k) {
            PB_RETURN(pb_compared_find(c, then->name, true, &k));
            k->counted_only = true;
            pb_copy(k->side[0].variant, sizeof k->side[0].variant, then->variant);
            pb_copy(k->side[1].variant, sizeof k->side[1].variant, now->variant);
        }
        k->side[0].instructions = then->instructions;
        k->side[1].instructions = now->instructions;
    }
    return PB_OK;
}

pb_status pb_compare_instructions(const pb_compare_request *request, const char *const program[2],
                                  const pb_kernel_folder *folder, pb_comparison_of_builds *c) {
    pb_status status = PB_OK;
    pb_counts counts[2] = {{.n = 0}, {.n = 0}};
    pb_gauge gauge = request->gauge;
    char why[160];
    if (gauge == PB_GAUGE_AUTO)
        gauge = pb_counter_has_perf(why) ? PB_GAUGE_PERF : PB_GAUGE_CALLGRIND;
    for (int side = 0; side < 2; side++) {
        fprintf(stderr, "instructions of %s\n", side ? "B" : "A");
        PB_TRY(count_side(request, program[side], gauge, folder, &counts[side]));
    }
    const pb_count_setup *a = &counts[0].setup, *b = &counts[1].setup;
    if (strcmp(a->gauge, b->gauge) != 0 || strcmp(a->isa, b->isa) != 0)
        PB_FAIL(PB_E_INPUT, "A's instructions were counted by %s in %s, B's by %s in %s", a->gauge,
                a->isa, b->gauge, b->isa);
    snprintf(c->gauge, sizeof c->gauge, "%.40s, %.20s", a->gauge, a->isa);
    PB_TRY(join(&counts[0], &counts[1], c));
done:
    for (int side = 0; side < 2; side++) pb_counts_free(&counts[side]);
    return status;
}
