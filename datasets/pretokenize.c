/* Pre-tokenizers: a text into words. BERT's (white space, every punctuation mark alone), Metaspace,
 * ByteLevel, and Split by a regular expression, as Hugging Face `tokenizers` cuts them. */
#include <stdlib.h>
#include <string.h>

#include "datasets/tokenizer_impl.h"

#define MAX_PRES 32

pb_status pb_pieces_add(pb_pieces *p, size_t off, size_t len, bool at_start) {
    if (len == 0) return PB_OK;
    if (p->n == p->cap) {
        size_t cap = p->cap * 2 + 64;
        pb_piece *v = realloc(p->v, cap * sizeof *v);
        if (!v) return PB_ERROR(PB_E_OOM, "no memory for %zu words", cap);
        p->v = v;
        p->cap = cap;
    }
    p->v[p->n++] = (pb_piece){.off = off, .len = len, .at_start = at_start};
    return PB_OK;
}

void pb_pieces_free(pb_pieces *p) {
    free(p->text.s);
    free(p->v);
    *p = (pb_pieces){0};
}

/* ---- reading ---- */

static pb_status read_metaspace(const pb_json *json, const char *where, pb_pre *pre) {
    static const char *const schemes[] = {"always", "first", "never"};
    const char *replacement = "\xE2\x96\x81"; /* U+2581 */
    bool prefix = true;
    int scheme = PB_PREPEND_ALWAYS;
    pre->kind = PB_PRE_METASPACE;
    pre->split = true;
    PB_RETURN(pb_json_read_str(json, where, "replacement", &replacement));
    PB_RETURN(pb_json_read_bool(json, where, "add_prefix_space",
                                &prefix)); /* the older way to say "never" */
    if (!prefix) scheme = PB_PREPEND_NEVER;
    PB_RETURN(pb_json_read_choice(json, where, "prepend_scheme", schemes, 3, &scheme));
    PB_RETURN(pb_json_read_bool(json, where, "split", &pre->split));
    pre->prepend = (pb_prepend)scheme;
    pre->replacement_len = strlen(replacement);
    if (pre->replacement_len == 0 ||
        pre->replacement_len != pb_uc_len((unsigned char)replacement[0]))
        return PB_ERROR(PB_E_INPUT, "%s: Metaspace: replacement: expected one character", where);
    memcpy(pre->replacement, replacement, pre->replacement_len);
    return PB_OK;
}

static pb_status read_byte_level(const pb_json *json, const char *where, pb_pre *pre) {
    bool use_regex = true;
    pre->kind = PB_PRE_BYTE_LEVEL;
    pre->add_prefix_space = true;
    PB_RETURN(pb_json_read_bool(json, where, "add_prefix_space", &pre->add_prefix_space));
    PB_RETURN(pb_json_read_bool(json, where, "use_regex", &use_regex));
    return use_regex ? pb_regex_new(where, pb_gpt2_pattern, &pre->regex) : PB_OK;
}

static pb_status read_split(const pb_json *json, const char *where, pb_pre *pre) {
    static const char *const behaviors[] = {"Removed", "Isolated"};
    const char *pattern = NULL;
    int behavior = -1;
    bool invert = false;
    pre->kind = PB_PRE_SPLIT;
    const pb_json *p = pb_json_get(json, "pattern");
    if (!cJSON_IsObject(p) || !pb_json_get(p, "Regex"))
        return PB_ERROR(PB_E_INPUT, "%s: Split: pattern: only {\"Regex\": \"...\"} is supported",
                        where);
    PB_RETURN(pb_json_read_str(p, where, "Regex", &pattern));
    PB_RETURN(pb_json_read_bool(json, where, "invert", &invert));
    PB_RETURN(pb_json_read_choice(json, where, "behavior", behaviors, 2, &behavior));
    if (behavior < 0) return PB_ERROR(PB_E_INPUT, "%s: Split needs \"behavior\"", where);
    if (invert)
        return PB_ERROR(PB_E_INPUT, "%s: Split: invert true is not supported, only false", where);
    pre->removed = behavior == 0;
    return pb_regex_new(where, pattern, &pre->regex);
}

