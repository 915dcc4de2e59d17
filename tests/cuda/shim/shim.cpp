/* Runs one launch: blocks one after another, the threads of a block as fibers that hand over at barriers.
 *
 * A thread that never waits costs two switches of a stack. Stacks are used again as threads end. */
#include "tests/cuda/shim/shim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "kernels/cuda/api.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define FIBERS_KNOWN 1
#endif
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#define MAX_THREADS 1024
#define MAX_WARPS   (MAX_THREADS / 32)
#define STACK       ((size_t)256 << 10)
#define GUARD       ((size_t)4096)
#define SNAPSHOTS   64 /* per warp: every group of lanes has at most two in use */

pb_shim_place pb_shim_now;

enum state { NEW, READY, AT_WARP, AT_BLOCK, ENDED };

struct fiber {
    state at;
    unsigned index, mask;      /* mask: whom it waits for */
    const char *what, *file;   /* where it waits */
    int line;
    unsigned char gives[PB_SHIM_LANE_BYTES];
    size_t bytes;
    const unsigned char *snapshot;
    int stack; /* -1: none */
#if defined(__x86_64__)
    void *sp;
#else
    ucontext_t ctx;
#endif
    void *fake; /* AddressSanitizer's */
};

struct runner {
    fiber threads[MAX_THREADS];
    unsigned n, warps;
    unsigned char *stacks;
    int free_stacks[MAX_THREADS], n_free;
    unsigned char *snapshots; /* [warps][SNAPSHOTS][32 * PB_SHIM_LANE_BYTES] */
    unsigned turn[MAX_WARPS];
    fiber *now;
    const pb_launch *launch;
    char fault[512];
    bool failed;
    uint64_t seed, random, total;
#if defined(__x86_64__)
    void *sp;
#else
    ucontext_t ctx;
#endif
    void *fake;
    const void *bottom;
    size_t size;
};
static runner R;

