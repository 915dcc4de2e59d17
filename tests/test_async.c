/* A device that runs nothing until it is waited for, in memory that nobody else may touch: what a
 * GPU's stream and memory are to the code above kernels/. Every operation is queued with a copy of
 * its arguments and done when a value is asked for; in between, the memory is closed, so that
 * looking through a tensor's address ends the test at once. Every method must train, evaluate,
 * merge, save and load there with the bits of the plain device. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/core/device_impl.h"
#include "tests/lab.h"
#include "tests/support.h"

/* --- the queue -------------------------------------------------------------------------------- */

typedef enum kind { OP, PUT, ZERO, COPY, MARK } kind;

typedef struct entry {
    kind kind;
    pb_op op;
    void *args, *more; /* copies: of the arguments, of the arrays they name */
    void *ws, *dst;
    const void *src;
    size_t bytes;
    int64_t *mark;
} entry;

static struct queue {
    bool wanted; /* patch the next device of this name */
    bool any;    /* a device is patched */
    pb_device *dev;
    const pb_backend *real;
    const pb_kernel *kernel[PB_OP_COUNT];
    pb_backend backend;
    pb_kernel deferred[PB_OP_COUNT];
    entry *entries;
    size_t n, cap;
    struct {
        void *at;
        size_t bytes;
    } memory[256];
    int n_memory;
    int64_t clock, waits;
} q;

static const size_t args_size[PB_OP_COUNT] = {
#define X(name) [PB_OP_##name] = sizeof(pb_##name##_args),
    PB_OPS(X)
#undef X
};

static void open_memory(bool open) {
    for (int i = 0; i < q.n_memory; i++) {
        int access = open ? PROT_READ | PROT_WRITE : PROT_NONE;
        ck_assert_int_eq(mprotect(q.memory[i].at, q.memory[i].bytes, access), 0);
    }
}

static void *copy_of(const void *from, size_t bytes) {
    void *copy = malloc(bytes > 0 ? bytes : 1);
    ck_assert_ptr_nonnull(copy);
    return memcpy(copy, from, bytes);
}

static void push(entry e) {
    if (q.n == q.cap) {
        q.cap = q.cap > 0 ? 2 * q.cap : 1024;
        q.entries = realloc(q.entries, q.cap * sizeof *q.entries);
        ck_assert_ptr_nonnull(q.entries);
    }
    q.entries[q.n++] = e;
}

static pb_status run_entry(const entry *e) {
    q.clock++;
    if (e->kind == OP) return q.kernel[e->op]->run(q.dev, e->args, e->ws);
    if (e->kind == ZERO) return q.real->zero(q.dev->ctx, e->dst, e->bytes);
    if (e->kind == MARK) *e->mark = q.clock;
    if (e->kind != PUT && e->kind != COPY) return PB_OK;
    return q.real->copy(q.dev->ctx, e->dst, e->kind == PUT ? e->args : e->src, e->bytes);
}

static pb_status drain(void) {
    pb_status status = PB_OK;
    q.waits++;
    open_memory(true);
    for (size_t i = 0; i < q.n; i++) {
        if (status == PB_OK) status = run_entry(&q.entries[i]);
        free(q.entries[i].args);
        free(q.entries[i].more);
    }
    q.n = 0;
    open_memory(false);
    return status;
}

/* --- the backend ------------------------------------------------------------------------------ */

static void *mem_alloc(void *ctx, size_t bytes) {
    (void)ctx;
    size_t size = (bytes + 4095) / 4096 * 4096;
    ck_assert_int_lt(q.n_memory, 256);
    void *at = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert(at != MAP_FAILED);
    q.memory[q.n_memory].at = at;
    q.memory[q.n_memory++].bytes = size;
    return at;
}

static void mem_free(void *ctx, void *p, size_t bytes) {
    (void)ctx;
    for (int i = 0; i < q.n_memory; i++) {
        if (q.memory[i].at == p) q.memory[i] = q.memory[--q.n_memory];
    }
    ck_assert_int_eq(munmap(p, (bytes + 4095) / 4096 * 4096), 0);
}

