/* Regular expressions of pre-tokenizers (PCRE2 with Unicode properties; Hugging Face `tokenizers`
 * uses Oniguruma, whose syntax agrees for the published patterns) and GPT-2's byte alphabet. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "datasets/tokenizer_impl.h"

/* Backtracking steps per match, so that a pattern from a file cannot hang; a long word of a sane
 * one stays below. */
#define STEP_LIMIT 1000000
#define STEPS_PER_BYTE 64

struct pb_regex {
    pcre2_code *code;
};

/* GPT-2: contractions, letters, digits, other signs, white space (the last blank belongs to the
 * next word). */
const char *const pb_gpt2_pattern =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

pb_status pb_regex_new(const char *where, const char *pattern, pb_regex **out) {
    int code = 0;
    PCRE2_SIZE at = 0;
    pb_regex *re = calloc(1, sizeof *re);
    *out = NULL;
    if (!re) return PB_ERROR(PB_E_OOM, "no memory");
    re->code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                             PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &code, &at, NULL);
    if (!re->code) {
        char reason[128] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)reason, sizeof reason);
        pb_regex_free(re);
        if (code == PCRE2_ERROR_HEAP_FAILED)
            return PB_ERROR(PB_E_OOM, "no memory for a regular expression");
        return PB_ERROR(PB_E_INPUT, "%s: regular expression \"%.200s\", offset %zu: %s", where,
                        pattern, at, reason);
    }
#ifndef PB_SANITIZED
    pcre2_jit_compile(re->code,
                      PCRE2_JIT_COMPLETE); /* without it matching is slower, the result the same */
#endif
    *out = re;
    return PB_OK;
}

void pb_regex_free(pb_regex *re) {
    if (!re) return;
    pcre2_code_free(re->code);
    free(re);
}

pb_status pb_regex_split(const pb_regex *re, const char *s, size_t n, size_t off, bool removed,
                         bool at_start, pb_pieces *out) {
    pb_status status = PB_OK;
    size_t from = 0, look = 0;
    pcre2_match_data *match = pcre2_match_data_create(1, NULL);
    pcre2_match_context *context = pcre2_match_context_create(NULL);
    if (!match || !context) PB_FAIL(PB_E_OOM, "no memory for a match");
    size_t steps =
        n < UINT32_MAX / STEPS_PER_BYTE - STEP_LIMIT ? STEP_LIMIT + n * STEPS_PER_BYTE : UINT32_MAX;
    pcre2_set_match_limit(context, (uint32_t)steps);
    while (look < n) {
        int rc = pcre2_match(re->code, (PCRE2_SPTR)s, n, look, PCRE2_NO_UTF_CHECK, match, context);
        if (rc == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter keeps its stack on the heap */
            rc = pcre2_match(re->code, (PCRE2_SPTR)s, n, look, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                             match, context);
        if (rc == PCRE2_ERROR_NOMATCH) break;
        if (rc == PCRE2_ERROR_HEAPLIMIT || rc == PCRE2_ERROR_NOMEMORY)
            PB_FAIL(PB_E_OOM, "no memory for a match");
        if (rc < 0)
            PB_FAIL(PB_E_INPUT, "the pre-tokenizer's regular expression failed with PCRE2 error %d",
                    rc);
        const PCRE2_SIZE *v = pcre2_get_ovector_pointer(match);
        size_t start = v[0], stop = v[1];
        if (start > stop || start < look)
            PB_FAIL(PB_E_INPUT, "\\K is not supported in a pre-tokenizer's pattern");
        if (stop > start) {
            PB_TRY(pb_pieces_add(out, off + from, start - from, at_start && from == 0));
            if (!removed)
                PB_TRY(pb_pieces_add(out, off + start, stop - start, at_start && start == 0));
            from = look = stop;
        } else { /* an empty match: cut here and look behind the next character */
            PB_TRY(pb_pieces_add(out, off + from, start - from, at_start && from == 0));
            from = start;
            look = start < n ? start + pb_uc_len((unsigned char)s[start]) : n;
        }
    }
    PB_TRY(pb_pieces_add(out, off + from, n - from, at_start && from == 0));
done:
    pcre2_match_data_free(match);
    pcre2_match_context_free(context);
    return status;
}

/* GPT-2's alphabet: printable Latin-1 bytes stand for themselves, the other 68 become U+0100 and
 * up, in order. */
pb_status pb_byte_level(const char *s, size_t n, pb_buf *out) {
    PB_RETURN(pb_buf_reserve(out, n * 2 + 1));
    for (size_t i = 0; i < n; i++) {
        int32_t b = (unsigned char)s[i], c = b;
        if (b <= 0x20) c = 0x100 + b;
        else if (b >= 0x7F && b <= 0xA0) c = 0x121 + b - 0x7F;
        else if (b == 0xAD) c = 0x143;
        out->n += pb_uc_put(out->s + out->n, c);
    }
    return PB_OK;
}
