/* Character classes, lower case and normal forms equal to those of Hugging Face `tokenizers` 0.23.
 *
 * utf8proc has the tables; the ranges below are the code points where `tokenizers` differs, because
 * it was built with other Unicode versions: found by comparing all 1,112,064 code points
 * (tests/goldens/tokenizer.py unicode). Not locale dependent. Test: tests/test_tokenizer.c. */
#include "datasets/unicode.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

typedef struct range {
    int32_t lo, hi;
} range;

/* Mn today, not yet in Unicode 8: kept when accents are stripped. */
static const range not_mark[] = {
    {0x7FD, 0x7FD},     {0x898, 0x89F},     {0x8CA, 0x8E1},     {0x9FE, 0x9FE},
    {0xAFA, 0xAFF},     {0xB55, 0xB55},     {0xC04, 0xC04},     {0xC3C, 0xC3C},
    {0xD00, 0xD00},     {0xD3B, 0xD3C},     {0xD81, 0xD81},     {0xEBA, 0xEBA},
    {0xECE, 0xECE},     {0x180F, 0x180F},   {0x1885, 0x1886},   {0x1ABF, 0x1ACE},
    {0x1DF6, 0x1DFB},   {0xA82C, 0xA82C},   {0xA8C5, 0xA8C5},   {0xA8FF, 0xA8FF},
    {0xA9BD, 0xA9BD},   {0x10D24, 0x10D27}, {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF},
    {0x10F46, 0x10F50}, {0x10F82, 0x10F85}, {0x11070, 0x11070}, {0x11073, 0x11074},
    {0x110C2, 0x110C2}, {0x111C9, 0x111C9}, {0x111CF, 0x111CF}, {0x1123E, 0x1123E},
    {0x11241, 0x11241}, {0x1133B, 0x1133B}, {0x11438, 0x1143F}, {0x11442, 0x11444},
    {0x11446, 0x11446}, {0x1145E, 0x1145E}, {0x1182F, 0x11837}, {0x11839, 0x1183A},
    {0x1193B, 0x1193C}, {0x1193E, 0x1193E}, {0x11943, 0x11943}, {0x119D4, 0x119D7},
    {0x119DA, 0x119DB}, {0x119E0, 0x119E0}, {0x11A01, 0x11A0A}, {0x11A33, 0x11A38},
    {0x11A3B, 0x11A3E}, {0x11A47, 0x11A47}, {0x11A51, 0x11A56}, {0x11A59, 0x11A5B},
    {0x11A8A, 0x11A96}, {0x11A98, 0x11A99}, {0x11C30, 0x11C36}, {0x11C38, 0x11C3D},
    {0x11C3F, 0x11C3F}, {0x11C92, 0x11CA7}, {0x11CAA, 0x11CB0}, {0x11CB2, 0x11CB3},
    {0x11CB5, 0x11CB6}, {0x11D31, 0x11D36}, {0x11D3A, 0x11D3A}, {0x11D3C, 0x11D3D},
    {0x11D3F, 0x11D45}, {0x11D47, 0x11D47}, {0x11D90, 0x11D91}, {0x11D95, 0x11D95},
    {0x11D97, 0x11D97}, {0x11EF3, 0x11EF4}, {0x11F00, 0x11F01}, {0x11F36, 0x11F3A},
    {0x11F40, 0x11F40}, {0x11F42, 0x11F42}, {0x13440, 0x13440}, {0x13447, 0x13455},
    {0x16F4F, 0x16F4F}, {0x16FE4, 0x16FE4}, {0x1CF00, 0x1CF2D}, {0x1CF30, 0x1CF46},
    {0x1E000, 0x1E006}, {0x1E008, 0x1E018}, {0x1E01B, 0x1E021}, {0x1E023, 0x1E024},
    {0x1E026, 0x1E02A}, {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE},
    {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF}, {0x1E944, 0x1E94A}};

