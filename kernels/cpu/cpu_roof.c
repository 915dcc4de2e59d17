/* The library's product and the vector units alone: kernels/core/roof.h. */
#include "kernels/core/roof.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "base/text.h"
#include "kernels/cpu/cpu_dnnl.h"
#include "kernels/cpu/cpu_isa.h"

/* ---- the library's product ---- */

typedef struct square {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_memory_desc_t shape;
    dnnl_primitive_t prim;
    dnnl_memory_t memory[3]; /* a, b, c */
    void *data[3];
} square;

static void square_free(square *s) {
    for (int i = 0; i < 3; i++) {
        if (s->memory[i] != NULL) dnnl_memory_destroy(s->memory[i]);
        free(s->data[i]);
    }
    if (s->prim != NULL) dnnl_primitive_destroy(s->prim);
    pb_dnnl_forget(&s->shape);
    if (s->stream != NULL) dnnl_stream_destroy(s->stream);
    if (s->engine != NULL) dnnl_engine_destroy(s->engine);
}

static void fill(void *data, pb_dtype dtype, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        float x = (float)(((uint64_t)i * 2654435761u >> 8) & 0xffff) / 65536.0f - 0.5f;
        if (dtype == PB_F32) ((float *)data)[i] = x;
        if (dtype == PB_BF16) ((uint16_t *)data)[i] = pb_f32_to_bf16(x);
    }
}

/* A kernel of the library's that multiplies one number after the other is no roof. */
static bool compile(square *s, int64_t side, pb_dtype dtype) {
    dnnl_data_type_t type = dtype == PB_BF16 ? dnnl_bf16 : dnnl_f32;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t pd = NULL;
    const char *name = NULL;
    bool ok = pb_dnnl_matrix(&s->shape, side, side, type, side, 1) &&
              dnnl_primitive_attr_create(&attr) == dnnl_success;
    pb_dnnl_view view = pb_dnnl_look(&s->shape);
    ok = ok && pb_dnnl_matmul(&pd, s->engine, view, view, NULL, view, attr) &&
         dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, (void *)&name) ==
             dnnl_success &&
         strncmp(name, "ref", 3) != 0 && dnnl_primitive_create(&s->prim, pd) == dnnl_success;
    if (pd != NULL) dnnl_primitive_desc_destroy(pd);
    if (attr != NULL) dnnl_primitive_attr_destroy(attr);
    return ok;
}

static pb_status make_memories(square *s, int64_t side, pb_dtype dtype) {
    size_t bytes = (size_t)(side * side) * pb_dtype_size(dtype);
    for (int i = 0; i < 3; i++) {
        s->data[i] = aligned_alloc(64, (bytes + 63) / 64 * 64);
        if (s->data[i] == NULL)
            return PB_ERROR(PB_E_OOM, "no host memory for a product of %lld x %lld numbers",
                            (long long)side, (long long)side);
        fill(s->data[i], dtype, side * side);
        if (dnnl_memory_create(&s->memory[i], pb_dnnl_look(&s->shape), s->engine, s->data[i]) !=
            dnnl_success)
            return PB_ERROR(PB_E_ENV, "oneDNN takes no matrix of %lld x %lld", (long long)side,
                            (long long)side);
    }
    return PB_OK;
}

static pb_status multiply(square *s) {
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, s->memory[0]},
                                    {DNNL_ARG_WEIGHTS, s->memory[1]},
                                    {DNNL_ARG_DST, s->memory[2]}};
    if (dnnl_primitive_execute(s->prim, s->stream, 3, args) != dnnl_success ||
        dnnl_stream_wait(s->stream) != dnnl_success)
        return PB_ERROR(PB_E_ENV, "oneDNN failed in a square product");
    return PB_OK;
}

