/* WordNet's data files, read line by line and checked; what becomes of a synset is the source's.
 * Tests: tests/test_datasets.c, tests/fuzz/fuzz_wordnet.c. */
#include "datasets/wordnet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"

#define DEFAULT_DIR "/usr/share/wordnet"
#define SPLIT_SALT 0x574e3330u /* any constant: "WN30" */

/* `digits` decimal digits, or -1. */
static int64_t number(const char *s, int digits) {
    int64_t v = 0;
    for (int i = 0; i < digits; i++) {
        if (s[i] < '0' || s[i] > '9') return -1;
        v = v * 10 + (s[i] - '0');
    }
    return v;
}

static bool is_one_of(char c, const char *set) { return c && strchr(set, c); }

/* Length of the definition: everything before the first quoted example, without trailing
 * separators. A gloss that is only quotations stays whole. */
static size_t definition(const char *s, size_t n) {
    size_t end = n;
    for (size_t i = 0; i + 1 < n && end == n; i++) {
        size_t quote = s[i + 1] == ' ' ? i + 2 : i + 1;
        if (is_one_of(s[i], ";:,") && quote < n && s[quote] == '"') end = i;
    }
    while (end > 0 && is_one_of(s[end - 1], " ;:,\t\r")) end--;
    if (end > 0) return end;
    while (n > 0 && is_one_of(s[n - 1], " ;\t\r")) n--;
    return n;
}

pb_split_id pb_wordnet_split(const char *text, size_t len) {
    uint64_t draw = pb_texts_hash(text, len, SPLIT_SALT) % 10;
    return draw < 8 ? PB_TRAIN : draw < 9 ? PB_VALID : PB_TEST;
}

static pb_status parse_line(const char *where, size_t offset, const char *s, size_t n, char pos,
                            const pb_wordnet_use *use, pb_texts *texts) {
    static const char kinds[] = "nvar";
    int64_t at = n > 14 && s[8] == ' ' && s[11] == ' ' && s[13] == ' ' ? number(s, 8) : -1;
    int64_t file = at >= 0 ? number(s + 9, 2) : -1;
    const char *gloss = at >= 0 ? memmem(s, n, " | ", 3) : NULL;
    if (at < 0 || file < 0 || !gloss)
        return PB_ERROR(PB_E_INPUT,
                        "%s: offset %zu: expected \"offset lex_filenum ss_type ... | gloss\"",
                        where, offset);
    if ((uint64_t)at != offset)
        return PB_ERROR(PB_E_INPUT, "%s: offset %zu: the synset says offset %lld", where, offset,
                        (long long)at);
    if (file > 44)
        return PB_ERROR(PB_E_INPUT, "%s: offset %zu: lex_filenum %lld, expected 00 to 44", where,
                        offset, (long long)file);
    if (s[12] != pos && !(pos == 'a' && s[12] == 's'))
        return PB_ERROR(PB_E_INPUT, "%s: offset %zu: ss_type '%c', expected '%c'", where, offset,
                        s[12], pos);
    gloss += 3;
    size_t len = (size_t)(s + n - gloss), bad = 0;
    for (; len > 0 && gloss[0] == ' '; len--) gloss++;
    size_t defined = definition(gloss, len);
    if (defined == 0) return PB_ERROR(PB_E_INPUT, "%s: offset %zu: an empty gloss", where, offset);
    if (memchr(gloss, 0, len))
        return PB_ERROR(PB_E_INPUT, "%s: offset %zu: a NUL in the gloss", where, offset);
    if (!pb_utf8_valid(gloss, len, &bad))
        return PB_ERROR(PB_E_INPUT, "%s: offset %zu: the gloss is not valid UTF-8", where, offset);
    uint64_t part = (uint64_t)(strchr(kinds, pos) - kinds) + 1;
    pb_synset synset = {.gloss = gloss,
                        .gloss_len = len,
                        .definition_len = defined,
                        .file = (int32_t)file,
                        .id = part * 100000000 + (uint64_t)at};
    return use->take(&synset, texts);
}

pb_status pb_wordnet_parse(const char *where, const char *data, size_t len, char pos,
                           const pb_wordnet_use *use, pb_texts *texts) {
    if (!pb_texts_begun(texts)) PB_RETURN(use->begin(texts));
    for (size_t i = 0; i < len;) {
        const char *stop = memchr(data + i, '\n', len - i);
        size_t end = stop ? (size_t)(stop - data) : len;
        if (end > i && data[i] != ' ') /* ' ': licence */
            PB_RETURN(parse_line(where, i, data + i, end - i, pos, use, texts));
        i = end + 1;
    }
    return PB_OK;
}

static pb_status read_file(const char *dir, const char *name, char pos, const pb_wordnet_use *use,
                           pb_sha256 *sha, pb_texts *out) {
    pb_status status = PB_OK;
    pb_map map = {0};
    char *path = pb_path_join(dir, name);
    if (!path) PB_FAIL(PB_E_OOM, "no memory");
    if (!pb_file_exists(path))
        PB_FAIL(PB_E_ENV, "%s: WordNet 3.0 is not here; get it with: %s", path, PB_WORDNET_HOW_TO_GET);
    PB_TRY(pb_map_open(path, &map));
    pb_sha256_add(sha, map.data, map.len);
    PB_TRY(pb_wordnet_parse(path, (const char *)map.data, map.len, pos, use, out));
done:
    pb_map_close(&map);
    free(path);
    return status;
}

pb_status pb_wordnet_load(const pb_wordnet_use *use, const char *dir, pb_texts *out) {
    static const struct {
        const char *name;
        char pos;
    } files[] = {{"data.noun", 'n'}, {"data.verb", 'v'}, {"data.adj", 'a'}, {"data.adv", 'r'}};
    pb_status status = PB_OK;
    pb_sha256 *sha = NULL;
    int64_t n = 0;
    if (!dir) dir = DEFAULT_DIR;
    *out = (pb_texts){0};
    PB_TRY(pb_sha256_new(&sha));
    for (int i = 0; i < 4; i++)
        PB_TRY(read_file(dir, files[i].name, files[i].pos, use, sha, out));
    for (int i = 0; i < PB_SPLITS; i++) n += out->split[i].n;
    if (n != use->n)
        PB_FAIL(PB_E_INPUT, "%s: %lld %s, WordNet 3.0 has %lld", dir, (long long)n, use->what,
                (long long)use->n);
    pb_sha256_end(
        sha, out->sha256); /* of data.noun, data.verb, data.adj, data.adv one after the other */
    sha = NULL;
done:
    pb_sha256_free(sha);
    if (status != PB_OK) pb_texts_free(out);
    return status;
}
