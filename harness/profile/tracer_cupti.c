/* CUPTI's tracer and counters live in a shared object of their own, opened at run time: the program starts without CUPTI, a driver or a
 * GPU. This file finds it and says why it cannot be used. PB_CUPTI_PLUGIN names another object. */
#include <dlfcn.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "harness/profile/cupti/plugin.h"

static pb_status plugin_path(char path[PATH_MAX]) {
    const char *given = getenv("PB_CUPTI_PLUGIN");
    if (given != NULL && *given != 0) {
        pb_copy(path, PATH_MAX, given);
        return PB_OK;
    }
    return pb_beside_program(PB_CUPTI_PLUGIN_FILE, path, PATH_MAX);
}

static pb_status find_plugin(const pb_cupti_plugin_info **out) {
    char path[PATH_MAX];
    PB_RETURN(plugin_path(path));
    if (access(path, R_OK) != 0)
        return PB_ERROR(PB_E_ENV, "this build has no CUPTI tracer (%s is missing)", path);
    void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL); /* stays open: CUPTI does not like to be unloaded */
    if (object == NULL) {
        const char *why = dlerror();
        return PB_ERROR(PB_E_ENV, "the CUPTI tracer cannot be loaded: %s", why != NULL ? why : path);
    }
    const pb_cupti_plugin_info *(*get)(void) = NULL;
    *(void **)&get = dlsym(object, PB_CUPTI_PLUGIN_SYMBOL);
    const pb_cupti_plugin_info *info = get != NULL ? get() : NULL;
    if (info == NULL || info->abi != PB_CUPTI_PLUGIN_ABI || info->profile_bytes != sizeof(pb_profile)) {
        (void)dlclose(object);
        return PB_ERROR(PB_E_ENV, "%s belongs to another build of this program: build again", path);
    }
    *out = info;
    return PB_OK;
}

/* The plug-in's own trace, and the tracer that ends it. */
typedef struct loaded {
    const pb_tracer *tracer;
    void *trace;
} loaded;

static pb_status cupti_begin(pb_device *dev, pb_profile *profile, void **trace) {
    pb_status status = PB_OK;
    const pb_cupti_plugin_info *plugin = NULL;
    loaded *l = calloc(1, sizeof *l);
    *trace = NULL;
    if (l == NULL) return PB_ERROR(PB_E_OOM, "no host memory for a trace");
    PB_TRY(find_plugin(&plugin));
    l->tracer = plugin->tracer;
    PB_TRY(l->tracer->begin(dev, profile, &l->trace));
    *trace = l;
    l = NULL;
done:
    free(l);
    return status;
}

static pb_status cupti_end(void *trace) {
    loaded *l = trace;
    pb_status status = l->tracer->end(l->trace);
    free(l);
    return status;
}

const pb_tracer pb_tracer_cupti = {.name = "cupti", .begin = cupti_begin, .end = cupti_end};

pb_status pb_counter_reader_find(pb_device *dev, const pb_counter_reader **out) {
    const pb_cupti_plugin_info *plugin = NULL;
    if (strncmp(pb_device_name(dev), "cuda", 4) != 0)
        return PB_ERROR(PB_E_ENV, "hardware counters are read on a GPU only, this is %s", pb_device_name(dev));
    PB_RETURN(find_plugin(&plugin));
    *out = plugin->counters;
    return PB_OK;
}

pb_status pb_memory_recorder_find(const pb_memory_recorder **out) {
    const pb_cupti_plugin_info *plugin = NULL;
    PB_RETURN(find_plugin(&plugin));
    *out = plugin->memory;
    return PB_OK;
}
