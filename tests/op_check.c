/* Op cases on devices. */
#include "tests/op_check.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "tests/support.h"

void op_result_free(op_result *r) {
    for (int i = 0; i < OP_SLOTS; i++) free(r->raw[i]);
    *r = (op_result){0};
}

void op_execute(op_instance *t, pb_device *dev, op_result *r) {
    op_bound bound;
    char text[256];
    pb_mark mark = pb_device_mark(dev, PB_MEM_DATA);
    uint64_t work = pb_device_mem_now(dev, PB_MEM_WORK);
    pb_assert_ok(op_bind(t, dev, &bound));
    r->status = pb_op_run(dev, t->op, &t->args);
    ck_assert_msg(r->status == PB_OK || r->status == PB_E_UNSUPPORTED, "%s on %s: %s", t->name,
                  pb_device_name(dev), pb_error_message());
    ck_assert_msg(pb_device_mem_now(dev, PB_MEM_WORK) == work, "%s kept workspace", t->name);
    if (r->status == PB_OK) {
        pb_assert_ok(op_fetch(t, dev, &bound, r->raw));
        const char *damage = op_damage(t, r->raw, text, sizeof text);
        ck_assert_msg(damage == NULL, "%s: %s", pb_device_name(dev), damage);
    }
    pb_device_rewind(dev, PB_MEM_DATA, mark);
}

static void same_bits(const op_instance *t, const op_result *a, const op_result *b,
                      const char *what) {
    for (int i = 0; i < t->n; i++) {
        if (a->raw[i] == NULL) continue;
        const op_slot *s = &t->slot[i];
        double *x = malloc((size_t)(s->rows * s->cols + 1) * sizeof *x);
        double *y = malloc((size_t)(s->rows * s->cols + 1) * sizeof *y);
        ck_assert(x != NULL && y != NULL);
        op_read(t, i, a->raw, x);
        op_read(t, i, b->raw, y);
        for (int64_t k = 0; k < s->valid; k++) {
            ck_assert_msg(memcmp(&x[k], &y[k], sizeof *x) == 0,
                          "%s: %s[%" PRId64 "] is %.17g, but %.17g with %s", t->name, s->name, k,
                          x[k], y[k], what);
        }
        free(x);
        free(y);
    }
}

void op_compare_case(const op_case *def, pb_dtype dtype, pb_device *ref, pb_device **devs, int n,
                     void (*before)(int device), op_tally *sum) {
    ck_assert(n >= 1 && n <= OP_DEVICES);
    op_instance *t = op_case_build(def, dtype);
    op_result want = {0}, got[OP_DEVICES] = {0};
    char text[512];
    double used = 0.0;
    pb_assert_ok(op_case_derive(t, ref));
    op_execute(t, ref, &want);
    ck_assert_msg(want.status == PB_OK, "%s has no reference: %s", t->name, pb_error_message());
    for (int i = 0; i < n; i++) {
        if (before != NULL) before(i);
        op_execute(t, devs[i], &got[i]);
    }
    if (got[0].status == PB_OK) {
        const char *fault = op_compare(t, got[0].raw, want.raw, &used, text, sizeof text);
        ck_assert_msg(fault == NULL, "%s", fault);
        for (int i = 1; i < n; i++) {
            char what[64];
            snprintf(what, sizeof what, "device %d (%d threads)", i, pb_device_threads(devs[i]));
            same_bits(t, &got[0], &got[i], what);
        }
        sum->ran++;
        if (used > sum->worst) {
            sum->worst = used;
            pb_copy(sum->worst_case, sizeof sum->worst_case, t->name);
        }
    } else {
        sum->unsupported++;
    }
    op_result_free(&want);
    for (int i = 0; i < n; i++) op_result_free(&got[i]);
    op_case_free(t);
}

bool op_is_compared(const op_case *def, int dtype) {
    return (def->dtypes & (1u << dtype)) != 0 && dtype != PB_F64 && (def->flags & OC_SPEED) == 0;
}