static void close_queue(void *ctx) {
    ck_assert_uint_eq(q.n, 0);
    q.real->close(ctx);
    q.any = false;
}

static pb_status put(void *ctx, void *dst, const void *host, size_t bytes) {
    (void)ctx;
    push((entry){.kind = PUT, .dst = dst, .args = copy_of(host, bytes), .bytes = bytes});
    return PB_OK;
}

static pb_status get(void *ctx, void *host, const void *src, size_t bytes) {
    PB_RETURN(drain());
    open_memory(true);
    pb_status status = q.real->get(ctx, host, src, bytes);
    open_memory(false);
    return status;
}

static pb_status zero(void *ctx, void *dst, size_t bytes) {
    (void)ctx;
    push((entry){.kind = ZERO, .dst = dst, .bytes = bytes});
    return PB_OK;
}

static pb_status copy(void *ctx, void *dst, const void *src, size_t bytes) {
    (void)ctx;
    push((entry){.kind = COPY, .dst = dst, .src = src, .bytes = bytes});
    return PB_OK;
}

static pb_status sync_queue(void *ctx) {
    (void)ctx;
    return drain();
}

static pb_status event_new(void *ctx, void **event) {
    (void)ctx;
    *event = calloc(1, sizeof(int64_t));
    return *event != NULL ? PB_OK : PB_E_OOM;
}

static void event_free(void *ctx, void *event) {
    (void)ctx;
    free(event);
}

static pb_status event_record(void *ctx, void *event) {
    (void)ctx;
    push((entry){.kind = MARK, .mark = event});
    return PB_OK;
}

/* A nanosecond an operation. */
static pb_status event_elapsed(void *ctx, void *a, void *b, double *ns) {
    (void)ctx;
    PB_RETURN(drain());
    *ns = (double)(*(int64_t *)b - *(int64_t *)a);
    return PB_OK;
}

/* Arrays that an op reads during the call only. */
static void copy_arrays(entry *e) {
    if (e->op == PB_OP_adamw) {
        pb_adamw_args *a = e->args;
        a->items = e->more = copy_of(a->items, (size_t)a->n * sizeof *a->items);
    } else if (e->op == PB_OP_adamw8) {
        pb_adamw8_args *a = e->args;
        a->items = e->more = copy_of(a->items, (size_t)a->n * sizeof *a->items);
    } else if (e->op == PB_OP_grad_norm) {
        pb_grad_norm_args *a = e->args;
        a->grads = e->more = copy_of(a->grads, (size_t)a->n * sizeof *a->grads);
    }
}

static pb_status enqueue(pb_op op, const void *args, void *ws) {
    entry e = {.kind = OP, .op = op, .args = copy_of(args, args_size[op]), .ws = ws};
    copy_arrays(&e);
    push(e);
    return PB_OK;
}

#define X(name)                                                                                    \
    static pb_status later_##name(pb_device *dev, const void *args, void *ws) {                    \
        (void)dev;                                                                                 \
        return enqueue(PB_OP_##name, args, ws);                                                    \
    }
PB_OPS(X)
#undef X

static pb_status (*const later[PB_OP_COUNT])(pb_device *, const void *, void *) = {
#define X(name) [PB_OP_##name] = later_##name,
    PB_OPS(X)
#undef X
};

static void defer(pb_device *dev) {
    q.dev = dev;
    q.any = true;
    q.real = dev->backend;
    q.backend = (pb_backend){.name = "deferred",
                             .computes = true,
                             .mem_alloc = mem_alloc,
                             .mem_free = mem_free,
                             .open = q.real->open,
                             .close = close_queue,
                             .put = put,
                             .get = get,
                             .zero = zero,
                             .copy = copy,
                             .sync = sync_queue,
                             .event_new = event_new,
                             .event_free = event_free,
                             .event_record = event_record,
                             .event_elapsed = event_elapsed,
                             .fast_dtype = q.real->fast_dtype,
                             .kernels = q.real->kernels};
    for (int op = 0; op < PB_OP_COUNT; op++) {
        q.kernel[op] = dev->kernel[op];
        if (q.kernel[op] == NULL) continue;
        q.deferred[op] = *q.kernel[op];
        q.deferred[op].run = later[op];
        dev->kernel[op] = &q.deferred[op];
    }
    dev->backend = dev->kernels = &q.backend;
}

