/* 2 x 2 results at a time: four loads for four products, 16 x 16 x 32 each. */
#include "kernels/cpu/cpu_tiles.h"

#if defined(__x86_64__) && defined(__linux__)

#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TARGET __attribute__((target("amx-tile,amx-bf16")))
#define REQUEST_PERMISSION 0x1023 /* ARCH_REQ_XCOMP_PERM of Linux 5.16 */
#define TILE_DATA 18              /* the processor's number of this state */

bool pb_cpu_tiles_ask(void) {
    unsigned a = 0, b = 0, c = 0, d = 0;
    bool has =
        __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d >> 24 & 1u) != 0 && (d >> 22 & 1u) != 0;
    return has && syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}

/* What ldtilecfg reads: a constant, since compilers take it to read no more than a pointer. */
static const struct {
    uint8_t palette, start, zero[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} config = {.palette = 1,
            .bytes = {64, 64, 64, 64, 64, 64, 64, 64},
            .rows = {16, 16, 16, 16, 16, 16, 16, 16}};

TARGET void pb_cpu_tiles_begin(void) { _tile_loadconfig(&config); }

TARGET void pb_cpu_tiles_end(void) { _tile_release(); }

/* Half a block: 16 rows of a and c, or 16 columns of b and c. Steps in bytes. */
TARGET static void half_rows(int64_t n, int64_t k, const uint16_t *a, int64_t a_step,
                             const uint32_t *b, int64_t ldb, float *c, int64_t c_step, bool add) {
    for (int64_t j = 0; j < n; j += PB_TILE) {
        _tile_zero(0);
        _tile_zero(1);
        if (add) {
            _tile_loadd(0, c + j, c_step);
            _tile_loadd(1, c + j + 16, c_step);
        }
        for (int64_t p = 0; p < k; p += PB_TILE) {
            const uint32_t *bp = b + p / 2 * ldb + j;
            _tile_loadd(4, a + p, a_step);
            _tile_loadd(6, bp, 4 * ldb);
            _tile_loadd(7, bp + 16, 4 * ldb);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 4, 7);
        }
        _tile_stored(0, c + j, c_step);
        _tile_stored(1, c + j + 16, c_step);
    }
}

TARGET static void half_columns(int64_t m, int64_t k, const uint16_t *a, int64_t lda,
                                const uint32_t *b, int64_t b_step, float *c, int64_t ldc,
                                bool add) {
    for (int64_t i = 0; i < m; i += PB_TILE) {
        float *c0 = c + i * ldc, *c1 = c0 + 16 * ldc;
        _tile_zero(0);
        _tile_zero(2);
        if (add) {
            _tile_loadd(0, c0, 4 * ldc);
            _tile_loadd(2, c1, 4 * ldc);
        }
        for (int64_t p = 0; p < k; p += PB_TILE) {
            const uint16_t *ap = a + i * lda + p;
            _tile_loadd(4, ap, 2 * lda);
            _tile_loadd(5, ap + 16 * lda, 2 * lda);
            _tile_loadd(6, b + p / 2 * (b_step / 4), b_step);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(2, 5, 6);
        }
        _tile_stored(0, c0, 4 * ldc);
        _tile_stored(2, c1, 4 * ldc);
    }
}

TARGET void pb_cpu_tile_row(int64_t n, const uint16_t *a, int64_t lda, const uint32_t *b,
                            int64_t ldb, float *c, int64_t ldc) {
    int64_t b_step = 4 * ldb, c_step = 4 * ldc;
    __asm__ volatile("" ::: "memory"); /* loads of tiles do not name what they read */
    _tile_loadd(4, a, 2 * lda);
    for (int64_t j = 0; j < n; j += PB_TILE) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_loadd(6, b + j, b_step);
        _tile_loadd(7, b + j + 16, b_step);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_stored(0, c + j, c_step);
        _tile_stored(1, c + j + 16, c_step);
        if (j + PB_TILE >= n) break;
        j += PB_TILE;
        _tile_zero(2);
        _tile_zero(3);
        _tile_loadd(6, b + j, b_step);
        _tile_loadd(7, b + j + 16, b_step);
        _tile_dpbf16ps(2, 4, 6);
        _tile_dpbf16ps(3, 4, 7);
        _tile_stored(2, c + j, c_step);
        _tile_stored(3, c + j + 16, c_step);
    }
    __asm__ volatile("" ::: "memory");
}

TARGET void pb_cpu_tile_product(int64_t m, int64_t n, int64_t k, const uint16_t *a, int64_t lda,
                                const uint32_t *b, int64_t ldb, float *c, int64_t ldc, bool add) {
    int64_t a_step = 2 * lda, b_step = 4 * ldb, c_step = 4 * ldc;
    __asm__ volatile("" ::: "memory"); /* loads of tiles do not name what they read */
    if (m == PB_TILE / 2) half_rows(n, k, a, a_step, b, ldb, c, c_step, add);
    if (n == PB_TILE / 2) half_columns(m, k, a, lda, b, b_step, c, ldc, add);
    for (int64_t i = 0; i + PB_TILE <= m; i += PB_TILE) {
        for (int64_t j = 0; j + PB_TILE <= n; j += PB_TILE) {
            float *c0 = c + i * ldc + j, *c1 = c0 + 16 * ldc;
            if (add) {
                _tile_loadd(0, c0, c_step);
                _tile_loadd(1, c0 + 16, c_step);
                _tile_loadd(2, c1, c_step);
                _tile_loadd(3, c1 + 16, c_step);
            } else {
                _tile_zero(0);
                _tile_zero(1);
                _tile_zero(2);
                _tile_zero(3);
            }
            for (int64_t p = 0; p < k; p += PB_TILE) {
                const uint16_t *ap = a + i * lda + p;
                const uint32_t *bp = b + p / 2 * ldb + j;
                _tile_loadd(4, ap, a_step);
                _tile_loadd(5, ap + 16 * lda, a_step);
                _tile_loadd(6, bp, b_step);
                _tile_loadd(7, bp + 16, b_step);
                _tile_dpbf16ps(0, 4, 6);
                _tile_dpbf16ps(1, 4, 7);
                _tile_dpbf16ps(2, 5, 6);
                _tile_dpbf16ps(3, 5, 7);
            }
            _tile_stored(0, c0, c_step);
            _tile_stored(1, c0 + 16, c_step);
            _tile_stored(2, c1, c_step);
            _tile_stored(3, c1 + 16, c_step);
        }
    }
    __asm__ volatile("" ::: "memory");
}

#else

bool pb_cpu_tiles_ask(void) { return false; }
void pb_cpu_tiles_begin(void) {}
void pb_cpu_tiles_end(void) {}
void pb_cpu_tile_row(int64_t n, const uint16_t *a, int64_t lda, const uint32_t *b, int64_t ldb,
                     float *c, int64_t ldc) {
    (void)n, (void)a, (void)lda, (void)b, (void)ldb, (void)c, (void)ldc;
}
void pb_cpu_tile_product(int64_t m, int64_t n, int64_t k, const uint16_t *a, int64_t lda,
                         const uint32_t *b, int64_t ldb, float *c, int64_t ldc, bool add) {
    (void)m, (void)n, (void)k, (void)a, (void)lda, (void)b, (void)ldb, (void)c, (void)ldc,
        (void)add;
}

#endif
