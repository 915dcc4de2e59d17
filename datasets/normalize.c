/* Normalizers: text to text before it is cut into words. BertNormalizer as in Devlin et al.'s BERT
 * code and as Hugging Face `tokenizers` repeats it (order: clean, CJK, accents, lower case), and
 * the small ones of SentencePiece style files. */
#include <stdlib.h>
#include <string.h>

#include "datasets/tokenizer_impl.h"

#define MAX_NORMS 32

/* ---- reading ---- */

static pb_status keep(const char *s, char **out, size_t *len) {
    *out = strdup(s);
    if (!*out) return PB_ERROR(PB_E_OOM, "no memory");
    *len = strlen(s);
    return PB_OK;
}

static pb_status read_bert(const pb_json *json, const char *where, pb_norm *n) {
    n->kind = PB_NORM_BERT;
    n->clean_text = n->chinese = n->lowercase = true;
    PB_RETURN(pb_json_read_bool(json, where, "clean_text", &n->clean_text));
    PB_RETURN(pb_json_read_bool(json, where, "handle_chinese_chars", &n->chinese));
    PB_RETURN(pb_json_read_bool(json, where, "lowercase", &n->lowercase));
    n->strip_accents = n->lowercase; /* null follows lowercase */
    const pb_json *strip = pb_json_get(json, "strip_accents");
    if (strip && !cJSON_IsNull(strip))
        PB_RETURN(pb_json_read_bool(json, where, "strip_accents", &n->strip_accents));
    return PB_OK;
}

static pb_status read_replace(const pb_json *json, const char *where, pb_norm *n) {
    const char *what = NULL, *with = NULL;
    n->kind = PB_NORM_REPLACE;
    const pb_json *pattern = pb_json_get(json, "pattern");
    if (!cJSON_IsObject(pattern) || !pb_json_get(pattern, "String"))
        return PB_ERROR(PB_E_INPUT, "%s: Replace: pattern: only {\"String\": \"...\"} is supported",
                        where);
    PB_RETURN(pb_json_read_str(pattern, where, "String", &what));
    PB_RETURN(pb_json_read_str(json, where, "content", &with));
    if (!with || !*what)
        return PB_ERROR(PB_E_INPUT, "%s: Replace needs a pattern and a content", where);
    PB_RETURN(keep(what, &n->what, &n->what_len));
    return keep(with, &n->with, &n->with_len);
}

static pb_status read_prepend(const pb_json *json, const char *where, pb_norm *n) {
    const char *with = NULL;
    n->kind = PB_NORM_PREPEND;
    PB_RETURN(pb_json_read_str(json, where, "prepend", &with));
    if (!with) return PB_ERROR(PB_E_INPUT, "%s: Prepend needs \"prepend\"", where);
    return keep(with, &n->with, &n->with_len);
}

static pb_status read_one(const pb_json *json, const char *where, const char *type, pb_norm *n) {
    static const struct {
        const char *name;
        pb_normal_form form;
    } forms[] = {{"NFD", {0}},
                 {"NFKD", {.compat = true}},
                 {"NFC", {.compose = true}},
                 {"NFKC", {.compat = true, .compose = true}}};
    if (strcmp(type, "BertNormalizer") == 0) return read_bert(json, where, n);
    if (strcmp(type, "Prepend") == 0) return read_prepend(json, where, n);
    if (strcmp(type, "Replace") == 0) return read_replace(json, where, n);
    if (strcmp(type, "Lowercase") == 0) {
        n->kind = PB_NORM_LOWERCASE;
        return PB_OK;
    }
    if (strcmp(type, "Strip") == 0) {
        n->kind = PB_NORM_STRIP;
        n->left = n->right = true;
        PB_RETURN(pb_json_read_bool(json, where, "strip_left", &n->left));
        return pb_json_read_bool(json, where, "strip_right", &n->right);
    }
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        if (strcmp(type, forms[i].name) != 0) continue;
        n->kind = PB_NORM_FORM;
        n->form = forms[i].form;
        return PB_OK;
    }
    return PB_ERROR(PB_E_INPUT,
                    "%s: normalizer \"%.80s\" is not supported; supported: BertNormalizer, "
                    "Sequence, Prepend, Replace "
                    "(String), Lowercase, Strip, NFC, NFD, NFKC, NFKD",
                    where, type);
}

pb_status pb_norms_read(const pb_json *json, const char *where, pb_norms *out) {
    if (!json || cJSON_IsNull(json)) return PB_OK;
    const char *type = NULL;
    if (!cJSON_IsObject(json))
        return PB_ERROR(PB_E_INPUT, "%s: normalizer: expected an object", where);
    PB_RETURN(pb_json_read_str(json, where, "type", &type));
    if (!type) return PB_ERROR(PB_E_INPUT, "%s: a normalizer without \"type\"", where);
    if (strcmp(type, "Sequence") == 0) {
        const pb_json *list = pb_json_get(json, "normalizers");
        if (!cJSON_IsArray(list))
            return PB_ERROR(PB_E_INPUT, "%s: normalizers: expected an array", where);
        for (const pb_json *x = list->child; x; x = x->next)
            PB_RETURN(pb_norms_read(x, where, out));
        return PB_OK;
    }
    if (out->n >= MAX_NORMS)
        return PB_ERROR(PB_E_INPUT, "%s: more than %d normalizers", where, MAX_NORMS);
    pb_norm *v = realloc(out->v, (size_t)(out->n + 1) * sizeof *v);
    if (!v) return PB_ERROR(PB_E_OOM, "no memory");
    out->v = v;
    v[out->n] = (pb_norm){0};
    return read_one(json, where, type, &v[out->n++]);
}

