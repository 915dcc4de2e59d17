/* The queue: at once, or by tape and graph (queue.h). */
#include "kernels/cuda/queue.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIN_ITEMS    4    /* shorter tapes are not worth a graph */
#define FIRST_PIECE  32   /* items of a step's first piece behind a wait: the device begins soon; each next one has twice as many, */
#define PIECE        128  /* up to this: long enough to hide the launch of a graph */
#define MAX_SEGMENTS 1024 /* pieces remembered, some 70 steps of 1,350 items; the one not used for longest goes */
#define MAX_LARGE    64

typedef enum kind { KERNEL, ZERO, COPY, RECORD, PRODUCT } kind;

typedef struct item {
    kind what;
    const char *name;                              /* KERNEL */
    const void *kernel;                            /* KERNEL */
    void (*call)(const void *kernel, void **args); /* KERNEL */
    unsigned grid[3], block[3];                    /* KERNEL */
    size_t shared;                                 /* KERNEL */
    int first, n;                                  /* KERNEL: parameters in the tape's list */
    size_t at, bytes;                              /* KERNEL: values [at, at + bytes) of the tape; ZERO, COPY: bytes */
    void *dst;                                     /* ZERO, COPY; RECORD: the event */
    const void *src;                               /* COPY */
    pb_cuda_product product;                       /* PRODUCT */
} item;

typedef struct param {
    size_t at, bytes; /* in the values */
} param;

typedef struct op_tape {
    item *items;
    param *params;
    unsigned char *values;
    size_t n, cap, n_params, cap_params, n_values, cap_values;
    uint64_t like; /* a hash of all that `alike` compares */
} op_tape;

/* A piece of a step that was run, and its graph from the second time on. */
typedef struct segment {
    op_tape tape; /* with the values that the graph has now */
    void *graph, *exec;
    void **nodes; /* of each kernel item */
    uint64_t used;
} segment;

struct pb_cuda_queue {
    op_tape tape;
    bool graphs, step, whole; /* whole: the step is not cut */
    size_t piece;             /* items that the next piece of the step takes */
    segment segments[MAX_SEGMENTS];
    int n_segments, next; /* next: behind the one last found */
    uint64_t turn;
    const void *large[MAX_LARGE]; /* kernels that have been allowed this much shared memory */
    size_t large_bytes[MAX_LARGE];
    int n_large;
    char why[256]; /* graphs were given up */
};

pb_status pb_cuda_failed(int code, const char *what, const char *file, int line) {
    static const pb_status status_of[] = {PB_E_BUG, PB_E_OOM, PB_E_ENV, PB_E_BUG};
    pb_api_class of = pb_api_class_of(code);
    const char *end = what;
    while (*end != 0 && *end != '(') end++;
    if (end == what) end = what + strlen(what);
    return pb_error_set(status_of[of], file, line, "cuda: %.*s: %s%s", (int)(end - what), what, pb_api_error(code),
                        of == PB_API_FAULT ? "; run again with PB_CUDA_GRAPHS=0 CUDA_LAUNCH_BLOCKING=1 to see which kernel did it" : "");
}

/* --- tapes ------------------------------------------------------------------------------------------ */

static void tape_free(op_tape *t) {
    free(t->items);
    free(t->params);
    free(t->values);
    *t = {};
}

static bool room(void **p, size_t *cap, size_t need, size_t size) {
    if (need <= *cap) return true;
    size_t more = need > 2 * *cap ? need : 2 * *cap;
    void *grown = realloc(*p, more * size);
    if (grown == NULL) return false;
    *p = grown;
    *cap = more;
    return true;
}

static void mix(uint64_t *hash, uint64_t value) {
    *hash = (*hash ^ value) * 0x9E3779B97F4A7C15u;
    *hash ^= *hash >> 32;
}

