/* What a comparison of builds is told as: harness/kernel_compare.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/kernel_clock.h"
#include "harness/kernel_compare.h"
#include "results/record.h"

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

pb_status pb_compared_power_of(const pb_comparison_of_builds *c, pb_compared_power *out) {
    pb_status status = PB_OK;
    double *spread = calloc((size_t)c->n + 1, sizeof *spread);
    double *found = calloc((size_t)c->n + 1, sizeof *found);
    int n = 0;
    *out = (pb_compared_power){.n = 0};
    if (!spread || !found) PB_FAIL(PB_E_OOM, "no memory for %d kernels", c->n);
    for (int i = 0; i < c->n; i++) {
        if (isnan(c->kernels[i].result.spread) || isnan(c->kernels[i].result.detectable)) continue;
        spread[n] = c->kernels[i].result.spread;
        found[n++] = c->kernels[i].result.detectable - 1;
    }
    out->n = n;
    if (n == 0) goto done;
    qsort(spread, (size_t)n, sizeof *spread, by_value);
    qsort(found, (size_t)n, sizeof *found, by_value);
    const int at[] = {0, n / 2, n - 1};
    for (int i = 0; i < 3; i++) {
        out->spread[i] = spread[at[i]];
        out->detectable[i] = found[at[i]];
    }
done:
    free(spread);
    free(found);
    return status;
}

/* ---- JUnit ---- */

/* XML holds UTF-8 only: a text that is not loses its bytes above ASCII. */
static void add_escaped(pb_text *t, const char *s) {
    size_t bad;
    bool utf8 = pb_utf8_valid(s, strlen(s), &bad);
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '&')
            pb_text_add(t, "&amp;");
        else if (c == '<')
            pb_text_add(t, "&lt;");
        else if (c == '>')
            pb_text_add(t, "&gt;");
        else if (c == '"')
            pb_text_add(t, "&quot;");
        else
            pb_text_add_bytes(t, c < 0x20 || c == 0x7f ? " " : c >= 0x80 && !utf8 ? "?" : s, 1);
    }
}

pb_status pb_compared_junit(const pb_comparison_of_builds *c, bool allow_unclear, pb_text *out) {
    int failures = 0, skipped = 0;
    double seconds = 0;
    for (int i = 0; i < c->n; i++) {
        pb_gate_verdict v = c->kernels[i].result.verdict;
        bool fails = pb_gate_exit(&v, 1, allow_unclear) != 0;
        failures += fails;
        skipped += !fails && pb_gate_exit(&v, 1, false) != 0;
        seconds += c->kernels[i].seconds;
    }
    pb_text_add(out,
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"kernels\" "
                "tests=\"%d\" failures=\"%d\" skipped=\"%d\" time=\"%.3f\">\n",
                c->n, failures, skipped, seconds);
    for (int i = 0; i < c->n; i++) {
        const pb_compared *k = &c->kernels[i];
        pb_gate_verdict v = k->result.verdict;
        bool fails = pb_gate_exit(&v, 1, allow_unclear) != 0;
        pb_text_add(out, "  <testcase classname=\"kernels\" name=\"");
        add_escaped(out, k->name);
        pb_text_add(out, "\" time=\"%.3f\"", k->seconds);
        if (!fails && pb_gate_exit(&v, 1, false) == 0) {
            pb_text_add(out, "/>\n");
            continue;
        }
        pb_text_add(out, "><%s message=\"%s: ", fails ? "failure" : "skipped", pb_gate_name(v));
        add_escaped(out, k->result.why);
        pb_text_add(out, "\"/></testcase>\n");
    }
    pb_text_add(out, "</testsuite>\n");
    return pb_text_status(out);
}

/* ---- Markdown ---- */

static const char *word_of(const pb_json *o, const char *group, const char *key) {
    return pb_json_text(pb_json_get(o, group), key);
}

/* A cell, or a line, of a table. */
static void add_plain(pb_text *t, const char *s) {
    for (; *s; s++) {
        if (*s == '|') pb_text_add(t, "\\");
        pb_text_add_bytes(t, *s == '\n' ? " " : s, 1);
    }
}

