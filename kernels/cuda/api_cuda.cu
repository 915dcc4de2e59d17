/* The seam over the real libraries. */
#include <cublasLt.h>
#include <cuda_runtime.h>
#include <stdio.h>
#include <string.h>

#include "kernels/cuda/api.h"

#define LT_BASE 1000000 /* cuBLASLt's codes behind CUDA's */

const char *pb_api_error(int code) {
    static thread_local char text[256];
    if (code >= LT_BASE) {
        cublasStatus_t s = (cublasStatus_t)(code - LT_BASE);
        snprintf(text, sizeof text, "%s (cuBLASLt %d)", cublasLtGetStatusString(s), (int)s);
    } else {
        cudaError_t e = (cudaError_t)code;
        snprintf(text, sizeof text, "%s (%s)", cudaGetErrorString(e), cudaGetErrorName(e));
    }
    return text;
}

pb_api_class pb_api_class_of(int code) {
    switch (code) {
    case cudaErrorMemoryAllocation:
    case LT_BASE + CUBLAS_STATUS_ALLOC_FAILED: return PB_API_NO_MEMORY;
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
    case cudaErrorInitializationError:
    case cudaErrorDevicesUnavailable:
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
    case cudaErrorStubLibrary:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorSystemNotReady:
    case cudaErrorCompatNotSupportedOnDevice:
    case cudaErrorOperatingSystem:
    case cudaErrorDeviceUninitialized:
    case LT_BASE + CUBLAS_STATUS_ARCH_MISMATCH:
    case LT_BASE + CUBLAS_STATUS_NOT_INITIALIZED: return PB_API_NO_DEVICE;
    case cudaErrorIllegalAddress:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorIllegalInstruction:
    case cudaErrorInvalidPc:
    case cudaErrorHardwareStackError:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorECCUncorrectable: return PB_API_FAULT;
    default: return PB_API_OTHER;
    }
}

/* Clears the sticky copy that the runtime keeps of a failure, so that it is reported once. */
static int of(cudaError_t e) {
    if (e != cudaSuccess) (void)cudaGetLastError();
    return (int)e;
}
static int of(cublasStatus_t s) { return s == CUBLAS_STATUS_SUCCESS ? 0 : LT_BASE + (int)s; }

int pb_api_versions(int *driver, int *runtime) {
    int code = of(cudaDriverGetVersion(driver));
    return code != 0 ? code : of(cudaRuntimeGetVersion(runtime));
}

int pb_api_device_count(int *n) { return of(cudaGetDeviceCount(n)); }

int pb_api_device_open(int index, pb_api_device *out) {
    cudaDeviceProp p;
    int code = of(cudaSetDevice(index));
    if (code == 0) code = of(cudaGetDeviceProperties(&p, index));
    if (code != 0) return code;
    *out = {};
    snprintf(out->name, sizeof out->name, "%s", p.name);
    out->major = p.major;
    out->minor = p.minor;
    out->sms = p.multiProcessorCount;
    out->memory_bytes = p.totalGlobalMem;
    out->l2_bytes = (size_t)p.l2CacheSize;
    out->shared_optin = p.sharedMemPerBlockOptin;
    out->memory_bus_bits = p.memoryBusWidth;
    if (cudaDeviceGetAttribute(&out->clock_khz, cudaDevAttrClockRate, index) != cudaSuccess) out->clock_khz = 0;
    if (cudaDeviceGetAttribute(&out->memory_clock_khz, cudaDevAttrMemoryClockRate, index) != cudaSuccess)
        out->memory_clock_khz = 0;
    if (of(cudaDeviceGetPCIBusId(out->bus, (int)sizeof out->bus, index)) != 0) out->bus[0] = 0;
    return pb_api_versions(&out->driver, &out->runtime);
}

int pb_api_memory(size_t *free_bytes, size_t *total_bytes) { return of(cudaMemGetInfo(free_bytes, total_bytes)); }
int pb_api_malloc(void **p, size_t bytes) { return of(cudaMalloc(p, bytes)); }
int pb_api_free(void *p) { return of(cudaFree(p)); }
int pb_api_host_alloc(void **p, size_t bytes) { return of(cudaHostAlloc(p, bytes, cudaHostAllocDefault)); }
int pb_api_host_free(void *p) { return of(cudaFreeHost(p)); }

