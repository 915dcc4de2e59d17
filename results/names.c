/* Fixed names: run statuses, the grammar of tags, and the metric families of results/SCHEMA.md. */
#include <ctype.h>
#include <string.h>

#include "base/text.h"
#include "results/record_impl.h"

const char *pb_run_status_name(pb_run_status s) {
    static const char *const names[PB_RUN_STATUS_COUNT] = {"ok", "failed", "diverged", "oom",
                                                           "interrupted"};
    return (int)s >= 0 && s < PB_RUN_STATUS_COUNT ? names[s] : "unknown";
}

/* First match wins. */
static const pb_tag_info families[] = {
    {"quality/train/nll", "nats", -1, "training NLL"},
    {"quality/valid/nll", "nats", -1, "validation NLL"},
    {"quality/test/nll", "nats", -1, "test NLL"},
    {"quality/gap/nll", "nats", -1, "test NLL less training NLL"},
    {"quality/*/nll", "nats", -1, "NLL"},
    {"quality/general/nll/*", "nats", -1, "NLL of general text"},
    {"quality/general/drift", "1", -1, "turn of the embeddings of general text"},
    {"quality/general/neighbours", "1", 1, "nearest neighbours kept on general text"},
    {"quality/*/nll/before", "nats", -1, "NLL before training"},
    {"quality/*/accuracy/before", "1", 1, "accuracy before training"},
    {"quality/*/perplexity/before", "1", -1, "perplexity before training"},
    {"quality/train/accuracy", "1", 1, "training accuracy"},
    {"quality/valid/accuracy", "1", 1, "validation accuracy"},
    {"quality/test/accuracy", "1", 1, "test accuracy"},
    {"quality/*/accuracy", "1", 1, "accuracy"},
    {"quality/*/perplexity", "1", -1, "perplexity"},
    {"loss/train/roughness", "nats", -1, "roughness of the training loss"},
    {"curve/valid/nll/min", "nats", -1, "least validation NLL during training"},
    {"curve/valid/upturn", "1", -1, "rise of the validation NLL above its least"},
    {"gradient/adapter/*", "1", 0, "gradient norm of the method's parameters"},
    {"change/correlation", "1", 0, "correlation of the weights' change in magnitude and direction"},
    {"quant/error", "1", -1, "relative error of the quantised weights"},
    {"quant/bits", "1", -1, "bits per quantised weight"},
    {"time/step/*", "s", -1, "time of a training step"},
    {"time/forward/*", "s", -1, "time of the forward pass"},
    {"time/backward/*", "s", -1, "time of the backward pass"},
    {"time/optimizer/*", "s", -1, "time of the optimizer"},
    {"time/train/examples_per_s", "examples/s", 1, "training speed"},
    {"time/train/tokens_per_s", "tokens/s", 1, "training speed"},
    {"time/train/*", "s", -1, "training time"},
    {"time/infer/merged/*", "s", -1, "inference time, merged"},
    {"time/infer/unmerged/*", "s", -1, "inference time, unmerged"},
    {"time/infer/base/*", "s", -1, "inference time of the base model"},
    {"time/infer/base_merged/*", "s", -1, "inference time of the base model"},
    {"ratio/infer/merged/*", "1", -1, "inference time, merged, over the base model's"},
    {"ratio/infer/unmerged/*", "1", -1, "inference time, unmerged, over the base model's"},
    {"gradient/norm/*", "1", 0, "gradient norm"},
    {"memory/peak/total", "bytes", -1, "peak memory of the training arenas"},
    {"memory/rss/peak", "bytes", -1, "peak resident memory of the process"},
    {"memory/*", "bytes", -1, "memory"},
    {"size/*", "bytes", -1, "size on disk"},
    {"work/*/flops", "FLOP", -1, "arithmetic work"},
    {"work/*/bytes", "bytes", -1, "bytes moved"},
    {"work/mfu", "1", 1, "model FLOP utilisation"},
    {"profile/step", "s", -1, "time of a traced step"},
    {"profile/untraced", "s", -1, "time of the traced step without the tracer"},
    {"profile/busy", "s", -1, "time of a traced step in which the device worked"},
    {"profile/idle_share", "1", -1, "share of a step in which the device waited"},
    {"profile/products_share", "1", 0, "share of a step inside matrix products"},
    {"profile/*/*", "s", -1, "time of a traced step"},
    {"roof/bytes_per_s", "bytes/s", 0, "measured memory roof"},
    {"roof/flops_per_s", "FLOP/s", 0, "measured compute roof"},
};

const pb_tag_info *pb_tag_find(const char *tag) {
    char base[96];
    const char *at = strchr(tag, '@');
    size_t n = at ? (size_t)(at - tag) : strlen(tag);
    if (n >= sizeof base) return NULL;
    memcpy(base, tag, n);
    base[n] = 0;
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++)
        if (pb_glob(families[i].pattern, base)) return &families[i];
    return NULL;
}

static bool is_word(char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-';
}

bool pb_tag_valid(const char *tag) {
    const char *p = tag;
    if (!*tag || strlen(tag) >= sizeof((pb_metric *)0)->tag || *tag == '.') return false;
    for (;; p++) {
        if (!is_word(*p)) return false;
        while (is_word(*p)) p++;
        if (*p != '/') break;
    }
    if (*p == 0) return true;
    if (*p++ != '@' || !is_word(*p)) return false;
    while (is_word(*p)) p++;
    if (*p++ != '=') return false;
    size_t value = 0;
    for (; is_word(*p) || (*p >= 'A' && *p <= 'Z') || *p == '+'; p++) value++;
    return value > 0 && *p == 0;
}

bool pb_from_split(const char *from, char how[16], const char **tag) {
    const char *colon = strchr(from, ':');
    size_t n = colon ? (size_t)(colon - from) : 0;
    if (n == 0 || n >= 16) return false;
    memcpy(how, from, n);
    how[n] = 0;
    *tag = colon + 1;
    return true;
}

void pb_sample_file_name(const char *tag, char file[128]) {
    size_t n = 0;
    for (; tag[n] && n < 120; n++) file[n] = tag[n] == '/' ? '-' : tag[n];
    memcpy(file + n, ".f64", 5);
}
