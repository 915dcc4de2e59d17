/* peftbench bench ops: single ops at the sizes of one layer of a model. Rates come from pb_op_work:
 * products by FLOPs, all ops by least traffic. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/text.h"
#include "harness/cli_bench.h"
#include "harness/cli_table.h"
#include "harness/layer_ops.h"
#include "results/record.h"

#define MAX_SAMPLES 2000
#define ENOUGH_NS INT64_C(200000000) /* per op */

typedef struct bench {
    pb_layer layer;
    pb_table table;
    pb_json *list;
} bench;

/* ---- timing ---- */

static pb_status tell(bench *b, pb_op op, const char *shape, const double *samples, int64_t n,
                      pb_work work) {
    double median = 0, p10 = 0, p90 = 0;
    PB_RETURN(pb_derive("median", samples, n, &median));
    PB_RETURN(pb_derive("p10", samples, n, &p10));
    PB_RETURN(pb_derive("p90", samples, n, &p90));
    const char *variant = pb_op_variant(b->layer.dev, op);
    pb_table_row(&b->table);
    pb_table_cell(&b->table, 0, "%s", pb_op_name(op));
    pb_table_cell(&b->table, 1, "%s", shape);
    pb_table_cell(&b->table, 2, "%s", variant ? variant : "");
    const double us[] = {median, p10, p90};
    for (int i = 0; i < 3; i++) pb_table_cell(&b->table, 3 + i, "%.1f", us[i] * 1e6);
    pb_table_cell(&b->table, 6, work.flops > 0 ? "%.1f" : "-", work.flops / median / 1e9);
    pb_table_cell(&b->table, 7, "%.1f", work.bytes / median / 1e9);
    pb_json *o = pb_json_add_object(b->list, NULL);
    return pb_cli_built(
        pb_json_add_str(o, "op", pb_op_name(op)) && pb_json_add_str(o, "shape", shape) &&
        pb_json_add_str(o, "variant", variant) &&
        pb_json_add_str(o, "dtype", pb_dtype_name(b->layer.dtype)) &&
        pb_json_add_i64(o, "samples", n) &&
        pb_json_add_f64(o, "median_s", median) && pb_json_add_f64(o, "p10_s", p10) &&
        pb_json_add_f64(o, "p90_s", p90) && pb_json_add_f64(o, "flops", work.flops) &&
        pb_json_add_f64(o, "bytes", work.bytes) &&
        pb_json_add_f64(o, "flops_per_s", work.flops / median) &&
        pb_json_add_f64(o, "bytes_per_s", work.bytes / median));
}

static pb_status time_op(pb_layer *layer, pb_op op, const void *args, const char *shape) {
    pb_status status = PB_OK;
    int64_t n = 0, spent = 0;
    double *samples = calloc(MAX_SAMPLES, sizeof *samples);
    if (!samples) PB_FAIL(PB_E_OOM, "no memory for samples");
    for (int i = 0; i < 2; i++) PB_TRY(pb_op_run(layer->dev, op, args));
    PB_TRY(pb_device_sync(layer->dev));
    while (n < 5 || (n < MAX_SAMPLES && spent < ENOUGH_NS)) {
        int64_t start = pb_now_ns();
        PB_TRY(pb_op_run(layer->dev, op, args));
        PB_TRY(pb_device_sync(layer->dev));
        int64_t ns = pb_now_ns() - start;
        samples[n++] = (double)ns * 1e-9;
        spent += ns;
    }
    PB_TRY(tell(layer->user, op, shape, samples, n, pb_op_work(op, args)));
done:
    free(samples);
    return status;
}

/* ---- the command ---- */

pb_status pb_bench_ops(const pb_bench_request *q) {
    static const char *const head[] = {"OP",  "SHAPE",   "KERNEL", "MEDIAN US", "P10",
                                       "P90", "GFLOP/S", "GB/S",   NULL};
    pb_status status = PB_OK;
    bench b = {0};
    pb_device_options options = {.threads = (int)q->threads, .memory_budget = q->budget};
    PB_TRY(pb_layer_sizes(q->model, q->rows, &b.layer));
    PB_TRY(pb_bench_dtype(q, &b.layer.dtype));
    PB_TRY(pb_device_open(q->device, &options, &b.layer.dev));
    b.layer.visit = time_op;
    b.layer.user = &b;
    b.list = cJSON_CreateArray();
    pb_table_start(&b.table, head, 7);
    for (int i = 0; i < pb_layer_groups(); i++)
        if (pb_layer_group_rank(i) == PB_LAYER_EACH) PB_TRY(pb_layer_walk(&b.layer, i));
    if (q->format != 0) {
        status = pb_cli_print_json(b.list);
        b.list = NULL;
        goto done;
    }
    printf("%s on %s with %d threads, %s\n", q->model, q->device, pb_device_threads(b.layer.dev),
           pb_dtype_name(b.layer.dtype));
    status = pb_table_end(&b.table, stdout);
done:
    free(b.table.rows);
    pb_json_free(b.list);
    pb_device_close(b.layer.dev);
    return status;
}
