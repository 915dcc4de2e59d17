/* A tokenizer put together from tokenizer.json (or vocab.txt), and the way of a text through it.
 * The parts are in unicode.c, normalize.c, pretokenize.c, regex.c, added.c, wordpiece.c, bpe.c. The
 * file's truncation and padding are ignored: data sets cut for themselves and batches are packed.
 * Test: tests/test_tokenizer.c, tests/goldens/tokenizer.py. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "datasets/tokenizer_impl.h"

/* ---- vocabulary ---- */

static pb_status read_vocab(const pb_json *model, const char *where, pb_vocab *out) {
    const pb_json *vocab = pb_json_get(model, "vocab");
    if (!cJSON_IsObject(vocab))
        return PB_ERROR(PB_E_INPUT, "%s: model.vocab: expected an object of token: id", where);
    for (const pb_json *t = vocab->child; t; t = t->next) {
        double v = cJSON_IsNumber(t) ? t->valuedouble : -1;
        if (!(v >= 0 && v < PB_TOKENIZER_MAX_ID) || v != (double)(int32_t)v)
            return PB_ERROR(PB_E_INPUT, "%s: model.vocab[\"%.80s\"]: expected an id from 0 to %d",
                            where, t->string, PB_TOKENIZER_MAX_ID - 1);
        int32_t existing = -1;
        PB_RETURN(pb_vocab_add(out, t->string, strlen(t->string), (int32_t)v, &existing));
        PB_ASSERT(existing < 0); /* the JSON reader refuses duplicate keys */
    }
    return PB_OK;
}

/* No two tokens share an id; sets vocab_size. */
static pb_status check_ids(pb_tokenizer *tok, const char *where) {
    pb_status status = PB_OK;
    int32_t top = -1, next = (int32_t)tok->vocab.n;
    unsigned char *used = NULL;
    for (size_t i = 0; i < tok->vocab.n_slots; i++)
        if (tok->vocab.slots[i].id > top) top = tok->vocab.slots[i].id;
    for (int i = 0; i < tok->added.n; i++)
        if (tok->added.v[i].id > top) top = tok->added.v[i].id;
    used = calloc((size_t)top + 2, 1);
    if (!used) PB_FAIL(PB_E_OOM, "no memory for %d ids", top + 1);
    for (size_t i = 0; i < tok->vocab.n_slots; i++) {
        const pb_vocab_slot *s = &tok->vocab.slots[i];
        if (s->id >= 0 && used[s->id]++)
            PB_FAIL(PB_E_INPUT, "%s: model.vocab[\"%.80s\"]: id %d is another token's too", where,
                    tok->vocab.bytes + s->off, s->id);
    }
    for (int i = 0; i < tok->added.n;
         i++) { /* Hugging Face numbers new tokens itself: anything else would be misread */
        const pb_added *t = &tok->added.v[i];
        int32_t id = pb_vocab_find(&tok->vocab, t->content, strlen(t->content));
        for (int k = 0; k < i && id < 0; k++)
            if (strcmp(tok->added.v[k].content, t->content) == 0)
                PB_FAIL(PB_E_INPUT, "%s: the added token \"%.80s\" stands twice", where,
                        t->content);
        if (id < 0) id = next;
        if (t->id != id)
            PB_FAIL(PB_E_INPUT, "%s: the added token \"%.80s\" has id %d, expected %d", where,
                    t->content, t->id, id);
        if (id >= next) next = id + 1;
    }
    tok->vocab_size = top + 1;
done:
    free(used);
    return status;
}

static int32_t find_token(const pb_tokenizer *tok, const char *token, size_t n) {
    int32_t id = pb_vocab_find(&tok->vocab, token, n);
    for (int i = 0; i < tok->added.n && id < 0; i++)
        if (strlen(tok->added.v[i].content) == n && memcmp(tok->added.v[i].content, token, n) == 0)
            id = tok->added.v[i].id;
    return id;
}

/* ---- post-processor ---- */

