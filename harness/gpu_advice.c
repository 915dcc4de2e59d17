/* What a watch of a GPU says, in numbers and in words: harness/gpu_state.h. */
#include <math.h>
#include <string.h>

#include "harness/gpu_state.h"
#include "harness/machine_state.h"

/* Bits of NVML's clocks throttle reasons; an idle GPU is none. */
static const struct {
    uint64_t bit;
    const char *name, *advice;
} reasons[] = {
    {0x2, "applications clocks", "somebody has set them; sudo nvidia-smi -rac gives the usual ones back"},
    {0x4, "power cap", "raise it (sudo nvidia-smi -pl WATTS), or lock a clock that it can hold (-lgc MHZ)"},
    {0x8, "hardware slowdown", "heat or power supply: see nvidia-smi -q -d PERFORMANCE"},
    {0x10, "sync boost", "other GPUs of its group are slower; take it out of the group"},
    {0x20, "heat, by the driver", "cool the machine, or wait"},
    {0x40, "heat, by the hardware", "cool the machine, or wait"},
    {0x80, "power brake", "the machine's power supply asked for it"},
    {0x100, "display clocks", "a display is driven; take another GPU"}};
enum { REASONS = sizeof reasons / sizeof reasons[0] };

/* The numbers of a report, by their names in files. */
typedef struct number {
    const char *name;
    double *least, *most; /* one of them: how two are joined */
} number;
enum { NUMBERS = 8 };

static void numbers_of(pb_gpu_report *r, number out[NUMBERS]) {
    const number list[NUMBERS] = {{"sm_mhz_least", &r->sm_mhz_least, NULL},
                                  {"sm_mhz_most", NULL, &r->sm_mhz_most},
                                  {"sm_mhz_limit", NULL, &r->sm_mhz_limit},
                                  {"memory_mhz_least", &r->memory_mhz_least, NULL},
                                  {"memory_mhz_most", NULL, &r->memory_mhz_most},
                                  {"watts_most", NULL, &r->watts_most},
                                  {"watts_limit", &r->watts_limit, NULL},
                                  {"celsius_most", NULL, &r->celsius_most}};
    memcpy(out, list, sizeof list);
}

pb_status pb_gpu_report_json(const pb_gpu_report *r, pb_json *o) {
    pb_gpu_report copy = *r;
    number list[NUMBERS];
    numbers_of(&copy, list);
    bool ok = pb_json_add_i64(o, "looks", r->looks);
    for (int i = 0; i < NUMBERS && ok; i++) {
        double value = list[i].least ? *list[i].least : *list[i].most;
        ok = isnan(value) || pb_json_add_f64(o, list[i].name, value);
    }
    pb_json *held = pb_json_add_array(o, "clocks_held_for");
    for (int i = 0; i < REASONS; i++)
        if (r->reasons & reasons[i].bit) ok = ok && pb_json_add_str(held, NULL, reasons[i].name);
    ok = ok && held && (!*r->driver || pb_json_add_str(o, "driver", r->driver));
    if (ok && r->processes_most >= 0) ok = pb_json_add_i64(o, "processes_most", r->processes_most);
    return ok ? PB_OK : PB_ERROR(PB_E_OOM, "no memory for the state of the GPU");
}

static pb_status add_reasons(const pb_json *list, const char *where, pb_gpu_report *sum) {
    const pb_json *item = NULL;
    cJSON_ArrayForEach(item, list) {
        int at = 0;
        while (at < REASONS &&
               !(cJSON_IsString(item) && strcmp(item->valuestring, reasons[at].name) == 0))
            at++;
        if (at == REASONS)
            return PB_ERROR(PB_E_INPUT, "%s: clocks_held_for has %s", where,
                            cJSON_IsString(item) ? item->valuestring : "what is no text");
        sum->reasons |= reasons[at].bit;
    }
    return PB_OK;
}

pb_status pb_gpu_report_add(const pb_json *o, const char *where, pb_gpu_report *sum) {
    number list[NUMBERS];
    int64_t looks = 0, processes = -1;
    const char *driver = NULL;
    numbers_of(sum, list);
    for (int i = 0; i < NUMBERS; i++) {
        double value = NAN;
        PB_RETURN(pb_json_read_f64(o, where, list[i].name, 0, 1e9, &value));
        if (list[i].least)
            *list[i].least = fmin(*list[i].least, value);
        else
            *list[i].most = fmax(*list[i].most, value);
    }
    PB_RETURN(pb_json_read_i64(o, where, "looks", 0, INT64_C(1) << 40, &looks));
    PB_RETURN(pb_json_read_i64(o, where, "processes_most", 0, 1 << 20, &processes));
    PB_RETURN(pb_json_read_str(o, where, "driver", &driver));
    sum->looks += looks;
    if (processes > sum->processes_most) sum->processes_most = processes;
    if (driver) pb_copy(sum->driver, sizeof sum->driver, driver);
    return add_reasons(pb_json_get(o, "clocks_held_for"), where, sum);
}

void pb_gpu_advice(const pb_gpu_report *r, pb_text *lines) {
    if (r->sm_mhz_most > PB_NOISY_CLOCK * r->sm_mhz_least)
        pb_text_add(lines,
                    "the GPU's clock moved between %.0f and %.0f MHz: sudo nvidia-smi -lgc %.0f locks "
                    "it (-rgc gives it back)\n",
                    r->sm_mhz_least, r->sm_mhz_most, r->sm_mhz_least);
    for (int i = 0; i < REASONS; i++) {
        if (!(r->reasons & reasons[i].bit)) continue;
        pb_text_add(lines, "the GPU's clock was held down for: %s", reasons[i].name);
        if (reasons[i].bit == 0x4 && r->watts_most > 0)
            pb_text_add(lines, " (%.0f W of %.0f)", r->watts_most, r->watts_limit);
        if (reasons[i].bit & 0x60 && r->celsius_most > 0)
            pb_text_add(lines, " (%.0f degrees)", r->celsius_most);
        pb_text_add(lines, ": %s\n", reasons[i].advice);
    }
    if (r->processes_most > 1)
        pb_text_add(lines,
                    "%lld processes computed on the GPU, this one among them: stop the others, or "
                    "measure when nobody else is there\n",
                    (long long)r->processes_most);
}
