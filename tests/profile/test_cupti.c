/* The CUPTI tracer without a GPU: canned activity buffers, CUPTI's host API for GH100, and what happens without a driver. */
#include <cupti.h>
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "harness/profile/cupti/activity.h"
#include "harness/profile/cupti/plugin.h"
#include "harness/profile/cupti/range.h"
#include "tests/support.h"

/* --- canned buffers --- */

typedef struct canned {
    _Alignas(8) uint8_t data[8192];
    size_t bytes;
} canned;

static void put(canned *c, const void *record, size_t bytes) {
    ck_assert(c->bytes + bytes <= sizeof c->data);
    memcpy(c->data + c->bytes, record, bytes);
    c->bytes += bytes;
}

static void put_kernel(canned *c, const char *name, uint64_t start, uint64_t end, uint32_t id) {
    CUpti_ActivityKernel10 k = {.kind = CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL,
                                .start = start,
                                .end = end,
                                .correlationId = id,
                                .name = name};
    put(c, &k, sizeof k);
}

static void put_link(canned *c, uint64_t external, uint32_t id, CUpti_ExternalCorrelationKind kind) {
    CUpti_ActivityExternalCorrelation e = {.kind = CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION,
                                           .externalKind = kind,
                                           .externalId = external,
                                           .correlationId = id};
    put(c, &e, sizeof e);
}

static void put_memory(canned *c, bool take, CUpti_ActivityMemoryKind kind, uint64_t address, uint64_t bytes,
                       uint64_t at_ns) {
    CUpti_ActivityMemory4 m = {
        .kind = CUPTI_ACTIVITY_KIND_MEMORY2,
        .memoryOperationType = take ? CUPTI_ACTIVITY_MEMORY_OPERATION_TYPE_ALLOCATION
                                    : CUPTI_ACTIVITY_MEMORY_OPERATION_TYPE_RELEASE,
        .memoryKind = kind,
        .address = address,
        .timestamp = at_ns,
        .bytes = bytes};
    put(c, &m, sizeof m);
}

static const pb_cupti_op ops[] = {
    {.op = "lowrank",
     .scope = {"forward", "layers.0.attn.q", "low_rank"},
     .work = {.flops = 300, .bytes = 30}},
    {.op = "copy", .scope = {"backward", "layers.1.mlp.out", "bottleneck"}, .step = 1},
};

/* Two kernels of op 1 (100 and 200 ns), a copy and a fill of op 2, a kernel of nobody, one without times. Links come behind
 * what they explain, as CUPTI may deliver them. */
static void fill_buffer(canned *c) {
    CUpti_ActivityMemcpy6 copy = {.kind = CUPTI_ACTIVITY_KIND_MEMCPY,
                                  .copyKind = CUPTI_ACTIVITY_MEMCPY_KIND_HTOD,
                                  .start = 2000,
                                  .end = 2050,
                                  .correlationId = 12};
    CUpti_ActivityMemset4 fill = {
        .kind = CUPTI_ACTIVITY_KIND_MEMSET, .start = 2100, .end = 2110, .correlationId = 13};
    CUpti_ActivityOverhead3 overhead = {
        .kind = CUPTI_ACTIVITY_KIND_OVERHEAD, .start = 5000, .end = 6000};
    put_kernel(c, "_ZN2pb9up_kernelIfEEvPKfi", 1200, 1400, 11);
    put_kernel(c, "down_kernel", 1000, 1100, 10);
    put(c, &copy, sizeof copy);
    put(c, &fill, sizeof fill);
    put_kernel(c, "stranger", 3000, 3001, 99);
    put_kernel(c, "timeless", 0, 0, 10);
    put(c, &overhead, sizeof overhead);
    put_link(c, 2, 12, CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0);
    put_link(c, 2, 13, CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0);
    put_link(c, 1, 10, CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0);
    put_link(c, 1, 11, CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0);
    put_link(c, 7, 99, CUPTI_EXTERNAL_CORRELATION_KIND_UNKNOWN); /* somebody else's numbers */
}

static const char *name_of(const pb_profile *p, int64_t i, pb_by by) {
    return p->names[by].name[p->spans[i].name[by]];
}