/* Punctuation added or recategorised after Unicode 8. */
static const range not_punct[] = {
    {0x61D, 0x61D},     {0x9FD, 0x9FD},     {0xA76, 0xA76},     {0xC77, 0xC77},
    {0xC84, 0xC84},     {0x1B7D, 0x1B7E},   {0x2E43, 0x2E4F},   {0x2E52, 0x2E5D},
    {0x10EAD, 0x10EAD}, {0x10F55, 0x10F59}, {0x10F86, 0x10F89}, {0x1144B, 0x1144F},
    {0x1145A, 0x1145B}, {0x1145D, 0x1145D}, {0x11660, 0x1166C}, {0x116B9, 0x116B9},
    {0x1183B, 0x1183B}, {0x11944, 0x11946}, {0x119E2, 0x119E2}, {0x11A3F, 0x11A46},
    {0x11A9A, 0x11A9C}, {0x11A9E, 0x11AA2}, {0x11B00, 0x11B09}, {0x11C41, 0x11C45},
    {0x11C70, 0x11C71}, {0x11EF7, 0x11EF8}, {0x11F43, 0x11F4F}, {0x11FFF, 0x11FFF},
    {0x12FF1, 0x12FF2}, {0x16E97, 0x16E9A}, {0x16FE2, 0x16FE2}, {0x1E95E, 0x1E95F}};

/* Format characters added after Unicode 8. */
static const range not_other[] = {
    {0x890, 0x891}, {0x8E2, 0x8E2}, {0x110CD, 0x110CD}, {0x13430, 0x1343F}};

/* Compatibility decompositions added later. */
static const range no_compat[] = {{0x32FF, 0x32FF},   {0xA7F2, 0xA7F4},   {0xAB69, 0xAB69},
                                  {0x10781, 0x10785}, {0x10787, 0x107B0}, {0x107B2, 0x107BA},
                                  {0x1E030, 0x1E06D}, {0x1F16C, 0x1F16C}, {0x1FBF0, 0x1FBF9}};

/* Canonical combining classes added later: treated as starters. */
static const range class_zero[] = {
    {0x7FD, 0x7FD},     {0x898, 0x89F},     {0x8CA, 0x8D3},     {0x9FE, 0x9FE},
    {0xC3C, 0xC3C},     {0xD3B, 0xD3C},     {0xEBA, 0xEBA},     {0x1715, 0x1715},
    {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},   {0xA82C, 0xA82C},   {0x10D24, 0x10D27},
    {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF}, {0x10F46, 0x10F50}, {0x10F82, 0x10F85},
    {0x11070, 0x11070}, {0x1133B, 0x1133B}, {0x1145E, 0x1145E}, {0x11839, 0x1183A},
    {0x1193D, 0x1193E}, {0x11943, 0x11943}, {0x119E0, 0x119E0}, {0x11A34, 0x11A34},
    {0x11A47, 0x11A47}, {0x11A99, 0x11A99}, {0x11D42, 0x11D42}, {0x11D44, 0x11D45},
    {0x11D97, 0x11D97}, {0x11F41, 0x11F42}, {0x16FF0, 0x16FF1}, {0x1E08F, 0x1E08F},
    {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF}};

/* Lower-case mappings newer than utf8proc 2.8. */
static const struct {
    int32_t lo, hi, to; /* lo..hi -> to.. */
} newer_lower[] = {{0x1C89, 0x1C89, 0x1C8A},    {0xA7CB, 0xA7CB, 0x264},
                   {0xA7CC, 0xA7CC, 0xA7CD},    {0xA7CE, 0xA7CE, 0xA7CF},
                   {0xA7D2, 0xA7D2, 0xA7D3},    {0xA7D4, 0xA7D4, 0xA7D5},
                   {0xA7DA, 0xA7DA, 0xA7DB},    {0xA7DC, 0xA7DC, 0x19B},
                   {0x10D50, 0x10D65, 0x10D70}, {0x16EA0, 0x16EB8, 0x16EBB}};

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

static bool in_ranges(const range *r, size_t n, int32_t c) {
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (c > r[mid].hi) lo = mid + 1;
        else hi = mid;
    }
    return lo < n && c >= r[lo].lo;
}

/* ---- buffers ---- */

pb_status pb_buf_reserve(pb_buf *b, size_t extra) {
    if (b->cap - b->n >= extra) return PB_OK;
    if (extra > SIZE_MAX / 4 || b->n > SIZE_MAX / 4)
        return PB_ERROR(PB_E_OOM, "a text of %zu bytes", b->n);
    size_t cap = (b->n + extra) * 2 + 64;
    char *s = realloc(b->s, cap);
    if (!s) return PB_ERROR(PB_E_OOM, "no memory for a text of %zu bytes", cap);
    b->s = s;
    b->cap = cap;
    return PB_OK;
}