static void add_side(pb_text *out, const pb_comparison_of_builds *c, int side) {
    const pb_json *e = c->environment[side];
    const char *revision = word_of(e, "build", "revision"), *cc = word_of(e, "build", "compiler");
    bool dirty = cJSON_IsTrue(pb_json_get(pb_json_get(e, "build"), "dirty"));
    pb_text_add(out, "- %s: program `%.12s`", side ? "B" : "A", c->sha256[side]);
    if (*c->backend[side]) pb_text_add(out, ", CUDA backend `%.12s`", c->backend[side]);
    if (*revision) pb_text_add(out, ", revision `%.12s%s`", revision, dirty ? "+" : "");
    if (*cc) pb_text_add(out, ", %s, %s", cc, word_of(e, "build", "flags"));
    pb_text_add(out, "\n");
}

pb_status pb_compared_advice(const pb_comparison_of_builds *c, const pb_machine_report *machine,
                             pb_text *lines) {
    pb_kernel_noise(c->mhz_least, c->mhz_most, &c->gpu, machine, lines);
    if (c->noise.len > 0) pb_text_add_bytes(lines, c->noise.data, c->noise.len);
    return pb_text_status(lines);
}

static void add_lines(pb_text *out, const char *what, const pb_text *lines) {
    for (const char *p = lines->data; p && *p; p += strcspn(p, "\n") + 1)
        pb_text_add(out, "- %s%.*s\n", what, (int)strcspn(p, "\n"), p);
}

static void add_machine(pb_text *out, const pb_machine_report *m) {
    pb_text_add(out, "- machine: %s; load %.2f, other processes %.0f %% of a core, stolen %.1f %%\n",
                m->pinning, m->load, 100 * m->others, 100 * m->steal);
}

static pb_status add_head(pb_text *out, const pb_comparison_of_builds *c,
                          const pb_machine_report *machine, int code) {
    pb_text noise = {0};
    pb_status status = pb_compared_advice(c, machine, &noise);
    const pb_json *e = c->environment[0], *threads = pb_json_get(e, "threads");
    const char *cpu = word_of(e, "machine", "cpu");
    for (int side = 0; side < 2; side++) add_side(out, c, side);
    if (*cpu) pb_text_add(out, "- on %s, %s", cpu, word_of(e, "system", "os"));
    if (*cpu && cJSON_IsNumber(threads)) pb_text_add(out, ", %.0f threads", threads->valuedouble);
    if (*cpu) pb_text_add(out, "\n");
    if (*c->gauge) pb_text_add(out, "- instructions: %s\n", c->gauge);
    if (*c->cycles_by[0]) pb_text_add(out, "- cycles: %s\n", c->cycles_by[0]);
    if (!isnan(c->mhz_least))
        pb_text_add(out, "- clock %.0f to %.0f MHz\n", c->mhz_least, c->mhz_most);
    if (machine) add_machine(out, machine);
    add_lines(out, "", &c->stored);
    add_lines(out, "noise: ", &noise);
    add_lines(out, "differs: ", &c->differences);
    pb_text_add(out, "- exit status %d\n\n", code);
    pb_text_free(&noise);
    return status;
}

pb_status pb_compared_markdown(const pb_comparison_of_builds *c, const pb_machine_report *machine,
                               int code, pb_text *out) {
    PB_RETURN(add_head(out, c, machine, code));
    pb_text_add(out, "| kernel | verdict | B / A | 95 %% interval | p | cycles B / A | instructions B / A | |\n");
    pb_text_add(out, "| --- | --- | --- | --- | --- | --- | --- | --- |\n");
    for (int i = 0; i < c->n; i++) {
        const pb_compared *k = &c->kernels[i];
        const pb_gate_result *r = &k->result;
        pb_text_add(out, "| ");
        add_plain(out, k->name);
        pb_text_add(out, " | %s | ", pb_gate_name(r->verdict));
        if (isnan(r->ratio))
            pb_text_add(out, "| | | | ");
        else
            pb_text_add(out, "%.3f | %.3f to %.3f | %.2g | ", r->ratio, r->interval.low,
                        r->interval.high, r->stage[0].p);
        if (!isnan(r->ratio) && !isnan(r->cycles)) pb_text_add(out, "%.3f ", r->cycles);
        if (!isnan(r->ratio)) pb_text_add(out, "| ");
        if (!isnan(r->work)) pb_text_add(out, "%.4f ", r->work);
        pb_text_add(out, "| ");
        add_plain(out, r->why);
        if (r->verdict == PB_GATE_SAME && !isnan(r->detectable))
            pb_text_add(out, "; a slowdown of %.1f %% would have been found", 100 * (r->detectable - 1));
        pb_text_add(out, " |\n");
    }
    return pb_text_status(out);
}

