/* Machine and build as they go into every record. Read from /proc and /sys; what is not there is
 * left out. */
#include "harness/environment.h"

#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/text.h"
#include "generated/build_info.h"
#include "kernels/core/about.h"
#include "kernels/core/device.h"

enum { SMALL_FILE = 1 << 20 };

static int saved_argc;
static char *const *saved_argv;
extern char **environ;

void pb_environment_set_argv(int argc, char *const *argv) {
    saved_argc = argc;
    saved_argv = argv;
}

void pb_utc_now(char out[32]) {
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &utc);
}

/* The value of "key : value" or KEY="value" in a small text file, "" when absent. */
static void lookup(const char *path, const char *key, char *out, size_t cap) {
    char *text = NULL;
    size_t len = 0;
    out[0] = 0;
    if (!pb_file_exists(path) || pb_file_read(path, SMALL_FILE, &text, &len) != PB_OK) {
        pb_error_clear();
        return;
    }
    size_t n = strlen(key);
    for (char *line = text; line != NULL && *line != 0;
         line = strchr(line, '\n'), line += line != NULL) {
        if (strncmp(line, key, n) != 0) continue;
        const char *p = line + n;
        p += strspn(p, " \t");
        if (*p != ':' && *p != '=') continue;
        p++;
        p += strspn(p, " \t\"");
        size_t m = strcspn(p, "\n\"");
        if (m >= cap) m = cap - 1;
        memcpy(out, p, m);
        out[m] = 0;
        break;
    }
    free(text);
}

/* The first line of a file, "" when it is not there. */
static void first_line(const char *path, char *out, size_t cap) {
    char *text = NULL;
    out[0] = 0;
    if (!pb_file_exists(path) || pb_file_read(path, SMALL_FILE, &text, NULL) != PB_OK) {
        pb_error_clear();
        return;
    }
    text[strcspn(text, "\n")] = 0;
    pb_copy(out, cap, text);
    free(text);
}

static bool add_known(pb_json *o, const char *key, const char *value) {
    return value[0] == 0 || pb_json_add_str(o, key, value);
}

static bool add_caches(pb_json *o) {
    bool ok = true;
    for (int i = 0; i < 8 && ok; i++) {
        char path[96], level[16], type[32], size[32], key[64];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/level", i);
        first_line(path, level, sizeof level);
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/type", i);
        first_line(path, type, sizeof type);
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", i);
        first_line(path, size, sizeof size);
        if (level[0] == 0 || size[0] == 0) continue;
        snprintf(key, sizeof key, "cache_l%s%s", level,
                 type[0] == 'D'   ? "_data"
                 : type[0] == 'I' ? "_instruction"
                                  : "");
        ok = pb_json_add_str(o, key, size);
    }
    return ok;
}

/* The flags of the processor that decide which kernels run. */
static bool add_features(pb_json *o) {
    static const char *const wanted[] = {"avx2",        "fma",      "avx512f", "avx512_bf16",
                                         "avx512_vnni", "amx_bf16", "amx_tile"};
    char flags[8192] = " ";
    lookup("/proc/cpuinfo", "flags", flags + 1, sizeof flags - 2);
    strcat(flags, " ");
    pb_json *list = pb_json_add_array(o, "cpu_features");
    bool ok = list != NULL;
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0] && ok; i++) {
        char word[32];
        snprintf(word, sizeof word, " %s ", wanted[i]);
        if (strstr(flags, word) != NULL) ok = pb_json_add_str(list, NULL, wanted[i]);
    }
    return ok;
}

static bool add_machine(pb_json *root) {
    char model[128], total[64];
    pb_json *o = pb_json_add_object(root, "machine");
    lookup("/proc/cpuinfo", "model name", model, sizeof model);
    lookup("/proc/meminfo", "MemTotal", total, sizeof total);
    return o != NULL && add_known(o, "cpu", model) &&
           pb_json_add_i64(o, "cores_online", sysconf(_SC_NPROCESSORS_ONLN)) &&
           pb_json_add_i64(o, "memory_bytes", (int64_t)strtoll(total, NULL, 10) * 1024) &&
           add_features(o) && add_caches(o);
}

static bool add_system(pb_json *root) {
    struct utsname u;
    char name[128];
    pb_json *o = pb_json_add_object(root, "system");
    if (o == NULL || uname(&u) != 0) return o != NULL;
    lookup("/etc/os-release", "PRETTY_NAME", name, sizeof name);
    return add_known(o, "os", name) && pb_json_add_str(o, "kernel", u.release) &&
           pb_json_add_str(o, "architecture", u.machine);
}

/* The revision names a build from unchanged sources; of another one only its own hash says which it was. */
static bool add_executable(pb_json *build) {
    char hash[PB_SHA256_HEX];
    if (!PB_BUILD_DIRTY && PB_BUILD_REVISION[0] != 0) return true;
    if (pb_sha256_file("/proc/self/exe", hash) == PB_OK) return pb_json_add_str(build, "executable", hash);
    pb_error_clear();
    return true;
}