pb_status pb_buf_add(pb_buf *b, const char *s, size_t n) {
    PB_RETURN(pb_buf_reserve(b, n + 1));
    if (n) memcpy(b->s + b->n, s, n);
    b->n += n;
    return PB_OK;
}

int32_t pb_uc_before(const char *s, size_t end, size_t *start) {
    size_t i = end - 1;
    while (i > 0 && ((unsigned char)s[i] & 0xC0) == 0x80) i--;
    *start = i;
    return pb_uc_next(s, &i);
}

size_t pb_uc_put(char *out, int32_t c) {
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xC0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xE0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3F));
        out[2] = (char)(0x80 | (c & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3F));
    out[2] = (char)(0x80 | (c >> 6 & 0x3F));
    out[3] = (char)(0x80 | (c & 0x3F));
    return 4;
}

/* ---- classes ---- */

bool pb_uc_space(int32_t c) {
    if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13);
    return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
           c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool pb_uc_other(int32_t c) {
    if (c < 0x80) return c < 0x20 || c == 0x7F;
    utf8proc_category_t k = utf8proc_category(c);
    if (k != UTF8PROC_CATEGORY_CC && k != UTF8PROC_CATEGORY_CF && k != UTF8PROC_CATEGORY_CO)
        return false;
    return !in_ranges(not_other, COUNT(not_other), c);
}

bool pb_uc_punct(int32_t c) {
    if (c < 0x80)
        return (c > 32 && c < 48) || (c > 57 && c < 65) || (c > 90 && c < 97) ||
               (c > 122 && c < 127);
    if (c == 0x166D || c == 0x111C9)
        return true; /* punctuation in Unicode 8, since recategorised */
    utf8proc_category_t k = utf8proc_category(c);
    if (k < UTF8PROC_CATEGORY_PC || k > UTF8PROC_CATEGORY_PO) return false;
    return !in_ranges(not_punct, COUNT(not_punct), c);
}

bool pb_uc_mark(int32_t c) {
    if (c < 0x300) return false;
    if (c == 0x1734) return true; /* Mn until Unicode 14 */
    return utf8proc_category(c) == UTF8PROC_CATEGORY_MN && !in_ranges(not_mark, COUNT(not_mark), c);
}

bool pb_uc_word(int32_t c) {
    if (c < 0x80)
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
               c == '_';
    if (c == 0x200C || c == 0x200D) return true; /* Join_Control */
    if (c >= 0x24B6 && c <= 0x24E9) return true; /* Other_Alphabetic symbols */
    if (c >= 0x1F130 && c <= 0x1F189)
        return c <= 0x1F149 || (c >= 0x1F150 && c <= 0x1F169) || c >= 0x1F170;
    utf8proc_category_t k = utf8proc_category(c);
    return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_NL) || k == UTF8PROC_CATEGORY_PC;
}

