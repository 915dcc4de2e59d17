/* The CUDA driver as the program has loaded it: the plug-in is not linked to it, so that it can be opened without one. */
#include <dlfcn.h>

#include "harness/profile/cupti/common.h"

static void *driver_function(const char *name) {
    void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    void *function = driver != NULL ? dlsym(driver, name) : NULL;
    if (driver != NULL) (void)dlclose(driver); /* the program holds it */
    return function;
}

pb_status pb_cupti_current(void **context, int *device) {
    int (*get_context)(void **) = NULL, (*get_device)(int *) = NULL;
    *(void **)&get_context = driver_function("cuCtxGetCurrent");
    *(void **)&get_device = driver_function("cuCtxGetDevice");
    if (get_context == NULL || get_device == NULL)
        return PB_ERROR(PB_E_ENV, "no CUDA driver is loaded in this process");
    int code = get_context(context);
    if (code == 0 && *context != NULL) code = get_device(device);
    if (code != 0 || *context == NULL)
        return PB_ERROR(PB_E_ENV, "this thread has no CUDA context (driver code %d)", code);
    return PB_OK;
}

bool pb_cupti_device_memory(uint64_t *used, uint64_t *capacity) {
    int (*info)(size_t *, size_t *) = NULL;
    size_t unused = 0, total = 0;
    *(void **)&info = driver_function("cuMemGetInfo_v2");
    if (info == NULL || info(&unused, &total) != 0) return false;
    *used = total - unused;
    *capacity = total;
    return true;
}