static pb_status push(op_tape *t, const item *it) {
    if (!room((void **)&t->items, &t->cap, t->n + 1, sizeof *t->items))
        return PB_ERROR(PB_E_OOM, "no host memory for a step of %zu operations", t->n + 1);
    t->items[t->n++] = *it;
    mix(&t->like, (uint64_t)it->what);
    mix(&t->like, it->bytes);
    mix(&t->like, (uint64_t)it->n);
    mix(&t->like, (uint64_t)(uintptr_t)it->kernel);
    mix(&t->like, (uint64_t)(uintptr_t)it->dst);
    mix(&t->like, (uint64_t)(uintptr_t)it->src);
    mix(&t->like, (uint64_t)(uintptr_t)it->product.desc);
    mix(&t->like, (uint64_t)(uintptr_t)it->product.d);
    return PB_OK;
}

static pb_status push_launch(op_tape *t, const pb_launch *l) {
    item it = {};
    it.what = KERNEL;
    it.name = l->name;
    it.kernel = l->kernel;
    it.call = l->call;
    for (int i = 0; i < 3; i++) {
        it.grid[i] = l->grid[i];
        it.block[i] = l->block[i];
    }
    it.shared = l->shared;
    it.first = (int)t->n_params;
    it.n = l->n;
    it.at = t->n_values;
    for (int i = 0; i < l->n; i++) it.bytes += (l->size[i] + 15) / 16 * 16;
    if (!room((void **)&t->params, &t->cap_params, t->n_params + (size_t)l->n, sizeof *t->params) ||
        !room((void **)&t->values, &t->cap_values, t->n_values + it.bytes, 1))
        return PB_ERROR(PB_E_OOM, "no host memory for the parameters of %s", l->name);
    memset(t->values + it.at, 0, it.bytes);
    for (int i = 0; i < l->n; i++) {
        param p = {t->n_values, l->size[i]};
        memcpy(t->values + p.at, l->args[i], p.bytes);
        t->params[t->n_params++] = p;
        t->n_values += (p.bytes + 15) / 16 * 16;
    }
    return push(t, &it);
}

static void tape_clear(op_tape *t) {
    t->n = t->n_params = t->n_values = 0;
    t->like = 0;
}

static pb_status tape_copy(op_tape *to, const op_tape *from) {
    op_tape t = {};
    if (!room((void **)&t.items, &t.cap, from->n, sizeof *t.items) ||
        !room((void **)&t.params, &t.cap_params, from->n_params + 1, sizeof *t.params) ||
        !room((void **)&t.values, &t.cap_values, from->n_values + 1, 1)) {
        tape_free(&t);
        return PB_ERROR(PB_E_OOM, "no host memory for a step of %zu operations", from->n);
    }
    t.n = from->n;
    t.n_params = from->n_params;
    t.n_values = from->n_values;
    t.like = from->like;
    memcpy(t.items, from->items, t.n * sizeof *t.items);
    if (t.n_params > 0) memcpy(t.params, from->params, t.n_params * sizeof *t.params);
    if (t.n_values > 0) memcpy(t.values, from->values, t.n_values);
    *to = t;
    return PB_OK;
}

/* --- running items ----------------------------------------------------------------------------------- */

static pb_status allow_shared(pb_cuda_queue *q, const pb_launch *l) {
    if (l->shared <= 48 * 1024) return PB_OK;
    int i = 0;
    while (i < q->n_large && q->large[i] != l->kernel) i++;
    if (i < q->n_large && q->large_bytes[i] >= l->shared) return PB_OK;
    PB_CUDA(pb_api_set_shared(l->kernel, l->shared));
    if (i == MAX_LARGE) return PB_OK;
    q->large[i] = l->kernel;
    q->large_bytes[i] = l->shared;
    if (i == q->n_large) q->n_large++;
    return PB_OK;
}

static pb_status launch_now(pb_cuda *cuda, const pb_launch *l) {
    int code = pb_api_launch(l, cuda->stream);
    return code == 0 ? PB_OK : pb_cuda_failed(code, l->name, __FILE__, __LINE__);
}

#define MAX_PARAMS 64

