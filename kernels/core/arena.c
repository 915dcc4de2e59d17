/* Memory by purpose: each pb_mem is a stack made of a chain of blocks.
 *
 * Counts ("now", "peak") are bytes handed out, each request rounded up to 64; how large the blocks
 * are behind them is never visible in a number. Blocks survive a rewind, and a request goes to the
 * first block behind the current one that is large enough: the same requests after the same mark
 * always find the same places, so a steady step never grows. */
#include <inttypes.h>
#include <stdlib.h>

#include "kernels/core/device_impl.h"

#define ALIGN     64u
#define MIN_BLOCK ((uint64_t)1 << 20)
#define MAX_CHUNK ((uint64_t)256 << 20) /* a larger block is made only for a larger request */

const char *pb_mem_name(pb_mem mem) {
    static const char *const name[PB_MEM_COUNT] = {"base",       "quant_constants", "adapter",
                                                   "master",     "gradient",        "optimizer",
                                                   "activation", "workspace",       "data"};
    return (unsigned)mem < PB_MEM_COUNT ? name[mem] : "invalid memory";
}

/* Is the arena in the host's memory? Then its bytes are counted by tag only. */
static bool paged(const pb_device *dev, pb_mem mem) {
    return mem == PB_MEM_OPTIM && pb_device_pages_optimizer(dev);
}

/* A plan has no memory at all: its own mem_alloc serves both. */
static void *system_alloc(pb_device *dev, pb_mem mem, uint64_t bytes) {
    if (bytes > SIZE_MAX) return NULL;
    if (paged(dev, mem) && dev->backend->host_alloc != NULL)
        return dev->backend->host_alloc(dev->ctx, (size_t)bytes);
    return dev->backend->mem_alloc(dev->ctx, (size_t)bytes);
}

static void system_free(pb_device *dev, pb_mem mem, pb_block block) {
    if (paged(dev, mem) && dev->backend->host_alloc != NULL)
        dev->backend->host_free(dev->ctx, block.data, (size_t)block.given);
    else
        dev->backend->mem_free(dev->ctx, block.data, (size_t)block.given);
}

void pb_arenas_free(pb_device *dev) {
    for (int m = 0; m < PB_MEM_COUNT; m++) {
        pb_arena *a = &dev->arena[m];
        for (int i = 0; i < a->n; i++) system_free(dev, (pb_mem)m, a->blocks[i]);
        free(a->blocks);
        *a = (pb_arena){0};
    }
}

