/* Added tokens ([MASK], <s>, <|im_start|>): found in the text before anything else touches it, the
 * leftmost first, the longest among those; the tokens with "normalized" are found afterwards in the
 * normalised text. */
#include <stdlib.h>
#include <string.h>

#include "datasets/tokenizer_impl.h"

#define MAX_ADDED 65536

static pb_status push(pb_added_set *set, const char *content, int32_t id) {
    if (set->n >= MAX_ADDED) return PB_ERROR(PB_E_INPUT, "more than %d added tokens", MAX_ADDED);
    if ((set->n & (set->n - 1)) == 0) { /* doubles at powers of two */
        pb_added *v = realloc(set->v, (size_t)(set->n ? set->n * 2 : 1) * sizeof *v);
        if (!v) return PB_ERROR(PB_E_OOM, "no memory for added tokens");
        set->v = v;
    }
    pb_added *t = &set->v[set->n];
    *t = (pb_added){.id = id, .content = strdup(content)};
    if (!t->content) return PB_ERROR(PB_E_OOM, "no memory for added tokens");
    set->n++;
    return PB_OK;
}

static pb_status set_match(pb_added *t, const char *s, size_t n) {
    t->match = malloc(n + 1);
    if (!t->match) return PB_ERROR(PB_E_OOM, "no memory for added tokens");
    if (n) memcpy(t->match, s, n);
    t->match[n] = 0;
    t->match_len = n;
    return PB_OK;
}

pb_status pb_added_push(pb_added_set *set, const char *content, int32_t id) {
    PB_RETURN(push(set, content, id));
    pb_added *t = &set->v[set->n - 1];
    t->special = true;
    return set_match(t, content, strlen(content));
}

static pb_status read_one(const pb_json *json, const char *where, const pb_norms *norms,
                          pb_added_set *out) {
    pb_status status = PB_OK;
    pb_buf normal = {0}, spare = {0};
    const char *content = NULL;
    int64_t id = -1;
    if (!cJSON_IsObject(json)) PB_FAIL(PB_E_INPUT, "%s: expected an object", where);
    PB_TRY(pb_json_read_str(json, where, "content", &content));
    PB_TRY(pb_json_read_i64(json, where, "id", 0, PB_TOKENIZER_MAX_ID, &id));
    if (!content || !*content || id < 0)
        PB_FAIL(PB_E_INPUT, "%s: an added token needs \"id\" and \"content\"", where);
    PB_TRY(push(out, content, (int32_t)id));
    pb_added *t = &out->v[out->n - 1];
    PB_TRY(pb_json_read_bool(json, where, "special", &t->special));
    t->normalized = !t->special;
    PB_TRY(pb_json_read_bool(json, where, "normalized", &t->normalized));
    PB_TRY(pb_json_read_bool(json, where, "single_word", &t->single_word));
    PB_TRY(pb_json_read_bool(json, where, "lstrip", &t->lstrip));
    PB_TRY(pb_json_read_bool(json, where, "rstrip", &t->rstrip));
    if (t->normalized) {
        PB_TRY(pb_norms_apply(norms, content, strlen(content), &normal, &spare));
        PB_TRY(set_match(t, normal.s, normal.n));
    } else {
        PB_TRY(set_match(t, content, strlen(content)));
    }
done:
    free(normal.s);
    free(spare.s);
    return status;
}

pb_status pb_added_read(const pb_json *json, const char *where, const pb_norms *norms,
                        pb_added_set *out) {
    if (!json || cJSON_IsNull(json)) return PB_OK;
    if (!cJSON_IsArray(json))
        return PB_ERROR(PB_E_INPUT, "%s: added_tokens: expected an array", where);
    for (const pb_json *x = json->child; x; x = x->next) PB_RETURN(read_one(x, where, norms, out));
    return PB_OK;
}

/* Longest first, so that the first hit at a place is the right one; the file's order among equals.
 */
static int by_length(const void *a, const void *b) {
    const pb_added *x = a, *y = b;
    if (x->match_len != y->match_len) return x->match_len < y->match_len ? 1 : -1;
    return (x->id > y->id) - (x->id < y->id);
}

void pb_added_index(pb_added_set *set) {
    memset(set->first, 0, sizeof set->first);
    if (set->n > 0) qsort(set->v, (size_t)set->n, sizeof *set->v, by_length);
    for (int i = 0; i < set->n; i++)
        if (set->v[i].match_len > 0)
            set->first[set->v[i].normalized][(unsigned char)set->v[i].match[0]] = true;
}

void pb_added_free(pb_added_set *set) {
    for (int i = 0; i < set->n; i++) {
        free(set->v[i].content);
        free(set->v[i].match);
    }
    free(set->v);
    *set = (pb_added_set){0};
}

/* ---- matching ---- */

static const pb_added *match_at(const pb_added_set *set, bool normalized, const char *s, size_t n) {
    for (int i = 0; i < set->n; i++) {
        const pb_added *t = &set->v[i];
        if (t->normalized != normalized || t->match_len == 0 || t->match_len > n) continue;
        if (memcmp(t->match, s, t->match_len) == 0) return t;
    }
    return NULL;
}

static bool inside_word(const char *s, size_t n, size_t start, size_t stop) {
    size_t at = 0, next = stop;
    if (start > 0 && pb_uc_word(pb_uc_before(s, start, &at))) return true;
    return stop < n && pb_uc_word(pb_uc_next(s, &next));
}

bool pb_added_next(const pb_added_set *set, bool normalized, const char *s, size_t n, size_t *pos,
                   size_t *from, pb_added_cut *out) {
    if (*pos > n) return false;
    for (size_t i = *pos; i < n; i++) {
        if (!set->first[normalized][(unsigned char)s[i]]) continue;
        const pb_added *t = match_at(set, normalized, s + i, n - i);
        if (!t) continue;
        size_t start = i, stop = i + t->match_len;
        if (t->single_word && inside_word(s, n, start, stop)) {
            i = stop - 1;
            continue;
        }
        *pos = stop;
        while (t->lstrip && start > *from) {
            size_t at = 0;
            if (!pb_uc_space(pb_uc_before(s, start, &at)) || at < *from) break;
            start = at;
        }
        while (t->rstrip && stop < n) {
            size_t next = stop;
            if (!pb_uc_space(pb_uc_next(s, &next))) break;
            stop = next;
        }
        *out = (pb_added_cut){.start = *from, .stop = start > *from ? start : *from, .id = t->id};
        *from = stop;
        return true;
    }
    *out = (pb_added_cut){.start = *from < n ? *from : n, .stop = n, .id = -1};
    *pos = n + 1;
    return true;
}
