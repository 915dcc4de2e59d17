/* Bytes in and out of a device, conversions on the way, and events. */
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "kernels/core/device_impl.h"

#define CHUNK 16384 /* elements converted at a time */

static pb_status need_contiguous(const char *what, pb_tensor t, size_t bytes) {
    if (pb_has(t) && pb_contiguous(t) && bytes == pb_bytes(t)) return PB_OK;
    return PB_ERROR(PB_E_BUG,
                    "%s: %zu host bytes against %zu of a %s tensor (%lld x %lld, stride %lld)",
                    what, bytes, pb_has(t) ? pb_bytes(t) : 0, pb_dtype_name(t.dtype),
                    (long long)pb_rows(t), (long long)pb_cols(t), (long long)t.stride);
}

/* Profilers see transfers as ops; the device's own count of work stays that of ops. */
static void tell(pb_device *dev, const char *what, bool begin, double bytes) {
    pb_work work = {.bytes = bytes};
    if (dev->observer != NULL) dev->observer(dev->observer_user, what, begin, &work);
}

pb_status pb_device_put(pb_device *dev, pb_tensor dst, const void *host, size_t bytes) {
    PB_RETURN(need_contiguous("put", dst, bytes));
    if (bytes == 0) return PB_OK;
    tell(dev, "put", true, (double)bytes);
    pb_status status = dev->backend->put(dev->ctx, dst.data, host, bytes);
    tell(dev, "put", false, (double)bytes);
    return status;
}

pb_status pb_device_get(pb_device *dev, void *host, pb_tensor src, size_t bytes) {
    PB_RETURN(need_contiguous("get", src, bytes));
    if (bytes == 0) return PB_OK;
    tell(dev, "get", true, (double)bytes);
    pb_status status = dev->backend->get(dev->ctx, host, src.data, bytes);
    tell(dev, "get", false, (double)bytes);
    return status;
}

static void encode(pb_dtype dtype, void *dst, const void *host, bool f64, int64_t from, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        double v = f64 ? ((const double *)host)[from + i] : (double)((const float *)host)[from + i];
        if (dtype == PB_F32) ((float *)dst)[i] = (float)v;
        if (dtype == PB_BF16) ((uint16_t *)dst)[i] = pb_f32_to_bf16((float)v);
        if (dtype == PB_F64) ((double *)dst)[i] = v;
    }
}

static void decode(pb_dtype dtype, double *host, const void *src, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        if (dtype == PB_F32) host[i] = (double)((const float *)src)[i];
        if (dtype == PB_BF16) host[i] = (double)pb_bf16_to_f32(((const uint16_t *)src)[i]);
        if (dtype == PB_F64) host[i] = ((const double *)src)[i];
    }
}

static pb_status need_floating(const char *what, pb_tensor t) {
    PB_RETURN(need_contiguous(what, t, pb_has(t) ? pb_bytes(t) : 0));
    if (t.dtype == PB_F32 || t.dtype == PB_BF16 || t.dtype == PB_F64) return PB_OK;
    return PB_ERROR(PB_E_BUG, "%s: a %s tensor has no floating values", what,
                    pb_dtype_name(t.dtype));
}

static pb_status put_converted(pb_device *dev, pb_tensor dst, const void *host, bool f64) {
    PB_RETURN(need_floating("put", dst));
    if (!dev->backend->computes) return PB_OK;
    pb_status status = PB_OK;
    size_t size = pb_dtype_size(dst.dtype);
    void *buffer = malloc(CHUNK * size);
    if (buffer == NULL)
        PB_FAIL(PB_E_OOM, "no host memory for a conversion buffer of %zu bytes", CHUNK * size);
    for (int64_t i = 0, end = pb_numel(dst); i < end; i += CHUNK) {
        int64_t n = end - i < CHUNK ? end - i : CHUNK;
        encode(dst.dtype, buffer, host, f64, i, n);
        PB_TRY(dev->backend->put(dev->ctx, (char *)dst.data + (size_t)i * size, buffer,
                                 (size_t)n * size));
    }
done:
    free(buffer);
    return status;
}

pb_status pb_device_put_f32(pb_device *dev, pb_tensor dst, const float *host) {
    return put_converted(dev, dst, host, false);
}

pb_status pb_device_put_f64(pb_device *dev, pb_tensor dst, const double *host) {
    return put_converted(dev, dst, host, true);
}

pb_status pb_device_get_f64(pb_device *dev, double *host, pb_tensor src) {
    PB_RETURN(need_floating("get", src));
    int64_t end = pb_numel(src);
    if (!dev->backend->computes) {
        memset(host, 0, (size_t)end * sizeof *host);
        return PB_OK;
    }
    pb_status status = PB_OK;
    size_t size = pb_dtype_size(src.dtype);
    void *buffer = malloc(CHUNK * size);
    if (buffer == NULL)
        PB_FAIL(PB_E_OOM, "no host memory for a conversion buffer of %zu bytes", CHUNK * size);
    for (int64_t i = 0; i < end; i += CHUNK) {
        int64_t n = end - i < CHUNK ? end - i : CHUNK;
        PB_TRY(dev->backend->get(dev->ctx, buffer, (const char *)src.data + (size_t)i * size,
                                 (size_t)n * size));
        decode(src.dtype, host + i, buffer, n);
    }
done:
    free(buffer);
    return status;
}

