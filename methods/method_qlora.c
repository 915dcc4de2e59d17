/* QLoRA (Dettmers et al. 2023, arXiv 2305.14314), eq. 5: y = doubleDequant(W) x + s B A D(x). It is
 * LoRA on a base whose linear weights are stored in 4 bits; the weight is dequantised for each
 * product and has no gradient. Rank, alpha and dropout default to LoRA's, so that the two differ in
 * the storage alone; the paper trains rank 64, alpha 16, dropout 0.1 on every linear layer. Paged
 * or 8-bit optimizer state is the trainer's choice. Test: tests/test_methods_unit.c. */
#include <stdlib.h>

#include "methods/lowrank.h"

static const char *const keys[] = {PB_LORA_KEYS, "code", "block", "double_quant", NULL};

typedef struct qlora {
    pb_lora lora; /* first */
    pb_storage storage;
} qlora;

static void destroy(void *self) {
    pb_lowrank_clear(self);
    free(self);
}

static pb_status parse_storage(pb_storage *s, const pb_json *o, const char *where) {
    const char *codes[PB_CODE_COUNT];
    for (int i = 0; i < PB_CODE_COUNT; i++) codes[i] = pb_code_name((pb_code)i);
    int code = PB_CODE_NF4;
    int64_t block = 64;
    *s = (pb_storage){.quantised = true, .double_quant = true};
    if (o) {
        PB_RETURN(pb_json_read_choice(o, where, "code", codes, PB_CODE_COUNT, &code));
        PB_RETURN(pb_json_read_i64(o, where, "block", 16, 4096, &block));
        PB_RETURN(pb_json_read_bool(o, where, "double_quant", &s->double_quant));
    }
    if (block & (block - 1))
        return PB_ERROR(PB_E_INPUT, "%s.block: %lld is not a power of two", where,
                        (long long)block);
    s->code = (pb_code)code;
    s->block = (int)block;
    return PB_OK;
}

static pb_status create(const pb_json *params, const char *where, void **self) {
    *self = NULL;
    PB_RETURN(pb_method_check_keys(params, where, keys));
    qlora *q = calloc(1, sizeof *q);
    if (!q) return PB_ERROR(PB_E_OOM, "%s: no memory for the method", where);
    pb_lowrank_defaults(&q->lora);
    pb_status status = PB_OK;
    PB_TRY(pb_lora_parse(&q->lora, params, where));
    PB_TRY(parse_storage(&q->storage, params, where));
    *self = q;
    q = NULL;
done:
    destroy(q);
    return status;
}

static pb_status describe(const void *self, pb_json *out) {
    const qlora *q = self;
    PB_RETURN(pb_lora_describe(&q->lora, out));
    return pb_described(pb_json_add_str(out, "code", pb_code_name(q->storage.code)) &&
                        pb_json_add_i64(out, "block", q->storage.block) &&
                        pb_json_add_bool(out, "double_quant", q->storage.double_quant));
}

static pb_storage storage(const void *self) { return ((const qlora *)self)->storage; }

static pb_status attach(void *self, const pb_attach *ctx) {
    PB_RETURN(pb_lowrank_attach(self, "qlora", ctx, sizeof(pb_lowrank_site)));
    return pb_lora_init(self);
}

const pb_method pb_method_qlora = {
    .name = "qlora",
    .title = "QLoRA",
    .paper = "Dettmers et al. 2023, arXiv 2305.14314",
    .mergeable = true,
    .exact_at_start = true, /* equals its own 4-bit base */
    .keys = keys,
    .create = create,
    .destroy = destroy,
    .describe = describe,
    .storage = storage,
    .attach = attach,
    .linear_fwd = pb_lowrank_linear_fwd,
    .linear_bwd = pb_lowrank_linear_bwd,
    .components = pb_lowrank_components,
    .cut = pb_lowrank_cut,
    .merge = pb_lowrank_merge,
    .unmerge = pb_lowrank_unmerge,
};
