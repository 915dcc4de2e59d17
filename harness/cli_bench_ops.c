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

/* Seconds of one call, *n of them in samples[MAX_SAMPLES]. In a queue a sample is a share of calls in a row; on the host one
 * call. */
static pb_status sample_op(pb_device *dev, pb_op op, const void *args, double enough_ns, double *samples, int64_t *n) {
    pb_status status = PB_OK;
    pb_queue_clock clock = {0};
    bool queues = pb_device_queues(dev);
    int batch = 1;
    double spent = 0, ns = 0;
    *n = 0;
    if (queues) PB_TRY(pb_queue_clock_new(dev, &clock));
    for (int i = 0; i < 2; i++) PB_TRY(pb_op_run(dev, op, args));
    PB_TRY(pb_device_sync(dev));
    if (queues) {
        PB_TRY(pb_queue_time_op(dev, &clock, op, args, 1, &ns));
        batch = ns * MAX_BATCH > BATCH_NS ? (int)(BATCH_NS / ns) : MAX_BATCH;
        if (batch < 1) batch = 1;
        PB_TRY(pb_queue_time_op(dev, &clock, op, args, batch, &ns)); /* from now on as a graph */
    }
    while (*n < 5 || (*n < MAX_SAMPLES && spent < enough_ns)) {
        if (queues) PB_TRY(pb_queue_time_op(dev, &clock, op, args, batch, &ns));
        else PB_TRY(one_call(dev, op, args, &ns));
        if (ns < 1) ns = 1;
        samples[(*n)++] = ns * 1e-9;
        spent += ns * batch;
    }
done:
    pb_queue_clock_free(&clock);
    return status;
}

static pb_status time_op(pb_layer *layer, pb_op op, const void *args, const char *shape) {
    pb_status status = PB_OK;
    int64_t n = 0;
    double *samples = calloc(MAX_SAMPLES, sizeof *samples);
    if (!samples) PB_FAIL(PB_E_OOM, "no memory for samples");
    PB_TRY(sample_op(layer->dev, op, args, ENOUGH_NS, samples, &n));
    PB_TRY(tell(layer->user, op, shape, samples, n, pb_op_work(op, args)));
done:
    free(samples);
    return status;
}

/* ---- one algorithm against the others ---- */

#define MAX_PRODUCTS 32
#define ROUNDS 2       /* of all algorithms: a clock that wanders meets them all */
#define PRODUCT_NS 4e7 /* per product, algorithm and round */

/* Least medians over the rounds, by the order in which the walk comes to the products. */
typedef struct choice {
    pb_layer layer;
    pb_op op[MAX_PRODUCTS];
    char shape[MAX_PRODUCTS][64];
    double median_s[MAX_PRODUCTS][32]; /* by algorithm; 0 = not timed yet */
    int n, most, algorithm;
} choice;

static bool is_dense_product(pb_op op, const void *args) {
    if (op == PB_OP_linear) return ((const pb_linear_args *)args)->w.quant == NULL;
    return op == PB_OP_gemm;
}

static pb_status time_product(pb_layer *layer, pb_op op, const void *args, const char *shape) {
    pb_status status = PB_OK;
    choice *c = layer->user;
    int64_t n = 0;
    double median = 0;
    if (!is_dense_product(op, args) || c->n == MAX_PRODUCTS) return PB_OK;
    double *samples = calloc(MAX_SAMPLES, sizeof *samples);
    if (!samples) PB_FAIL(PB_E_OOM, "no memory for samples");
    PB_TRY(sample_op(layer->dev, op, args, PRODUCT_NS, samples, &n));
    PB_TRY(pb_derive("median", samples, n, &median));
    double *least = &c->median_s[c->n][c->algorithm];
    if (!(*least > 0) || median < *least) *least = median;
    c->op[c->n] = op;
    pb_copy(c->shape[c->n], sizeof c->shape[c->n], shape);
    c->n++;
done:
    free(samples);
    return status;
}

