/* peftbench bench ops: single ops at the sizes of one layer of a model. Rates come from pb_op_work:
 * products by FLOPs, all ops by least traffic. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/text.h"
#include "harness/cli_bench.h"
#include "harness/cli_table.h"
#include "harness/layer_ops.h"
#include "harness/queue_time.h"
#include "results/record.h"

#define MAX_SAMPLES 2000
#define ENOUGH_NS 2e8   /* per op */
#define BATCH_NS 1e6    /* of calls in a row, in a queue */
#define MAX_BATCH 64

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

static pb_status one_call(pb_device *dev, pb_op op, const void *args, double *ns) {
    int64_t start = pb_now_ns();
    PB_RETURN(pb_op_run(dev, op, args));
    PB_RETURN(pb_device_sync(dev));
    *ns = (double)(pb_now_ns() - start);
    return PB_OK;
}

/* In a queue a sample is a share of calls in a row; on the host one call. */
static pb_status time_op(pb_layer *layer, pb_op op, const void *args, const char *shape) {
    pb_status status = PB_OK;
    pb_device *dev = layer->dev;
    pb_queue_clock clock = {0};
    bool queues = pb_device_queues(dev);
    int batch = 1;
    int64_t n = 0;
    double spent = 0, ns = 0;
    double *samples = calloc(MAX_SAMPLES, sizeof *samples);
    if (!samples) PB_FAIL(PB_E_OOM, "no memory for samples");
    if (queues) PB_TRY(pb_queue_clock_new(dev, &clock));
    for (int i = 0; i < 2; i++) PB_TRY(pb_op_run(dev, op, args));
    PB_TRY(pb_device_sync(dev));
    if (queues) {
        PB_TRY(pb_queue_time_op(dev, &clock, op, args, 1, &ns));
        batch = ns * MAX_BATCH > BATCH_NS ? (int)(BATCH_NS / ns) : MAX_BATCH;
        if (batch < 1) batch = 1;
        PB_TRY(pb_queue_time_op(dev, &clock, op, args, batch, &ns)); /* from now on as a graph */
    }
    while (n < 5 || (n < MAX_SAMPLES && spent < ENOUGH_NS)) {
        if (queues) PB_TRY(pb_queue_time_op(dev, &clock, op, args, batch, &ns));
        else PB_TRY(one_call(dev, op, args, &ns));
        if (ns < 1) ns = 1;
        samples[n++] = ns * 1e-9;
        spent += ns * batch;
    }
    PB_TRY(tell(layer->user, op, shape, samples, n, pb_op_work(op, args)));
done:
    pb_queue_clock_free(&clock);
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
