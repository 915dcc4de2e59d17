/* Private to datasets/: token string -> id, an open-addressing hash table over one block of bytes.
 */
#ifndef PB_DATASETS_VOCAB_H
#define PB_DATASETS_VOCAB_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct pb_vocab_slot {
    uint64_t hash;
    size_t off; /* into bytes */
    uint32_t len;
    int32_t id; /* -1 = free */
} pb_vocab_slot;

/* Zero-initialise; pb_vocab_free. */
typedef struct pb_vocab {
    pb_vocab_slot *slots;
    size_t n_slots, n; /* n_slots is a power of two or 0 */
    char *bytes;
    size_t n_bytes, cap_bytes;
    size_t longest; /* bytes of the longest token */
} pb_vocab;

/* FNV-1a, a byte at a time, so that WordPiece gets the hash of every prefix of a word in one pass.
 */
#define PB_HASH_START 0xcbf29ce484222325u
static inline uint64_t pb_hash_step(uint64_t h, unsigned char byte) {
    return (h ^ byte) * 0x100000001b3u;
}
static inline uint64_t pb_hash_add(uint64_t h, const char *s, size_t n) {
    for (size_t i = 0; i < n; i++) h = pb_hash_step(h, (unsigned char)s[i]);
    return h;
}

/* *existing = the id the token had already (then nothing is added), or -1. */
pb_status pb_vocab_add(pb_vocab *v, const char *token, size_t len, int32_t id, int32_t *existing);
/* -1 when absent. */
int32_t pb_vocab_find(const pb_vocab *v, const char *token, size_t len);
/* The same with the token as prefix + rest and its hash known. */
int32_t pb_vocab_find_hashed(const pb_vocab *v, uint64_t hash, const char *prefix,
                             size_t prefix_len, const char *rest, size_t rest_len);
void pb_vocab_free(pb_vocab *v);

#endif