static cudaStream_t stream_of(void *s) { return (cudaStream_t)s; }

int pb_api_stream_new(void **stream) {
    cudaStream_t s = NULL;
    int code = of(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    *stream = s;
    return code;
}
int pb_api_stream_free(void *stream) { return of(cudaStreamDestroy(stream_of(stream))); }
int pb_api_stream_sync(void *stream) { return of(cudaStreamSynchronize(stream_of(stream))); }
int pb_api_stream_wait(void *stream, void *event) {
    return of(cudaStreamWaitEvent(stream_of(stream), (cudaEvent_t)event, cudaEventWaitDefault));
}
int pb_api_copy(void *dst, const void *src, size_t bytes, pb_api_copy_kind kind, void *stream) {
    (void)kind; /* addresses tell: a paged optimizer's "device" memory is the host's */
    return of(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDefault, stream_of(stream)));
}
int pb_api_zero(void *dst, size_t bytes, void *stream) { return of(cudaMemsetAsync(dst, 0, bytes, stream_of(stream))); }

int pb_api_event_new(void **event) {
    cudaEvent_t e = NULL;
    int code = of(cudaEventCreate(&e));
    *event = e;
    return code;
}
int pb_api_event_free(void *event) { return of(cudaEventDestroy((cudaEvent_t)event)); }
int pb_api_event_record(void *event, void *stream, bool external) {
    unsigned flags = external ? cudaEventRecordExternal : cudaEventRecordDefault;
    return of(cudaEventRecordWithFlags((cudaEvent_t)event, stream_of(stream), flags));
}
int pb_api_event_sync(void *event) { return of(cudaEventSynchronize((cudaEvent_t)event)); }
int pb_api_event_elapsed(void *a, void *b, double *ns) {
    float ms = 0.0f;
    int code = of(cudaEventElapsedTime(&ms, (cudaEvent_t)a, (cudaEvent_t)b));
    *ns = (double)ms * 1e6;
    return code;
}

int pb_api_launch(const pb_launch *l, void *stream) {
    dim3 grid(l->grid[0], l->grid[1], l->grid[2]), block(l->block[0], l->block[1], l->block[2]);
    return of(cudaLaunchKernel(l->kernel, grid, block, l->args, l->shared, stream_of(stream)));
}
int pb_api_set_shared(const void *kernel, size_t bytes) {
    return of(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes));
}

/* --- graphs ------------------------------------------------------------------------------------- */

int pb_api_capture_begin(void *stream) {
    return of(cudaStreamBeginCapture(stream_of(stream), cudaStreamCaptureModeThreadLocal));
}
/* The node that the next one would depend on. Edges are asked for too: behind a kernel of the library that lets the next one
 * start early the call fails without a place for them. */
