/* Two saved runs compared: harness/kernel_stored.h. */
#include "harness/kernel_stored.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const sides[] = {"A", "B"};

static const pb_saved_kernel *find(const pb_saved_run *run, const char *name) {
    for (int i = 0; i < run->n; i++)
        if (strcmp(run->kernels[i].name, name) == 0) return &run->kernels[i];
    return NULL;
}

static bool uses(const pb_saved_run *run, const char *dtype) {
    for (int i = 0; i < run->n; i++)
        if (strcmp(run->kernels[i].dtype, dtype) == 0) return true;
    return false;
}

/* Ratios of the anchors that count here; returns how many. One that a side lacks is a NaN, which no bound
 * lets through; one that both lack (the library has no such product) says nothing. */
static int needed_anchors(const pb_saved_run *a, const pb_saved_run *b, pb_stored_notes *notes,
                          double out[PB_SAVED_ANCHORS]) {
    static const char *const dtypes[] = {NULL, "f32", "bf16"};
    bool in[2], counts[PB_SAVED_ANCHORS];
    int n = 0;
    for (int i = 0; i < PB_SAVED_ANCHORS; i++) {
        in[0] = a->anchors[i].n > 0;
        in[1] = b->anchors[i].n > 0;
        notes->anchors[i] = in[0] && in[1] ? b->anchors[i].median / a->anchors[i].median : (double)NAN;
        counts[i] = (in[0] || in[1]) && (!dtypes[i] || uses(a, dtypes[i]));
        if (counts[i]) out[n++] = notes->anchors[i];
    }
    for (int i = 0; i < PB_SAVED_ANCHORS && n < 2; i++)
        if (!counts[i] && !isnan(notes->anchors[i])) out[n++] = notes->anchors[i];
    return n;
}

static void take(pb_compared *k, const pb_saved_kernel *from, int side) {
    int n = 0;
    if (!from) return;
    if (from->wrong) snprintf(k->wrong, sizeof k->wrong, "%s: %.140s", sides[side], from->why);
    pb_compared_side *s = &k->side[side];
    s->listed = true;
    if (!from->checked && !*k->unchecked)
        snprintf(k->unchecked, sizeof k->unchecked, "%s was not checked against the reference",
                 sides[side]);
    pb_copy(s->sha256, sizeof s->sha256, from->sha256);
    pb_copy(s->variant, sizeof s->variant, from->variant);
    s->worst = from->worst;
    s->least = from->least;
    s->flops = from->flops;
    s->flops_else = from->flops_else;
    s->bytes = from->bytes;
    k->seconds += from->time.total;
    if (from->time.fewest > 0 && (k->samples == 0 || from->time.fewest < k->samples))
        k->samples = (int)from->time.fewest;
    if (!isnan(from->share)) pb_copy(s->roof, sizeof s->roof, pb_roof_name(from));
    for (int i = 0; i < from->time.n; i++) {
        if (isnan(from->time.medians[i])) continue;
        if (from->cycles.n == from->time.n && !isnan(from->cycles.medians[i]))
            k->cycles[side][0][n] = from->cycles.medians[i];
        k->time[side][0][n++] = from->time.medians[i];
    }
    s->in = n;
}

static pb_status decide(pb_compared *k, const double *anchors, int n_anchors,
                        const char *other_machine, bool cycles, double limit_s) {
    pb_gate_input in = {.stages = 1, .stored = true, .anchors = anchors, .n_anchors = n_anchors};
    const int n[] = {k->side[0].in, k->side[1].in};
    for (int side = 0; side < 2; side++)
        for (int i = 0; i < n[side]; i++) cycles = cycles && k->cycles[side][0][i] > 0;
    in.stage[0].a = (pb_gate_side){n[0], k->time[0][0], cycles ? k->cycles[0][0] : NULL};
    in.stage[0].b = (pb_gate_side){n[1], k->time[1][0], cycles ? k->cycles[1][0] : NULL};
    if (*other_machine) in.incomparable = other_machine;
    if (*k->unchecked) in.incomparable = k->unchecked;
    if (!n[0] || !n[1]) in.incomparable = n[0] ? "only A has it" : "only B has it";
    if (*k->wrong) in.wrong = k->wrong;
    if (in.wrong || in.incomparable) in.stages = 0;
    pb_compared_judge_samples(k, limit_s);
    if (*k->few) in.few = k->few;
    return pb_gate_decide(&in, &k->result);
}