/* The linker sends every pb_device_open of the program here. */
pb_status __real_pb_device_open(const char *backend, const pb_device_options *options,
                                pb_device **out);
pb_status __wrap_pb_device_open(const char *backend, const pb_device_options *options,
                                pb_device **out);

pb_status __wrap_pb_device_open(const char *backend, const pb_device_options *options,
                                pb_device **out) {
    PB_RETURN(__real_pb_device_open(backend, options, out));
    if (q.wanted && strcmp(backend, "cpu") == 0) {
        q.wanted = false;
        defer(*out);
    }
    return PB_OK;
}

/* --- what is done on it ----------------------------------------------------------------------- */

static char *dirs[PB_LAB_MODELS];

static void write_models(void) {
    for (int i = 0; i < PB_LAB_MODELS; i++) {
        dirs[i] = pb_test_dir();
        pb_lab_write_model((pb_lab_model)i, dirs[i]);
    }
}

static void free_models(void) {
    for (int i = 0; i < PB_LAB_MODELS; i++) free(dirs[i]);
}

/* Results of one life, to be compared bit for bit. */
typedef struct life {
    bool trains;
    char trained[PB_SHA256_HEX];
    double *logits[4]; /* trained, merged, unmerged again, loaded */
    size_t n;
    double losses[4];
    int64_t waits; /* of one steady step */
} life;

static void live(const pb_lab_options *o, bool deferred, life *l) {
    pb_lab lab;
    const pb_method *m = o->method;
    char path[1200];
    uint64_t bytes = 0;
    *l = (life){0};
    snprintf(path, sizeof path, "%s/adapter.safetensors", dirs[o->model]);
    q.wanted = deferred;
    pb_assert_ok(pb_lab_open(&lab, dirs[o->model], o, &l->trains));
    if (!l->trains) return;
    ck_assert(q.any == deferred);
    pb_assert_ok(pb_lab_train(&lab, 3));
    l->waits = q.waits;
    pb_assert_ok(pb_lab_train(&lab, 1));
    l->waits = q.waits - l->waits;
    pb_assert_ok(pb_lab_losses(&lab, l->losses, 4));
    pb_assert_ok(pb_lab_hash(&lab, true, l->trained));
    pb_assert_ok(pb_lab_logits(&lab, &l->logits[0], &l->n));
    pb_assert_ok(pb_model_save_adapter(lab.session.model, path, NULL, &bytes));
    if (m->mergeable) {
        pb_assert_ok(m->merge(lab.session.self, lab.session.dev));
        pb_assert_ok(pb_lab_logits(&lab, &l->logits[1], &l->n));
        pb_assert_ok(m->unmerge(lab.session.self, lab.session.dev));
        pb_assert_ok(pb_lab_logits(&lab, &l->logits[2], &l->n));
    }
    pb_assert_ok(pb_model_load_adapter(lab.session.model, path));
    pb_assert_ok(pb_lab_logits(&lab, &l->logits[3], &l->n));
    if (m->report != NULL) {
        pb_json *report = cJSON_CreateObject();
        pb_assert_ok(m->report(lab.session.self, lab.session.dev, report));
        pb_json_free(report);
    }
    pb_assert_ok(pb_device_sync(lab.session.dev));
    remove(path);
    pb_lab_close(&lab);
}

static void compare(const char *name, const life *want, const life *got) {
    ck_assert_msg(strcmp(want->trained, got->trained) == 0, "%s: other weights", name);
    ck_assert_msg(memcmp(want->losses, got->losses, sizeof want->losses) == 0, "%s: losses", name);
    for (int i = 0; i < 4; i++) {
        if (want->logits[i] == NULL) continue;
        ck_assert_msg(memcmp(want->logits[i], got->logits[i], want->n * sizeof(double)) == 0,
                      "%s: logits %d differ", name, i);
    }
}