static pb_status push_special(pb_tokenizer *tok, bool after, int32_t id, const char *where) {
    if (id < 0 || id >= tok->vocab_size)
        return PB_ERROR(PB_E_INPUT, "%s: post_processor: id %d is outside the vocabulary of %d",
                        where, id, tok->vocab_size);
    int32_t **list = after ? &tok->after : &tok->before;
    int *n = after ? &tok->n_after : &tok->n_before;
    if (*n >= 64)
        return PB_ERROR(PB_E_INPUT, "%s: post_processor: more than 64 special tokens", where);
    int32_t *more = realloc(*list, (size_t)(*n + 1) * sizeof *more);
    if (!more) return PB_ERROR(PB_E_OOM, "no memory");
    *list = more;
    more[(*n)++] = id;
    return PB_OK;
}

/* An array of ids. */
static pb_status push_ids(pb_tokenizer *tok, bool after, const pb_json *ids, const char *where) {
    if (!cJSON_IsArray(ids))
        return PB_ERROR(PB_E_INPUT, "%s: post_processor: expected an array of ids", where);
    for (const pb_json *x = ids->child; x; x = x->next) {
        double v = cJSON_IsNumber(x) ? x->valuedouble : -1;
        bool whole = v >= 0 && v < PB_TOKENIZER_MAX_ID && v == (double)(int32_t)v;
        PB_RETURN(push_special(tok, after, whole ? (int32_t)v : -1, where));
    }
    return PB_OK;
}

static pb_status read_template(const pb_json *json, const char *where, pb_tokenizer *tok) {
    const pb_json *single = pb_json_get(json, "single"),
                  *specials = pb_json_get(json, "special_tokens");
    bool after = false;
    if (!cJSON_IsArray(single))
        return PB_ERROR(PB_E_INPUT, "%s: post_processor: single: expected an array", where);
    for (const pb_json *x = single->child; x; x = x->next) {
        const pb_json *sequence = pb_json_get(x, "Sequence"),
                      *special = pb_json_get(x, "SpecialToken");
        const char *id = NULL;
        if (!sequence && !special)
            return PB_ERROR(PB_E_INPUT,
                            "%s: post_processor: single: expected Sequence or SpecialToken", where);
        PB_RETURN(pb_json_read_str(sequence ? sequence : special, where, "id", &id));
        if (sequence) {
            if (after || !id || strcmp(id, "A") != 0)
                return PB_ERROR(PB_E_INPUT, "%s: post_processor: single: expected Sequence A once",
                                where);
            after = true;
            continue;
        }
        const pb_json *entry = id ? pb_json_get(specials, id) : NULL;
        if (!entry)
            return PB_ERROR(PB_E_INPUT, "%s: post_processor: special_tokens lacks \"%.80s\"", where,
                            id ? id : "");
        PB_RETURN(push_ids(tok, after, pb_json_get(entry, "ids"), where));
    }
    return after ? PB_OK
                 : PB_ERROR(PB_E_INPUT, "%s: post_processor: single: Sequence A is missing", where);
}

/* BERT and RoBERTa: "cls": ["[CLS]", 101], "sep": ["[SEP]", 102]. */
static pb_status read_cls_sep(const pb_json *json, const char *where, pb_tokenizer *tok) {
    for (int after = 0; after < 2; after++) {
        const char *key = after ? "sep" : "cls";
        const pb_json *pair = pb_json_get(json, key);
        const pb_json *id = cJSON_IsArray(pair) && pair->child ? pair->child->next : NULL;
        if (!cJSON_IsNumber(id) || !(id->valuedouble >= 0 && id->valuedouble < PB_TOKENIZER_MAX_ID))
            return PB_ERROR(PB_E_INPUT, "%s: post_processor: %s: expected [token, id]", where, key);
        PB_RETURN(push_special(tok, after, (int32_t)id->valuedouble, where));
    }
    return PB_OK;
}