START_TEST(records_find_their_op) {
    canned c = {.bytes = 0};
    pb_cupti_log log = {0};
    pb_profile p = {0};
    fill_buffer(&c);
    pb_assert_ok(pb_cupti_parse(&log, c.data, c.bytes));
    ck_assert(log.records == 12 && log.no_time == 1 && log.unknown == 0);
    pb_assert_ok(pb_cupti_spans(&log, ops, 2, &p));
    ck_assert_int_eq((int)p.n_spans, 5);
    ck_assert_str_eq(name_of(&p, 0, PB_BY_KERNEL), "down_kernel");
    ck_assert_str_eq(name_of(&p, 1, PB_BY_KERNEL), "pb::up_kernel<float>");
    ck_assert_str_eq(name_of(&p, 1, PB_BY_OP), "lowrank");
    ck_assert_str_eq(name_of(&p, 1, PB_BY_SITE), "layers.0.attn.q");
    ck_assert_str_eq(name_of(&p, 1, PB_BY_PART), "low_rank");
    ck_assert_str_eq(name_of(&p, 1, PB_BY_PHASE), "forward");
    ck_assert(p.spans[0].start_ns == 0 && p.spans[1].start_ns == 200 && p.spans[1].ns == 200);
    ck_assert(fabs(p.spans[0].work.flops - 100) < 1e-9 && fabs(p.spans[1].work.bytes - 20) < 1e-9);
    ck_assert_str_eq(name_of(&p, 2, PB_BY_KERNEL), "copy host to device");
    ck_assert_str_eq(name_of(&p, 3, PB_BY_KERNEL), "fill");
    ck_assert_str_eq(name_of(&p, 3, PB_BY_PART), "bottleneck");
    ck_assert(p.spans[3].step == 1);
    ck_assert_str_eq(name_of(&p, 4, PB_BY_OP), "");
    ck_assert(p.spans[4].work.flops == 0 && p.records == 12 && p.no_time == 1);
    ck_assert(fabs(p.overhead_s - 1e-6) < 1e-15);
    pb_profile_free(&p);
    pb_cupti_log_free(&log);
}
END_TEST

START_TEST(an_external_number_out_of_range_is_nobody) {
    canned c = {.bytes = 0};
    pb_cupti_log log = {0};
    pb_profile p = {0};
    put_kernel(&c, "k", 1, 2, 5);
    put_link(&c, 3, 5, CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0);
    pb_assert_ok(pb_cupti_parse(&log, c.data, c.bytes));
    pb_assert_ok(pb_cupti_spans(&log, ops, 2, &p));
    ck_assert_str_eq(name_of(&p, 0, PB_BY_OP), "");
    pb_profile_free(&p);
    pb_cupti_log_free(&log);
    pb_assert_ok(pb_cupti_parse(&log, c.data, 0));
    pb_assert_ok(pb_cupti_spans(&log, ops, 2, &p)); /* nothing at all */
    ck_assert(p.n_spans == 0);
    pb_profile_free(&p);
    pb_cupti_log_free(&log);
}
END_TEST

/* --- memory --- */

static const CUpti_ActivityMemoryKind DEVICE = CUPTI_ACTIVITY_MEMORY_KIND_DEVICE,
                                      PINNED = CUPTI_ACTIVITY_MEMORY_KIND_PINNED;

/* Two blocks of the activations, one of the weights, the optimizer's in the host's memory, a library's workspace; something
 * taken and given back in between, whose place another block takes; records of two threads' buffers, not in order of time. */
START_TEST(memory_is_told_apart_by_address) {
    canned c = {.bytes = 0};
    pb_cupti_log log = {0};
    pb_memory_seen seen = {0};
    const pb_cupti_block blocks[] = {{0x1000, 100, PB_MEM_ACT},  {0x2000, 50, PB_MEM_ACT}, {0x3000, 1000, PB_MEM_BASE},
                                     {0x9000, 70, PB_MEM_OPTIM}, {0x4000, 5, PB_MEM_GRAD}}; /* the last was never recorded */
    put_memory(&c, true, DEVICE, 0x3000, 1000, 50); /* delivered first, taken last */
    put_memory(&c, true, DEVICE, 0x1000, 400, 10);
    put_memory(&c, false, DEVICE, 0x1000, 400, 20);
    put_memory(&c, true, DEVICE, 0x1000, 100, 30);
    put_memory(&c, true, DEVICE, 0x2000, 50, 30);
    put_memory(&c, true, DEVICE, 0x7000, 32, 40);
    put_memory(&c, true, PINNED, 0x9000, 70, 40);
    put_memory(&c, true, PINNED, 0xA000, 9, 40);
    put_memory(&c, false, DEVICE, 0x8000, 8, 45); /* taken before the records began */
    pb_assert_ok(pb_cupti_parse(&log, c.data, c.bytes));
    ck_assert(log.records == 9 && log.n_memory == 9);
    pb_assert_ok(pb_cupti_memory_totals(&log, blocks, 5, &seen));
    ck_assert(seen.seen[PB_MEM_ACT] == 150 && seen.seen[PB_MEM_BASE] == 1000 && seen.seen[PB_MEM_OPTIM] == 70);
    ck_assert(seen.seen[PB_MEM_GRAD] == 0 && seen.other == 32);
    ck_assert(seen.peak == 1000 + 150 + 32); /* the 400 were gone when the rest came; the host's is not the device's */
    pb_cupti_log_free(&log);
}
END_TEST