static void fault(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void fault(const char *fmt, ...) {
    if (R.failed) return;
    R.failed = true;
    int at = snprintf(R.fault, sizeof R.fault, "%s, block (%u,%u,%u): ", R.launch->name, pb_shim_now.block.x,
                      pb_shim_now.block.y, pb_shim_now.block.z);
    va_list ap;
    va_start(ap, fmt);
    if (at > 0 && (size_t)at < sizeof R.fault) vsnprintf(R.fault + at, sizeof R.fault - (size_t)at, fmt, ap);
    va_end(ap);
}

/* --- switching ----------------------------------------------------------------------------------- */

#if defined(__x86_64__)
extern "C" void pb_shim_switch(void **save, void *load);
asm(".text\n.globl pb_shim_switch\n.hidden pb_shim_switch\n.type pb_shim_switch,@function\n"
    "pb_shim_switch:\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp, (%rdi)\n  movq %rsi, %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
    "  ret\n"
    ".size pb_shim_switch,.-pb_shim_switch\n");
#endif

static unsigned char *stack_of(int i) { return R.stacks + (size_t)i * (STACK + GUARD) + GUARD; }

static void to_scheduler(bool ends) {
    fiber *f = R.now;
#ifdef FIBERS_KNOWN
    __sanitizer_start_switch_fiber(ends ? NULL : &f->fake, R.bottom, R.size);
#else
    (void)ends;
#endif
#if defined(__x86_64__)
    pb_shim_switch(&f->sp, R.sp);
#else
    swapcontext(&f->ctx, &R.ctx);
#endif
#ifdef FIBERS_KNOWN
    __sanitizer_finish_switch_fiber(f->fake, &R.bottom, &R.size);
#endif
}

extern "C" void pb_shim_entry();
extern "C" void pb_shim_entry() {
#ifdef FIBERS_KNOWN
    __sanitizer_finish_switch_fiber(NULL, &R.bottom, &R.size);
#endif
    R.launch->call(R.launch->kernel, R.launch->args);
    R.now->at = ENDED;
    to_scheduler(true);
    abort(); /* an ended thread never runs again */
}

static void start(fiber *f) {
    f->stack = R.free_stacks[--R.n_free];
    f->at = READY;
    f->fake = NULL;
#if defined(__x86_64__)
    /* Six registers, then where to go; at the entry the stack must be 8 off a multiple of 16. */
    void **top = (void **)(stack_of(f->stack) + STACK - 72);
    top[0] = NULL;
    *--top = (void *)pb_shim_entry;
    for (int i = 0; i < 6; i++) *--top = NULL;
    f->sp = top;
#else
    getcontext(&f->ctx);
    f->ctx.uc_stack.ss_sp = stack_of(f->stack);
    f->ctx.uc_stack.ss_size = STACK;
    f->ctx.uc_link = NULL;
    makecontext(&f->ctx, (void (*)())pb_shim_entry, 0);
#endif
}

static void resume(fiber *f) {
    if (f->at == NEW) start(f);
    unsigned bx = pb_shim_now.block_size.x, by = pb_shim_now.block_size.y;
    pb_shim_now.thread = {f->index % bx, f->index / bx % by, f->index / (bx * by)};
    R.now = f;
#ifdef FIBERS_KNOWN
    __sanitizer_start_switch_fiber(&R.fake, stack_of(f->stack), STACK);
#endif
#if defined(__x86_64__)
    pb_shim_switch(&R.sp, f->sp);
#else
    swapcontext(&R.ctx, &f->ctx);
#endif
#ifdef FIBERS_KNOWN
    __sanitizer_finish_switch_fiber(R.fake, NULL, NULL);
#endif
    if (f->at == ENDED) R.free_stacks[R.n_free++] = f->stack;
}

/* --- meeting points ------------------------------------------------------------------------------- */

unsigned pb_shim_lane() { return R.now->index % 32; }

static void wait_here(state at, const char *what, const char *file, int line) {
    fiber *f = R.now;
    f->at = at;
    f->what = what;
    f->file = file;
    f->line = line;
    to_scheduler(false);
}

void pb_shim_block_barrier(const char *file, int line) { wait_here(AT_BLOCK, "__syncthreads", file, line); }

const void *pb_shim_warp_meet(unsigned mask, const void *mine, size_t bytes, const char *what, const char *file, int line) {
    fiber *f = R.now;
    unsigned lane = f->index % 32, base = f->index - lane;
    unsigned lanes = R.n - base < 32 ? (1u << (R.n - base)) - 1 : 0xffffffffu;
    f->mask = mask & lanes; /* lanes that a short last warp does not have take no part */
    if ((mask >> lane & 1u) == 0) fault("%s at %s:%d: the mask %08x lacks the calling lane %u", what, file, line, mask, lane);
    if (bytes > 0) memcpy(f->gives, mine, bytes);
    f->bytes = bytes;
    f->at = AT_WARP;
    f->what = what;
    f->file = file;
    f->line = line;
    bool all = true;
    for (unsigned i = 0; i < 32 && all; i++) {
        if ((f->mask >> i & 1u) == 0) continue;
        const fiber *o = &R.threads[base + i];
        all = o->at == AT_WARP && o->mask == f->mask && o->what == what && o->bytes == bytes;
    }
    if (!all) {
        to_scheduler(false);
        return f->snapshot;
    }
    unsigned w = base / 32;
    unsigned char *snap = R.snapshots + ((size_t)w * SNAPSHOTS + R.turn[w]++ % SNAPSHOTS) * 32 * PB_SHIM_LANE_BYTES;
    for (unsigned i = 0; i < 32; i++) {
        if ((f->mask >> i & 1u) == 0) {
            memset(snap + i * bytes, 0xff, bytes); /* nobody may want it: NaN */
            continue;
        }
        fiber *o = &R.threads[base + i];
        memcpy(snap + i * bytes, o->gives, bytes);
        o->snapshot = snap;
        o->at = READY;
    }
    to_scheduler(false); /* who comes last must not be who goes on first */
    return f->snapshot;
}

/* --- one block ------------------------------------------------------------------------------------ */

static unsigned draw(unsigned n) {
    R.random = R.random * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(((R.random >> 33) * n) >> 31);
}

static void shuffle(unsigned *order, unsigned n) {
    for (unsigned i = 0; i < n; i++) order[i] = i;
    for (unsigned i = n; i > 1; i--) {
        unsigned k = draw(i), t = order[i - 1];
        order[i - 1] = order[k];
        order[k] = t;
    }
}

/* Until every lane has ended or waits at a barrier of the block. */
static void run_warp(unsigned w) {
    unsigned base = w * 32, n = R.n - base < 32 ? R.n - base : 32, order[32];
    for (bool moved = true; moved && !R.failed;) {
        moved = false;
        shuffle(order, n);
        for (unsigned i = 0; i < n && !R.failed; i++) {
            fiber *f = &R.threads[base + order[i]];
            if (f->at != NEW && f->at != READY) continue;
            resume(f);
            moved = true;
        }
    }
    for (unsigned i = 0; i < n && !R.failed; i++) {
        const fiber *f = &R.threads[base + i];
        if (f->at != AT_WARP) continue;
        for (unsigned k = 0; k < n; k++) {
            const fiber *o = &R.threads[base + k];
            if ((f->mask >> k & 1u) == 0 || (o->at == AT_WARP && o->mask == f->mask && o->what == f->what)) continue;
            fault("thread %u waits in %s at %s:%d with mask %08x, thread %u %s%s:%d", f->index, f->what, f->file, f->line,
                  f->mask, o->index, o->at == ENDED ? "has ended; it last was at " : "waits at ",
                  o->file != NULL ? o->file : "-", o->line);
            return;
        }
    }
}

/* All threads wait at one barrier, or none does. False when the block has ended. */
static bool pass_barrier() {
    const fiber *waits = NULL, *ended = NULL;
    for (unsigned i = 0; i < R.n; i++) {
        const fiber *f = &R.threads[i];
        if (f->at == ENDED) ended = f;
        else if (waits == NULL) waits = f;
        else if (f->line != waits->line || strcmp(f->file, waits->file) != 0) {
            fault("thread %u waits at %s:%d, thread %u at %s:%d", waits->index, waits->file, waits->line, f->index, f->file,
                  f->line);
            return false;
        }
    }
    if (waits == NULL) return false;
    if (ended != NULL) {
        fault("thread %u waits at %s:%d, thread %u has ended", waits->index, waits->file, waits->line, ended->index);
        return false;
    }
    for (unsigned i = 0; i < R.n; i++) R.threads[i].at = READY;
    return true;
}

static void run_block() {
    unsigned order[MAX_WARPS];
    for (unsigned i = 0; i < R.n; i++) {
        fiber *f = &R.threads[i];
        f->at = NEW;
        f->index = i;
        f->file = NULL;
        f->line = 0;
        f->stack = -1;
    }
    R.n_free = MAX_THREADS;
    for (int i = 0; i < MAX_THREADS; i++) R.free_stacks[i] = MAX_THREADS - 1 - i;
    do {
        shuffle(order, R.warps);
        for (unsigned i = 0; i < R.warps && !R.failed; i++) run_warp(order[i]);
    } while (!R.failed && pass_barrier());
    R.total += R.n;
}

static bool prepare() {
    if (R.stacks != NULL) return true;
    const char *seed = getenv("PB_SHIM_SEED");
    if (seed != NULL) R.seed = strtoull(seed, NULL, 0);
    size_t bytes = MAX_THREADS * (STACK + GUARD);
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    void *s = mmap(NULL, (size_t)MAX_WARPS * SNAPSHOTS * 32 * PB_SHIM_LANE_BYTES, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED || s == MAP_FAILED) return false;
    R.stacks = (unsigned char *)p;
    R.snapshots = (unsigned char *)s;
    for (size_t i = 0; i < MAX_THREADS; i++) (void)mprotect(R.stacks + i * (STACK + GUARD), GUARD, PROT_NONE);
    return true;
}

void pb_shim_seed(uint64_t seed) { R.seed = seed; }
const char *pb_shim_fault() { return R.fault; }
uint64_t pb_shim_threads_run() { return R.total; }

int pb_shim_run(const pb_launch *l) {
    R.launch = l;
    R.failed = false;
    R.n = l->block[0] * l->block[1] * l->block[2];
    R.warps = (R.n + 31) / 32;
    R.random = R.seed * 0x9E3779B97F4A7C15u + R.total;
    pb_shim_now.block_size = dim3(l->block[0], l->block[1], l->block[2]);
    pb_shim_now.grid_size = dim3(l->grid[0], l->grid[1], l->grid[2]);
    pb_shim_now.block = {0, 0, 0};
    if (!prepare()) {
        fault("no host memory for %d stacks", MAX_THREADS);
        return 1;
    }
    void *at = NULL;
    unsigned char *shared = posix_memalign(&at, 128, l->shared == 0 ? 1 : l->shared) == 0 ? (unsigned char *)at : NULL;
    if (shared == NULL) fault("no host memory for %zu bytes of shared memory", l->shared);
    pb_shim_now.shared = shared;
    for (unsigned z = 0; z < l->grid[2] && !R.failed; z++) {
        for (unsigned y = 0; y < l->grid[1] && !R.failed; y++) {
            for (unsigned x = 0; x < l->grid[0] && !R.failed; x++) {
                pb_shim_now.block = {x, y, z};
                memset(shared, 0xff, l->shared);
                run_block();
            }
        }
    }
    free(shared);
    return R.failed ? 1 : 0;
}
