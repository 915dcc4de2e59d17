/* safetensors writer, and the conversion of stored elements to float and double. The file is built
 * in memory and written atomically: adapters are small. Tensors go by element size (large first),
 * then by name, so that with the header padded to 8 bytes every tensor is aligned to its own type.
 * Test: tests/test_safetensors.c. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "kernels/core/tensor.h"
#include "models/safetensors.h"
#include "models/stored.h"

/* --- elements -------------------------------------------------------------------------------- */

static float f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = (h >> 10) & 31u, fraction = h & 1023u;
    union {
        uint32_t u;
        float f;
    } v;
    if (exponent == 0) {
        float magnitude = (float)fraction * 0x1p-24f; /* exact, subnormals too */
        return sign ? -magnitude : magnitude;
    }
    v.u = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112u) << 23) | (fraction << 13);
    return v.f;
}

static pb_status check_range(const pb_stored_tensor *t, int64_t from, int64_t n) {
    uint64_t size = pb_stored_dtype_bytes(t->dtype);
    if (strcmp(t->dtype, "F32") && strcmp(t->dtype, "F16") && strcmp(t->dtype, "BF16") &&
        strcmp(t->dtype, "F64")) {
        return PB_ERROR(PB_E_INPUT, "%s: tensor %s: dtype %s, expected F32, F16, BF16 or F64",
                        t->file, t->name, t->dtype);
    }
    if (from < 0 || n < 0 || (uint64_t)from > t->bytes / size ||
        (uint64_t)n > t->bytes / size - (uint64_t)from) {
        return PB_ERROR(PB_E_BUG, "%s: tensor %s: elements [%lld, +%lld) of %llu", t->file, t->name,
                        (long long)from, (long long)n, (unsigned long long)(t->bytes / size));
    }
    return PB_OK;
}

pb_status pb_stored_tensor_f64(const pb_stored_tensor *t, int64_t from, int64_t n, double *out) {
    PB_RETURN(check_range(t, from, n));
    if (!strcmp(t->dtype, "F64")) {
        if (n) memcpy(out, t->data + 8 * from, 8 * (size_t)n);
        return PB_OK;
    }
    for (int64_t done = 0; done < n;) {
        float slab[256];
        int64_t m = n - done < 256 ? n - done : 256;
        PB_RETURN(pb_stored_tensor_f32(t, from + done, m, slab));
        for (int64_t i = 0; i < m; i++) out[done + i] = (double)slab[i];
        done += m;
    }
    return PB_OK;
}

pb_status pb_stored_tensor_f32(const pb_stored_tensor *t, int64_t from, int64_t n, float *out) {
    PB_RETURN(check_range(t, from, n));
    if (!strcmp(t->dtype, "F32")) {
        if (n) memcpy(out, t->data + 4 * from, 4 * (size_t)n);
        return PB_OK;
    }
    bool f64 = !strcmp(t->dtype, "F64"), bf16 = !strcmp(t->dtype, "BF16");
    for (int64_t i = 0; i < n; i++) {
        if (f64) {
            double v = 0;
            memcpy(&v, t->data + 8 * (from + i), 8);
            out[i] = (float)v;
        } else {
            uint16_t h = 0;
            memcpy(&h, t->data + 2 * (from + i), 2);
            out[i] = bf16 ? pb_bf16_to_f32(h) : f16_to_f32(h);
        }
    }
    return PB_OK;
}

/* --- writing --------------------------------------------------------------------------------- */

static int for_file(const void *a, const void *b) {
    const pb_write_tensor *x = *(const pb_write_tensor *const *)a,
                          *y = *(const pb_write_tensor *const *)b;
    uint64_t sx = pb_stored_dtype_bytes(x->dtype), sy = pb_stored_dtype_bytes(y->dtype);
    return sx != sy ? (sx < sy ? 1 : -1) : strcmp(x->name, y->name);
}

static int for_names(const void *a, const void *b) {
    return strcmp((*(const pb_write_tensor *const *)a)->name,
                  (*(const pb_write_tensor *const *)b)->name);
}

static void add_string(pb_text *out, const char *s) {
    pb_text_add_bytes(out, "\"", 1);
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\') pb_text_add(out, "\\%c", c);
        else if (c < 0x20) pb_text_add(out, "\\u%04x", (unsigned)c);
        else pb_text_add_bytes(out, s, 1);
    }
    pb_text_add_bytes(out, "\"", 1);
}