static pb_status read_post(const pb_json *json, const char *where, pb_tokenizer *tok) {
    if (!json || cJSON_IsNull(json)) return PB_OK;
    const char *type = NULL;
    if (!cJSON_IsObject(json))
        return PB_ERROR(PB_E_INPUT, "%s: post_processor: expected an object", where);
    PB_RETURN(pb_json_read_str(json, where, "type", &type));
    if (!type) return PB_ERROR(PB_E_INPUT, "%s: a post_processor without \"type\"", where);
    bool filled = tok->n_before + tok->n_after > 0;
    if (strcmp(type, "ByteLevel") == 0) return PB_OK; /* changes offsets only */
    if (strcmp(type, "Sequence") == 0) {
        const pb_json *list = pb_json_get(json, "processors");
        if (!cJSON_IsArray(list))
            return PB_ERROR(PB_E_INPUT, "%s: processors: expected an array", where);
        for (const pb_json *x = list->child; x; x = x->next) PB_RETURN(read_post(x, where, tok));
        return PB_OK;
    }
    bool is_template = strcmp(type, "TemplateProcessing") == 0;
    bool is_cls_sep = strcmp(type, "BertProcessing") == 0 || strcmp(type, "RobertaProcessing") == 0;
    if (!is_template && !is_cls_sep)
        return PB_ERROR(PB_E_INPUT,
                        "%s: post_processor \"%.80s\" is not supported; supported: "
                        "TemplateProcessing, BertProcessing, "
                        "RobertaProcessing, ByteLevel, Sequence",
                        where, type);
    if (filled)
        return PB_ERROR(PB_E_INPUT, "%s: two post_processors that add special tokens", where);
    return is_template ? read_template(json, where, tok) : read_cls_sep(json, where, tok);
}

/* ---- the whole file ---- */

static void find_end(pb_tokenizer *tok) {
    static const char *const names[] = {"</s>",          "[SEP]", "<|end_of_text|>",
                                        "<|endoftext|>", "<eos>", "<|im_end|>"};
    tok->end_id = -1;
    for (size_t i = 0; i < sizeof names / sizeof names[0] && tok->end_id < 0; i++)
        tok->end_id = find_token(tok, names[i], strlen(names[i]));
}

static pb_status read_model(const pb_json *model, const char *where, pb_tokenizer *tok) {
    const char *type = NULL;
    if (!cJSON_IsObject(model)) return PB_ERROR(PB_E_INPUT, "%s: model: expected an object", where);
    PB_RETURN(pb_json_read_str(model, where, "type", &type));
    /* Files of early versions have no type: only BPE has merges. */
    if (!type) type = pb_json_get(model, "merges") ? "BPE" : "WordPiece";
    bool bpe = strcmp(type, "BPE") == 0;
    if (!bpe && strcmp(type, "WordPiece") != 0)
        return PB_ERROR(PB_E_INPUT,
                        "%s: model \"%.80s\" is not supported; supported: WordPiece, BPE", where,
                        type);
    tok->model = bpe ? PB_MODEL_BPE : PB_MODEL_WORDPIECE;
    PB_RETURN(read_vocab(model, where, &tok->vocab));
    return bpe ? pb_bpe_read(model, where, &tok->vocab, &tok->bpe)
               : pb_wordpiece_read(model, where, &tok->vocab, &tok->wordpiece);
}

pb_status pb_tokenizer_parse(const char *where, const char *json, size_t len, pb_tokenizer **out) {
    pb_status status = PB_OK;
    pb_json *root = NULL;
    pb_tokenizer *tok = NULL;
    *out = NULL;
    PB_TRY(pb_json_parse(where, json, len, &root));
    if (!cJSON_IsObject(root)) PB_FAIL(PB_E_INPUT, "%s: expected an object", where);
    tok = calloc(1, sizeof *tok);
    if (!tok) PB_FAIL(PB_E_OOM, "no memory for a tokenizer");
    PB_TRY(read_model(pb_json_get(root, "model"), where, tok));
    PB_TRY(pb_norms_read(pb_json_get(root, "normalizer"), where, &tok->norms));
    PB_TRY(pb_pres_read(pb_json_get(root, "pre_tokenizer"), where, &tok->pres));
    PB_TRY(pb_added_read(pb_json_get(root, "added_tokens"), where, &tok->norms, &tok->added));
    PB_TRY(check_ids(tok, where));
    PB_TRY(read_post(pb_json_get(root, "post_processor"), where, tok));
    pb_added_index(&tok->added);
    find_end(tok);
    *out = tok;
    tok = NULL;
done:
    pb_tokenizer_free(tok);
    pb_json_free(root);
    return status;
}