/* A step may wait for its loss, for its gradient norm, for its end (its time is the host's clock until
 * then) and for the times of its phases; AdaLoRA also for its scores. */
enum { LAYOUTS = 2 * PB_LAB_MODELS, EVENT_READS = 4, VALUE_READS = 3, END = 1 };

START_TEST(every_method_lives_on_a_deferred_device) {
    pb_lab_options o = {.method = pb_method_registry[_i / LAYOUTS],
                        .model = (pb_lab_model)(_i / 2 % PB_LAB_MODELS),
                        .dtype = _i % 2 == 0 ? PB_F32 : PB_BF16,
                        .dropout = 0.1,
                        .optimizer = _i % 2 == 0 ? PB_OPT_ADAMW : PB_OPT_ADAMW8};
    life plain, deferred;
    live(&o, false, &plain);
    live(&o, true, &deferred);
    ck_assert(plain.trains == deferred.trains);
    if (plain.trains) {
        compare(o.method->name, &plain, &deferred);
        ck_assert_int_le(deferred.waits, EVENT_READS + VALUE_READS + END);
    }
    for (int i = 0; i < 4; i++) {
        free(plain.logits[i]);
        free(deferred.logits[i]);
    }
    free(q.entries);
    q = (struct queue){0};
}
END_TEST

/* A record does not wait; elapsed does. */
START_TEST(events_are_marks_in_the_queue) {
    pb_device *dev = NULL;
    pb_event *a = NULL, *b = NULL;
    pb_tensor t;
    double ns = 0.0, values[4];
    q.wanted = true;
    pb_assert_ok(pb_device_open("cpu", NULL, &dev));
    pb_assert_ok(pb_alloc1(dev, PB_MEM_ACT, PB_F32, 4, &t));
    pb_assert_ok(pb_event_new(dev, &a));
    pb_assert_ok(pb_event_new(dev, &b));
    pb_assert_ok(pb_event_record(a));
    pb_assert_ok(
        pb_fill_uniform(dev, &(pb_fill_uniform_args){.x = t, .lo = 1.0, .hi = 2.0, .key = 1}));
    pb_assert_ok(pb_event_record(b));
    ck_assert(q.n == 3 && q.waits == 0);
    pb_assert_ok(pb_event_elapsed(a, b, &ns));
    ck_assert(ns == 2.0 && q.waits == 1);
    pb_assert_ok(pb_device_get_f64(dev, values, t));
    for (int i = 0; i < 4; i++) ck_assert(values[i] >= 1.0 && values[i] < 2.0);
    pb_event_free(a);
    pb_event_free(b);
    pb_device_close(dev);
}
END_TEST

#ifndef PB_SANITIZED
/* Looking through an address is seen. */
START_TEST(closed_memory_is_closed) {
    pb_device *dev = NULL;
    pb_tensor t;
    q.wanted = true;
    pb_assert_ok(pb_device_open("cpu", NULL, &dev));
    pb_assert_ok(pb_alloc1(dev, PB_MEM_ACT, PB_F32, 4, &t));
    ((volatile float *)t.data)[0] = 1; /* the signal that this test expects */
    pb_device_close(dev);
}
END_TEST
#endif

int main(void) {
    Suite *s = suite_create("async");
    TCase *t = pb_test_case(s, "deferred device");
    tcase_add_checked_fixture(t, write_models, free_models);
    tcase_add_loop_test(t, every_method_lives_on_a_deferred_device, 0,
                        pb_method_registry_count * LAYOUTS);
    tcase_add_test(t, events_are_marks_in_the_queue);
#ifndef PB_SANITIZED /* a sanitizer takes the signal itself */
    tcase_add_test_raise_signal(t, closed_memory_is_closed, SIGSEGV);
#endif
    return pb_run_suite(s);
}