/* The launch of a kernel item, its arguments in the tape's memory. */
static pb_launch launch_of(const op_tape *t, const item *it, void *args[MAX_PARAMS], size_t size[MAX_PARAMS]) {
    pb_launch l = {};
    l.name = it->name;
    l.kernel = it->kernel;
    l.call = it->call;
    for (int i = 0; i < 3; i++) {
        l.grid[i] = it->grid[i];
        l.block[i] = it->block[i];
    }
    l.shared = it->shared;
    l.n = it->n;
    for (int i = 0; i < it->n; i++) {
        args[i] = t->values + t->params[it->first + i].at;
        size[i] = t->params[it->first + i].bytes;
    }
    l.args = args;
    l.size = size;
    return l;
}

static pb_status run_item(pb_cuda *cuda, const op_tape *t, const item *it, bool captured) {
    void *args[MAX_PARAMS];
    size_t size[MAX_PARAMS];
    switch (it->what) {
    case KERNEL: {
        pb_launch l = launch_of(t, it, args, size);
        return launch_now(cuda, &l);
    }
    case ZERO: PB_CUDA(pb_api_zero(it->dst, it->bytes, cuda->stream)); return PB_OK;
    case COPY: PB_CUDA(pb_api_copy(it->dst, it->src, it->bytes, PB_API_ON_DEVICE, cuda->stream)); return PB_OK;
    case RECORD: PB_CUDA(pb_api_event_record(it->dst, cuda->stream, captured)); return PB_OK;
    case PRODUCT: return pb_cuda_product_run(cuda, &it->product);
    }
    return PB_OK;
}

static pb_status run_tape(pb_cuda *cuda, const op_tape *t) {
    for (size_t i = 0; i < t->n; i++) PB_RETURN(run_item(cuda, t, &t->items[i], false));
    return PB_OK;
}

/* --- graphs ------------------------------------------------------------------------------------------- */

/* A graph that may still be running is not taken away from under it. */
static void drop_graph(pb_cuda *cuda, segment *s) {
    if (s->exec != NULL) {
        (void)pb_api_stream_sync(cuda->stream);
        (void)pb_api_exec_free(s->exec);
    }
    if (s->graph != NULL) (void)pb_api_graph_free(s->graph);
    free(s->nodes);
    s->exec = s->graph = NULL;
    s->nodes = NULL;
}

static void drop_segment(pb_cuda *cuda, segment *s) {
    drop_graph(cuda, s);
    tape_free(&s->tape);
    *s = {};
}

static void drop_segments(pb_cuda *cuda) {
    pb_cuda_queue *q = cuda->queue;
    for (int i = 0; i < q->n_segments; i++) drop_segment(cuda, &q->segments[i]);
    q->n_segments = q->next = 0;
}

/* The same work up to what a graph's kernel nodes can be told anew: sizes of grids and parameters. */
static bool alike(const op_tape *a, const op_tape *b) {
    if (a->like != b->like || a->n != b->n || a->n_params != b->n_params || a->n_values != b->n_values) return false;
    for (size_t i = 0; i < a->n; i++) {
        const item *x = &a->items[i], *y = &b->items[i];
        if (x->what != y->what) return false;
        if (x->what == KERNEL) {
            if (x->kernel != y->kernel || x->n != y->n || x->bytes != y->bytes) return false;
        } else if (x->what == PRODUCT) {
            if (memcmp(&x->product, &y->product, sizeof x->product) != 0) return false;
        } else if (x->dst != y->dst || x->src != y->src || x->bytes != y->bytes) {
            return false;
        }
    }
    return true;
}

/* Pieces mostly come in the order of the last step: the one behind the last found is looked at first. */
static segment *find_segment(pb_cuda_queue *q, const op_tape *t) {
    for (int k = 0; k < q->n_segments; k++) {
        int i = (q->next + k) % q->n_segments;
        if (!alike(&q->segments[i].tape, t)) continue;
        q->next = i + 1;
        return &q->segments[i];
    }
    return NULL;
}

