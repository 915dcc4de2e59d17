/* What the backend enqueues goes through here. */
#include <stdlib.h>

#include "kernels/cuda/queue.h"

pb_status pb_cuda_failed(int code, const char *what, const char *file, int line) {
    static const pb_status status_of[] = {PB_E_BUG, PB_E_OOM, PB_E_ENV};
    const char *end = what;
    while (*end != 0 && *end != '(') end++;
    return pb_error_set(status_of[pb_api_class_of(code)], file, line, "cuda: %.*s: %s", (int)(end - what), what,
                        pb_api_error(code));
}

pb_status pb_cuda_enqueue(pb_cuda *cuda, const pb_launch *l) {
    for (int i = 0; i < 3; i++) {
        if (l->grid[i] == 0) return PB_OK;
    }
    if (l->shared > 48 * 1024) PB_CUDA(pb_api_set_shared(l->kernel, l->shared));
    int code = pb_api_launch(l, cuda->stream);
    return code == 0 ? PB_OK : pb_cuda_failed(code, l->name, __FILE__, __LINE__);
}

pb_status pb_cuda_zero(pb_cuda *cuda, void *dst, size_t bytes) {
    if (bytes > 0) PB_CUDA(pb_api_zero(dst, bytes, cuda->stream));
    return PB_OK;
}

pb_status pb_cuda_copy(pb_cuda *cuda, void *dst, const void *src, size_t bytes) {
    if (bytes > 0) PB_CUDA(pb_api_copy(dst, src, bytes, PB_API_ON_DEVICE, cuda->stream));
    return PB_OK;
}

pb_status pb_cuda_flush(pb_cuda *cuda) {
    (void)cuda;
    return PB_OK;
}
