/* What `peftbench kernels run` and `show` print: the kernels under their roofs, and what the machine did
 * meanwhile. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/cli_kernels.h"
#include "harness/cli_table.h"

/* ---- kernels ---- */

static void add_row(pb_table *table, const pb_saved_kernel *k) {
    const double us[] = {k->time.median * 1e6, k->p10 * 1e6, k->p90 * 1e6};
    pb_table_row(table);
    pb_table_cell(table, 0, "%s", k->name);
    pb_table_cell(table, 1, "%s", k->variant);
    if (k->wrong) {
        pb_table_cell(table, 2, "WRONG");
        fprintf(stderr, "WRONG: %s: %s\n", k->name, k->why);
        return;
    }
    for (int i = 0; i < 3; i++) pb_table_cell(table, 2 + i, "%.1f", us[i]);
    pb_table_cell(table, 5, k->flops > 0 ? "%.1f" : "-", k->flops / k->time.median / 1e9);
    pb_table_cell(table, 6, "%.1f", k->bytes / k->time.median / 1e9);
    if (isnan(k->share)) return;
    pb_table_cell(table, 7, "%.0f %%", 100 * k->share);
    pb_table_cell(table, 8, "%s", pb_roof_name(k));
}

#define SHORT_S 20e-6 /* a time at the roof that starting threads and the first misses can double */

/* What is known of why a kernel is below its roof. */
static void add_reason(pb_table *table, const pb_saved_run *run, const pb_saved_kernel *k) {
    char text[PB_TABLE_CELL] = "";
    int n = 0;
    if (k->least < SHORT_S)
        n = snprintf(text, sizeof text, "%.1f us at the roof: starting counts", k->least * 1e6);
    else if (k->roof != PB_ROOF_VECTOR && k->flops_else > k->bytes)
        n = snprintf(text, sizeof text, "%.2g operations a byte beside products",
                     k->flops_else / k->bytes);
    if (run->cache_bytes > 0 && k->bytes < run->cache_bytes)
        snprintf(text + n, sizeof text - (size_t)n, "%s%.3g MB fit the caches", n ? "; " : "",
                 k->bytes / 1e6);
    pb_table_cell(table, 9, "%s", text);
}

/* What is wrong comes first, whatever its share. */
static int by_share(const void *a, const void *b) {
    const pb_saved_kernel *x = *(const pb_saved_kernel *const *)a;
    const pb_saved_kernel *y = *(const pb_saved_kernel *const *)b;
    if (x->wrong || y->wrong) return y->wrong - x->wrong;
    return (x->share > y->share) - (x->share < y->share);
}

/* Medians of fewer samples than are due say less than they seem to. */
static void print_short_ones(const pb_saved_run *run) {
    int64_t least = PB_KERNEL_SAMPLES;
    int n = 0;
    for (int i = 0; i < run->n; i++) {
        if (run->kernels[i].wrong || run->kernels[i].time.fewest >= PB_KERNEL_SAMPLES) continue;
        if (run->kernels[i].time.fewest < least) least = run->kernels[i].time.fewest;
        n++;
    }
    if (n > 0)
        printf("%d of %d kernels have fewer than %d samples in a process, down to %lld: give more "
               "--budget\n",
               n, run->n, PB_KERNEL_SAMPLES, (long long)least);
}

#define ABOVE 1.25 /* of a roof: more than traffic that a cache saves, or another shape of product */

/* Nothing is faster than its roof: then the roof is not one. */
static void print_above(const pb_saved_run *run) {
    double most = 0;
    int n = 0;
    for (int i = 0; i < run->n; i++) {
        if (run->kernels[i].wrong || !(run->kernels[i].share > ABOVE)) continue;
        most = fmax(most, run->kernels[i].share);
        n++;
    }
    if (n > 0)
        printf("%d of %d kernels are above their roof, up to %.0f %%: others had the cores or the "
               "memory while it was measured; --processes 10 measures it ten times\n",
               n, run->n, 100 * most);
}

/* A table of outputs that nobody held against the reference must not look like one of right ones. */
static void print_unchecked(const pb_saved_run *run) {
    int n = 0;
    for (int i = 0; i < run->n; i++) n += !run->kernels[i].checked;
    if (n > 0) printf("%d of %d kernels were not checked against the reference\n", n, run->n);
}