/* ---- JSON ---- */

static bool add_side_json(const pb_compared *k, int side, pb_json *o) {
    const pb_compared_side *s = &k->side[side];
    double median = NAN; /* over the processes of the first stage */
    int n = 0;
    while (n < PB_GATE_PROCESSES && k->time[side][0][n] > 0) n++;
    if (n > 0 && pb_derive("median", k->time[side][0], n, &median) != PB_OK) return false;
    bool ok = pb_json_add_str(o, "output_sha256", *s->sha256 ? s->sha256 : NULL) &&
              pb_json_add_str(o, "variant", *s->variant ? s->variant : NULL) &&
              pb_json_add_f64(o, "error_of_allowed", s->worst) &&
              pb_json_add_f64(o, "flops", s->flops) &&
              pb_json_add_f64(o, "flops_else", s->flops_else) &&
              pb_json_add_f64(o, "bytes", s->bytes) &&
              pb_json_add_f64(o, "median_s", median) && pb_json_add_f64(o, "least_s", s->least) &&
              pb_json_add_f64(o, "roof_share", s->least / median) &&
              pb_json_add_str(o, "roof", *s->roof ? s->roof : NULL) &&
              pb_json_add_i64(o, "processes", s->in);
    if (ok && s->instructions > 0)
        ok = pb_json_add_i64(o, "instructions", (int64_t)s->instructions);
    for (int what = 0; what < 2; what++) {
        pb_json *stages = pb_json_add_array(o, what ? "medians_cycles" : "medians_s");
        ok = ok && stages;
        for (int i = 0; i < PB_GATE_STAGES; i++) {
            const double *v = what ? k->cycles[side][i] : k->time[side][i];
            pb_json *medians = v[0] > 0 ? pb_json_add_array(stages, NULL) : NULL;
            for (int p = 0; medians && p < PB_GATE_PROCESSES && v[p] > 0; p++)
                ok = ok && pb_json_add_f64(medians, NULL, v[p]);
        }
    }
    return ok;
}

static bool add_stage(const pb_gate_stage *s, pb_json *list) {
    if (isnan(s->p)) return true;
    pb_json *o = pb_json_add_object(list, NULL);
    return pb_json_add_f64(o, "u", s->u) && pb_json_add_f64(o, "p", s->p) &&
           pb_json_add_f64(o, "ratio", s->ratio) && pb_json_add_f64(o, "low", s->interval.low) &&
           pb_json_add_f64(o, "high", s->interval.high) &&
           pb_json_add_f64(o, "cycles_ratio", s->cycles) && pb_json_add_bool(o, "slow", s->slow);
}

bool pb_compared_json(const pb_compared *k, pb_json *o) {
    const pb_gate_result *r = &k->result;
    bool ok = pb_json_add_str(o, "name", k->name) &&
              pb_json_add_str(o, "verdict", pb_gate_name(r->verdict)) &&
              pb_json_add_str(o, "why", r->why) && pb_json_add_f64(o, "ratio", r->ratio) &&
              pb_json_add_f64(o, "low", r->interval.low) &&
              pb_json_add_f64(o, "high", r->interval.high) &&
              pb_json_add_f64(o, "detectable", r->detectable) &&
              pb_json_add_f64(o, "spread", r->spread) &&
              pb_json_add_f64(o, "cycles_ratio", r->cycles) &&
              pb_json_add_f64(o, "instructions_ratio", r->work) &&
              pb_json_add_f64(o, "samples", k->samples > 0 ? (double)k->samples : (double)NAN) &&
              pb_json_add_f64(o, "seconds", k->seconds);
    pb_json *stages = pb_json_add_array(o, "stages");
    for (int i = 0; i < PB_GATE_STAGES; i++) ok = ok && add_stage(&r->stage[i], stages);
    return ok && add_side_json(k, 0, pb_json_add_object(o, "a")) &&
           add_side_json(k, 1, pb_json_add_object(o, "b"));
}
