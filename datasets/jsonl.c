/* JSON Lines: {"text","label"}, {"prompt","completion"} or {"text"}, one kind per folder, read line
 * by line so that memory follows the longest line. Every refusal names file and line. Test:
 * tests/test_datasets.c, tests/fuzz/fuzz_jsonl.c. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "datasets/texts_impl.h"

static const char *const kinds[] = {"{\"text\", \"label\"}", "{\"prompt\", \"completion\"}",
                                    "{\"text\"}"};

static pb_status find_task(const pb_json *o, const char *where, pb_task *task) {
    static const char *const keys[] = {"text", "label", "prompt", "completion"};
    PB_RETURN(pb_json_only_keys(o, where, keys, 4));
    bool has[4];
    for (int i = 0; i < 4; i++) has[i] = pb_json_get(o, keys[i]) != NULL;
    if (has[0] && has[1] && !has[2] && !has[3]) *task = PB_TASK_CLASSIFY;
    else if (!has[0] && !has[1] && has[2] && has[3]) *task = PB_TASK_COMPLETE;
    else if (has[0] && !has[1] && !has[2] && !has[3]) *task = PB_TASK_LM;
    else
        return PB_ERROR(PB_E_INPUT, "%s: wrong or missing keys, expected %s, %s or %s", where,
                        kinds[0], kinds[1], kinds[2]);
    return PB_OK;
}

static pb_status read_label(const pb_json *o, const char *where, pb_split_id split, pb_texts *texts,
                            int32_t *index) {
    const pb_json *label = pb_json_get(o, "label");
    char number[32];
    const char *name = number;
    bool integer = cJSON_IsNumber(label);
    if (integer) {
        double v = label->valuedouble;
        if (!(v > -9007199254740992.0 && v < 9007199254740992.0) || v != (double)(int64_t)v)
            return PB_ERROR(PB_E_INPUT, "%s: label %g: expected a string or an integer", where, v);
        snprintf(number, sizeof number, "%lld", (long long)v);
    } else if (cJSON_IsString(label) && label->valuestring[0]) {
        name = label->valuestring;
    } else {
        return PB_ERROR(PB_E_INPUT, "%s: label: expected a non-empty string or an integer", where);
    }
    if (!pb_texts_label_kind(texts, integer))
        return PB_ERROR(PB_E_INPUT, "%s: label %s is %s, the labels before are %s", where, name,
                        integer ? "an integer" : "a string", integer ? "strings" : "integers");
    PB_RETURN(pb_texts_label(texts, name, split == PB_TRAIN, index));
    if (*index < 0)
        return PB_ERROR(PB_E_INPUT, "%s: label \"%.200s\" is in no training example", where, name);
    return PB_OK;
}

static pb_status read_text(const pb_json *o, const char *where, const char *key, bool may_be_empty,
                           const char **out, size_t *len) {
    PB_RETURN(pb_json_read_str(o, where, key, out));
    *len = strlen(*out);
    if (*len == 0 && !may_be_empty)
        return PB_ERROR(PB_E_INPUT, "%s: %s: expected a text, found \"\"", where, key);
    return PB_OK;
}

/* where: file:number */
static pb_status read_line(const char *file, const char *where, const char *line, size_t len,
                           pb_split_id split, uint64_t number, pb_texts *texts) {
    pb_status status = PB_OK;
    pb_json *o = NULL;
    pb_task task = PB_TASK_LM;
    pb_text_example e = {.label = -1, .id = number};
    PB_TRY(pb_json_parse_line(file, number, line, len, &o));
    if (!cJSON_IsObject(o))
        PB_FAIL(PB_E_INPUT, "%s: expected an object: %s, %s or %s", where, kinds[0], kinds[1],
                kinds[2]);
    PB_TRY(find_task(o, where, &task));
    if (!pb_texts_begun(texts)) PB_TRY(pb_texts_begin(texts, "jsonl", task));
    if (task != texts->task)
        PB_FAIL(PB_E_INPUT, "%s: mixed tasks: %s here, %s before", where, kinds[task],
                kinds[texts->task]);
    bool complete = task == PB_TASK_COMPLETE;
    PB_TRY(read_text(o, where, complete ? "prompt" : "text", complete, &e.text, &e.text_len));
    if (complete)
        PB_TRY(read_text(o, where, "completion", false, &e.completion, &e.completion_len));
    if (task == PB_TASK_CLASSIFY) PB_TRY(read_label(o, where, split, texts, &e.label));
    PB_TRY(pb_texts_add(texts, split, &e));
done:
    pb_json_free(o);
    return status;
}

static bool blank(const char *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (s[i] != ' ' && s[i] != '\t' && s[i] != '\r') return false;
    return true;
}

pb_status pb_texts_parse_jsonl(const char *where, const char *data, size_t len, pb_split_id split,
                               pb_texts *texts) {
    char place[1200];
    uint64_t number = 0, found = 0;
    for (size_t i = 0; i < len;) {
        const char *stop = memchr(data + i, '\n', len - i);
        size_t end = stop ? (size_t)(stop - data) : len, n = end - i;
        snprintf(place, sizeof place, "%.1100s:%llu", where, (unsigned long long)++number);
        if (n > 0 && data[i + n - 1] == '\r') n--;
        if (n > PB_LINE_MAX)
            return PB_ERROR(PB_E_INPUT, "%s: a line of %zu bytes, at most 16 MiB are supported",
                            place, n);
        const char *nul = memchr(data + i, 0, n);
        if (nul)
            return PB_ERROR(PB_E_INPUT, "%s: a NUL byte at column %zu", place,
                            (size_t)(nul - data) - i + 1);
        if (!blank(data + i, n)) {
            PB_RETURN(read_line(where, place, data + i, n, split, number, texts));
            found++;
        }
        i = end + 1;
    }
    if (found == 0)
        return PB_ERROR(PB_E_INPUT, "%s: no examples, expected one JSON object per line", where);
    return PB_OK;
}