void pb_tokenizer_free(pb_tokenizer *tok) {
    if (!tok) return;
    pb_vocab_free(&tok->vocab);
    pb_added_free(&tok->added);
    pb_norms_free(&tok->norms);
    pb_pres_free(&tok->pres);
    pb_bpe_free(&tok->bpe);
    free(tok->wordpiece.prefix);
    free(tok->before);
    free(tok->after);
    free(tok);
}

/* ---- vocab.txt: a BERT vocabulary, one token per line ---- */

static pb_status read_lines(const char *where, const char *data, size_t len, pb_vocab *out) {
    size_t bad = 0, line = 0;
    if (!pb_utf8_valid(data, len, &bad))
        return PB_ERROR(PB_E_INPUT, "%s: offset %zu: not valid UTF-8", where, bad);
    for (size_t i = 0; i < len; line++) {
        const char *stop = memchr(data + i, '\n', len - i);
        size_t end = stop ? (size_t)(stop - data) : len, n = end - i;
        while (n > 0) { /* white space at the end of a line is no part of the token */
            size_t at = 0;
            if (!pb_uc_space(pb_uc_before(data + i, n, &at))) break;
            n = at;
        }
        int32_t existing = -1;
        if (line >= PB_TOKENIZER_MAX_ID)
            return PB_ERROR(PB_E_INPUT, "%s: more than 2^24 lines", where);
        PB_RETURN(pb_vocab_add(out, data + i, n, (int32_t)line, &existing));
        if (existing >= 0)
            return PB_ERROR(PB_E_INPUT, "%s:%zu: the token of line %d stands here again", where,
                            line + 1, existing + 1);
        i = end + 1;
    }
    return PB_OK;
}

static pb_status bert_parts(const char *where, const pb_json *config, pb_tokenizer *tok) {
    static const char *const specials[] = {"[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"};
    pb_norm *norm = calloc(1, sizeof *norm);
    if (!norm) return PB_ERROR(PB_E_OOM, "no memory");
    tok->norms = (pb_norms){.v = norm, .n = 1};
    *norm = (pb_norm){.kind = PB_NORM_BERT, .clean_text = true, .chinese = true, .lowercase = true};
    if (config) {
        PB_RETURN(pb_json_read_bool(config, where, "do_lower_case", &norm->lowercase));
        PB_RETURN(pb_json_read_bool(config, where, "tokenize_chinese_chars", &norm->chinese));
    }
    norm->strip_accents = norm->lowercase;
    const pb_json *strip = config ? pb_json_get(config, "strip_accents") : NULL;
    if (strip && !cJSON_IsNull(strip))
        PB_RETURN(pb_json_read_bool(config, where, "strip_accents", &norm->strip_accents));
    pb_pre *pre = calloc(1, sizeof *pre);
    if (!pre) return PB_ERROR(PB_E_OOM, "no memory");
    pre->kind = PB_PRE_BERT;
    tok->pres = (pb_pres){.v = pre, .n = 1};
    tok->wordpiece.max_chars = 100;
    tok->wordpiece.prefix = strdup("##");
    if (!tok->wordpiece.prefix) return PB_ERROR(PB_E_OOM, "no memory");
    tok->wordpiece.prefix_len = 2;
    for (size_t i = 0; i < sizeof specials / sizeof specials[0]; i++) {
        int32_t id = pb_vocab_find(&tok->vocab, specials[i], strlen(specials[i]));
        if (id >= 0) PB_RETURN(pb_added_push(&tok->added, specials[i], id));
        if (id < 0 && i != 2 &&
            i != 4) /* [PAD] and [MASK] may be absent: nothing here writes them */
            return PB_ERROR(PB_E_INPUT, "%s: %s is not in the vocabulary", where, specials[i]);
    }
    return PB_OK;
}