static uint64_t rounded(uint64_t bytes) {
    return bytes == 0 ? ALIGN : (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

/* Appends a block of at least `bytes`. */
static pb_status grow(pb_device *dev, pb_mem mem, uint64_t bytes, bool exact) {
    pb_arena *a = &dev->arena[mem];
    bool separate = dev->options.separate;
    uint64_t need = rounded(bytes);
    uint64_t size = a->capacity < MIN_BLOCK ? MIN_BLOCK : a->capacity; /* doubles the arena ... */
    if (size > MAX_CHUNK) size = MAX_CHUNK;
    if (exact || separate || size < need) size = need;
    if (dev->options.fail_alloc > 0)
        size = need; /* tests: one growth per request that does not fit */
    if (dev->options.fail_alloc > 0 && dev->growths + 1 == (uint64_t)dev->options.fail_alloc) {
        dev->growths++;
        return PB_ERROR(PB_E_OOM, "%s: growth %" PRIu64 " (%s, %" PRIu64 " bytes) fails on request",
                        dev->name, dev->growths, pb_mem_name(mem), size);
    }
    if (a->n == a->cap) {
        int cap = a->cap == 0 ? 8 : 2 * a->cap;
        pb_block *blocks = realloc(a->blocks, (size_t)cap * sizeof *blocks);
        if (blocks == NULL)
            return PB_ERROR(PB_E_OOM, "no host memory for the list of %d blocks", cap);
        a->blocks = blocks;
        a->cap = cap;
    }
    uint64_t given = separate ? bytes : size;
    void *data = system_alloc(dev, mem, given);
    if (data == NULL && size > need) {
        size = given = need;
        data = system_alloc(dev, mem, size);
    }
    if (data == NULL) {
        /* A device whose kernel has failed refuses everything: that is the reason then, not the size. */
        PB_RETURN(dev->backend->sync(dev->ctx));
        return PB_ERROR(PB_E_OOM,
                        "%s: the system has no %" PRIu64 " bytes for %s (%" PRIu64
                        " held by all arenas)",
                        dev->name, size, pb_mem_name(mem), dev->now_total);
    }
    PB_ASSERT((uintptr_t)data % ALIGN == 0);
    a->blocks[a->n++] = (pb_block){
        .data = data, .size = size, .given = given, .start = a->now, .dirty = separate ? size : 0};
    a->capacity += size;
    dev->growths++;
    return PB_OK;
}

static pb_status check_budget(const pb_device *dev, pb_mem mem, uint64_t need) {
    uint64_t budget = dev->options.memory_budget;
    if (budget == 0 || paged(dev, mem) || (need <= budget && dev->now_total <= budget - need)) return PB_OK;
    return PB_ERROR(PB_E_OOM,
                    "%s: %" PRIu64 " bytes for %s do not fit: %" PRIu64
                    " in use of a budget of %" PRIu64 "; raise the budget or make the run smaller",
                    dev->name, need, pb_mem_name(mem), dev->now_total, budget);
}

static uint64_t room(const pb_arena *a) {
    return a->n == 0 ? 0 : a->blocks[a->cur].size - (a->now - a->blocks[a->cur].start);
}

/* Does the block take a tensor in the `left` bytes behind what it holds? One of its own is empty and of exactly the size. */
static bool takes(const pb_device *dev, const pb_block *b, uint64_t left, uint64_t bytes) {
    return dev->options.separate ? left == b->size && b->given == bytes : left >= rounded(bytes);
}

/* Enters the first later block that takes `bytes`. False when there is none. */
static bool enter_next(const pb_device *dev, pb_arena *a, uint64_t bytes) {
    for (int j = a->cur + 1; j < a->n; j++) {
        if (!takes(dev, &a->blocks[j], a->blocks[j].size, bytes)) continue;
        for (int k = a->cur + 1; k <= j; k++)
            a->blocks[k].start = a->now; /* skipped ones stay empty */
        a->cur = j;
        return true;
    }
    return false;
}

pb_status pb_arena_take(pb_device *dev, pb_mem mem, uint64_t bytes, bool raw, void **out) {
    PB_ASSERT((unsigned)mem < PB_MEM_COUNT);
    *out = NULL;
    if (bytes > UINT64_MAX / 4) {
        return PB_ERROR(PB_E_OOM, "%s: a tensor of %" PRIu64 " bytes for %s", dev->name, bytes,
                        pb_mem_name(mem));
    }
    pb_arena *a = &dev->arena[mem];
    uint64_t need = rounded(bytes);
    PB_RETURN(check_budget(dev, mem, need));
    bool fits = a->n > 0 && takes(dev, &a->blocks[a->cur], room(a), bytes);
    if (!fits && !enter_next(dev, a, bytes)) {
        PB_RETURN(grow(dev, mem, bytes, false));
        bool entered = a->n == 1 || enter_next(dev, a, bytes);
        PB_ASSERT(entered);
    }
    pb_block *b = &a->blocks[a->cur];
    uint64_t at = a->now - b->start;
    if (!raw && at < b->dirty) {
        uint64_t mine = dev->options.separate ? bytes : need;
        uint64_t old = b->dirty - at < mine ? b->dirty - at : mine;
        PB_RETURN(dev->backend->zero(dev->ctx, b->data + at, (size_t)old));
    }
    if (b->dirty < at + need) b->dirty = at + need;
    a->now += need;
    if (!paged(dev, mem)) dev->now_total += need;
    if (a->peak < a->now) a->peak = a->now;
    if (dev->peak_total < dev->now_total) dev->peak_total = dev->now_total;
    *out = b->data + at;
    return PB_OK;
}

pb_status pb_device_reserve(pb_device *dev, pb_mem mem, uint64_t bytes) {
    PB_ASSERT((unsigned)mem < PB_MEM_COUNT);
    if (bytes > UINT64_MAX / 4)
        return PB_ERROR(PB_E_OOM, "%s: reserve %" PRIu64 " bytes", dev->name, bytes);
    uint64_t need = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    PB_RETURN(check_budget(dev, mem, need));
    if (need == 0 || dev->options.separate || room(&dev->arena[mem]) >= need) return PB_OK;
    return grow(dev, mem, need, true);
}

pb_mark pb_device_mark(const pb_device *dev, pb_mem mem) {
    PB_ASSERT((unsigned)mem < PB_MEM_COUNT);
    return (pb_mark){.bytes = (int64_t)dev->arena[mem].now};
}

void pb_device_rewind(pb_device *dev, pb_mem mem, pb_mark mark) {
    PB_ASSERT((unsigned)mem < PB_MEM_COUNT);
    pb_arena *a = &dev->arena[mem];
    uint64_t to = (uint64_t)mark.bytes;
    PB_ASSERT(mark.bytes >= 0 && to <= a->now && to % ALIGN == 0);
    if (!paged(dev, mem)) dev->now_total -= a->now - to;
    a->now = to;
    while (a->cur > 0 && a->blocks[a->cur].start >= to) a->cur--;
}

static bool elements_of(int ndim, const int64_t *dim, uint64_t *n) {
    *n = 1;
    for (int i = 0; i < ndim; i++) {
        if (dim[i] < 0 || __builtin_mul_overflow(*n, (uint64_t)dim[i], n)) return false;
    }
    return *n <= INT64_MAX / 8;
}

static pb_status take_tensor(pb_device *dev, pb_mem mem, pb_dtype dtype, int ndim,
                             const int64_t *dim, bool raw, pb_tensor *out) {
    *out = (pb_tensor){0};
    uint64_t n = 0;
    bool known = ndim >= 1 && ndim <= PB_MAX_DIMS && (unsigned)dtype < PB_DTYPE_COUNT;
    if (!known || !elements_of(ndim, dim, &n)) {
        return PB_ERROR(PB_E_BUG,
                        "%s: no tensor of %d dimensions (first %" PRId64 ", last %" PRId64
                        ") and dtype %s",
                        dev->name, ndim, known ? dim[0] : 0, known ? dim[ndim - 1] : 0,
                        pb_dtype_name(dtype));
    }
    pb_tensor t = {.dtype = dtype, .ndim = ndim, .stride = dim[ndim - 1]};
    for (int i = 0; i < ndim; i++) t.dim[i] = dim[i];
    PB_RETURN(pb_arena_take(dev, mem, n * pb_dtype_size(dtype), raw, &t.data));
    *out = t;
    return PB_OK;
}

pb_status pb_device_alloc(pb_device *dev, pb_mem mem, pb_dtype dtype, int ndim, const int64_t *dim,
                          pb_tensor *out) {
    return take_tensor(dev, mem, dtype, ndim, dim, false, out);
}

pb_status pb_alloc1(pb_device *dev, pb_mem mem, pb_dtype dtype, int64_t n, pb_tensor *out) {
    return take_tensor(dev, mem, dtype, 1, &n, false, out);
}

pb_status pb_alloc2(pb_device *dev, pb_mem mem, pb_dtype dtype, int64_t rows, int64_t cols,
                    pb_tensor *out) {
    int64_t dim[2] = {rows, cols};
    return take_tensor(dev, mem, dtype, 2, dim, false, out);
}

pb_status pb_alloc2_raw(pb_device *dev, pb_mem mem, pb_dtype dtype, int64_t rows, int64_t cols,
                        pb_tensor *out) {
    int64_t dim[2] = {rows, cols};
    return take_tensor(dev, mem, dtype, 2, dim, true, out);
}

uint64_t pb_device_mem_now(const pb_device *dev, pb_mem mem) { return dev->arena[mem].now; }
uint64_t pb_device_mem_peak(const pb_device *dev, pb_mem mem) { return dev->arena[mem].peak; }
uint64_t pb_device_mem_peak_total(const pb_device *dev) { return dev->peak_total; }
uint64_t pb_device_growths(const pb_device *dev) { return dev->growths; }

bool pb_device_block(const pb_device *dev, pb_mem mem, int i, const void **data, uint64_t *bytes) {
    const pb_arena *a = &dev->arena[mem];
    if (i < 0 || i >= a->n) return false;
    *data = a->blocks[i].data;
    *bytes = a->blocks[i].size;
    return true;
}

bool pb_device_join(const pb_device *dev, pb_mem mem, pb_tensor *run, pb_tensor next) {
    const pb_arena *a = &dev->arena[mem];
    uintptr_t from = (uintptr_t)run->data, to = (uintptr_t)next.data;
    if (!pb_has(*run) || !pb_has(next) || run->dtype != next.dtype) return false;
    if (!pb_contiguous(*run) || !pb_contiguous(next)) return false;
    if (to != from + (uintptr_t)rounded(pb_bytes(*run))) return false;
    for (int i = 0; i < a->n; i++) {
        uintptr_t begin = (uintptr_t)a->blocks[i].data, end = begin + (uintptr_t)a->blocks[i].size;
        if (from < begin || from >= end) continue;
        if (to >= end) return false;
        int64_t n = (int64_t)((to - from) / pb_dtype_size(next.dtype)) + pb_numel(next);
        *run = (pb_tensor){.data = run->data, .dtype = next.dtype, .ndim = 1, .dim = {n}, .stride = n};
        return true;
    }
    return false;
}

void pb_device_mem_reset_peaks(pb_device *dev) {
    for (int m = 0; m < PB_MEM_COUNT; m++) dev->arena[m].peak = dev->arena[m].now;
    dev->peak_total = dev->now_total;
}
