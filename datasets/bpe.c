/* Byte-pair encoding (Sennrich et al., arXiv:1508.07909): starting from characters, the pair of
 * lowest rank is merged first, leftmost first among equals. Symbols are a linked list and pairs
 * wait in a heap, so a text without any pre-tokenizer (SentencePiece style: the whole text is one
 * word) costs n log n. Entries of the heap go stale when a neighbour was merged; they are dropped,
 * as in Hugging Face `tokenizers`, unless the pair now there gives the same token. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "datasets/tokenizer_impl.h"

/* ---- reading ---- */

static size_t pair_slot(uint64_t pair, size_t n_slots) {
    return (size_t)((pair ^ pair >> 31) * 0x9e3779b97f4a7c15u >> 20) & (n_slots - 1);
}

static const pb_merge_slot *find_merge(const pb_bpe *bpe, int32_t left, int32_t right) {
    if (bpe->n_slots == 0) return NULL;
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    for (size_t k = pair_slot(pair, bpe->n_slots); bpe->merges[k].rank >= 0;
         k = (k + 1) & (bpe->n_slots - 1))
        if (bpe->merges[k].pair == pair) return &bpe->merges[k];
    return NULL;
}

/* "a b" or ["a", "b"]. */
static pb_status merge_parts(const pb_json *item, const char *where, int rank, const char **a,
                             size_t *na, const char **b, size_t *nb) {
    if (cJSON_IsString(item)) {
        const char *s = item->valuestring, *space = strchr(s, ' ');
        if (space && !strchr(space + 1, ' ')) {
            *a = s;
            *na = (size_t)(space - s);
            *b = space + 1;
            *nb = strlen(space + 1);
            return PB_OK;
        }
    } else if (cJSON_IsArray(item) && cJSON_IsString(item->child) &&
               cJSON_IsString(item->child->next) && !item->child->next->next) {
        *a = item->child->valuestring;
        *na = strlen(*a);
        *b = item->child->next->valuestring;
        *nb = strlen(*b);
        return PB_OK;
    }
    return PB_ERROR(PB_E_INPUT, "%s: merges[%d]: expected two tokens, \"a b\" or [\"a\", \"b\"]",
                    where, rank);
}

static pb_status add_merge(pb_bpe *bpe, const pb_vocab *vocab, const pb_json *item,
                           const char *where, int rank, pb_buf *joined) {
    const char *a = NULL, *b = NULL;
    size_t na = 0, nb = 0;
    PB_RETURN(merge_parts(item, where, rank, &a, &na, &b, &nb));
    joined->n = 0;
    PB_RETURN(pb_buf_add(joined, a, na));
    PB_RETURN(pb_buf_add(joined, b, nb));
    int32_t left = pb_vocab_find(vocab, a, na), right = pb_vocab_find(vocab, b, nb);
    int32_t id = pb_vocab_find(vocab, joined->s, joined->n);
    if (left < 0 || right < 0 || id < 0) {
        const char *missing = left < 0 ? a : right < 0 ? b : joined->s;
        size_t n = left < 0 ? na : right < 0 ? nb : joined->n;
        return PB_ERROR(PB_E_INPUT, "%s: merges[%d]: token \"%.*s\" is not in the vocabulary",
                        where, rank, (int)(n < 200 ? n : 200), missing);
    }
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t k = pair_slot(pair, bpe->n_slots);
    while (bpe->merges[k].rank >= 0 && bpe->merges[k].pair != pair)
        k = (k + 1) & (bpe->n_slots - 1);
    bpe->merges[k] = (pb_merge_slot){
        .pair = pair, .rank = rank, .id = id}; /* a repeated pair: the last rank counts */
    return PB_OK;
}