static pb_status zero(pb_device *dev, pb_tensor t) {
    if (pb_contiguous(t)) return dev->backend->zero(dev->ctx, t.data, pb_bytes(t));
    size_t size = pb_dtype_size(t.dtype);
    for (int64_t r = 0; r < pb_rows(t); r++) {
        char *row = (char *)t.data + (size_t)(r * t.stride) * size;
        PB_RETURN(dev->backend->zero(dev->ctx, row, (size_t)pb_cols(t) * size));
    }
    return PB_OK;
}

pb_status pb_device_zero(pb_device *dev, pb_tensor t) {
    if (!pb_has(t)) return PB_ERROR(PB_E_BUG, "zero: no tensor");
    if (pb_numel(t) == 0) return PB_OK;
    tell(dev, "zero", true, (double)pb_bytes(t));
    pb_status status = zero(dev, t);
    tell(dev, "zero", false, (double)pb_bytes(t));
    return status;
}

static pb_status copy(pb_device *dev, pb_tensor dst, pb_tensor src) {
    bool flat = pb_contiguous(dst) && pb_contiguous(src);
    if (flat) return dev->backend->copy(dev->ctx, dst.data, src.data, pb_bytes(dst));
    size_t size = pb_dtype_size(dst.dtype);
    for (int64_t r = 0; r < pb_rows(dst); r++) {
        char *to = (char *)dst.data + (size_t)(r * dst.stride) * size;
        const char *from = (const char *)src.data + (size_t)(r * src.stride) * size;
        PB_RETURN(dev->backend->copy(dev->ctx, to, from, (size_t)pb_cols(dst) * size));
    }
    return PB_OK;
}

pb_status pb_device_copy(pb_device *dev, pb_tensor dst, pb_tensor src) {
    bool flat = pb_has(dst) && pb_has(src) && pb_contiguous(dst) && pb_contiguous(src);
    bool equal = pb_has(dst) && pb_has(src) && dst.dtype == src.dtype &&
                 pb_numel(dst) == pb_numel(src);
    if (!equal || (!flat && pb_cols(dst) != pb_cols(src))) {
        return PB_ERROR(PB_E_BUG, "copy: %s %lld x %lld into %s %lld x %lld",
                        pb_dtype_name(src.dtype), (long long)pb_rows(src), (long long)pb_cols(src),
                        pb_dtype_name(dst.dtype), (long long)pb_rows(dst), (long long)pb_cols(dst));
    }
    if (pb_numel(dst) == 0) return PB_OK;
    tell(dev, "copy", true, 2.0 * (double)pb_bytes(dst));
    pb_status status = copy(dev, dst, src);
    tell(dev, "copy", false, 2.0 * (double)pb_bytes(dst));
    return status;
}

pb_status pb_device_sync(pb_device *dev) { return dev->backend->sync(dev->ctx); }

static pb_status step_begin(pb_device *dev, bool whole) {
    if (dev->backend->step_begin == NULL || dev->observer != NULL) return PB_OK;
    PB_RETURN(dev->backend->step_begin(dev->ctx, whole));
    dev->in_step = true;
    return PB_OK;
}

pb_status pb_device_step_begin(pb_device *dev) { return step_begin(dev, false); }
pb_status pb_device_step_begin_whole(pb_device *dev) { return step_begin(dev, true); }

pb_status pb_device_step_end(pb_device *dev) {
    if (!dev->in_step) return PB_OK;
    dev->in_step = false;
    return dev->backend->step_end(dev->ctx);
}

/* --- events: the backend's; else a host clock behind an empty queue; on a plan, predicted time - */

struct pb_event {
    pb_device *dev;
    void *mark; /* the backend's */
    double ns;
    bool recorded;
};

pb_status pb_event_new(pb_device *dev, pb_event **out) {
    pb_status status = PB_OK;
    *out = NULL;
    pb_event *event = calloc(1, sizeof *event);
    if (event == NULL) return PB_ERROR(PB_E_OOM, "no host memory for an event");
    event->dev = dev;
    if (dev->backend->event_new != NULL) PB_TRY(dev->backend->event_new(dev->ctx, &event->mark));
    *out = event;
    event = NULL;
done:
    free(event);
    return status;
}

void pb_event_free(pb_event *event) {
    if (event == NULL) return;
    if (event->mark != NULL) event->dev->backend->event_free(event->dev->ctx, event->mark);
    free(event);
}

bool pb_device_queues(const pb_device *dev) { return dev->backend->event_new != NULL; }

pb_status pb_event_record(pb_event *event) {
    pb_device *dev = event->dev;
    if (event->mark != NULL) {
        PB_RETURN(dev->backend->event_record(dev->ctx, event->mark));
    } else {
        PB_RETURN(pb_device_sync(dev));
        event->ns = dev->backend->computes ? (double)pb_now_ns() : dev->planned_ns;
    }
    event->recorded = true;
    return PB_OK;
}

pb_status pb_event_elapsed(const pb_event *a, const pb_event *b, double *ns) {
    if (!a->recorded || !b->recorded || a->dev != b->dev) {
        return PB_ERROR(PB_E_BUG, "elapsed: both events must be recorded on one device");
    }
    if (a->mark != NULL) return a->dev->backend->event_elapsed(a->dev->ctx, a->mark, b->mark, ns);
    *ns = b->ns - a->ns;
    return PB_OK;
}
