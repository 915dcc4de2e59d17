/* WordPiece: greedy longest match from the left within one word (Schuster and Nakajima 2012, as in
 * BERT). A word with an unknown rest, or of more than max_input_chars_per_word characters, is one
 * [UNK]. */
#include <stdlib.h>
#include <string.h>

#include "datasets/tokenizer_impl.h"

#define MAX_CHARS 1000 /* per word: bounds the hashes kept on the stack */

pb_status pb_wordpiece_read(const pb_json *model, const char *where, const pb_vocab *vocab,
                            pb_wordpiece *out) {
    const char *unk = "[UNK]", *prefix = "##";
    out->max_chars = 100;
    PB_RETURN(pb_json_read_str(model, where, "unk_token", &unk));
    PB_RETURN(pb_json_read_str(model, where, "continuing_subword_prefix", &prefix));
    PB_RETURN(
        pb_json_read_i64(model, where, "max_input_chars_per_word", 0, MAX_CHARS, &out->max_chars));
    out->unk = pb_vocab_find(vocab, unk, strlen(unk));
    if (out->unk < 0)
        return PB_ERROR(PB_E_INPUT, "%s: unk_token \"%s\" is not in the vocabulary", where, unk);
    out->prefix = strdup(prefix);
    if (!out->prefix) return PB_ERROR(PB_E_OOM, "no memory");
    out->prefix_len = strlen(prefix);
    return PB_OK;
}

/* The longest token that s[0..n) starts with: its id and *len, or -1. One pass hashes every prefix.
 */
static int32_t longest(const pb_vocab *vocab, const char *prefix, size_t prefix_len, const char *s,
                       size_t n, size_t *len) {
    uint64_t hash[MAX_CHARS * 4];
    uint64_t h = pb_hash_add(PB_HASH_START, prefix, prefix_len);
    size_t limit = vocab->longest > prefix_len ? vocab->longest - prefix_len : 0;
    if (limit > n) limit = n;
    PB_ASSERT(limit <= sizeof hash / sizeof hash[0]); /* words are at most MAX_CHARS characters */
    for (size_t k = 0; k < limit; k++) hash[k] = h = pb_hash_step(h, (unsigned char)s[k]);
    for (size_t k = limit; k > 0; k--) {
        if (k < n && ((unsigned char)s[k] & 0xC0) == 0x80) continue; /* inside a character */
        int32_t id = pb_vocab_find_hashed(vocab, hash[k - 1], prefix, prefix_len, s, k);
        if (id < 0) continue;
        *len = k;
        return id;
    }
    return -1;
}

pb_status pb_wordpiece_encode(const pb_wordpiece *wp, const pb_vocab *vocab, const char *word,
                              size_t n, pb_ids *out) {
    int64_t chars = 0, start = out->n;
    for (size_t i = 0; i < n; i++) chars += ((unsigned char)word[i] & 0xC0) != 0x80;
    if (chars > wp->max_chars) return pb_ids_push(out, wp->unk);
    for (size_t i = 0; i < n;) {
        size_t len = 0;
        int32_t id = longest(vocab, wp->prefix, i ? wp->prefix_len : 0, word + i, n - i, &len);
        if (id < 0) {
            out->n = start;
            return pb_ids_push(out, wp->unk);
        }
        PB_RETURN(pb_ids_push(out, id));
        i += len;
    }
    return PB_OK;
}