int pb_api_capture_node(void *stream, void **node) {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    const cudaGraphNode_t *last = NULL;
    size_t n = 0;
#if CUDART_VERSION >= 12030
    const cudaGraphEdgeData *edges = NULL;
#endif
#if CUDART_VERSION >= 13000
    int code = of(cudaStreamGetCaptureInfo(stream_of(stream), &status, NULL, NULL, &last, &edges, &n));
#elif CUDART_VERSION >= 12030
    int code = of(cudaStreamGetCaptureInfo_v3(stream_of(stream), &status, NULL, NULL, &last, &edges, &n));
#else
    int code = of(cudaStreamGetCaptureInfo_v2(stream_of(stream), &status, NULL, NULL, &last, &n));
#endif
    if (code != 0) return code;
    if (status != cudaStreamCaptureStatusActive || n != 1) return (int)cudaErrorStreamCaptureInvalidated;
    *node = last[0];
    return 0;
}
int pb_api_capture_end(void *stream, void **graph) {
    cudaGraph_t g = NULL;
    int code = of(cudaStreamEndCapture(stream_of(stream), &g));
    *graph = g;
    return code;
}
int pb_api_graph_instantiate(void *graph, void **exec) {
    cudaGraphExec_t e = NULL;
    int code = of(cudaGraphInstantiateWithFlags(&e, (cudaGraph_t)graph, 0));
    *exec = e;
    return code;
}
int pb_api_graph_free(void *graph) { return of(cudaGraphDestroy((cudaGraph_t)graph)); }
int pb_api_exec_params(void *exec, void *node, const pb_launch *l) {
    cudaKernelNodeParams p = {};
    p.func = const_cast<void *>(l->kernel);
    p.gridDim = dim3(l->grid[0], l->grid[1], l->grid[2]);
    p.blockDim = dim3(l->block[0], l->block[1], l->block[2]);
    p.sharedMemBytes = (unsigned)l->shared;
    p.kernelParams = l->args;
    return of(cudaGraphExecKernelNodeSetParams((cudaGraphExec_t)exec, (cudaGraphNode_t)node, &p));
}
int pb_api_exec_launch(void *exec, void *stream) { return of(cudaGraphLaunch((cudaGraphExec_t)exec, stream_of(stream))); }
int pb_api_exec_free(void *exec) { return of(cudaGraphExecDestroy((cudaGraphExec_t)exec)); }

/* --- products ------------------------------------------------------------------------------------- */

static cudaDataType_t type_of(pb_api_dtype t) { return t == PB_API_F32 ? CUDA_R_32F : CUDA_R_16BF; }

int pb_api_lt_new(void **lt) {
    cublasLtHandle_t h = NULL;
    int code = of(cublasLtCreate(&h));
    *lt = h;
    return code;
}
int pb_api_lt_free(void *lt) { return of(cublasLtDestroy((cublasLtHandle_t)lt)); }
int pb_api_lt_version(int *version) {
    *version = (int)cublasLtGetVersion();
    return 0;
}

static cublasLtEpilogue_t epilogue_of(const pb_api_product *p) {
    if (p->epilogue == PB_API_GELU_GRAD) return CUBLASLT_EPILOGUE_DGELU;
    if (p->epilogue == PB_API_GELU && p->ld_aux != 0)
        return p->bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
    if (p->epilogue == PB_API_GELU) return p->bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
    return p->bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
}

