/* A profile as Chrome's trace format, one object a line: "Trace Event Format", complete events (ph X), times in microseconds.
 * The device's queue is one track; phases and steps are two more, so that they frame what runs inside them. */
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "harness/profile/profile.h"

enum { TRACK_STEP = 1, TRACK_PHASE = 2, TRACK_QUEUE = 3 };

/* A string as JSON has it. */
static void add_string(pb_text *t, const char *s) {
    pb_text_add(t, "\"");
    for (; *s != 0; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\') pb_text_add(t, "\\%c", c);
        else if (c < 0x20) pb_text_add(t, "\\u%04x", c);
        else pb_text_add(t, "%c", c);
    }
    pb_text_add(t, "\"");
}

static void add_track(pb_text *t, int track, const char *name) {
    pb_text_add(t, "{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":1,\"tid\":%d,\"args\":{\"name\":",
                track);
    add_string(t, name);
    pb_text_add(t, "}},\n");
}

static const char *name_of(const pb_profile *p, const pb_span *s, pb_by by) {
    return p->names[by].name[s->name[by]];
}

static void add_frame(pb_text *t, int track, const char *name, double from_ns, double to_ns) {
    pb_text_add(t, "{\"name\":");
    add_string(t, name);
    pb_text_add(t, ",\"ph\":\"X\",\"pid\":1,\"tid\":%d,\"ts\":%.3f,\"dur\":%.3f},\n", track,
                from_ns * 1e-3, (to_ns - from_ns) * 1e-3);
}

static void add_span(pb_text *t, const pb_profile *p, const pb_span *s) {
    pb_text_add(t, "{\"name\":");
    add_string(t, name_of(p, s, PB_BY_KERNEL));
    pb_text_add(t, ",\"ph\":\"X\",\"pid\":1,\"tid\":%d,\"ts\":%.3f,\"dur\":%.3f,\"args\":{",
                TRACK_QUEUE, s->start_ns * 1e-3, s->ns * 1e-3);
    for (int by = PB_BY_OP; by < PB_BY_COUNT; by++) {
        pb_text_add(t, "\"%s\":", pb_by_name((pb_by)by));
        add_string(t, name_of(p, s, (pb_by)by));
        pb_text_add(t, ",");
    }
    pb_text_add(t, "\"flops\":%.0f,\"bytes\":%.0f,\"step\":%d}},\n",
                s->work.flops + s->work.flops_else, s->work.bytes, s->step);
}

/* Runs of spans that share a step or a phase. Spans are in the queue's order. */
static void add_frames(pb_text *t, const pb_profile *p, bool phases) {
    char name[64];
    for (int64_t i = 0, j = 0; i < p->n_spans; i = j) {
        const pb_span *a = &p->spans[i];
        double end = a->start_ns + a->ns;
        for (j = i + 1; j < p->n_spans; j++) {
            const pb_span *b = &p->spans[j];
            if (b->step != a->step || (phases && b->name[PB_BY_PHASE] != a->name[PB_BY_PHASE]))
                break;
            if (b->start_ns + b->ns > end) end = b->start_ns + b->ns;
        }
        snprintf(name, sizeof name, "step %d", a->step);
        add_frame(t, phases ? TRACK_PHASE : TRACK_STEP,
                  phases ? name_of(p, a, PB_BY_PHASE) : name, a->start_ns, end);
    }
}

pb_status pb_profile_trace_json(const pb_profile *p, const char *path) {
    pb_status status = PB_OK;
    pb_text t = {0};
    pb_text_add(&t, "{\"displayTimeUnit\":\"ms\",\"otherData\":{\"tracer\":\"%s\"},\"traceEvents\":[\n",
                p->tracer);
    add_track(&t, TRACK_STEP, "step");
    add_track(&t, TRACK_PHASE, "phase");
    add_track(&t, TRACK_QUEUE, "device queue");
    add_frames(&t, p, false);
    add_frames(&t, p, true);
    for (int64_t i = 0; i < p->n_spans; i++) add_span(&t, p, &p->spans[i]);
    pb_text_add(&t,
                "{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":1,\"args\":{\"name\":\"peftbench\"}}\n]}\n");
    PB_TRY(pb_text_status(&t));
    PB_TRY(pb_file_write_atomic(path, t.data, t.len));
done:
    pb_text_free(&t);
    return status;
}