static pb_status read_merges(const pb_json *model, const char *where, const pb_vocab *vocab,
                             pb_bpe *out) {
    pb_status status = PB_OK;
    pb_buf joined = {0};
    const pb_json *merges = pb_json_get(model, "merges");
    if (!cJSON_IsArray(merges)) return PB_ERROR(PB_E_INPUT, "%s: merges: expected an array", where);
    size_t n = 0, n_slots = 64;
    for (const pb_json *m = merges->child; m; m = m->next) n++;
    if (n > PB_TOKENIZER_MAX_ID)
        return PB_ERROR(PB_E_INPUT, "%s: %zu merges, at most 2^24 are supported", where, n);
    while (n_slots < n * 2) n_slots *= 2;
    out->merges = malloc(n_slots * sizeof *out->merges);
    if (!out->merges) return PB_ERROR(PB_E_OOM, "no memory for %zu merges", n);
    out->n_slots = n_slots;
    for (size_t i = 0; i < n_slots; i++) out->merges[i].rank = -1;
    int rank = 0;
    for (const pb_json *m = merges->child; m; m = m->next)
        PB_TRY(add_merge(out, vocab, m, where, rank++, &joined));
done:
    free(joined.s);
    return status;
}

pb_status pb_bpe_read(const pb_json *model, const char *where, const pb_vocab *vocab, pb_bpe *out) {
    static const char *const empty_only[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (int i = 0; i < 2; i++) {
        const char *s = "";
        const pb_json *v = pb_json_get(model, empty_only[i]);
        if (v && !cJSON_IsNull(v)) PB_RETURN(pb_json_read_str(model, where, empty_only[i], &s));
        if (*s)
            return PB_ERROR(PB_E_INPUT, "%s: %s \"%s\" is not supported, only none", where,
                            empty_only[i], s);
    }
    const pb_json *dropout = pb_json_get(model, "dropout");
    if (dropout && !cJSON_IsNull(dropout) &&
        !(cJSON_IsNumber(dropout) && dropout->valuedouble == 0))
        return PB_ERROR(PB_E_INPUT, "%s: dropout is not supported, only null or 0", where);
    PB_RETURN(pb_json_read_bool(model, where, "byte_fallback", &out->byte_fallback));
    PB_RETURN(pb_json_read_bool(model, where, "fuse_unk", &out->fuse_unk));
    PB_RETURN(pb_json_read_bool(model, where, "ignore_merges", &out->ignore_merges));
    out->unk = -1;
    const pb_json *unk = pb_json_get(model, "unk_token");
    if (unk && !cJSON_IsNull(unk)) {
        const char *s = NULL;
        PB_RETURN(pb_json_read_str(model, where, "unk_token", &s));
        out->unk = pb_vocab_find(vocab, s, strlen(s));
        if (out->unk < 0)
            return PB_ERROR(PB_E_INPUT, "%s: unk_token \"%s\" is not in the vocabulary", where, s);
    }
    for (unsigned b = 0; b < 256; b++) {
        char name[8];
        int n = snprintf(name, sizeof name, "<0x%02X>", b);
        out->byte[b] = pb_vocab_find(vocab, name, (size_t)n);
    }
    return read_merges(model, where, vocab, out);
}

void pb_bpe_free(pb_bpe *bpe) {
    free(bpe->merges);
    *bpe = (pb_bpe){0};
}

/* ---- the heap: lowest rank on top, then lowest position ---- */

static bool before(pb_candidate a, pb_candidate b) {
    return a.rank != b.rank ? a.rank < b.rank : a.pos < b.pos;
}

static pb_status heap_push(pb_bpe_work *w, pb_candidate c) {
    if (w->heap_n == w->heap_cap) {
        size_t cap = w->heap_cap * 2 + 64;
        pb_candidate *heap = realloc(w->heap, cap * sizeof *heap);
        if (!heap) return PB_ERROR(PB_E_OOM, "no memory for %zu merges", cap);
        w->heap = heap;
        w->heap_cap = cap;
    }
    size_t i = w->heap_n++;
    for (; i > 0 && before(c, w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = c;
    return PB_OK;
}

static pb_candidate heap_pop(pb_bpe_work *w) {
    pb_candidate top = w->heap[0], last = w->heap[--w->heap_n];
    size_t i = 0;
    for (;;) {
        size_t child = i * 2 + 1;
        if (child >= w->heap_n) break;
        if (child + 1 < w->heap_n && before(w->heap[child + 1], w->heap[child])) child++;
        if (!before(w->heap[child], last)) break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = last;
    return top;
}

/* ---- encoding ---- */

static pb_status add_symbol(pb_bpe_work *w, int32_t id) {
    if (w->n == w->cap) {
        size_t cap = w->cap * 2 + 64;
        pb_symbol *symbols = realloc(w->symbols, cap * sizeof *symbols);
        if (!symbols) return PB_ERROR(PB_E_OOM, "no memory for %zu symbols", cap);
        w->symbols = symbols;
        w->cap = cap;
    }
    int32_t i = (int32_t)w->n++;
    w->symbols[i] = (pb_symbol){.id = id, .prev = i - 1, .next = i + 1};
    return PB_OK;
}

/* The ids of the bytes of one character, when all of them are in the vocabulary. */
static pb_status add_bytes(const pb_bpe *bpe, pb_bpe_work *w, const char *s, size_t n, bool *done) {
    *done = false;
    for (size_t i = 0; i < n; i++)
        if (bpe->byte[(unsigned char)s[i]] < 0) return PB_OK;
    for (size_t i = 0; i < n; i++) PB_RETURN(add_symbol(w, bpe->byte[(unsigned char)s[i]]));
    *done = true;
    return PB_OK;
}

static pb_status add_characters(const pb_bpe *bpe, const pb_vocab *vocab, pb_bpe_work *w,
                                const char *s, size_t n) {
    bool pending = false; /* an unknown that may still grow */
    for (size_t i = 0; i < n;) {
        size_t len = pb_uc_len((unsigned char)s[i]);
        int32_t id = pb_vocab_find(vocab, s + i, len);
        bool known = id >= 0;
        if (!known && bpe->byte_fallback) {
            bool done = false;
            PB_RETURN(add_bytes(bpe, w, s + i, len, &done));
            if (done) {
                i += len;
                continue;
            }
        }
        if (pending && (known || !bpe->fuse_unk)) {
            PB_RETURN(add_symbol(w, bpe->unk));
            pending = false;
        }
        if (known) PB_RETURN(add_symbol(w, id));
        if (!known && bpe->unk >= 0) pending = true;
        i += len;
    }
    if (pending) PB_RETURN(add_symbol(w, bpe->unk));
    return PB_OK;
}

static pb_status propose(const pb_bpe *bpe, pb_bpe_work *w, int32_t left, int32_t right) {
    const pb_merge_slot *m = find_merge(bpe, w->symbols[left].id, w->symbols[right].id);
    if (!m) return PB_OK;
    return heap_push(w, (pb_candidate){.rank = m->rank, .pos = left, .id = m->id});
}

pb_status pb_bpe_encode(const pb_bpe *bpe, const pb_vocab *vocab, pb_bpe_work *w, const char *text,
                        size_t n, pb_ids *out) {
    if (n == 0) return PB_OK;
    if (n > INT32_MAX / 4)
        return PB_ERROR(PB_E_INPUT, "a text of %zu bytes is too long for one word", n);
    if (bpe->ignore_merges) {
        int32_t id = pb_vocab_find(vocab, text, n);
        if (id >= 0) return pb_ids_push(out, id);
    }
    w->n = w->heap_n = 0;
    PB_RETURN(add_characters(bpe, vocab, w, text, n));
    int32_t count = (int32_t)w->n;
    for (int32_t i = 0; i + 1 < count; i++) PB_RETURN(propose(bpe, w, i, i + 1));
    while (w->heap_n > 0) {
        pb_candidate top = heap_pop(w);
        pb_symbol *at = &w->symbols[top.pos];
        if (at->gone || at->next >= count) continue;
        pb_symbol *right = &w->symbols[at->next];
        const pb_merge_slot *m = find_merge(bpe, at->id, right->id);
        if (!m || m->id != top.id) continue;
        at->id = top.id;
        right->gone = true;
        at->next = right->next;
        if (at->next < count) w->symbols[at->next].prev = top.pos;
        if (at->prev >= 0) PB_RETURN(propose(bpe, w, at->prev, top.pos));
        if (at->next < count) PB_RETURN(propose(bpe, w, top.pos, at->next));
    }
    for (int32_t i = 0; i < count; i++)
        if (!w->symbols[i].gone) PB_RETURN(pb_ids_push(out, w->symbols[i].id));
    return PB_OK;
}