START_TEST(a_peak_may_lie_before_the_end) {
    canned c = {.bytes = 0};
    pb_cupti_log log = {0};
    pb_memory_seen seen = {0};
    put_memory(&c, true, DEVICE, 0x1000, 1000, 1);
    put_memory(&c, true, DEVICE, 0x2000, 500, 2);
    put_memory(&c, false, DEVICE, 0x1000, 1000, 3);
    put_memory(&c, true, DEVICE, 0x1000, 200, 4);
    pb_assert_ok(pb_cupti_parse(&log, c.data, c.bytes));
    pb_assert_ok(pb_cupti_memory_totals(&log, NULL, 0, &seen));
    ck_assert(seen.peak == 1500 && seen.other == 700);
    pb_cupti_log_free(&log);
}
END_TEST

/* --- CUPTI's host API --- */

/* On every chip that the backend is built for; those of compute capability 12 have the second set's names. */
START_TEST(the_roofline_set_is_one_pass) {
    static const struct {
        const char *chip;
        size_t set;
    } chips[] = {{"GH100", 0}, {"TU102", 0}, {"GA100", 0}, {"GA102", 0}, {"AD102", 0}, {"GB100", 0}, {"GB202", 1}};
    size_t passes = 0, set = 9;
    const char *what = "";
    for (size_t i = 0; i < sizeof chips / sizeof chips[0]; i++) {
        int rc = pb_cupti_passes(chips[i].chip, &passes, &set, &what);
        ck_assert_msg(rc == 0, "%s: %s gave %d", chips[i].chip, what, rc);
        ck_assert_msg(passes == 1 && set == chips[i].set, "%s: %zu passes, set %zu", chips[i].chip, passes, set);
    }
    ck_assert_int_ne(pb_cupti_passes("NO100", &passes, &set, &what), 0);
    ck_assert_str_eq(what, "cuptiProfilerHostInitialize");
}
END_TEST

START_TEST(cupti_knows_the_chips) {
    const char *names[64], *what = "";
    size_t n = 0;
    bool hopper = false;
    ck_assert_int_eq(pb_cupti_chips(names, 64, &n, &what), 0);
    for (size_t i = 0; i < n; i++) hopper = hopper || strcmp(names[i], "GH100") == 0;
    ck_assert(hopper);
}
END_TEST

/* CUPTI asks for these by name: they must be open before it does, wherever the toolkit lies. */
START_TEST(libraries_beside_cupti_are_open) {
    const char *names[64], *what = "";
    size_t n = 0;
    ck_assert_ptr_null(dlopen("libnvperf_target.so", RTLD_NOW | RTLD_NOLOAD));
    ck_assert_int_eq(pb_cupti_chips(names, 64, &n, &what), 0);
    ck_assert_ptr_nonnull(dlopen("libnvperf_target.so", RTLD_NOW | RTLD_NOLOAD));
    ck_assert_ptr_nonnull(dlopen("libnvperf_host.so", RTLD_NOW | RTLD_NOLOAD));
}
END_TEST

/* --- without a driver --- */

/* The tracer cannot start, says so with the call and the number, and leaves nothing on; counters refused are a state. */
START_TEST(without_a_gpu_the_reason_is_said) {
    pb_device *dev = NULL;
    pb_profile p = {0};
    void *trace = NULL, *reader = NULL;
    pb_assert_ok(pb_device_open("cpu", NULL, &dev));
    pb_status status = pb_cupti_plugin()->tracer->begin(dev, &p, &trace);
    if (status == PB_OK) pb_assert_ok(pb_cupti_plugin()->tracer->end(trace)); /* a machine with a driver */
    else ck_assert(status == PB_E_ENV && strstr(pb_error_message(), "CUPTI: cuptiActivity") != NULL);
    status = pb_cupti_plugin()->memory->begin(&reader);
    if (status == PB_OK) pb_assert_ok(pb_cupti_plugin()->memory->end(reader, dev, &p.memory_seen));
    else ck_assert(status == PB_E_ENV && strstr(pb_error_message(), "CUPTI: cuptiActivity") != NULL);
    /* No context: this program has made none, with a driver or without. */
    pb_assert_fails(pb_cupti_plugin()->counters->open(dev, 4, &reader), PB_E_ENV, "CUDA");
    ck_assert(reader == NULL);
    ck_assert(!pb_device_observed(dev));
    pb_profile_free(&p);
    pb_device_close(dev);
}
END_TEST

int main(void) {
    Suite *s = suite_create("cupti");
    TCase *t = pb_test_case(s, "records");
    tcase_add_test(t, records_find_their_op);
    tcase_add_test(t, an_external_number_out_of_range_is_nobody);
    t = pb_test_case(s, "memory");
    tcase_add_test(t, memory_is_told_apart_by_address);
    tcase_add_test(t, a_peak_may_lie_before_the_end);
    t = pb_test_case(s, "host API");
    tcase_add_test(t, the_roofline_set_is_one_pass);
    tcase_add_test(t, cupti_knows_the_chips);
    tcase_add_test(t, libraries_beside_cupti_are_open);
    t = pb_test_case(s, "no driver");
    tcase_add_test(t, without_a_gpu_the_reason_is_said);
    return pb_run_suite(s);
}
