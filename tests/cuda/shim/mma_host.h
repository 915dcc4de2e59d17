/* Host emulation of what kernels/cuda/mma.cuh does in PTX: ldmatrix, mma.sync, cp.async.
 *
 * Warp instructions meet as shuffles do. A copy is carried out when pb_async_wait says that it must be done; until then
 * its destination holds NaN (0xff), so that a kernel that reads too early computes NaN. A kernel must have waited for all
 * of its copies when it ends. */
#ifndef PB_TESTS_CUDA_SHIM_MMA_HOST_H
#define PB_TESTS_CUDA_SHIM_MMA_HOST_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/core/tensor.h"
#include "tests/cuda/shim/shim.h"

#define PB_HOST_LANES   1024
#define PB_HOST_PENDING 256 /* copies of one thread under way */

typedef struct pb_host_copy {
    void *to;
    const void *from; /* NULL: zeros */
    int group;
} pb_host_copy;

typedef struct pb_host_lane {
    pb_host_copy copy[PB_HOST_PENDING];
    int n, group; /* copies under way, groups committed */
    uint3 block;  /* whose they are */
} pb_host_lane;

static inline void pb_host_fault(const char *what) {
    fprintf(stderr, "mma emulation: %s\n", what);
    abort();
}

static inline pb_host_lane *pb_host_me() {
    static thread_local pb_host_lane *lanes =
        (pb_host_lane *)calloc(PB_HOST_LANES, sizeof(pb_host_lane));
    pb_host_lane *me = lanes + threadIdx.x; /* blocks are one-dimensional where these are used */
    uint3 b = blockIdx;
    if (me->n > 0 && (b.x != me->block.x || b.y != me->block.y || b.z != me->block.z))
        pb_host_fault("cp.async: a block ended before its copies");
    me->block = b;
    return me;
}

static inline void pb_host_ldmatrix(uint32_t (&r)[4], const void *row, bool trans, const char *file,
                                    int line) {
    int lane = (int)pb_shim_lane();
    if (((uintptr_t)row & 15) != 0) pb_host_fault("ldmatrix: a row is not 16-byte aligned");
    const uint16_t *const *rows = (const uint16_t *const *)pb_shim_warp_meet(
        PB_ALL_LANES, &row, sizeof row, "ldmatrix", file, line);
    for (int m = 0; m < 4; m++) {
        uint16_t v[2];
        for (int i = 0; i < 2; i++) {
            int at = lane / 4, col = 2 * (lane % 4) + i;
            v[i] = rows[8 * m + (trans ? col : at)][trans ? at : col];
        }
        r[m] = (uint32_t)v[0] | (uint32_t)v[1] << 16;
    }
    /* No lane writes to these rows before all have read. */
    (void)pb_shim_warp_meet(PB_ALL_LANES, nullptr, 0, "ldmatrix", file, line);
}
static inline void pb_ldmatrix4(uint32_t (&r)[4], const void *row, PB_SHIM_HERE) {
    pb_host_ldmatrix(r, row, false, file, line);
}
static inline void pb_ldmatrix4_trans(uint32_t (&r)[4], const void *row, PB_SHIM_HERE) {
    pb_host_ldmatrix(r, row, true, file, line);
}

static inline float pb_host_half(uint32_t reg, int i) {
    return __uint_as_float((reg >> (16 * i)) << 16);
}

struct pb_host_ab {
    uint32_t a[4], b[2];
};

static inline void pb_mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                          PB_SHIM_HERE) {
    int lane = (int)pb_shim_lane(), g = lane / 4, t = lane % 4;
    const pb_host_ab mine = {{a[0], a[1], a[2], a[3]}, {b0, b1}};
    const pb_host_ab *all =
        (const pb_host_ab *)pb_shim_warp_meet(PB_ALL_LANES, &mine, sizeof mine, "mma", file, line);
    for (int i = 0; i < 4; i++) {
        int n = 2 * t + (i & 1), upper = i >> 1; /* column n, row g + 8 upper */
        float sum = 0.0f;
        for (int k = 0; k < 16; k++) {
            int high = k >> 3, pair = (k & 7) >> 1;
            uint32_t ra = all[4 * g + pair].a[2 * high + upper], rb = all[4 * n + pair].b[high];
            sum += pb_host_half(ra, k & 1) * pb_host_half(rb, k & 1);
        }
        c[i] += sum;
    }
}

static inline void pb_async16(void *to, const void *from, bool valid) {
    pb_host_lane *me = pb_host_me();
    if ((((uintptr_t)to | (uintptr_t)from) & 15) != 0)
        pb_host_fault("cp.async: not 16-byte aligned");
    if (me->n == PB_HOST_PENDING) pb_host_fault("cp.async: too many copies under way");
    me->copy[me->n++] = pb_host_copy{to, valid ? from : NULL, me->group};
    memset(to, 0xff, 16);
}
static inline void pb_async_commit() { pb_host_me()->group++; }

template <int N>
static inline void pb_async_wait() {
    pb_host_lane *me = pb_host_me();
    int left = 0;
    for (int i = 0; i < me->n; i++) {
        pb_host_copy c = me->copy[i];
        if (c.group >= me->group - N) { /* uncommitted copies and those of the last N groups */
            me->copy[left++] = c;
        } else if (c.from != NULL) {
            memcpy(c.to, c.from, 16);
        } else {
            memset(c.to, 0, 16);
        }
    }
    me->n = left;
}

static inline uint32_t pb_pack2(float lo, float hi) {
    return (uint32_t)pb_f32_to_bf16(lo) | (uint32_t)pb_f32_to_bf16(hi) << 16;
}

#endif