static pb_status read_one(const pb_json *json, const char *where, const char *type, pb_pre *pre) {
    if (strcmp(type, "BertPreTokenizer") == 0) {
        pre->kind = PB_PRE_BERT;
        return PB_OK;
    }
    if (strcmp(type, "WhitespaceSplit") == 0) {
        pre->kind = PB_PRE_WHITESPACE_SPLIT;
        return PB_OK;
    }
    if (strcmp(type, "Metaspace") == 0) return read_metaspace(json, where, pre);
    if (strcmp(type, "ByteLevel") == 0) return read_byte_level(json, where, pre);
    if (strcmp(type, "Split") == 0) return read_split(json, where, pre);
    return PB_ERROR(PB_E_INPUT,
                    "%s: pre_tokenizer \"%.80s\" is not supported; supported: BertPreTokenizer, "
                    "WhitespaceSplit, "
                    "Metaspace, ByteLevel, Split (Regex), Sequence",
                    where, type);
}

pb_status pb_pres_read(const pb_json *json, const char *where, pb_pres *out) {
    if (!json || cJSON_IsNull(json)) return PB_OK;
    const char *type = NULL;
    if (!cJSON_IsObject(json))
        return PB_ERROR(PB_E_INPUT, "%s: pre_tokenizer: expected an object", where);
    PB_RETURN(pb_json_read_str(json, where, "type", &type));
    if (!type) return PB_ERROR(PB_E_INPUT, "%s: a pre_tokenizer without \"type\"", where);
    if (strcmp(type, "Sequence") == 0) {
        const pb_json *list = pb_json_get(json, "pretokenizers");
        if (!cJSON_IsArray(list))
            return PB_ERROR(PB_E_INPUT, "%s: pretokenizers: expected an array", where);
        for (const pb_json *x = list->child; x; x = x->next) PB_RETURN(pb_pres_read(x, where, out));
        return PB_OK;
    }
    if (out->n >= MAX_PRES)
        return PB_ERROR(PB_E_INPUT, "%s: more than %d pre-tokenizers", where, MAX_PRES);
    pb_pre *v = realloc(out->v, (size_t)(out->n + 1) * sizeof *v);
    if (!v) return PB_ERROR(PB_E_OOM, "no memory");
    out->v = v;
    v[out->n] = (pb_pre){0};
    return read_one(json, where, type, &v[out->n++]);
}

void pb_pres_free(pb_pres *pres) {
    for (int i = 0; i < pres->n; i++) pb_regex_free(pres->v[i].regex);
    free(pres->v);
    *pres = (pb_pres){0};
}

/* ---- applying: one piece of `in` into pieces of `out` ---- */

static pb_status words(const pb_pre *pre, const pb_pieces *in, pb_piece piece, pb_pieces *out) {
    const char *s = in->text.s + piece.off;
    size_t base = out->text.n, from = 0;
    bool start = piece.at_start;
    PB_RETURN(pb_buf_add(&out->text, s, piece.len));
    for (size_t i = 0; i < piece.len;) {
        size_t at = i;
        int32_t c = pb_uc_next(s, &i);
        bool space = pb_uc_space(c), alone = pre->kind == PB_PRE_BERT && pb_uc_punct(c);
        if (!space && !alone) continue;
        PB_RETURN(pb_pieces_add(out, base + from, at - from, start && from == 0));
        if (alone) PB_RETURN(pb_pieces_add(out, base + at, i - at, start && at == 0));
        from = i;
    }
    return pb_pieces_add(out, base + from, piece.len - from, start && from == 0);
}

