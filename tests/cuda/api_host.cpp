/* The seam on host memory: "device" memory is malloc'ed, kernels run on the shim, products are plain loops.
 *
 * Work waits in its stream until somebody waits for it, as on a device: an op that leaves a host pointer behind, or a
 * transfer that forgets to wait, is seen. Under capture work goes into a graph instead; a graph is a list of the same
 * items, so replaying it with new parameters does what the device would do. */
#include "tests/cuda/api_host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <iterator>
#include <map>
#include <memory>
#include <vector>

#include "kernels/core/tensor.h"
#include "kernels/cuda/api.h"
#include "tests/cuda/shim/shim.h"

enum {
    OK = 0,
    BAD_VALUE = 1,
    NO_MEMORY = 2,
    BAD_LAUNCH = 9,
    OLD_DRIVER = 35,
    NOT_READY = 600,
    KERNEL_FAULT = 719,
    BAD_CAPTURE = 901,
    ON_REQUEST = 999
};

namespace {

struct event {
    bool happened = false;
    double at_ns = 0.0;
};

/* A launch with its own copy of the parameters. */
struct launch {
    pb_launch l = {};
    std::vector<size_t> size;
    std::vector<std::vector<unsigned char>> values;
    std::vector<void *> args;

    explicit launch(const pb_launch &from) : l(from) {
        for (int i = 0; i < from.n; i++) {
            const unsigned char *p = (const unsigned char *)from.args[i];
            size.push_back(from.size[i]);
            values.emplace_back(p, p + from.size[i]);
        }
        for (auto &v : values) args.push_back(v.data());
        l.args = args.data();
        l.size = size.data();
    }
};

struct product {
    pb_api_product p = {};
    const void *bias = nullptr;
    float alpha = 0.0f, beta = 0.0f;
    const void *a = nullptr, *b = nullptr;
    void *d = nullptr, *aux = nullptr;
    char *ws = nullptr;
    size_t ws_bytes = 0;
};

struct item {
    enum kind { KERNEL, ZERO, COPY, RECORD, PRODUCT } what = ZERO;
    std::shared_ptr<launch> kernel;
    product prod;
    void *dst = nullptr;
    const void *src = nullptr;
    size_t bytes = 0;
    event *mark = nullptr;
    bool of_graph = false;
};

struct graph {
    std::vector<std::unique_ptr<item>> nodes;
};
struct exec {
    std::vector<item> nodes;
    std::vector<const item *> from; /* node of the graph it was made from */
};

struct stream {
    std::vector<item> work;
    graph *captures = nullptr;
};

struct host {
    uint64_t calls = 0, fail_at = 0, launches = 0, graph_launches = 0, instantiated = 0, set_anew = 0;
    int64_t live = 0;
    bool failed = false;
    int algorithm = 0; /* that the heuristics were last asked for */
    int sticky = 0; /* a kernel's fault, reported by the next wait */
    std::map<void *, size_t> device; /* allocations in "device" memory */
    std::vector<const void *> large; /* kernels allowed more than 48 KiB */
    int major = 9, minor = 0, driver = 13000;
};
host H;

bool fails() {
    H.calls++;
    if (H.fail_at == 0 || H.calls != H.fail_at) return false;
    H.failed = true;
    return true;
}
/* What frees frees, even when it reports a failure. */
int freed() { return fails() ? ON_REQUEST : OK; }
#define CALL()                      \
    do {                            \
        if (fails()) return ON_REQUEST; \
    } while (0)

float read(pb_api_dtype t, const void *p, int64_t i) {
    return t == PB_API_F32 ? ((const float *)p)[i] : pb_bf16_to_f32(((const uint16_t *)p)[i]);
}
void write(pb_api_dtype t, void *p, int64_t i, float v) {
    if (t == PB_API_F32) ((float *)p)[i] = v;
    else ((uint16_t *)p)[i] = pb_f32_to_bf16(v);
}

/* The library may leave anything in its workspace: what overlaps its ends turns to NaN. */
void spoil(const product &x) {
    size_t n = x.ws_bytes < 4096 ? x.ws_bytes : 4096;
    memset(x.ws, 0xff, n);
    memset(x.ws + x.ws_bytes - n, 0xff, n);
}

/* s to what the epilogue stores. */
float finished(const product &x, float s, int64_t aux) {
    const pb_api_product &p = x.p;
    if (p.epilogue == PB_API_SUM) return s;
    if (p.epilogue == PB_API_GELU && p.ld_aux != 0) write(p.d, x.aux, aux, s);
    float v = p.epilogue == PB_API_GELU ? s : read(p.d, x.aux, aux);
    float cube = 0.044715f * v * v, t = tanhf(0.7978845608f * (v + cube * v));
    if (p.epilogue == PB_API_GELU) return 0.5f * v * (1.0f + t);
    return s * (0.5f * (1.0f + t) + 0.5f * v * (1.0f - t * t) * 0.7978845608f * (1.0f + 3.0f * cube));
}

void multiply(const product &x) {
    const pb_api_product &p = x.p;
    spoil(x);
    std::vector<float> a((size_t)(p.m * p.k)), column((size_t)p.m); /* op(A), column after column */
    for (int64_t l = 0; l < p.k; l++) {
        for (int64_t i = 0; i < p.m; i++)
            a[(size_t)(l * p.m + i)] = read(p.ab, x.a, p.trans_a ? l + i * p.lda : i + l * p.lda);
    }
    for (int64_t j = 0; j < p.n; j++) {
        for (auto &v : column) v = 0.0f;
        for (int64_t l = 0; l < p.k; l++) {
            float b = read(p.ab, x.b, p.trans_b ? j + l * p.ldb : l + j * p.ldb);
            const float *al = &a[(size_t)(l * p.m)];
            for (int64_t i = 0; i < p.m; i++) column[(size_t)i] += al[i] * b;
        }
        for (int64_t i = 0; i < p.m; i++) {
            float v = x.alpha * column[(size_t)i];
            if (x.beta != 0.0f) v += x.beta * read(p.d, x.d, i + j * p.ldd);
            if (p.bias) v += read(p.bias_dtype, x.bias, i);
            write(p.d, x.d, i + j * p.ldd, finished(x, v, i + j * p.ld_aux));
        }
    }
    spoil(x);
}

void run(item &it) {
    switch (it.what) {
    case item::KERNEL:
        H.launches++;
        if (pb_shim_run(&it.kernel->l) != 0) H.sticky = KERNEL_FAULT;
        break;
    case item::ZERO: memset(it.dst, 0, it.bytes); break;
    case item::COPY: memmove(it.dst, it.src, it.bytes); break;
    case item::RECORD: {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        it.mark->at_ns = (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
        it.mark->happened = true;
        break;
    }
    case item::PRODUCT: multiply(it.prod); break;
    }
}

void drain(stream *s) {
    std::vector<item> work;
    work.swap(s->work);
    for (auto &it : work) {
        if (H.sticky == 0) run(it);
    }
}

std::vector<stream *> &streams() {
    static std::vector<stream *> all;
    return all;
}
void drain_all() {
    for (stream *s : streams()) drain(s);
}

/* Up to the last record of the event that the host asked for, no further. */
void drain_to(const event *e) {
    for (stream *s : streams()) {
        size_t n = s->work.size();
        while (n > 0 && (s->work[n - 1].mark != e || s->work[n - 1].of_graph)) n--;
        std::vector<item> work(std::make_move_iterator(s->work.begin()), std::make_move_iterator(s->work.begin() + (ptrdiff_t)n));
        s->work.erase(s->work.begin(), s->work.begin() + (ptrdiff_t)n);
        for (auto &it : work) {
            if (H.sticky == 0) run(it);
        }
    }
}

int enqueue(void *to, item it) {
    stream *s = (stream *)to;
    if (s->captures != nullptr) s->captures->nodes.push_back(std::make_unique<item>(std::move(it)));
    else s->work.push_back(std::move(it));
    return OK;
}

template <typename T> int made(void **out, T *object) {
    H.live++;
    *out = object;
    return OK;
}
template <typename T> int gone(void *object) {
    H.live--;
    delete (T *)object;
    return freed();
}

} // namespace

/* --- for tests ----------------------------------------------------------------------------------- */

uint64_t pb_host_calls(void) { return H.calls; }
void pb_host_fail_at(uint64_t n) {
    H.fail_at = n == 0 ? 0 : H.calls + n;
    H.failed = false;
}
bool pb_host_failed(void) { return H.failed; }
int64_t pb_host_live(void) { return H.live; }
uint64_t pb_host_device_bytes(void) {
    uint64_t sum = 0;
    for (auto &one : H.device) sum += one.second;
    return sum;
}
int pb_host_algorithm(void) { return H.algorithm; }
uint64_t pb_host_launches(void) { return H.launches; }
uint64_t pb_host_graph_launches(void) { return H.graph_launches; }
uint64_t pb_host_instantiated(void) { return H.instantiated; }
uint64_t pb_host_set_anew(void) { return H.set_anew; }
void pb_host_seed(uint64_t seed) { pb_shim_seed(seed); }
uint64_t pb_host_threads_run(void) { return pb_shim_threads_run(); }
void pb_host_architecture(int major, int minor) {
    H.major = major;
    H.minor = minor;
}
void pb_host_driver(int version) { H.driver = version; }
void pb_host_fault(void) { H.sticky = KERNEL_FAULT; }

/* --- the seam ------------------------------------------------------------------------------------ */

const char *pb_api_error(int code) {
    static char text[640];
    switch (code) {
    case BAD_VALUE: return "invalid argument (stand-in)";
    case NO_MEMORY: return "out of memory (stand-in)";
    case OLD_DRIVER: return "driver too old (stand-in)";
    case BAD_LAUNCH: return "invalid configuration of a launch (stand-in)";
    case NOT_READY: return "not ready (stand-in)";
    case BAD_CAPTURE: return "not allowed while a graph is captured (stand-in)";
    case ON_REQUEST: return "fails on request (stand-in)";
    case KERNEL_FAULT: snprintf(text, sizeof text, "kernel fault: %s", pb_shim_fault()); return text;
    default: return "unknown error (stand-in)";
    }
}
pb_api_class pb_api_class_of(int code) {
    return code == NO_MEMORY ? PB_API_NO_MEMORY : code == KERNEL_FAULT ? PB_API_FAULT : code == OLD_DRIVER ? PB_API_NO_DEVICE : PB_API_OTHER;
}

int pb_api_versions(int *driver, int *runtime) {
    *driver = H.driver;
    *runtime = 13000;
    return OK;
}
int pb_api_device_count(int *n) {
    CALL();
    if (H.driver < 13000) return OLD_DRIVER;
    *n = 1;
    return OK;
}
int pb_api_device_open(int index, pb_api_device *out) {
    CALL();
    if (index != 0) return BAD_VALUE;
    *out = {};
    snprintf(out->name, sizeof out->name, "host stand-in");
    snprintf(out->bus, sizeof out->bus, "0000:18:00.0");
    out->major = H.major;
    out->minor = H.minor;
    out->sms = 4; /* few: kernels that size themselves by the device loop */
    out->memory_bytes = (size_t)8 << 30;
    out->l2_bytes = (size_t)1 << 20;
    out->shared_optin = 227 * 1024;
    H.sticky = 0;
    return OK;
}
int pb_api_memory(size_t *free_bytes, size_t *total_bytes) {
    CALL();
    *total_bytes = (size_t)8 << 30;
    *free_bytes = *total_bytes - (size_t)pb_host_device_bytes();
    return OK;
}
static int allocate(void **p, size_t bytes) {
    if (posix_memalign(p, 256, bytes == 0 ? 1 : bytes) != 0) return NO_MEMORY;
    memset(*p, 0xff, bytes); /* what is never written is NaN */
    H.live++;
    return OK;
}
int pb_api_malloc(void **p, size_t bytes) {
    if (fails()) return NO_MEMORY;
    if (H.sticky != 0) return H.sticky;
    int code = allocate(p, bytes);
    if (code == OK) H.device[*p] = bytes;
    return code;
}
int pb_api_free(void *p) {
    drain_all();
    H.live--;
    H.device.erase(p);
    free(p);
    return freed();
}
int pb_api_host_alloc(void **p, size_t bytes) {
    if (fails()) return NO_MEMORY;
    return allocate(p, bytes);
}
int pb_api_host_free(void *p) { return pb_api_free(p); }

int pb_api_stream_new(void **s) {
    CALL();
    stream *made_one = new stream;
    streams().push_back(made_one);
    return made(s, made_one);
}
int pb_api_stream_free(void *s) {
    drain((stream *)s);
    auto &all = streams();
    for (size_t i = 0; i < all.size(); i++) {
        if (all[i] == s) all.erase(all.begin() + (ptrdiff_t)i--);
    }
    return gone<stream>(s);
}
int pb_api_stream_sync(void *s) {
    CALL();
    if (((stream *)s)->captures != nullptr) return BAD_CAPTURE;
    drain_all();
    return H.sticky;
}
int pb_api_stream_wait(void *s, void *e) {
    CALL();
    (void)e;
    if (((stream *)s)->captures == nullptr) drain_all(); /* everything enqueued before, the event's record too */
    return OK;
}
int pb_api_copy(void *dst, const void *src, size_t bytes, pb_api_copy_kind kind, void *s) {
    CALL();
    (void)kind;
    item it;
    it.what = item::COPY;
    it.dst = dst;
    it.src = src;
    it.bytes = bytes;
    return enqueue(s, std::move(it));
}
int pb_api_zero(void *dst, size_t bytes, void *s) {
    CALL();
    item it;
    it.dst = dst;
    it.bytes = bytes;
    return enqueue(s, std::move(it));
}
int pb_api_event_new(void **e) {
    CALL();
    return made(e, new event);
}
int pb_api_event_free(void *e) {
    drain_all();
    return gone<event>(e);
}
int pb_api_event_record(void *e, void *s, bool external) {
    CALL();
    if (!external && ((stream *)s)->captures != nullptr) return BAD_CAPTURE;
    item it;
    it.what = item::RECORD;
    it.mark = (event *)e;
    return enqueue(s, std::move(it));
}
/* As the runtime: it waits for what the host last asked for; a record in a graph that was launched since is none of that. */
int pb_api_event_sync(void *e) {
    CALL();
    drain_to((event *)e);
    return H.sticky;
}
int pb_api_event_elapsed(void *a, void *b, double *ns) {
    CALL();
    const event *x = (const event *)a, *y = (const event *)b;
    if (!x->happened || !y->happened) return NOT_READY;
    *ns = y->at_ns - x->at_ns;
    return OK;
}

static int check(const pb_launch *l) {
    uint64_t threads = (uint64_t)l->block[0] * l->block[1] * l->block[2];
    if (threads == 0 || threads > 1024 || l->block[2] > 64 || l->shared > 227 * 1024) return BAD_LAUNCH;
    if (l->grid[0] == 0 || l->grid[0] > 0x7fffffffu || l->grid[1] == 0 || l->grid[1] > 65535 || l->grid[2] == 0 ||
        l->grid[2] > 65535)
        return BAD_LAUNCH;
    if (l->shared <= 48 * 1024) return OK;
    for (const void *k : H.large) {
        if (k == l->kernel) return OK;
    }
    return BAD_LAUNCH;
}
int pb_api_launch(const pb_launch *l, void *s) {
    CALL();
    if (check(l) != OK) return BAD_LAUNCH;
    item it;
    it.what = item::KERNEL;
    it.kernel = std::make_shared<launch>(*l);
    return enqueue(s, std::move(it));
}
int pb_api_set_shared(const void *kernel, size_t bytes) {
    CALL();
    if (bytes > 227 * 1024) return BAD_VALUE;
    H.large.push_back(kernel);
    return OK;
}

int pb_api_capture_begin(void *s) {
    CALL();
    stream *st = (stream *)s;
    if (st->captures != nullptr) return BAD_CAPTURE;
    st->captures = new graph;
    H.live++;
    return OK;
}
int pb_api_capture_node(void *s, void **node) {
    CALL();
    stream *st = (stream *)s;
    if (st->captures == nullptr || st->captures->nodes.empty()) return BAD_CAPTURE;
    *node = st->captures->nodes.back().get();
    return OK;
}
int pb_api_capture_end(void *s, void **g) {
    stream *st = (stream *)s;
    if (fails()) { /* the runtime drops the capture */
        if (st->captures != nullptr) (void)gone<graph>(st->captures);
        st->captures = nullptr;
        return ON_REQUEST;
    }
    if (st->captures == nullptr) return BAD_CAPTURE;
    *g = st->captures;
    st->captures = nullptr;
    return OK;
}
int pb_api_graph_instantiate(void *g, void **e) {
    CALL();
    H.instantiated++;
    exec *x = new exec;
    for (auto &n : ((graph *)g)->nodes) {
        x->nodes.push_back(*n);
        if (n->kernel) x->nodes.back().kernel = std::make_shared<launch>(n->kernel->l);
        x->from.push_back(n.get());
    }
    return made(e, x);
}
int pb_api_graph_free(void *g) {
    return gone<graph>(g);
}
int pb_api_exec_params(void *e, void *node, const pb_launch *l) {
    CALL();
    exec *x = (exec *)e;
    for (size_t i = 0; i < x->from.size(); i++) {
        if (x->from[i] != node || x->nodes[i].what != item::KERNEL || x->nodes[i].kernel->l.kernel != l->kernel) continue;
        if (check(l) != OK) return BAD_LAUNCH;
        H.set_anew++;
        x->nodes[i].kernel = std::make_shared<launch>(*l);
        return OK;
    }
    return BAD_VALUE;
}
int pb_api_exec_launch(void *e, void *s) {
    CALL();
    H.graph_launches++;
    for (auto &n : ((exec *)e)->nodes) {
        item it = n;
        it.of_graph = true;
        (void)enqueue(s, std::move(it));
    }
    return OK;
}
int pb_api_exec_free(void *e) {
    drain_all();
    return gone<exec>(e);
}

/* --- products ------------------------------------------------------------------------------------- */

int pb_api_lt_new(void **lt) {
    CALL();
    return made(lt, new int(0));
}
int pb_api_lt_free(void *lt) {
    return gone<int>(lt);
}
int pb_api_lt_version(int *version) {
    CALL();
    *version = 0;
    return OK;
}
int pb_api_lt_desc_new(void **desc, const pb_api_product *p) {
    CALL();
    product *x = new product;
    x->p = *p;
    return made(desc, x);
}
int pb_api_lt_desc_free(void *desc) {
    return gone<product>(desc);
}
int pb_api_lt_desc_bias(void *desc, const void *bias) {
    CALL();
    ((product *)desc)->bias = bias;
    return OK;
}
int pb_api_lt_desc_aux(void *desc, void *aux) {
    CALL();
    ((product *)desc)->aux = aux;
    return OK;
}
int pb_api_lt_layout_new(void **layout, pb_api_dtype dtype, int64_t rows, int64_t cols, int64_t ld) {
    CALL();
    (void)dtype;
    if (rows < 1 || cols < 1 || ld < rows) return BAD_VALUE;
    return made(layout, new int(0));
}
int pb_api_lt_layout_free(void *layout) {
    return gone<int>(layout);
}
int pb_api_lt_heuristic(void *lt, void *desc, void *a, void *b, void *d, const pb_api_product *p, size_t workspace, int nth,
                        pb_api_algo *algo, bool *found) {
    CALL();
    H.algorithm = nth;
    (void)lt, (void)a, (void)b, (void)d;
    *algo = {};
    algo->workspace = workspace;
    /* As the library: an epilogue with a bias is judged with its address, aligned as the caller says. */
    uintptr_t bias = (uintptr_t)((product *)desc)->bias;
    if (p->bias && (bias == 0 || bias % (uintptr_t)p->align_bias != 0)) return BAD_VALUE;
    if (p->bias && p->bias_dtype != p->d) return BAD_VALUE; /* not a combination of its tables */
    uintptr_t aux = (uintptr_t)((product *)desc)->aux;
    if (p->ld_aux != 0 && (aux == 0 || aux % 16 != 0 || p->ld_aux % 8 != 0 || p->ld_aux < p->m)) return BAD_VALUE;
    if (p->epilogue == PB_API_GELU_GRAD && (p->ld_aux == 0 || p->bias)) return BAD_VALUE;
    /* Nothing at odd addresses of bf16, so that the caller's own way is tested. */
    *found = p->align_a > 2 && p->align_b > 2;
    return OK;
}
int pb_api_lt_matmul(void *lt, void *desc, float alpha, const void *a, void *layout_a, const void *b, void *layout_b,
                     float beta, void *d, void *layout_d, const pb_api_algo *algo, void *ws, size_t ws_bytes, void *s) {
    CALL();
    (void)lt, (void)layout_a, (void)layout_b, (void)layout_d;
    if (ws == nullptr || (uintptr_t)ws % 256 != 0 || ws_bytes < algo->workspace) return BAD_VALUE;
    item it;
    it.what = item::PRODUCT;
    it.prod = *(product *)desc;
    it.prod.alpha = alpha;
    it.prod.beta = beta;
    it.prod.a = a;
    it.prod.b = b;
    it.prod.d = d;
    it.prod.ws = (char *)ws;
    it.prod.ws_bytes = ws_bytes;
    return enqueue(s, std::move(it));
}
