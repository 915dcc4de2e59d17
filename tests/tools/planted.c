/* peftbench_planted: the program with faults planted into its kernels, for tests of what must find
 * them (tests/kernel_planted.sh, tests/proof/gate_proof.sh). Linked with --wrap=pb_op_run; the
 * program itself has no such switch. What is planted stands in a file `planted` beside it, one op a
 * line; without the file it is peftbench:
 *     OP time PERCENT   calls on the cpu device spin for that share of their own time
 *     OP work N         they execute N instructions more
 *     axpby pass 1      a pass over the result that nobody needs */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "kernels/ops.h"

pb_status __real_pb_op_run(pb_device *dev, pb_op op, const void *args);
pb_status __wrap_pb_op_run(pb_device *dev, pb_op op, const void *args);

typedef enum fault { NOTHING, TIME, WORK, PASS } fault;
static struct {
    fault what;
    double number;
} planted[PB_OP_COUNT];

static void plant(const char *name, const char *what, double number) {
    static const char *const faults[] = {"nothing", "time", "work", "pass"};
    for (int op = 0; op < PB_OP_COUNT; op++)
        for (int f = 0; f <= PASS; f++)
            if (strcmp(name, pb_op_name((pb_op)op)) == 0 && strcmp(what, faults[f]) == 0) {
                planted[op].what = (fault)f;
                planted[op].number = number;
                return;
            }
    fprintf(stderr, "planted: no op %s or fault %s\n", name, what);
    exit(1);
}

static void read_plan(void) {
    static bool known;
    char path[1024], name[64], what[16];
    double number;
    if (known) return;
    known = true;
    if (pb_beside_program("planted", path, sizeof path) != PB_OK) exit(1);
    FILE *f = fopen(path, "r");
    if (!f) return;
    while (fscanf(f, "%63s %15s %lf", name, what, &number) == 3) plant(name, what, number);
    fclose(f);
}

static void spin(double ns, int64_t from) {
    while ((double)(pb_now_ns() - from) < ns) {}
}

/* Two instructions a turn. */
static void execute(double instructions) {
    unsigned long turns = (unsigned long)(instructions / 2);
#if defined(__x86_64__)
    if (turns > 0) __asm__ volatile("1: dec %0\n\tjnz 1b" : "+r"(turns) : : "cc");
#else
    for (volatile unsigned long i = 0; i < turns; i++) {}
#endif
}

static volatile uint32_t kept; /* so that the pass is not optimised away */

static void pass_over(const pb_axpby_args *a) {
    const uint16_t *y = a->y.data;
    size_t n = pb_bytes(a->y) / sizeof *y;
    uint32_t bits = 0;
    for (size_t i = 0; i < n; i++) bits ^= y[i];
    kept = bits;
}

pb_status __wrap_pb_op_run(pb_device *dev, pb_op op, const void *args) {
    read_plan();
    fault what = (unsigned)op < PB_OP_COUNT ? planted[op].what : NOTHING;
    if (what == NOTHING || strcmp(pb_device_name(dev), "cpu") != 0)
        return __real_pb_op_run(dev, op, args);
    double number = planted[op].number;
    int64_t from = what == TIME ? pb_now_ns() : 0;
    PB_RETURN(__real_pb_op_run(dev, op, args));
    if (what == TIME) spin((double)(pb_now_ns() - from) * (1 + number / 100), from);
    if (what == WORK) execute(number);
    if (what == PASS) pass_over(args);
    return PB_OK;
}