static pb_status metaspace(const pb_pre *pre, const pb_pieces *in, pb_piece piece, pb_pieces *out) {
    const char *s = in->text.s + piece.off, *mark = pre->replacement;
    size_t base = out->text.n, k = pre->replacement_len, from = base;
    bool starts = s[0] == ' ' || (piece.len >= k && memcmp(s, mark, k) == 0);
    bool prefix =
        pre->prepend == PB_PREPEND_ALWAYS || (pre->prepend == PB_PREPEND_FIRST && piece.at_start);
    if (prefix && !starts) PB_RETURN(pb_buf_add(&out->text, mark, k));
    for (size_t i = 0; i < piece.len;) {
        size_t len = pb_uc_len((unsigned char)s[i]);
        PB_RETURN(s[i] == ' ' ? pb_buf_add(&out->text, mark, k)
                              : pb_buf_add(&out->text, s + i, len));
        i += len;
    }
    if (!pre->split) return pb_pieces_add(out, base, out->text.n - base, piece.at_start);
    for (size_t i = base; i < out->text.n; i += pb_uc_len((unsigned char)out->text.s[i])) {
        if (i == from || out->text.n - i < k || memcmp(out->text.s + i, mark, k) != 0) continue;
        PB_RETURN(pb_pieces_add(out, from, i - from, piece.at_start && from == base));
        from = i;
    }
    return pb_pieces_add(out, from, out->text.n - from, piece.at_start && from == base);
}

static pb_status byte_level(const pb_pre *pre, const pb_pieces *in, pb_piece piece,
                            pb_pieces *out) {
    pb_status status = PB_OK;
    pb_pieces cut = {0};
    const char *s = in->text.s + piece.off;
    if (pre->add_prefix_space && s[0] != ' ') PB_TRY(pb_buf_add(&cut.text, " ", 1));
    PB_TRY(pb_buf_add(&cut.text, s, piece.len));
    if (pre->regex)
        PB_TRY(pb_regex_split(pre->regex, cut.text.s, cut.text.n, 0, false, piece.at_start, &cut));
    else PB_TRY(pb_pieces_add(&cut, 0, cut.text.n, piece.at_start));
    for (size_t i = 0; i < cut.n; i++) {
        size_t from = out->text.n;
        PB_TRY(pb_byte_level(cut.text.s + cut.v[i].off, cut.v[i].len, &out->text));
        PB_TRY(pb_pieces_add(out, from, out->text.n - from, cut.v[i].at_start));
    }
done:
    pb_pieces_free(&cut);
    return status;
}

static pb_status split(const pb_pre *pre, const pb_pieces *in, pb_piece piece, pb_pieces *out) {
    const char *s = in->text.s + piece.off;
    size_t base = out->text.n;
    PB_RETURN(pb_buf_add(&out->text, s, piece.len));
    return pb_regex_split(pre->regex, s, piece.len, base, pre->removed, piece.at_start, out);
}

static pb_status apply_one(const pb_pre *pre, const pb_pieces *in, pb_piece piece, pb_pieces *out) {
    switch (pre->kind) {
    case PB_PRE_BERT:
    case PB_PRE_WHITESPACE_SPLIT: return words(pre, in, piece, out);
    case PB_PRE_METASPACE: return metaspace(pre, in, piece, out);
    case PB_PRE_BYTE_LEVEL: return byte_level(pre, in, piece, out);
    case PB_PRE_SPLIT: return split(pre, in, piece, out);
    }
    return PB_ERROR(PB_E_BUG, "pre-tokenizer kind %d", (int)pre->kind);
}

pb_status pb_pres_apply(const pb_pres *pres, pb_pieces *p, pb_pieces *spare) {
    for (int i = 0; i < pres->n; i++) {
        spare->text.n = spare->n = 0;
        for (size_t k = 0; k < p->n; k++) PB_RETURN(apply_one(&pres->v[i], p, p->v[k], spare));
        pb_pieces t = *p;
        *p = *spare;
        *spare = t;
    }
    return PB_OK;
}