static pb_status remember(pb_cuda *cuda, const op_tape *t) {
    pb_cuda_queue *q = cuda->queue;
    segment *s = &q->segments[0];
    if (q->n_segments < MAX_SEGMENTS) {
        s = &q->segments[q->n_segments];
    } else {
        for (int i = 1; i < MAX_SEGMENTS; i++) {
            if (q->segments[i].used < s->used) s = &q->segments[i];
        }
        drop_segment(cuda, s);
    }
    pb_status status = tape_copy(&s->tape, t);
    if (status == PB_OK && q->n_segments < MAX_SEGMENTS) q->n_segments++;
    s->used = q->turn;
    return status;
}

static pb_status capture_items(pb_cuda *cuda, segment *s) {
    for (size_t i = 0; i < s->tape.n; i++) {
        PB_RETURN(run_item(cuda, &s->tape, &s->tape.items[i], true));
        if (s->tape.items[i].what == KERNEL) PB_CUDA(pb_api_capture_node(cuda->stream, &s->nodes[i]));
    }
    return PB_OK;
}

static pb_status make_graph(pb_cuda *cuda, segment *s) {
    s->nodes = (void **)calloc(s->tape.n, sizeof *s->nodes);
    if (s->nodes == NULL) return PB_ERROR(PB_E_OOM, "no host memory for a graph of %zu nodes", s->tape.n);
    PB_CUDA(pb_api_capture_begin(cuda->stream));
    pb_status status = capture_items(cuda, s);
    int code = pb_api_capture_end(cuda->stream, &s->graph); /* in any case: the stream must come out of it */
    PB_RETURN(status);
    if (code != 0) return pb_cuda_failed(code, "pb_api_capture_end", __FILE__, __LINE__);
    PB_CUDA(pb_api_graph_instantiate(s->graph, &s->exec));
    return PB_OK;
}

/* Tells the graph what differs from its last run. */
static pb_status update_graph(segment *s, const op_tape *now) {
    void *args[MAX_PARAMS];
    size_t size[MAX_PARAMS];
    for (size_t i = 0; i < now->n; i++) {
        item *old = &s->tape.items[i];
        const item *it = &now->items[i];
        if (it->what != KERNEL) continue;
        bool same = old->shared == it->shared && memcmp(old->grid, it->grid, sizeof it->grid) == 0 &&
                    memcmp(old->block, it->block, sizeof it->block) == 0 &&
                    memcmp(s->tape.values + old->at, now->values + it->at, it->bytes) == 0;
        if (same) continue;
        pb_launch l = launch_of(now, it, args, size);
        PB_CUDA(pb_api_exec_params(s->exec, s->nodes[i], &l));
        memcpy(s->tape.values + old->at, now->values + it->at, it->bytes);
        *old = *it;
    }
    return PB_OK;
}

/* Graphs that cannot be made are no reason to stop: the step runs eagerly from now on, and the record says so. */
static void give_up(pb_cuda *cuda) {
    pb_cuda_queue *q = cuda->queue;
    snprintf(q->why, sizeof q->why, "eager: %s", pb_error_message());
    pb_error_clear();
    drop_segments(cuda);
    q->graphs = false;
}

static pb_status hand_over(pb_cuda *cuda, pb_cuda_queue *q) {
    op_tape *t = &q->tape;
    if (!q->graphs || t->n < MIN_ITEMS) return run_tape(cuda, t);
    q->turn++;
    segment *s = find_segment(q, t);
    pb_status made = PB_OK;
    if (s == NULL) {
        PB_RETURN(run_tape(cuda, t));
        if (remember(cuda, t) != PB_OK) give_up(cuda);
        return PB_OK;
    }
    s->used = q->turn;
    if (s->exec == NULL) made = make_graph(cuda, s);
    if (made == PB_OK) made = update_graph(s, t);
    if (made != PB_OK) {
        give_up(cuda);
        return run_tape(cuda, t);
    }
    PB_CUDA(pb_api_exec_launch(s->exec, cuda->stream));
    return PB_OK;
}

/* --- what the backend calls ----------------------------------------------------------------------------- */

