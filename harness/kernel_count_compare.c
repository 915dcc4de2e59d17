/* Instruction counts against a baseline: harness/kernel_count.h. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "harness/kernel_count.h"

static const pb_count *find(const pb_counts *counts, const char *name) {
    for (int i = 0; i < counts->n; i++)
        if (strcmp(counts->items[i].name, name) == 0) return &counts->items[i];
    return NULL;
}

static void add_difference(char *out, size_t cap, const char *field, const char *then,
                           const char *now) {
    size_t len = strlen(out);
    if (strcmp(then, now) == 0) return;
    snprintf(out + len, cap - len, "%s%s is %s, the baseline's %s", len ? "; " : "", field, now,
             then);
}

/* What own kernels depend on, then what the library's do too. */
static void compare_setups(const pb_count_setup *then, const pb_count_setup *now, char own[320],
                           char library[160]) {
    *own = *library = 0;
    add_difference(own, 320, "gauge", then->gauge, now->gauge);
    add_difference(own, 320, "isa", then->isa, now->isa);
    add_difference(own, 320, "compiler", then->compiler, now->compiler);
    add_difference(own, 320, "flags", then->flags, now->flags);
    add_difference(own, 320, "libc", then->libc, now->libc);
    add_difference(library, 160, "library", then->library, now->library);
    add_difference(library, 160, "its isa", then->library_isa, now->library_isa);
}

static pb_status add(pb_count_changes *out, const pb_count *then, const pb_count *now,
                     const char *own, const char *library) {
    const pb_count *known = now ? now : then;
    bool of_library = (now && pb_count_of_library(now)) || (then && pb_count_of_library(then));
    pb_count_change *c = &out->items[out->n++];
    pb_copy(c->name, sizeof c->name, known->name);
    c->then = then ? then->instructions : 0;
    c->now = now ? now->instructions : 0;
    const char *why = !now            ? "not counted now, but in the baseline"
                      : !then         ? "not in the baseline"
                      : *own          ? own
                      : of_library    ? library
                                      : "";
    c->decides = then && now && !(of_library && *library && !*own);
    bool slack = fabs(c->now - c->then) <= PB_COUNT_SLACK;
    pb_gate_input in = {.instructions_a = c->then,
                        .instructions_b = slack ? c->then : c->now,
                        .incomparable = *why ? why : NULL};
    return pb_gate_decide(&in, &c->result);
}

pb_status pb_counts_compare(const pb_counts *then, const pb_counts *now, const char *filter,
                            pb_count_changes *out) {
    pb_status status = PB_OK;
    char library[160];
    *out = (pb_count_changes){.n = 0};
    compare_setups(&then->setup, &now->setup, out->incomparable, library);
    out->items = calloc((size_t)(then->n + now->n) + 1, sizeof *out->items);
    if (!out->items) PB_FAIL(PB_E_OOM, "no memory for %d counts", then->n + now->n);
    for (int i = 0; i < now->n; i++) {
        const pb_count *old = find(then, now->items[i].name);
        if (!pb_kernel_case_holds(now->items[i].name, filter)) continue;
        out->added += !old;
        PB_TRY(add(out, old, &now->items[i], out->incomparable, library));
    }
    for (int i = 0; i < then->n; i++) {
        if (!pb_kernel_case_holds(then->items[i].name, filter)) continue;
        if (find(now, then->items[i].name)) continue;
        out->missing++;
        PB_TRY(add(out, &then->items[i], NULL, out->incomparable, library));
    }
done:
    if (status != PB_OK) pb_count_changes_free(out);
    return status;
}

void pb_count_changes_free(pb_count_changes *changes) {
    free(changes->items);
    *changes = (pb_count_changes){.n = 0};
}

int pb_count_changes_exit(const pb_count_changes *changes) {
    int code = 1, n = 0;
    pb_gate_verdict *v = calloc((size_t)changes->n + 1, sizeof *v);
    for (int i = 0; v && i < changes->n; i++)
        if (changes->items[i].decides) v[n++] = changes->items[i].result.verdict;
    if (v) code = pb_gate_exit(v, n, false);
    free(v);
    return code == 0 && (changes->missing || changes->added) ? 1 : code;
}