static pb_status tell_choice(const choice *c, const pb_bench_request *q, pb_table *table, pb_json *list) {
    for (int i = 0; i < c->n; i++) {
        int best = 0;
        for (int a = 1; a < c->most; a++)
            if (c->median_s[i][a] < c->median_s[i][best]) best = a;
        double first_s = c->median_s[i][0], best_s = c->median_s[i][best];
        pb_table_row(table);
        pb_table_cell(table, 0, "%s", pb_op_name(c->op[i]));
        pb_table_cell(table, 1, "%s", c->shape[i]);
        pb_table_cell(table, 2, "%.1f", first_s * 1e6);
        pb_table_cell(table, 3, "%.1f", best_s * 1e6);
        pb_table_cell(table, 4, "%d", best);
        pb_table_cell(table, 5, "%.1f %% of the best", 100 * best_s / first_s);
        pb_json *o = pb_json_add_object(list, NULL), *times = pb_json_add_array(o, "median_s");
        bool ok = times != NULL && pb_json_add_str(o, "op", pb_op_name(c->op[i])) && pb_json_add_str(o, "shape", c->shape[i]) &&
                  pb_json_add_str(o, "dtype", pb_dtype_name(c->layer.dtype)) && pb_json_add_i64(o, "best", best) &&
                  pb_json_add_f64(o, "first_of_best", best_s / first_s);
        for (int a = 0; ok && a < c->most; a++) ok = pb_json_add_f64(times, NULL, c->median_s[i][a]);
        PB_RETURN(pb_cli_built(ok));
    }
    if (q->format != 0) return PB_OK;
    printf("%s on %s, %s, products by each of the library's first %d algorithms\n", q->model, q->device,
           pb_dtype_name(c->layer.dtype), c->most);
    return pb_table_end(table, stdout);
}

static pb_status bench_algorithms(const pb_bench_request *q) {
    static const char *const head[] = {"OP", "SHAPE", "FIRST US", "BEST US", "BEST", "THE FIRST", NULL};
    pb_status status = PB_OK;
    pb_table table = {0};
    pb_json *list = cJSON_CreateArray();
    choice *c = calloc(1, sizeof *c);
    if (!c) PB_FAIL(PB_E_OOM, "no memory for the times of algorithms");
    if (strcmp(q->device, "cuda") != 0)
        PB_FAIL(PB_E_INPUT, "--algorithms: device '%s' proposes none, only cuda does", q->device);
    PB_TRY(pb_layer_sizes(q->model, q->rows, &c->layer));
    PB_TRY(pb_bench_dtype(q, &c->layer.dtype));
    c->layer.visit = time_product;
    c->layer.user = c;
    c->most = (int)q->algorithms;
    for (int i = 0; i < ROUNDS * c->most; i++) {
        c->algorithm = i % c->most;
        c->n = 0;
        pb_device_options options = {.threads = (int)q->threads, .algorithm = c->algorithm};
        PB_TRY(pb_device_open(q->device, &options, &c->layer.dev));
        for (int group = 0; status == PB_OK && group < pb_layer_groups(); group++)
            if (pb_layer_group_rank(group) != PB_LAYER_ALL) status = pb_layer_walk(&c->layer, group);
        pb_device_close(c->layer.dev);
        if (status != PB_OK) goto done;
    }
    pb_table_start(&table, head, 3);
    PB_TRY(tell_choice(c, q, &table, list));
    if (q->format != 0) {
        status = pb_cli_print_json(list);
        list = NULL;
    }
done:
    free(table.rows);
    pb_json_free(list);
    free(c);
    return status;
}

/* ---- the command ---- */

pb_status pb_bench_ops(const pb_bench_request *q) {
    static const char *const head[] = {"OP",  "SHAPE",   "KERNEL", "MEDIAN US", "P10",
                                       "P90", "GFLOP/S", "GB/S",   NULL};
    pb_status status = PB_OK;
    bench b = {0};
    pb_device_options options = {.threads = (int)q->threads, .memory_budget = q->budget};
    if (q->algorithms > 0) return bench_algorithms(q);
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