static pb_status open_vocab_txt(const char *path, const pb_json *config, pb_tokenizer **out) {
    pb_status status = PB_OK;
    char *data = NULL;
    size_t len = 0;
    pb_tokenizer *tok = calloc(1, sizeof *tok);
    if (!tok) PB_FAIL(PB_E_OOM, "no memory for a tokenizer");
    PB_TRY(pb_file_read(path, PB_TOKENIZER_MAX_BYTES, &data, &len));
    PB_TRY(read_lines(path, data, len, &tok->vocab));
    PB_TRY(bert_parts(path, config, tok));
    tok->model = PB_MODEL_WORDPIECE;
    tok->wordpiece.unk = find_token(tok, "[UNK]", 5);
    PB_TRY(check_ids(tok, path));
    PB_TRY(push_special(tok, false, find_token(tok, "[CLS]", 5), path));
    PB_TRY(push_special(tok, true, find_token(tok, "[SEP]", 5), path));
    pb_added_index(&tok->added);
    find_end(tok);
    *out = tok;
    tok = NULL;
done:
    free(data);
    pb_tokenizer_free(tok);
    return status;
}

/* ---- folders ---- */

/* "eos_token": "</s>" or {"content": "</s>"}: it says better than a guess what ends a text. */
static pb_status read_end(const pb_json *config, const char *where, pb_tokenizer *tok) {
    const pb_json *eos = config ? pb_json_get(config, "eos_token") : NULL;
    const char *token = NULL;
    if (!eos || cJSON_IsNull(eos)) return PB_OK;
    PB_RETURN(cJSON_IsObject(eos) ? pb_json_read_str(eos, where, "content", &token)
                                  : pb_json_read_str(config, where, "eos_token", &token));
    int32_t id = token ? find_token(tok, token, strlen(token)) : -1;
    if (id < 0)
        return PB_ERROR(PB_E_INPUT, "%s: eos_token \"%.80s\" is not in the vocabulary", where,
                        token ? token : "");
    tok->end_id = id;
    return PB_OK;
}

pb_status pb_tokenizer_open(const char *dir, pb_tokenizer **out) {
    pb_status status = PB_OK;
    char *json = pb_path_join(dir, "tokenizer.json"), *txt = pb_path_join(dir, "vocab.txt");
    char *config_path = pb_path_join(dir, "tokenizer_config.json"), *data = NULL;
    size_t len = 0;
    pb_json *config = NULL;
    pb_tokenizer *tok = NULL;
    *out = NULL;
    if (!json || !txt || !config_path) PB_FAIL(PB_E_OOM, "no memory");
    if (pb_file_exists(config_path)) {
        PB_TRY(pb_json_load(config_path, PB_TOKENIZER_MAX_BYTES, &config));
        if (!cJSON_IsObject(config)) PB_FAIL(PB_E_INPUT, "%s: expected an object", config_path);
    }
    if (pb_file_exists(json)) {
        PB_TRY(pb_file_read(json, PB_TOKENIZER_MAX_BYTES, &data, &len));
        PB_TRY(pb_tokenizer_parse(json, data, len, &tok));
    } else if (pb_file_exists(txt)) {
        PB_TRY(open_vocab_txt(txt, config, &tok));
    } else {
        PB_FAIL(PB_E_INPUT, "%s: expected tokenizer.json or vocab.txt in this folder", dir);
    }
    PB_TRY(read_end(config, config_path, tok));
    *out = tok;
    tok = NULL;
done:
    pb_tokenizer_free(tok);
    pb_json_free(config);
    free(data);
    free(json);
    free(txt);
    free(config_path);
    return status;
}

/* ---- encoding ---- */

pb_status pb_ids_push(pb_ids *out, int32_t id) {
    if (out->n == out->cap) {
        int64_t cap = out->cap * 2 + 64;
        int32_t *ids = realloc(out->ids, (size_t)cap * sizeof *ids);
        if (!ids) return PB_ERROR(PB_E_OOM, "no memory for %lld ids", (long long)cap);
        out->ids = ids;
        out->cap = cap;
    }
    out->ids[out->n++] = id;
    return PB_OK;
}

