/* peftbench kernels compare: is a build slower than another? */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "harness/cli.h"
#include "harness/cli_kernels.h"
#include "harness/kernel_compare.h"

static pb_status write_file(const char *path, pb_text *text) {
    pb_status status = pb_text_status(text);
    if (status == PB_OK) status = pb_file_write_atomic(path, text->data, text->len);
    pb_text_free(text);
    return status;
}

static bool add_kernel(pb_json *o, const pb_compared *k) {
    const pb_gate_result *r = &k->result;
    bool ok = pb_json_add_str(o, "name", k->name) &&
              pb_json_add_str(o, "verdict", pb_gate_name(r->verdict)) &&
              pb_json_add_str(o, "why", r->why) && pb_json_add_f64(o, "ratio", r->ratio) &&
              pb_json_add_f64(o, "low", r->interval.low) &&
              pb_json_add_f64(o, "high", r->interval.high) &&
              pb_json_add_f64(o, "detectable", r->detectable);
    for (int side = 0; side < 2; side++) {
        pb_json *stages = pb_json_add_array(o, side ? "b_medians_s" : "a_medians_s");
        for (int s = 0; s < PB_GATE_STAGES; s++) {
            pb_json *medians = k->time[side][s][0] > 0 ? pb_json_add_array(stages, NULL) : NULL;
            for (int i = 0; medians && i < PB_GATE_PROCESSES; i++)
                ok = ok && pb_json_add_f64(medians, NULL, k->time[side][s][i]);
        }
        ok = ok && stages;
    }
    return ok;
}

static pb_status print_json(const pb_comparison_of_builds *c, uint64_t key, int code) {
    pb_json *root = cJSON_CreateObject();
    bool ok = pb_json_add_str(root, "schema", "peftbench-kernels-compare-1") &&
              pb_json_add_str(root, "a_sha256", c->sha256[0]) &&
              pb_json_add_str(root, "b_sha256", c->sha256[1]) &&
              pb_json_add_i64(root, "order_key", (int64_t)key) &&
              pb_json_add_i64(root, "exit", code);
    pb_json *list = pb_json_add_array(root, "kernels");
    for (int i = 0; i < c->n; i++)
        ok = ok && add_kernel(pb_json_add_object(list, NULL), &c->kernels[i]);
    if (ok) return pb_cli_print_json(root);
    pb_json_free(root);
    return pb_cli_built(false);
}

static void print_text(const pb_comparison_of_builds *c) {
    for (int i = 0; i < c->n; i++)
        printf("%-13s %s: %s\n", pb_gate_name(c->kernels[i].result.verdict), c->kernels[i].name,
               c->kernels[i].result.why);
}

static int exit_code(const pb_comparison_of_builds *c, bool allow_unclear) {
    int code = 1;
    pb_gate_verdict *v = calloc((size_t)c->n + 1, sizeof *v);
    for (int i = 0; v && i < c->n; i++) v[i] = c->kernels[i].result.verdict;
    if (v) code = pb_gate_exit(v, c->n, allow_unclear);
    free(v);
    return code;
}

pb_status pb_kernels_compare(pb_cli *cli, const pb_kernels_compare_request *q) {
    pb_status status = PB_OK;
    pb_comparison_of_builds c = {0};
    pb_text text = {0};
    uint64_t key = ((uint64_t)pb_now_ns() ^ (uint64_t)getpid()) & UINT64_C(0xffffffffffff);
    pb_compare_request request = {
        .a = q->a, .b = q->b, .options = q->options, .filter = q->filter, .key = key};
    PB_TRY(pb_compare_builds(&request, &c));
    cli->exit_code = exit_code(&c, q->allow_unclear);
    if (q->junit) {
        PB_TRY(pb_compared_junit(&c, q->allow_unclear, &text));
        PB_TRY(write_file(q->junit, &text));
    }
    if (q->markdown) {
        PB_TRY(pb_compared_markdown(&c, &text));
        PB_TRY(write_file(q->markdown, &text));
    }
    if (q->json)
        PB_TRY(print_json(&c, key, cli->exit_code));
    else
        print_text(&c);
done:
    pb_text_free(&text);
    pb_comparison_of_builds_free(&c);
    return status;
}