bool pb_uc_chinese(int32_t c) {
    if (c < 0x3400) return false;
    return c <= 0x4DBF || (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0xF900 && c <= 0xFAFF) ||
           (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B81F) ||
           (c >= 0x2B920 && c <= 0x2CEAF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

int pb_uc_lower(int32_t c, int32_t out[2]) {
    if (c == 0x130) { /* the only one that becomes two */
        out[0] = 'i';
        out[1] = 0x307;
        return 2;
    }
    out[0] = utf8proc_tolower(c);
    if (out[0] != c || c < 0x1C89) return 1;
    for (size_t i = 0; i < COUNT(newer_lower); i++)
        if (c >= newer_lower[i].lo && c <= newer_lower[i].hi)
            out[0] = c - newer_lower[i].lo + newer_lower[i].to;
    return 1;
}

/* ---- normal forms ---- */

typedef struct point {
    int32_t c;
    int cls; /* canonical combining class */
} point;

/* Decomposed text: settled code points, then a run of combining marks that is not yet in order. */
typedef struct decomposed {
    point *p;
    size_t n, cap, run; /* p[run..n) has classes above 0 */
    point *spare;
    size_t spare_cap;
} decomposed;

static int combining_class(int32_t c) {
    if (c < 0x300 || in_ranges(class_zero, COUNT(class_zero), c)) return 0;
    return utf8proc_get_property(c)->combining_class;
}

/* Sorts the run by class and keeps equal classes in order; linear, so that a megabyte of accents
 * stays cheap. */
static pb_status settle(decomposed *d) {
    size_t n = d->n - d->run, start[257] = {0};
    size_t run = d->run;
    d->run = d->n;
    if (n < 2) return PB_OK;
    point *p = d->p + run;
    if (n <= 16) {
        for (size_t i = 1; i < n; i++) {
            point x = p[i];
            size_t k = i;
            for (; k > 0 && p[k - 1].cls > x.cls; k--) p[k] = p[k - 1];
            p[k] = x;
        }
        return PB_OK;
    }
    if (d->spare_cap < n) {
        point *spare = realloc(d->spare, n * 2 * sizeof *spare);
        if (!spare) return PB_ERROR(PB_E_OOM, "no memory for %zu combining marks", n);
        d->spare = spare;
        d->spare_cap = n * 2;
    }
    for (size_t i = 0; i < n; i++) start[p[i].cls + 1]++;
    for (int k = 1; k < 257; k++) start[k] += start[k - 1];
    for (size_t i = 0; i < n; i++) d->spare[start[p[i].cls]++] = p[i];
    memcpy(p, d->spare, n * sizeof *p);
    return PB_OK;
}

static pb_status push(decomposed *d, int32_t c) {
    if (d->n == d->cap) {
        size_t cap = d->cap * 2 + 64;
        point *p = realloc(d->p, cap * sizeof *p);
        if (!p) return PB_ERROR(PB_E_OOM, "no memory for %zu code points", cap);
        d->p = p;
        d->cap = cap;
    }
    int cls = combining_class(c);
    if (cls == 0) PB_RETURN(settle(d));
    d->p[d->n++] = (point){c, cls};
    if (cls == 0) d->run = d->n;
    return PB_OK;
}

static pb_status decompose(decomposed *d, const char *s, size_t n, bool compat) {
    for (size_t i = 0; i < n;) {
        int32_t c = pb_uc_next(s, &i), parts[32];
        bool same = c < 0xA0 || c == 0x11938 || (!compat && c < 0xC0);
        bool newer = compat && in_ranges(no_compat, COUNT(no_compat), c);
        if (same || newer) {
            PB_RETURN(push(d, c));
            continue;
        }
        int boundary = 0;
        utf8proc_option_t how = UTF8PROC_DECOMPOSE;
        if (compat) how = (utf8proc_option_t)(UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT);
        utf8proc_ssize_t k = utf8proc_decompose_char(c, parts, 32, how, &boundary);
        PB_ASSERT(k >= 0 && k <= 32); /* the longest decomposition has 18 code points */
        for (utf8proc_ssize_t j = 0; j < k; j++) PB_RETURN(push(d, parts[j]));
    }
    return settle(d);
}

pb_status pb_uc_normalize(pb_buf *out, const char *s, size_t n, pb_normal_form form) {
    pb_status status = PB_OK;
    decomposed d = {0};
    int32_t *composed = NULL;
    size_t count = 0;
    PB_TRY(decompose(&d, s, n, form.compat));
    count = d.n;
    if (form.compose && d.n > 0) {
        composed = malloc((d.n + 1) * sizeof *composed);
        if (!composed) PB_FAIL(PB_E_OOM, "no memory for %zu code points", d.n);
        for (size_t i = 0; i < d.n; i++) composed[i] = d.p[i].c;
        utf8proc_ssize_t k =
            utf8proc_normalize_utf32(composed, (utf8proc_ssize_t)d.n,
                                     (utf8proc_option_t)(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
        PB_ASSERT(k >= 0 && (size_t)k <= d.n);
        count = (size_t)k;
    }
    PB_TRY(pb_buf_reserve(out, count * 4 + 1));
    for (size_t i = 0; i < count; i++) {
        int32_t c = composed ? composed[i] : d.p[i].c;
        if (form.drop_marks && pb_uc_mark(c)) continue;
        out->n += pb_uc_put(out->s + out->n, c);
    }
done:
    free(d.p);
    free(d.spare);
    free(composed);
    return status;
}