typedef struct work {
    pb_buf normal, spare;
    pb_pieces pieces, other;
    pb_bpe_work bpe;
} work;

/* Text without added tokens, normalised. */
static pb_status encode_words(const pb_tokenizer *tok, work *w, const char *s, size_t n,
                              bool at_start, pb_ids *out) {
    if (n == 0) return PB_OK;
    w->pieces.n = w->pieces.text.n = 0;
    PB_RETURN(pb_buf_add(&w->pieces.text, s, n));
    PB_RETURN(pb_pieces_add(&w->pieces, 0, n, at_start));
    PB_RETURN(pb_pres_apply(&tok->pres, &w->pieces, &w->other));
    for (size_t i = 0; i < w->pieces.n; i++) {
        const char *word = w->pieces.text.s + w->pieces.v[i].off;
        size_t len = w->pieces.v[i].len;
        PB_RETURN(tok->model == PB_MODEL_BPE
                      ? pb_bpe_encode(&tok->bpe, &tok->vocab, &w->bpe, word, len, out)
                      : pb_wordpiece_encode(&tok->wordpiece, &tok->vocab, word, len, out));
    }
    return PB_OK;
}

/* Text between the added tokens of the raw text. */
static pb_status encode_raw(const pb_tokenizer *tok, work *w, const char *s, size_t n,
                            bool at_start, pb_ids *out) {
    size_t pos = 0, from = 0;
    pb_added_cut cut;
    if (n == 0) return PB_OK;
    PB_RETURN(pb_norms_apply(&tok->norms, s, n, &w->normal, &w->spare));
    while (pb_added_next(&tok->added, true, w->normal.s, w->normal.n, &pos, &from, &cut)) {
        bool start = at_start && cut.start == 0;
        PB_RETURN(encode_words(tok, w, w->normal.s + cut.start, cut.stop - cut.start, start, out));
        if (cut.id >= 0) PB_RETURN(pb_ids_push(out, cut.id));
    }
    return PB_OK;
}

pb_status pb_tokenizer_encode(const pb_tokenizer *tok, const char *text, size_t len, bool special,
                              pb_ids *out) {
    pb_status status = PB_OK;
    work w = {0};
    size_t bad = 0, pos = 0, from = 0;
    int64_t n = out->n;
    pb_added_cut cut;
    if (len == 0) text = ""; /* NULL is fine */
    if (!pb_utf8_valid(text, len, &bad))
        PB_FAIL(PB_E_INPUT, "offset %zu: the text is not valid UTF-8", bad);
    for (int i = 0; special && i < tok->n_before; i++) PB_TRY(pb_ids_push(out, tok->before[i]));
    while (pb_added_next(&tok->added, false, text, len, &pos, &from, &cut)) {
        PB_TRY(encode_raw(tok, &w, text + cut.start, cut.stop - cut.start, cut.start == 0, out));
        if (cut.id >= 0) PB_TRY(pb_ids_push(out, cut.id));
    }
    for (int i = 0; special && i < tok->n_after; i++) PB_TRY(pb_ids_push(out, tok->after[i]));
done:
    if (status != PB_OK) out->n = n;
    free(w.normal.s);
    free(w.spare.s);
    pb_pieces_free(&w.pieces);
    pb_pieces_free(&w.other);
    free(w.bpe.symbols);
    free(w.bpe.heap);
    return status;
}

/* ---- what it knows ---- */

int32_t pb_tokenizer_vocab(const pb_tokenizer *tok) { return tok->vocab_size; }
int32_t pb_tokenizer_id(const pb_tokenizer *tok, const char *token) {
    return find_token(tok, token, strlen(token));
}
int32_t pb_tokenizer_end_id(const pb_tokenizer *tok) { return tok->end_id; }

const int32_t *pb_tokenizer_before(const pb_tokenizer *tok, int *n) {
    *n = tok->n_before;
    return tok->before;
}

const int32_t *pb_tokenizer_after(const pb_tokenizer *tok, int *n) {
    *n = tok->n_after;
    return tok->after;
}