pb_status pb_cuda_queue_new(pb_cuda *cuda, bool graphs) {
    cuda->queue = (pb_cuda_queue *)calloc(1, sizeof *cuda->queue);
    if (cuda->queue == NULL) return PB_ERROR(PB_E_OOM, "no host memory for the cuda device's queue");
    cuda->queue->graphs = graphs;
    return PB_OK;
}

void pb_cuda_queue_free(pb_cuda *cuda) {
    if (cuda->queue == NULL) return;
    drop_segments(cuda);
    tape_free(&cuda->queue->tape);
    free(cuda->queue);
    cuda->queue = NULL;
}

const char *pb_cuda_queue_mode(const pb_cuda *cuda) {
    return cuda->queue->why[0] != 0 ? cuda->queue->why : cuda->queue->graphs ? "graphs" : "eager";
}

static pb_status hand_over_tape(pb_cuda *cuda) {
    pb_cuda_queue *q = cuda->queue;
    if (q->tape.n == 0) return PB_OK;
    pb_status status = hand_over(cuda, q);
    tape_clear(&q->tape);
    return status;
}

pb_status pb_cuda_flush(pb_cuda *cuda) {
    cuda->queue->piece = FIRST_PIECE;
    return hand_over_tape(cuda);
}

/* While the device runs one piece of a step the host writes the next. Where a step is cut depends on how many items there
 * were since the last flush and on nothing else: the same step has the same pieces. */
static pb_status cut(pb_cuda *cuda) {
    pb_cuda_queue *q = cuda->queue;
    if (q->whole || q->tape.n < q->piece) return PB_OK;
    if (q->piece < PIECE) q->piece *= 2;
    return hand_over_tape(cuda);
}

pb_status pb_cuda_step_begin(pb_cuda *cuda, bool whole) {
    cuda->queue->step = cuda->queue->graphs;
    cuda->queue->whole = whole;
    cuda->queue->piece = FIRST_PIECE;
    return PB_OK;
}

pb_status pb_cuda_step_end(pb_cuda *cuda) {
    cuda->queue->step = false;
    return pb_cuda_flush(cuda);
}

pb_status pb_cuda_enqueue(pb_cuda *cuda, const pb_launch *l) {
    pb_cuda_queue *q = cuda->queue;
    for (int i = 0; i < 3; i++) {
        if (l->grid[i] == 0) return PB_OK;
    }
    PB_ASSERT(l->n <= MAX_PARAMS);
    PB_RETURN(allow_shared(q, l));
    if (!q->step) return launch_now(cuda, l);
    PB_RETURN(push_launch(&q->tape, l));
    return cut(cuda);
}

static pb_status enqueue_item(pb_cuda *cuda, const item *it) {
    if (!cuda->queue->step) return run_item(cuda, NULL, it, false);
    PB_RETURN(push(&cuda->queue->tape, it));
    return cut(cuda);
}

pb_status pb_cuda_zero(pb_cuda *cuda, void *dst, size_t bytes) {
    item it = {};
    it.what = ZERO;
    it.dst = dst;
    it.bytes = bytes;
    return bytes == 0 ? PB_OK : enqueue_item(cuda, &it);
}

pb_status pb_cuda_copy(pb_cuda *cuda, void *dst, const void *src, size_t bytes) {
    item it = {};
    it.what = COPY;
    it.dst = dst;
    it.src = src;
    it.bytes = bytes;
    return bytes == 0 ? PB_OK : enqueue_item(cuda, &it);
}

pb_status pb_cuda_enqueue_product(pb_cuda *cuda, const pb_cuda_product *p) {
    item it = {};
    it.what = PRODUCT;
    it.product = *p;
    return enqueue_item(cuda, &it);
}

pb_status pb_cuda_enqueue_record(pb_cuda *cuda, void *event) {
    item it = {};
    it.what = RECORD;
    it.dst = event;
    return enqueue_item(cuda, &it);
}

pb_status pb_cuda_forget_event(pb_cuda *cuda, void *event) {
    (void)event;
    pb_status status = pb_cuda_flush(cuda);
    drop_segments(cuda);
    return status;
}