pb_status pb_library_product_times(int threads, pb_dtype dtype, int64_t side, int n,
                                   double *seconds) {
    pb_status status = PB_OK;
    square s = {.engine = NULL};
    int saved = omp_get_max_threads();
    omp_set_num_threads(threads); /* the library asks when it compiles and when it runs */
    if (dnnl_engine_create(&s.engine, dnnl_cpu, 0) != dnnl_success ||
        dnnl_stream_create(&s.stream, s.engine, dnnl_stream_default_flags) != dnnl_success)
        PB_FAIL(PB_E_ENV, "oneDNN has no CPU engine here");
    if (!compile(&s, side, dtype))
        PB_FAIL(PB_E_UNSUPPORTED, "oneDNN has no product of %s on this CPU", pb_dtype_name(dtype));
    PB_TRY(make_memories(&s, side, dtype));
    for (int i = -1; i < n; i++) {
        int64_t from = pb_now_ns();
        PB_TRY(multiply(&s));
        if (i >= 0) seconds[i] = (double)(pb_now_ns() - from) * 1e-9;
    }
done:
    square_free(&s);
    omp_set_num_threads(saved);
    return status;
}

/* ---- vector units ---- */

#define TURNS 20000
#define CHAINS 12 /* independent: two units of latency 4 need 8; AVX2 has 16 registers */

#if defined(__x86_64__)
/* x = x * a + b in CHAINS registers; returns the lanes of one. */
__attribute__((target("avx512f"))) static int turn512(float *sink) {
    __m512 x[CHAINS], a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(0.001f);
    for (int c = 0; c < CHAINS; c++) x[c] = _mm512_set1_ps((float)c);
    for (int i = 0; i < TURNS; i++)
#pragma GCC unroll 12
        for (int c = 0; c < CHAINS; c++) x[c] = _mm512_fmadd_ps(x[c], a, b);
    for (int c = 1; c < CHAINS; c++) x[0] = _mm512_add_ps(x[0], x[c]);
    *sink = _mm512_cvtss_f32(x[0]);
    return 16;
}

__attribute__((target("avx2,fma"))) static int turn256(float *sink) {
    __m256 x[CHAINS], a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(0.001f);
    for (int c = 0; c < CHAINS; c++) x[c] = _mm256_set1_ps((float)c);
    for (int i = 0; i < TURNS; i++)
#pragma GCC unroll 12
        for (int c = 0; c < CHAINS; c++) x[c] = _mm256_fmadd_ps(x[c], a, b);
    for (int c = 1; c < CHAINS; c++) x[0] = _mm256_add_ps(x[0], x[c]);
    *sink = _mm256_cvtss_f32(x[0]);
    return 8;
}
#endif

/* A multiplication and an addition, two operations of any CPU: half a multiply-add's worth each. */
static int turn_plain(float *sink) {
    float x[CHAINS];
    for (int c = 0; c < CHAINS; c++) x[c] = (float)c;
    for (int i = 0; i < TURNS; i++)
        for (int c = 0; c < CHAINS; c++) x[c] = x[c] * 0.999f + 0.001f;
    for (int c = 1; c < CHAINS; c++) x[0] += x[c];
    *sink = x[0];
    return 2;
}

static int turn(float *sink) {
#if defined(__x86_64__)
    if (pb_cpu_has_avx512()) return turn512(sink);
    if (pb_cpu_has_avx2()) return turn256(sink);
#endif
    return turn_plain(sink);
}

pb_status pb_vector_times(int threads, int n, double *seconds, double *per_round) {
    int lanes = 0, wrong = 0;
    for (int i = -1; i < n; i++) {
        int64_t from = pb_now_ns();
        lanes = 0;
#pragma omp parallel num_threads(threads) reduction(+ : lanes, wrong)
        {
            float sink = 0;
            lanes += turn(&sink);
            wrong += !(sink > 0); /* and it is used */
        }
        if (i >= 0) seconds[i] = (double)(pb_now_ns() - from) * 1e-9;
    }
    *per_round = (double)lanes * CHAINS * TURNS;
    return wrong ? PB_ERROR(PB_E_BUG, "multiply-adds came to nothing") : PB_OK;
}
