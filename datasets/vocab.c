/* Token strings to ids. Linear probing, at most half full; tokens lie end to end in one block.
 * Test: tests/test_tokenizer.c. */
#include "datasets/vocab.h"

#include <stdlib.h>
#include <string.h>

/* FNV's low bits are weak for short keys: mixed before they choose the slot. */
static size_t first_slot(uint64_t hash, size_t n_slots) {
    return (size_t)((hash ^ hash >> 29) * 0xbf58476d1ce4e5b9u >> 17) & (n_slots - 1);
}

static pb_status grow(pb_vocab *v) {
    size_t n_slots = v->n_slots ? v->n_slots * 2 : 64;
    pb_vocab_slot *slots = malloc(n_slots * sizeof *slots);
    if (!slots) return PB_ERROR(PB_E_OOM, "no memory for a vocabulary of %zu tokens", v->n);
    for (size_t i = 0; i < n_slots; i++) slots[i].id = -1;
    for (size_t i = 0; i < v->n_slots; i++) {
        if (v->slots[i].id < 0) continue;
        size_t k = first_slot(v->slots[i].hash, n_slots);
        while (slots[k].id >= 0) k = (k + 1) & (n_slots - 1);
        slots[k] = v->slots[i];
    }
    free(v->slots);
    v->slots = slots;
    v->n_slots = n_slots;
    return PB_OK;
}

pb_status pb_vocab_add(pb_vocab *v, const char *token, size_t len, int32_t id, int32_t *existing) {
    PB_ASSERT(id >= 0);
    *existing = pb_vocab_find(v, token, len);
    if (*existing >= 0) return PB_OK;
    if (len > UINT32_MAX / 2) return PB_ERROR(PB_E_INPUT, "a token of %zu bytes", len);
    if (v->n * 2 >= v->n_slots) PB_RETURN(grow(v));
    if (v->cap_bytes - v->n_bytes < len + 1) {
        size_t cap = v->cap_bytes * 2 + len + 4096;
        char *bytes = realloc(v->bytes, cap);
        if (!bytes) return PB_ERROR(PB_E_OOM, "no memory for a vocabulary of %zu bytes", cap);
        v->bytes = bytes;
        v->cap_bytes = cap;
    }
    uint64_t hash = pb_hash_add(PB_HASH_START, token, len);
    size_t k = first_slot(hash, v->n_slots);
    while (v->slots[k].id >= 0) k = (k + 1) & (v->n_slots - 1);
    v->slots[k] = (pb_vocab_slot){.hash = hash, .off = v->n_bytes, .len = (uint32_t)len, .id = id};
    memcpy(v->bytes + v->n_bytes, token, len);
    v->n_bytes += len;
    v->bytes[v->n_bytes++] = 0; /* readable as a C string */
    v->n++;
    if (len > v->longest) v->longest = len;
    return PB_OK;
}

int32_t pb_vocab_find_hashed(const pb_vocab *v, uint64_t hash, const char *prefix,
                             size_t prefix_len, const char *rest, size_t rest_len) {
    if (v->n_slots == 0) return -1;
    for (size_t k = first_slot(hash, v->n_slots); v->slots[k].id >= 0;
         k = (k + 1) & (v->n_slots - 1)) {
        const pb_vocab_slot *s = &v->slots[k];
        if (s->hash != hash || s->len != prefix_len + rest_len) continue;
        const char *token = v->bytes + s->off;
        if (prefix_len && memcmp(token, prefix, prefix_len) != 0) continue;
        if (rest_len && memcmp(token + prefix_len, rest, rest_len) != 0) continue;
        return s->id;
    }
    return -1;
}

int32_t pb_vocab_find(const pb_vocab *v, const char *token, size_t len) {
    return pb_vocab_find_hashed(v, pb_hash_add(PB_HASH_START, token, len), NULL, 0, token, len);
}

void pb_vocab_free(pb_vocab *v) {
    if (!v) return;
    free(v->slots);
    free(v->bytes);
    *v = (pb_vocab){0};
}
