/* The cpu backend: host memory, OpenMP threads, oneDNN for matrix products. Enqueued operations
 * have already run. */
#include <cpuid.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kernels/cpu/cpu_gemm.h"
#include "kernels/cpu/cpu_isa.h"
#include "kernels/cpu/cpu_tiles.h"

extern const pb_kernel_set *const pb_cpu_kernels_registry[];

static bool has_avx512_bf16(void) {
    unsigned a = 0, b = 0, c = 0, d = 0;
    return pb_cpu_has_avx512() && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 &&
           (a >> 5 & 1u) != 0;
}

static bool within(dnnl_cpu_isa_t isa, dnnl_cpu_isa_t part) {
    return ((unsigned)isa & (unsigned)part) == (unsigned)part;
}

static void cpu_close(void *ctx) {
    pb_cpu *cpu = ctx;
    if (cpu == NULL) return;
    pb_cpu_prims_free(cpu);
    for (int t = 0; cpu->streams != NULL && t < cpu->threads; t++) {
        if (cpu->streams[t] != NULL) dnnl_stream_destroy(cpu->streams[t]);
    }
    free(cpu->streams);
    if (cpu->engine != NULL) dnnl_engine_destroy(cpu->engine);
    free(cpu);
}

static pb_status cpu_open(const pb_device_options *options, void **ctx) {
    pb_status status = PB_OK;
    *ctx = NULL;
    pb_cpu *cpu = calloc(1, sizeof *cpu);
    if (cpu == NULL) return PB_ERROR(PB_E_OOM, "no host memory for the cpu device");
    cpu->threads = options->threads > 0 ? options->threads : 1;
    cpu->streams = calloc((size_t)cpu->threads, sizeof *cpu->streams);
    if (cpu->streams == NULL)
        PB_FAIL(PB_E_OOM, "no host memory for the streams of %d threads", cpu->threads);
    if (dnnl_engine_create(&cpu->engine, dnnl_cpu, 0) != dnnl_success) {
        PB_FAIL(PB_E_ENV, "oneDNN has no CPU engine here");
    }
    for (int t = 0; t < cpu->threads; t++) {
        if (dnnl_stream_create(&cpu->streams[t], cpu->engine, dnnl_stream_default_flags) !=
            dnnl_success) {
            PB_FAIL(PB_E_ENV, "oneDNN stream %d could not be created", t);
        }
    }
    /* ISA levels are nested bit sets; this one respects ONEDNN_MAX_CPU_ISA too. */
    dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
    cpu->bf16_products = within(isa, dnnl_cpu_isa_avx512_core);
    cpu->bf16_fast = cpu->bf16_products && has_avx512_bf16();
    long private_cache = sysconf(_SC_LEVEL2_CACHE_SIZE);
    cpu->past_bytes = 4 * cpu->threads * (private_cache > 0 ? private_cache : 1L << 20);
    cpu->tiles = cpu->bf16_fast && within(isa, dnnl_cpu_isa_avx512_core_amx) && pb_cpu_tiles_ask();
    *ctx = cpu;
    cpu = NULL;
done:
    cpu_close(cpu);
    return status;
}

/* Anonymous pages are zero, page-aligned, and cost nothing until touched. */
static void *cpu_mem_alloc(void *ctx, size_t bytes) {
    (void)ctx;
    if (bytes == 0) bytes = 1;
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return NULL;
    if (bytes >= (size_t)4 << 20) (void)madvise(p, bytes, MADV_HUGEPAGE); /* advice only */
    return p;
}

static void cpu_mem_free(void *ctx, void *p, size_t bytes) {
    (void)ctx;
    if (p != NULL) (void)munmap(p, bytes == 0 ? 1 : bytes);
}

static pb_status cpu_copy(void *ctx, void *dst, const void *src, size_t bytes) {
    (void)ctx;
    if (bytes > 0) memmove(dst, src, bytes);
    return PB_OK;
}

static pb_status cpu_zero(void *ctx, void *dst, size_t bytes) {
    (void)ctx;
    if (bytes > 0) memset(dst, 0, bytes);
    return PB_OK;
}

static pb_status cpu_sync(void *ctx) {
    (void)ctx;
    return PB_OK;
}

static bool cpu_fast_dtype(void *ctx, pb_dtype dtype) {
    const pb_cpu *cpu = ctx;
    return dtype == PB_F32 || (dtype == PB_BF16 && cpu != NULL && cpu->bf16_fast);
}

const pb_backend pb_backend_cpu = {
    .name = "cpu",
    .computes = true,
    .mem_alloc = cpu_mem_alloc,
    .mem_free = cpu_mem_free,
    .open = cpu_open,
    .close = cpu_close,
    .put = cpu_copy,
    .get = cpu_copy,
    .zero = cpu_zero,
    .copy = cpu_copy,
    .sync = cpu_sync,
    .fast_dtype = cpu_fast_dtype,
    .kernels = pb_cpu_kernels_registry,
};