/* Every kernel of A, then those that only B has. */
static pb_status collect(const pb_saved_run *a, const pb_saved_run *b,
                         pb_comparison_of_builds *out) {
    bool common = false;
    out->kernels = calloc((size_t)(a->n + b->n) + 1, sizeof *out->kernels);
    if (!out->kernels) return PB_ERROR(PB_E_OOM, "no memory for %d kernels", a->n + b->n);
    for (int i = 0; i < a->n + b->n; i++) {
        const pb_saved_kernel *here = i < a->n ? &a->kernels[i] : &b->kernels[i - a->n];
        if (i >= a->n && find(a, here->name)) continue;
        pb_compared *k = &out->kernels[out->n++];
        pb_copy(k->name, sizeof k->name, here->name);
        k->side[0] = k->side[1] = pb_compared_side_none();
        take(k, find(a, here->name), 0);
        take(k, find(b, here->name), 1);
        common = common || (k->side[0].in && k->side[1].in) || *k->wrong;
    }
    if (!common) return PB_ERROR(PB_E_INPUT, "the two runs have no kernel in common");
    return PB_OK;
}

/* How the anchors moved, and what the files say of the noise. */
static pb_status note(const pb_saved_run *const runs[2], const pb_stored_notes *notes,
                      pb_comparison_of_builds *out) {
    pb_text *t = &out->stored;
    const char *comma = "", *then = runs[0]->time_utc, *now = runs[1]->time_utc;
    pb_text_add(t,
                "stored: A of %s, B of %s; without both programs side by side nothing is "
                "REGRESSED\nanchors:",
                *then ? then : "?", *now ? now : "?");
    for (int i = 0; i < PB_SAVED_ANCHORS; i++) {
        if (isnan(notes->anchors[i])) continue;
        pb_text_add(t, "%s %s %+.1f %%", comma, pb_anchor_name(i), 100 * (notes->anchors[i] - 1));
        comma = ",";
    }
    pb_text_add(t, "%s\n", *comma ? "" : " none in common");
    for (int side = 0; side < 2; side++) {
        const pb_json *line = NULL;
        cJSON_ArrayForEach(line, runs[side]->advice)
            if (cJSON_IsString(line)) pb_text_add(&out->noise, "%s: %s\n", sides[side], line->valuestring);
    }
    PB_RETURN(pb_text_status(t));
    return pb_text_status(&out->noise);
}

/* The clock and the GPU of both. */
static pb_status join_gauges(const pb_saved_run *const runs[2], pb_comparison_of_builds *out) {
    out->mhz_least = fmin(runs[0]->mhz_least, runs[1]->mhz_least); /* leaves NaN out */
    out->mhz_most = fmax(runs[0]->mhz_most, runs[1]->mhz_most);
    for (int side = 0; side < 2; side++) {
        pb_json *seen = cJSON_CreateObject();
        pb_status status = pb_gpu_report_json(&runs[side]->gpu, seen);
        if (status == PB_OK) status = pb_gpu_report_add(seen, sides[side], &out->gpu);
        pb_json_free(seen);
        PB_RETURN(status);
    }
    return PB_OK;
}

pb_status pb_compare_stored(const pb_saved_run *a, const pb_saved_run *b,
                            pb_comparison_of_builds *out, pb_stored_notes *notes) {
    pb_status status = PB_OK;
    double anchors[PB_SAVED_ANCHORS];
    char other_machine[192];
    *out = (pb_comparison_of_builds){
        .mhz_least = NAN, .mhz_most = NAN, .gpu = pb_gpu_report_none()};
    bool cycles = *a->cycles_by && strcmp(a->cycles_by, PB_CYCLES_MIXED) != 0 &&
                  strcmp(a->cycles_by, b->cycles_by) == 0;
    pb_copy(out->cycles_by[0], sizeof out->cycles_by[0], a->cycles_by);
    pb_copy(out->cycles_by[1], sizeof out->cycles_by[1], b->cycles_by);
    *notes = (pb_stored_notes){.anchors = {NAN, NAN, NAN}};
    const pb_saved_run *const runs[] = {a, b};
    const pb_json *environments[] = {a->environment, b->environment};
    for (int side = 0; side < 2; side++)
        if (environments[side]) out->environment[side] = cJSON_Duplicate(environments[side], true);
    memcpy(out->sha256[0], a->binary, sizeof a->binary);
    memcpy(out->sha256[1], b->binary, sizeof b->binary);
    memcpy(out->backend[0], a->backend, sizeof a->backend);
    memcpy(out->backend[1], b->backend, sizeof b->backend);
    int n = needed_anchors(a, b, notes, anchors);
    PB_TRY(note(runs, notes, out));
    PB_TRY(join_gauges(runs, out));
    PB_TRY(pb_environment_differences(a->environment, b->environment, &out->differences,
                                      other_machine));
    PB_TRY(collect(a, b, out));
    for (int i = 0; i < out->n; i++)
        PB_TRY(decide(&out->kernels[i], anchors, n, other_machine, cycles,
                      fmin(a->limit_s, b->limit_s)));
done:
    if (status != PB_OK) pb_comparison_of_builds_free(out);
    return status;
}