static void print_roofs(const pb_saved_run *run) {
    static const char *const dtypes[] = {"f32", "bf16"};
    if (!(run->bytes_per_s > 0)) return;
    printf("roofs: copy %.1f GB/s", run->bytes_per_s / 1e9);
    for (int d = 0; d < 2; d++)
        if (run->flops_per_s[d] > 0)
            printf(", product %.1f GFLOP/s in %s", run->flops_per_s[d] / 1e9, dtypes[d]);
    for (int d = 0; d < 2; d++)
        if (!(run->flops_per_s[d] > 0))
            printf(", none for products in %s: the library has no kernel for it here", dtypes[d]);
    if (run->ops_per_s > 0) printf(", vector units %.1f G operations/s", run->ops_per_s / 1e9);
    printf("\n");
}

pb_status pb_kernels_print(const pb_kernels_request *q, const pb_saved_run *run) {
    static const char *const head[] = {"CASE", "KERNEL",  "MEDIAN US", "P10",    "P90", "GFLOP/S",
                                       "GB/S", "OF ROOF", "ROOF",      NULL, NULL};
    const char *names[11];
    pb_table table = {0};
    int n = 0, wrong = 0;
    memcpy(names, head, sizeof names);
    if (q->below > 0) names[9] = "KNOWN";
    const pb_saved_kernel **list = calloc((size_t)run->n + 1, sizeof *list);
    if (!list) return PB_ERROR(PB_E_OOM, "no memory for a table of %d kernels", run->n);
    for (int i = 0; i < run->n; i++) {
        wrong += run->kernels[i].wrong;
        if (!(q->below > 0) || run->kernels[i].wrong || 100 * run->kernels[i].share < q->below)
            list[n++] = &run->kernels[i];
    }
    if (q->below > 0) qsort(list, (size_t)n, sizeof *list, by_share);
    pb_table_start(&table, names, 3);
    for (int i = 0; i < n; i++) {
        add_row(&table, list[i]);
        if (q->below > 0 && !list[i]->wrong) add_reason(&table, run, list[i]);
    }
    free(list);
    PB_RETURN(pb_table_end(&table, stdout));
    print_unchecked(run);
    print_short_ones(run);
    if (q->below > 0)
        printf("%d of %d kernels below %g %% of their roof, %d wrong\n", n - wrong, run->n, q->below,
               wrong);
    print_roofs(run);
    print_above(run);
    return PB_OK;
}

/* ---- the machine ---- */

/* Lines of advice, which are freed. */
static pb_status print_noise(pb_text *advice) {
    for (const char *p = advice->data; p && *p; p += strcspn(p, "\n") + 1)
        printf("noise: %.*s\n", (int)strcspn(p, "\n"), p);
    pb_status status = pb_text_status(advice);
    pb_text_free(advice);
    return status;
}

bool pb_kernels_add_advice(pb_json *o, pb_text *lines) {
    pb_json *list = pb_json_add_array(o, "advice");
    char *save = NULL, *line = lines->data ? strtok_r(lines->data, "\n", &save) : NULL;
    bool ok = list != NULL;
    for (; ok && line; line = strtok_r(NULL, "\n", &save)) ok = pb_json_add_str(list, NULL, line);
    return ok;
}

static void print_gauges(const char *by, double mhz_least, double mhz_most, const pb_gpu_report *gpu) {
    if (!isnan(mhz_least))
        printf("clock: %.0f to %.0f MHz while kernels ran (%s)\n", mhz_least, mhz_most, by);
    if (gpu->looks > 0)
        printf("gpu: driver %s, at most %.0f W of %.0f, %.0f degrees\n", gpu->driver, gpu->watts_most,
               gpu->watts_limit, gpu->celsius_most);
}

pb_status pb_kernels_print_clock(const char *by, double mhz_least, double mhz_most,
                                 const pb_gpu_report *gpu) {
    pb_text advice = {0};
    print_gauges(by, mhz_least, mhz_most, gpu);
    pb_kernel_noise(mhz_least, mhz_most, gpu, NULL, &advice);
    return print_noise(&advice);
}

pb_status pb_kernels_print_saved(const pb_saved_run *run) {
    const pb_json *line = NULL;
    if (!run->advice)
        return pb_kernels_print_clock(run->cycles_by, run->mhz_least, run->mhz_most, &run->gpu);
    print_gauges(run->cycles_by, run->mhz_least, run->mhz_most, &run->gpu);
    cJSON_ArrayForEach(line, run->advice)
        if (cJSON_IsString(line)) printf("noise: %s\n", line->valuestring);
    return PB_OK;
}

pb_status pb_kernels_print_machine(const pb_machine_report *machine) {
    pb_text advice = {0};
    printf("machine: %s; load %.2f\n", machine->pinning, machine->load);
    pb_machine_advice(machine, &advice);
    return print_noise(&advice);
}