void pb_norms_free(pb_norms *norms) {
    for (int i = 0; i < norms->n; i++) {
        free(norms->v[i].what);
        free(norms->v[i].with);
    }
    free(norms->v);
    *norms = (pb_norms){0};
}

/* ---- applying: each writes behind out->n ---- */

static pb_status lower_case(const char *s, size_t n, pb_buf *out) {
    PB_RETURN(
        pb_buf_reserve(out, n * 3 + 8)); /* at most tripled: one byte to three, two to three */
    for (size_t i = 0; i < n;) {
        int32_t parts[2];
        int k = pb_uc_lower(pb_uc_next(s, &i), parts);
        for (int j = 0; j < k; j++) out->n += pb_uc_put(out->s + out->n, parts[j]);
    }
    return PB_OK;
}

/* Control characters vanish, white space becomes ' ', CJK characters stand alone. */
static pb_status clean(const pb_norm *norm, const char *s, size_t n, pb_buf *out) {
    PB_RETURN(pb_buf_reserve(out, n * 2 + 8)); /* three bytes become five at most */
    for (size_t i = 0; i < n;) {
        int32_t c = pb_uc_next(s, &i);
        if (norm->clean_text) {
            bool space = pb_uc_space(c), line = c == '\t' || c == '\n' || c == '\r';
            if (c == 0 || c == 0xFFFD || (!line && pb_uc_other(c))) continue;
            if (space) c = ' ';
        }
        bool alone = norm->chinese && pb_uc_chinese(c);
        if (alone) out->s[out->n++] = ' ';
        out->n += pb_uc_put(out->s + out->n, c);
        if (alone) out->s[out->n++] = ' ';
    }
    return PB_OK;
}

/* Only ASCII: no accents, no CJK. */
static pb_status bert_ascii(const pb_norm *norm, const char *s, size_t n, pb_buf *out) {
    PB_RETURN(pb_buf_reserve(out, n + 1));
    char *to = out->s + out->n;
    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        if (norm->clean_text && ((unsigned char)c < 0x20 || c == 0x7F)) {
            if (c != '\t' && c != '\n' && c != '\r') continue;
            c = ' ';
        }
        if (norm->lowercase && c >= 'A' && c <= 'Z') c = (char)(c + ('a' - 'A'));
        *to++ = c;
    }
    out->n = (size_t)(to - out->s);
    return PB_OK;
}

static pb_status bert(const pb_norm *norm, const char *s, size_t n, pb_buf *out) {
    pb_status status = PB_OK;
    pb_buf cleaned = {0}, bare = {0};
    const pb_buf *last = &cleaned;
    size_t high = 0;
    while (high < n && (unsigned char)s[high] < 0x80) high++;
    if (high == n) return bert_ascii(norm, s, n, out);
    PB_TRY(clean(norm, s, n, &cleaned));
    if (norm->strip_accents) {
        PB_TRY(pb_uc_normalize(&bare, cleaned.s, cleaned.n, (pb_normal_form){.drop_marks = true}));
        last = &bare;
    }
    if (norm->lowercase) PB_TRY(lower_case(last->s, last->n, out));
    else PB_TRY(pb_buf_add(out, last->s, last->n));
done:
    free(cleaned.s);
    free(bare.s);
    return status;
}

static pb_status replace(const pb_norm *norm, const char *s, size_t n, pb_buf *out) {
    size_t from = 0;
    while (from < n) {
        const char *hit = memmem(s + from, n - from, norm->what, norm->what_len);
        size_t stop = hit ? (size_t)(hit - s) : n;
        PB_RETURN(pb_buf_add(out, s + from, stop - from));
        if (!hit) break;
        PB_RETURN(pb_buf_add(out, norm->with, norm->with_len));
        from = stop + norm->what_len;
    }
    return PB_OK;
}

static pb_status strip(const pb_norm *norm, const char *s, size_t n, pb_buf *out) {
    size_t from = 0, stop = n;
    while (norm->left && from < stop) {
        size_t i = from;
        if (!pb_uc_space(pb_uc_next(s, &i))) break;
        from = i;
    }
    while (norm->right && stop > from) {
        size_t start = 0;
        if (!pb_uc_space(pb_uc_before(s, stop, &start))) break;
        stop = start;
    }
    return pb_buf_add(out, s + from, stop - from);
}

static pb_status apply_one(const pb_norm *norm, const char *s, size_t n, pb_buf *out) {
    switch (norm->kind) {
    case PB_NORM_BERT: return bert(norm, s, n, out);
    case PB_NORM_LOWERCASE: return lower_case(s, n, out);
    case PB_NORM_STRIP: return strip(norm, s, n, out);
    case PB_NORM_FORM: return pb_uc_normalize(out, s, n, norm->form);
    case PB_NORM_REPLACE: return replace(norm, s, n, out);
    case PB_NORM_PREPEND:
        if (n > 0) PB_RETURN(pb_buf_add(out, norm->with, norm->with_len));
        return pb_buf_add(out, s, n);
    }
    return PB_ERROR(PB_E_BUG, "normalizer kind %d", (int)norm->kind);
}

pb_status pb_norms_apply(const pb_norms *norms, const char *s, size_t n, pb_buf *out,
                         pb_buf *spare) {
    out->n = 0;
    if (norms->n == 0) return pb_buf_add(out, s, n);
    for (int i = 0; i < norms->n; i++) {
        if (i > 0) { /* the last result becomes the input */
            pb_buf t = *out;
            *out = *spare;
            *spare = t;
            s = spare->s;
            n = spare->n;
            out->n = 0;
        }
        PB_RETURN(apply_one(&norms->v[i], s, n, out));
    }
    PB_RETURN(pb_buf_reserve(out, 1));
    return PB_OK;
}