static pb_status check_write(const char *path, const pb_write_tensor *t) {
    uint64_t need = pb_stored_dtype_bytes(t->dtype);
    size_t bad = 0;
    bool fits = need > 0 && t->ndim >= 0 && t->ndim <= 4;
    for (int i = 0; fits && i < t->ndim; i++) {
        fits = t->dim[i] >= 0 && !__builtin_mul_overflow(need, (uint64_t)t->dim[i], &need);
    }
    if (!fits || need != t->bytes || (t->bytes && !t->data) || !strcmp(t->name, "__metadata__") ||
        !pb_utf8_valid(t->name, strlen(t->name), &bad)) {
        return PB_ERROR(
            PB_E_BUG, "%s: tensor %s: dtype %s with %d dimensions and %llu bytes cannot be written",
            path, t->name, t->dtype, t->ndim, (unsigned long long)t->bytes);
    }
    return PB_OK;
}

static pb_status add_metadata(pb_text *head, const char *path, const pb_json *meta) {
    const pb_json *entry = NULL;
    const char *comma = "";
    pb_text_add(head, "\"__metadata__\":{");
    cJSON_ArrayForEach(entry, meta) {
        if (!cJSON_IsString(entry)) {
            return PB_ERROR(PB_E_BUG, "%s: metadata.%s: only strings can be written", path,
                            entry->string);
        }
        pb_text_add(head, "%s", comma);
        add_string(head, entry->string);
        pb_text_add(head, ":");
        add_string(head, entry->valuestring);
        comma = ",";
    }
    pb_text_add(head, "}");
    return PB_OK;
}

static pb_status write_header(pb_text *head, const char *path, const pb_write_tensor *const *order,
                              int n, const pb_json *meta) {
    const char *comma = "";
    uint64_t at = 0;
    pb_text_add(head, "{");
    if (meta) {
        PB_RETURN(add_metadata(head, path, meta));
        comma = ",";
    }
    for (int i = 0; i < n; i++) {
        const pb_write_tensor *t = order[i];
        pb_text_add(head, "%s", comma);
        add_string(head, t->name);
        pb_text_add(head, ":{\"dtype\":\"%s\",\"shape\":[", t->dtype);
        for (int d = 0; d < t->ndim; d++)
            pb_text_add(head, "%s%lld", d ? "," : "", (long long)t->dim[d]);
        pb_text_add(head, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at,
                    (unsigned long long)(at + t->bytes));
        if (__builtin_add_overflow(at, t->bytes, &at))
            return PB_ERROR(PB_E_BUG, "%s: too many bytes", path);
        comma = ",";
    }
    pb_text_add(head, "}");
    while (head->len % 8 && !head->failed) pb_text_add(head, " ");
    return PB_OK;
}

pb_status pb_safetensors_write(const char *path, const pb_write_tensor *tensors, int n,
                               const pb_json *meta) {
    pb_status status = PB_OK;
    pb_text head = {0}, file = {0};
    const pb_write_tensor **order = calloc((size_t)(n > 0 ? n : 1), sizeof *order);
    if (!order) PB_FAIL(PB_E_OOM, "%s: no memory for %d tensors", path, n);
    for (int i = 0; i < n; i++) {
        PB_TRY(check_write(path, &tensors[i]));
        order[i] = &tensors[i];
    }
    if (n) qsort(order, (size_t)n, sizeof *order, for_names);
    for (int i = 1; i < n; i++) {
        if (!strcmp(order[i - 1]->name, order[i]->name))
            PB_FAIL(PB_E_BUG, "%s: tensor %s twice", path, order[i]->name);
    }
    if (n) qsort(order, (size_t)n, sizeof *order, for_file);
    PB_TRY(write_header(&head, path, order, n, meta));
    PB_TRY(pb_text_status(&head));
    unsigned char size[8];
    for (int i = 0; i < 8; i++) size[i] = (unsigned char)((uint64_t)head.len >> (8 * i));
    pb_text_add_bytes(&file, size, sizeof size);
    pb_text_add_bytes(&file, head.data, head.len);
    for (int i = 0; i < n; i++) {
        if (order[i]->bytes) pb_text_add_bytes(&file, order[i]->data, (size_t)order[i]->bytes);
    }
    PB_TRY(pb_text_status(&file));
    PB_TRY(pb_file_write_atomic(path, file.data, file.len));
done:
    free(order);
    pb_text_free(&head);
    pb_text_free(&file);
    return status;
}
