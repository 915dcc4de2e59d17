/* The program's side of the cuda backend: finds out whether it can be used here, opens the shared object that holds it.
 *
 * No CUDA header, no CUDA library: the driver is asked through libcuda.so.1, opened by name, before the object with its
 * large libraries is touched. The object lies beside the program; PB_CUDA_PLUGIN names another one (then nothing is probed:
 * the object itself says what it lacks). */
#include <dlfcn.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "kernels/cuda/plugin.h"

/* Why cuInit failed: the codes that have a remedy of their own (cuda.h). */
static const char *remedy_of(int code) {
    switch (code) {
    case 3: return "this process was forked from one that had opened a GPU";
    case 100: return "no GPU, or CUDA_VISIBLE_DEVICES names none";
    case 802: return "the GPUs are not ready: is nvidia-fabricmanager running?";
    case 803: return "libcuda.so.1 and the kernel module are of different versions: restart, or remove the one that is too many";
    case 804: return "libcuda.so.1 is a compatibility library that does not work with this GPU";
    default: return "no GPU, or the kernel module is not loaded, or no right to open /dev/nvidia*";
    }
}

/* PB_OK when a GPU can be used, else why not, in one line. */
static pb_status look_for_gpu(void) {
    void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (driver == NULL) return PB_ERROR(PB_E_ENV, "cuda: no NVIDIA driver: libcuda.so.1 is not installed");
    /* Left open: drivers do not like to be unloaded. */
    int (*init)(unsigned) = NULL, (*count)(int *) = NULL;
    *(void **)&init = dlsym(driver, "cuInit");
    *(void **)&count = dlsym(driver, "cuDeviceGetCount");
    int n = 0;
    if (init == NULL || count == NULL)
        return PB_ERROR(PB_E_ENV, "cuda: libcuda.so.1 has no cuInit or no cuDeviceGetCount");
    int code = init(0);
    if (code != 0)
        return PB_ERROR(PB_E_ENV, "cuda: the NVIDIA driver does not start (cuInit: %d): %s", code, remedy_of(code));
    if (count(&n) == 0 && n > 0) return PB_OK;
    return PB_ERROR(PB_E_ENV, "cuda: the NVIDIA driver finds no GPU; look at nvidia-smi and CUDA_VISIBLE_DEVICES");
}

/* The object's path: PB_CUDA_PLUGIN, else beside the program. */
static pb_status plugin_path(char path[PATH_MAX], bool *named) {
    const char *given = getenv("PB_CUDA_PLUGIN");
    *named = given != NULL && *given != 0;
    if (*named) {
        pb_copy(path, PATH_MAX, given);
        return PB_OK;
    }
    return pb_beside_program(PB_CUDA_PLUGIN_FILE, path, PATH_MAX);
}

static pb_status open_plugin(const char *path, const pb_backend **real) {
    if (access(path, R_OK) != 0) {
        return PB_ERROR(PB_E_ENV,
                        "this build has no cuda backend (%s is missing): nvcc was not found when it was configured, or "
                        "the target cuda_backend was not built",
                        path);
    }
    void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (object == NULL) {
        const char *why = dlerror();
        return PB_ERROR(PB_E_ENV, "the cuda backend cannot be loaded: %s", why != NULL ? why : path);
    }
    const pb_cuda_plugin_info *(*get)(void) = NULL;
    *(void **)&get = dlsym(object, PB_CUDA_PLUGIN_SYMBOL);
    const pb_cuda_plugin_info *info = get != NULL ? get() : NULL;
    if (info == NULL || info->abi != PB_CUDA_PLUGIN_ABI || info->args_bytes != pb_cuda_plugin_args_bytes()) {
        (void)dlclose(object);
        return PB_ERROR(PB_E_ENV, "%s belongs to another build of this program: build again", path);
    }
    *real = info->backend; /* the object stays open as long as the process */
    return PB_OK;
}

static pb_status cuda_resolve(bool plan, const pb_backend **real) {
    char path[PATH_MAX];
    bool named = false;
    PB_RETURN(plugin_path(path, &named));
    if (!named && !plan) PB_RETURN(look_for_gpu());
    return open_plugin(path, real);
}

const pb_backend pb_backend_cuda = {.name = "cuda", .computes = true, .resolve = cuda_resolve};
