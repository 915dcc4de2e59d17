/* Opening and closing devices; what a device says about itself. Memory: arena.c; transfers and
 * events: transfer.c. */
#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "kernels/core/device_impl.h"

const pb_backend *pb_backend_find(const char *name) {
    for (int i = 0; i < pb_backend_registry_count; i++) {
        if (strcmp(pb_backend_registry[i]->name, name) == 0) return pb_backend_registry[i];
    }
    return NULL;
}

static pb_status unknown_backend(const char *name) {
    char known[256] = "";
    for (int i = 0; i < pb_backend_registry_count; i++) {
        size_t len = strlen(known);
        snprintf(known + len, sizeof known - len, "%s%s", i == 0 ? "" : ", ",
                 pb_backend_registry[i]->name);
    }
    return PB_ERROR(PB_E_INPUT, "no device '%s'; known: %s, and plan:<one of these>", name, known);
}

static int online_threads(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    int n = CPU_COUNT(&set);
    return n < 1 ? 1 : n;
}

/* Fills dev->kernel from the generated table. Two kernels for one op would make the choice depend
 * on file names. */
static pb_status index_kernels(pb_device *dev) {
    for (const pb_kernel_set *const *set = dev->kernels->kernels; *set != NULL; set++) {
        for (int i = 0; i < (*set)->n; i++) {
            const pb_kernel *k = &(*set)->kernels[i];
            if ((unsigned)k->op >= PB_OP_COUNT || k->run == NULL || dev->kernel[k->op] != NULL) {
                return PB_ERROR(
                    PB_E_BUG,
                    "backend %s: kernel %d of a set is not usable or is the second one for %s",
                    dev->kernels->name, i, pb_op_name(k->op));
            }
            dev->kernel[k->op] = k;
        }
    }
    return PB_OK;
}

static pb_status open_contexts(pb_device *dev, bool plan) {
    if (!plan) {
        PB_RETURN(dev->backend->open(&dev->options, &dev->ctx));
        dev->kernels_ctx = dev->ctx;
        return PB_OK;
    }
    PB_RETURN(dev->backend->open(&dev->options, &dev->ctx));
    /* A plan needs no machine: a backend that cannot run here can still be asked for sizes. One that holds on to a driver is
     * never opened for it: this process may want to fork. */
    if (dev->holds_driver) return PB_OK;
    if (dev->kernels->open(&dev->options, &dev->kernels_ctx) != PB_OK) {
        dev->kernels_ctx = NULL;
        pb_error_clear();
    }
    return PB_OK;
}

pb_status pb_device_open(const char *backend, const pb_device_options *options, pb_device **out) {
    pb_status status = PB_OK;
    *out = NULL;
    bool plan = strncmp(backend, "plan:", 5) == 0;
    const pb_backend *kernels = pb_backend_find(plan ? backend + 5 : backend);
    if (kernels == NULL) return unknown_backend(backend);
    bool holds_driver = kernels->resolve != NULL;
    if (holds_driver) PB_RETURN(kernels->resolve(plan, &kernels));
    pb_device *dev = calloc(1, sizeof *dev);
    if (dev == NULL) return PB_ERROR(PB_E_OOM, "no host memory for device '%s'", backend);
    dev->holds_driver = holds_driver;
    pb_copy(dev->name, sizeof dev->name, backend);
    dev->kernels = kernels;
    dev->backend = plan ? &pb_backend_plan : kernels;
    if (options != NULL) dev->options = *options;
    if (getenv("PB_MEMORY_SEPARATE") != NULL) dev->options.separate = true;
    if (dev->options.threads < 0 || dev->options.fail_alloc < 0 || dev->options.algorithm < 0) {
        PB_FAIL(PB_E_INPUT,
                "device '%s': threads %d, fail_alloc %" PRId64 " and algorithm %d must not be negative", backend,
                dev->options.threads, dev->options.fail_alloc, dev->options.algorithm);
    }
    if (dev->options.threads == 0) dev->options.threads = online_threads();
    PB_TRY(index_kernels(dev));
    PB_TRY(open_contexts(dev, plan));
    *out = dev;
    dev = NULL;
done:
    pb_device_close(dev);
    return status;
}

void pb_device_close(pb_device *dev) {
    if (dev == NULL) return;
    if (dev->ctx != NULL) {
        (void)dev->backend->sync(dev->ctx); /* what is queued still uses the arenas */
        pb_arenas_free(dev);
        if (dev->kernels_ctx != NULL && dev->kernels_ctx != dev->ctx)
            dev->kernels->close(dev->kernels_ctx);
        dev->backend->close(dev->ctx);
    }
    free(dev);
}

const char *pb_device_name(const pb_device *dev) { return dev->name; }
bool pb_device_computes(const pb_device *dev) { return dev->backend->computes; }
int pb_device_threads(const pb_device *dev) { return dev->options.threads; }
void *pb_device_context(const pb_device *dev) { return dev->kernels_ctx; }

bool pb_device_pages_optimizer(const pb_device *dev) {
    bool own = dev->kernels->host_alloc != NULL || (!dev->backend->computes && dev->options.own_memory);
    return dev->options.page_optimizer && own;
}

bool pb_device_fast_dtype(const pb_device *dev, pb_dtype dtype) {
    if (dev->kernels->fast_dtype == NULL) return dtype == PB_F32;
    return dev->kernels->fast_dtype(dev->kernels_ctx, dtype);
}

void pb_device_describe(const pb_device *dev, char *text, size_t cap) {
    if (cap > 0) text[0] = 0;
    if (dev->backend->describe != NULL) dev->backend->describe(dev->ctx, text, cap);
}

bool pb_device_memory_used(const pb_device *dev, uint64_t *bytes) {
    return dev->backend->memory_used != NULL && dev->backend->memory_used(dev->ctx, bytes);
}

pb_work pb_device_work(const pb_device *dev) { return dev->work; }

void pb_device_observe(pb_device *dev, pb_op_observer fn, void *user) {
    dev->observer = fn;
    dev->observer_user = user;
}

bool pb_device_observed(const pb_device *dev) { return dev->observer != NULL; }

void pb_device_scope(pb_device *dev, pb_scope scope, const char *name) {
    dev->scope[scope] = name;
    for (int inner = (int)scope + 1; inner < PB_SCOPE_COUNT; inner++) dev->scope[inner] = NULL;
}

const char *pb_device_scope_name(const pb_device *dev, pb_scope scope) {
    return dev->scope[scope] != NULL ? dev->scope[scope] : "";
}