static bool add_build(pb_json *root) {
    pb_json *o = pb_json_add_object(root, "build");
    return o != NULL && pb_json_add_str(o, "version", PB_BUILD_VERSION) &&
           pb_json_add_str(o, "revision", PB_BUILD_REVISION) &&
           pb_json_add_bool(o, "dirty", PB_BUILD_DIRTY != 0) && add_executable(o) &&
           pb_json_add_str(o, "compiler", PB_BUILD_COMPILER) &&
           pb_json_add_str(o, "flags", PB_BUILD_FLAGS);
}

static bool add_libraries(pb_json *root) {
    pb_json *o = pb_json_add_object(root, "libraries");
    return o != NULL && pb_json_add_str(o, "products", pb_kernels_library()) &&
           pb_json_add_str(o, "cjson", cJSON_Version());
}

/* An absolute path says where somebody's files lie, not what was run: only its last part is kept. */
static const char *without_folders(const char *text) {
    return text[0] == '/' ? strrchr(text, '/') + 1 : text;
}

/* Only what steers threads and this program: a whole environment would carry names and secrets. */
static bool add_variables(pb_json *root) {
    pb_json *o = pb_json_add_object(root, "variables");
    bool ok = o != NULL;
    for (char **e = environ; ok && e != NULL && *e != NULL; e++) {
        const char *eq = strchr(*e, '=');
        char key[64];
        if (eq == NULL || (size_t)(eq - *e) >= sizeof key) continue;
        if (strncmp(*e, "OMP_", 4) != 0 && strncmp(*e, "GOMP_", 5) != 0 && strncmp(*e, "PB_", 3) != 0) continue;
        memcpy(key, *e, (size_t)(eq - *e));
        key[eq - *e] = 0;
        if (pb_json_get(o, key) == NULL) ok = pb_json_add_str(o, key, without_folders(eq + 1));
    }
    return ok;
}

static bool add_argv(pb_json *root) {
    pb_json *o = pb_json_add_array(root, "argv");
    bool ok = o != NULL;
    for (int i = 0; i < saved_argc && ok; i++) {
        ok = pb_json_add_str(o, NULL, without_folders(saved_argv[i]));
    }
    return ok;
}

pb_status pb_environment_json(const char *device, int threads, pb_json **out) {
    pb_json *o = cJSON_CreateObject();
    if (threads <= 0) threads = (int)sysconf(_SC_NPROCESSORS_ONLN);
    bool ok = o != NULL && add_machine(o) && add_system(o) && add_build(o) && add_libraries(o) &&
              add_variables(o) && add_argv(o) && pb_json_add_str(o, "device", device) &&
              pb_json_add_i64(o, "threads", threads);
    if (!ok) {
        pb_json_free(o);
        return PB_ERROR(PB_E_OOM, "no host memory for the description of the environment");
    }
    *out = o;
    return PB_OK;
}

bool pb_environment_word(const char *described, const char *key, char *out, size_t cap) {
    const char *at = strstr(described, key);
    snprintf(out, cap, "%.*s", at ? (int)strcspn(at + strlen(key), ",; ") : 0, at ? at + strlen(key) : "");
    return at != NULL;
}

/* "NAME, compute capability 9.0, ...; driver 13.0, runtime ..." */
pb_status pb_environment_add_gpu(pb_json *environment, const char *described) {
    /* Keys of the description, under which name they go into the environment, and whether beside the
     * host's libraries. */
    static const struct {
        const char *key, *name;
        bool with_libraries;
    } versions[] = {{"driver ", "driver", false},
                    {"runtime ", "cuda_runtime", true},
                    {"cuBLASLt ", "cublaslt", true}};
    char name[256];
    if (described[0] == 0) return PB_OK;
    snprintf(name, sizeof name, "%.*s", (int)strcspn(described, ","), described);
    pb_json *machine = cJSON_GetObjectItemCaseSensitive(environment, "machine");
    pb_json *libraries = cJSON_GetObjectItemCaseSensitive(environment, "libraries");
    pb_json *gpu = pb_json_add_object(machine, "gpu");
    bool ok = gpu != NULL && pb_json_add_str(gpu, "name", name);
    for (size_t i = 0; i < sizeof versions / sizeof versions[0]; i++) {
        char version[32];
        if (!pb_environment_word(described, versions[i].key, version, sizeof version)) continue;
        ok = ok && add_known(versions[i].with_libraries ? libraries : gpu, versions[i].name, version);
    }
    if (ok) return PB_OK;
    return PB_ERROR(PB_E_OOM, "no host memory for the description of the GPU");
}

const char *pb_environment_machine(const pb_json *environment) {
    const pb_json *machine = pb_json_get(environment, "machine");
    const pb_json *name = pb_json_get(pb_json_get(machine, "gpu"), "name");
    if (!cJSON_IsString(name)) name = pb_json_get(machine, "cpu");
    return cJSON_IsString(name) ? name->valuestring : "unknown";
}
