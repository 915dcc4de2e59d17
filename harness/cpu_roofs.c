/* Roofs of the CPU: harness/cpu_roofs.h. */
#include "harness/cpu_roofs.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <emmintrin.h>
#endif

#include "base/file.h"
#include "base/text.h"
#include "kernels/core/roof.h"

#define MIB (INT64_C(1) << 20)
#define PAGE 4096
#define MOST_CPUS 4096
#define MOST_CACHES 64

/* ---- caches ---- */

static bool read_line(const char *folder, int cpu, int level, const char *what, char out[128]) {
    char path[512], *text = NULL;
    snprintf(path, sizeof path, "%s/cpu%d/cache/index%d/%s", folder, cpu, level, what);
    if (access(path, R_OK) != 0) return false;
    if (pb_file_read(path, 4096, &text, NULL) != PB_OK) {
        pb_error_clear();
        return false;
    }
    snprintf(out, 128, "%.*s", (int)strcspn(text, "\n"), text);
    free(text);
    return true;
}

/* Of a CPU's last cache: its size and which CPUs share it. */
static int64_t last_cache(const char *folder, int cpu, char shared[128]) {
    char size[128];
    for (int level = 4; level >= 2; level--) {
        if (!read_line(folder, cpu, level, "size", size)) continue;
        if (!read_line(folder, cpu, level, "shared_cpu_list", shared)) continue;
        char *unit = NULL;
        long long n = strtoll(size, &unit, 10);
        if (n > 0) return n * (*unit == 'K' ? 1024 : *unit == 'M' ? MIB : 1);
    }
    return 0;
}

int64_t pb_last_cache_bytes(const char *folder) {
    char seen[MOST_CACHES][128], shared[128], path[512];
    int64_t sum = 0;
    int n = 0;
    if (!folder) folder = "/sys/devices/system/cpu";
    for (int cpu = 0; cpu < MOST_CPUS && n < MOST_CACHES; cpu++) {
        snprintf(path, sizeof path, "%s/cpu%d", folder, cpu);
        if (access(path, F_OK) != 0) break;
        int64_t bytes = last_cache(folder, cpu, shared);
        bool known = bytes == 0;
        for (int i = 0; i < n && !known; i++) known = strcmp(seen[i], shared) == 0;
        if (known) continue;
        memcpy(seen[n++], shared, sizeof shared);
        sum += bytes;
    }
    return sum > 0 ? sum : 32 * MIB;
}

double pb_roof_least(const double *samples) {
    double least = samples[0];
    for (int i = 1; i < PB_ROOF_SAMPLES; i++) least = fmin(least, samples[i]);
    return least;
}

/* ---- copy ---- */

static void copy_past_caches(char *to, const char *from, size_t bytes) {
#if defined(__x86_64__)
    size_t i = 0;
    for (; i + 64 <= bytes; i += 64) { /* slices start on pages */
        const __m128i *x = (const __m128i *)(const void *)(from + i);
        __m128i *y = (__m128i *)(void *)(to + i);
        __m128i a = _mm_load_si128(x), b = _mm_load_si128(x + 1), c = _mm_load_si128(x + 2),
                d = _mm_load_si128(x + 3);
        _mm_stream_si128(y, a);
        _mm_stream_si128(y + 1, b);
        _mm_stream_si128(y + 2, c);
        _mm_stream_si128(y + 3, d);
    }
    memcpy(to + i, from + i, bytes - i);
    _mm_sfence();
#else
    memcpy(to, from, bytes);
#endif
}

typedef enum way { TOUCH, PLAIN, STREAM } way;

static void copy_slices(char *to, char *from, int64_t bytes, int threads, way how) {
    int64_t slice = (bytes / threads + PAGE) / PAGE * PAGE;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int i = 0; i < threads; i++) {
        int64_t first = i * slice, n = bytes - first < slice ? bytes - first : slice;
        if (n <= 0) continue;
        if (how == TOUCH) {
            memset(from + first, 1, (size_t)n);
            memset(to + first, 0, (size_t)n);
        } else if (how == PLAIN) {
            memcpy(to + first, from + first, (size_t)n);
        } else {
            copy_past_caches(to + first, from + first, (size_t)n);
        }
    }
}

static pb_status measure_copy(int threads, pb_cpu_roofs *out) {
    pb_status status = PB_OK;
    double samples[2][PB_ROOF_SAMPLES], least[2];
    int64_t bytes = pb_last_cache_bytes(NULL);
    bytes = bytes < 64 * MIB ? 64 * MIB : bytes > 1024 * MIB ? 1024 * MIB : bytes / PAGE * PAGE;
    char *from = aligned_alloc(PAGE, (size_t)bytes), *to = aligned_alloc(PAGE, (size_t)bytes);
    if (!from || !to)
        PB_FAIL(PB_E_OOM, "no memory for a copy of %lld bytes, the roof of traffic",
                (long long)bytes);
    copy_slices(to, from, bytes, threads, TOUCH);
    for (int w = 0; w < 2; w++) {
        for (int i = -1; i < PB_ROOF_SAMPLES; i++) {
            int64_t start = pb_now_ns();
            copy_slices(to, from, bytes, threads, w ? STREAM : PLAIN);
            if (i >= 0) samples[w][i] = (double)(pb_now_ns() - start) * 1e-9;
        }
        if (to[0] != 1 || to[bytes - 1] != 1) PB_FAIL(PB_E_BUG, "the copy did not copy");
        to[0] = to[bytes - 1] = 0;
        least[w] = pb_roof_least(samples[w]);
    }
    out->streams = least[1] < least[0];
    memcpy(out->samples_s[0], samples[out->streams], sizeof samples[0]);
    out->measured[0] = true;
    out->copy_bytes = bytes;
    out->bytes_per_s = 2 * (double)bytes / least[out->streams];
done:
    free(from);
    free(to);
    return status;
}

/* ---- arithmetic ---- */

static pb_status measure_product(int threads, int d, pb_cpu_roofs *out) {
    static const pb_dtype dtypes[] = {PB_F32, PB_BF16};
    double side = (double)out->side;
    pb_status status = pb_library_product_times(threads, dtypes[d], out->side, PB_ROOF_SAMPLES,
                                                out->samples_s[1 + d]);
    if (status == PB_E_UNSUPPORTED) {
        pb_error_clear(); /* then there is no such roof */
        return PB_OK;
    }
    PB_RETURN(status);
    out->measured[1 + d] = true;
    out->flops_per_s[d] = 2 * side * side * side / pb_roof_least(out->samples_s[1 + d]);
    return PB_OK;
}

static pb_status measure_vectors(int threads, pb_cpu_roofs *out) {
    double samples[PB_ROOF_SAMPLES], operations = 0;
    PB_RETURN(pb_vector_times(threads, PB_ROOF_SAMPLES, samples, &operations));
    out->ops_per_s = operations / pb_roof_least(samples);
    return PB_OK;
}

pb_status pb_cpu_roofs_measure(int threads, pb_cpu_roofs *out) {
    pb_status status = PB_OK;
    pb_device *dev = NULL;
    pb_device_options options = {.threads = threads};
    *out = (pb_cpu_roofs){.side = 0};
    PB_TRY(pb_device_open("cpu", &options, &dev));
    threads = pb_device_threads(dev);
    out->side = threads > 8 ? 2048 : 1024;
    PB_TRY(measure_copy(threads, out));
    for (int d = 0; d < 2; d++) PB_TRY(measure_product(threads, d, out));
    PB_TRY(measure_vectors(threads, out));
done:
    pb_device_close(dev);
    return status;
}