/* Sums in f32; TF32 and emulated f32 would have to be asked for by another compute type. */
int pb_api_lt_desc_new(void **desc, const pb_api_product *p) {
    cublasLtMatmulDesc_t d = NULL;
    int code = of(cublasLtMatmulDescCreate(&d, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    if (code != 0) return code;
    cublasOperation_t ta = p->trans_a ? CUBLAS_OP_T : CUBLAS_OP_N, tb = p->trans_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasLtEpilogue_t epilogue = epilogue_of(p);
    cudaDataType_t bias = type_of(p->bias_dtype);
    code = of(cublasLtMatmulDescSetAttribute(d, CUBLASLT_MATMUL_DESC_TRANSA, &ta, sizeof ta));
    if (code == 0) code = of(cublasLtMatmulDescSetAttribute(d, CUBLASLT_MATMUL_DESC_TRANSB, &tb, sizeof tb));
    if (code == 0) code = of(cublasLtMatmulDescSetAttribute(d, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue));
    if (code == 0 && p->bias)
        code = of(cublasLtMatmulDescSetAttribute(d, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &bias, sizeof bias));
    if (code == 0 && p->ld_aux != 0)
        code = of(cublasLtMatmulDescSetAttribute(d, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &p->ld_aux, sizeof p->ld_aux));
    if (code == 0) *desc = d;
    else (void)cublasLtMatmulDescDestroy(d);
    return code;
}
int pb_api_lt_desc_free(void *desc) { return of(cublasLtMatmulDescDestroy((cublasLtMatmulDesc_t)desc)); }
int pb_api_lt_desc_bias(void *desc, const void *bias) {
    return of(cublasLtMatmulDescSetAttribute((cublasLtMatmulDesc_t)desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias,
                                             sizeof bias));
}
int pb_api_lt_desc_aux(void *desc, void *aux) {
    return of(cublasLtMatmulDescSetAttribute((cublasLtMatmulDesc_t)desc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &aux,
                                             sizeof aux));
}
int pb_api_lt_layout_new(void **layout, pb_api_dtype dtype, int64_t rows, int64_t cols, int64_t ld) {
    cublasLtMatrixLayout_t l = NULL;
    int code = of(cublasLtMatrixLayoutCreate(&l, type_of(dtype), (uint64_t)rows, (uint64_t)cols, ld));
    *layout = l;
    return code;
}
int pb_api_lt_layout_free(void *layout) { return of(cublasLtMatrixLayoutDestroy((cublasLtMatrixLayout_t)layout)); }

static int prefer(cublasLtMatmulPreference_t pref, cublasLtMatmulPreferenceAttributes_t what, int align) {
    uint32_t bytes = (uint32_t)align;
    return of(cublasLtMatmulPreferenceSetAttribute(pref, what, &bytes, sizeof bytes));
}

int pb_api_lt_heuristic(void *lt, void *desc, void *a, void *b, void *d, const pb_api_product *p, size_t workspace, int nth,
                        pb_api_algo *algo, bool *found) {
    cublasLtMatmulPreference_t pref = NULL;
    cublasLtMatmulHeuristicResult_t proposed[PB_API_ALGORITHMS] = {}, best = {};
    int n = 0, wanted = nth + 1 < PB_API_ALGORITHMS ? nth + 1 : PB_API_ALGORITHMS;
    *found = false;
    int code = of(cublasLtMatmulPreferenceCreate(&pref));
    if (code != 0) return code;
    uint64_t bytes = workspace;
    uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    code = of(cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof bytes));
    if (code == 0)
        code = of(cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes,
                                                       sizeof schemes));
    if (code == 0) code = prefer(pref, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, p->align_a);
    if (code == 0) code = prefer(pref, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, p->align_b);
    if (code == 0) code = prefer(pref, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, p->align_d);
    if (code == 0) code = prefer(pref, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, p->align_d);
    if (code == 0) {
        cublasLtMatrixLayout_t ld = (cublasLtMatrixLayout_t)d;
        cublasStatus_t s = cublasLtMatmulAlgoGetHeuristic(
            (cublasLtHandle_t)lt, (cublasLtMatmulDesc_t)desc, (cublasLtMatrixLayout_t)a, (cublasLtMatrixLayout_t)b, ld, ld,
            pref, wanted, proposed, &n);
        /* What an epilogue does not take is "in conflict" for some versions. */
        bool more = p->bias || p->epilogue != PB_API_SUM;
        bool cannot = s == CUBLAS_STATUS_NOT_SUPPORTED || (s == CUBLAS_STATUS_INVALID_VALUE && more);
        if (!cannot) code = of(s);
        for (int i = 0; s == CUBLAS_STATUS_SUCCESS && i < n; i++) {
            if (proposed[i].state != CUBLAS_STATUS_SUCCESS) continue;
            best = proposed[i];
            *found = true;
        }
    }
    (void)cublasLtMatmulPreferenceDestroy(pref);
    if (code == 0 && *found) {
        static_assert(sizeof best.algo <= PB_API_ALGO_BYTES, "an algorithm must fit");
        memcpy(algo->data, &best.algo, sizeof best.algo);
        algo->workspace = best.workspaceSize;
    }
    return code;
}

int pb_api_lt_matmul(void *lt, void *desc, float alpha, const void *a, void *layout_a, const void *b, void *layout_b,
                     float beta, void *d, void *layout_d, const pb_api_algo *algo, void *ws, size_t ws_bytes,
                     void *stream) {
    cublasLtMatrixLayout_t ld = (cublasLtMatrixLayout_t)layout_d;
    return of(cublasLtMatmul((cublasLtHandle_t)lt, (cublasLtMatmulDesc_t)desc, &alpha, a, (cublasLtMatrixLayout_t)layout_a,
                             b, (cublasLtMatrixLayout_t)layout_b, &beta, d, ld, d, ld,
                             (const cublasLtMatmulAlgo_t *)(const void *)algo->data, ws, ws_bytes, stream_of(stream)));
}
