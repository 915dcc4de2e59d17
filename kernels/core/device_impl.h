/* What the files of kernels/core and kernels/ops.c share about a device. Private to them. */
#ifndef PB_KERNELS_CORE_DEVICE_IMPL_H
#define PB_KERNELS_CORE_DEVICE_IMPL_H

#include "kernels/core/backend.h"

/* One piece of an arena, as the backend gave it. */
typedef struct pb_block {
    unsigned char *data;
    uint64_t size;
    uint64_t given; /* bytes asked of the backend: fewer than size where a tensor has its own, to the byte */
    uint64_t start; /* bytes the arena had handed out when it entered this block */
    uint64_t dirty; /* bytes ever handed out: what lies behind is still the backend's zeros */
} pb_block;

/* A chain of blocks used as one stack. blocks[cur] is being filled; those behind it are empty and
 * wait for reuse. */
typedef struct pb_arena {
    pb_block *blocks;
    int n, cap, cur;
    uint64_t now, peak; /* bytes handed out, multiples of 64 */
    uint64_t capacity;  /* sum of block sizes */
} pb_arena;

struct pb_device {
    char name[64];
    const pb_backend *backend; /* memory and transfers: a computing backend, or the plan */
    void *ctx;                 /* its context */
    const pb_backend
        *kernels;      /* whose kernels are run or planned; equals backend unless this is a plan */
    void *kernels_ctx; /* context of `kernels`; NULL in a plan of a backend that cannot run here */
    const pb_kernel *kernel[PB_OP_COUNT];
    pb_device_options options; /* threads resolved */
    pb_arena arena[PB_MEM_COUNT];
    uint64_t now_total, peak_total, growths;
    pb_work work;
    double planned_ns; /* predicted time of everything enqueued */
    bool holds_driver; /* loaded at run time, with a driver behind it */
    bool in_step; /* between step_begin and step_end of the backend */
    pb_op_observer observer;
    void *observer_user;
    const char *scope[PB_SCOPE_COUNT]; /* NULL = none */
};

/* All backends found in kernels/<name>/backend_<name>.c (generated). */
extern const pb_backend *const pb_backend_registry[];
extern const int pb_backend_registry_count;
const pb_backend *pb_backend_find(const char *name); /* NULL when there is none of that name */
/* Not in the table: it is opened as "plan:<backend>". */
extern const pb_backend pb_backend_plan;

void pb_arenas_free(pb_device *dev);
/* `bytes` from the arena, 64-byte aligned; zero-filled unless raw. */
pb_status pb_arena_take(pb_device *dev, pb_mem mem, uint64_t bytes, bool raw, void **out);

#endif
