/* WordNet 3.0: the example sentences of the glosses ("he was elected to a seat in the Senate"), plain
 * English text without labels: for the loss of decoders, and as general text beside another task.
 * source_wordnet.c cuts off just these; the few that are a definition elsewhere lie in its split there.
 *
 * Taken are quotations of at least five words (shorter ones are phrases: "polar diameter"). What stands
 * between quotations (names of authors) is not; a gloss with an odd number of quotation marks (17 there
 * are) gives none. Splits by the sentence's hash. id = the synset's * 100 + the number of the quotation
 * in its gloss, from 1. */
#include <string.h>

#include "datasets/wordnet.h"

enum { LEAST_WORDS = 5, MOST_QUOTATIONS = 99 };

static pb_status begin(pb_texts *texts) {
    return pb_texts_begin(texts, "wordnet-examples", PB_TASK_LM);
}

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r'; }

static int words(const char *s, size_t n) {
    int count = 0;
    for (size_t i = 0; i < n; i++) count += !is_space(s[i]) && (i == 0 || is_space(s[i - 1]));
    return count;
}

static size_t count_marks(const char *s, size_t n) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++) count += s[i] == '"';
    return count;
}

static pb_status take(const pb_synset *s, pb_texts *texts) {
    const char *at = s->gloss + s->definition_len, *end = s->gloss + s->gloss_len;
    size_t marks = count_marks(at, (size_t)(end - at));
    if (marks % 2 != 0 || marks / 2 > MOST_QUOTATIONS) return PB_OK;
    for (uint64_t i = 1; i <= marks / 2; i++) {
        const char *from = (const char *)memchr(at, '"', (size_t)(end - at)) + 1;
        const char *to = memchr(from, '"', (size_t)(end - from));
        at = to + 1;
        while (from < to && is_space(*from)) from++;
        while (from < to && is_space(to[-1])) to--;
        pb_text_example e = {
            .text = from, .text_len = (size_t)(to - from), .label = -1, .id = s->id * 100 + i};
        if (words(from, e.text_len) < LEAST_WORDS) continue;
        PB_RETURN(pb_texts_add(texts, pb_wordnet_split(from, e.text_len), &e));
    }
    return PB_OK;
}

const pb_wordnet_use pb_wordnet_examples = {
    .begin = begin, .take = take, .n = 29661, .what = "example sentences"};

static pb_status load(const char *dir, pb_texts *out) {
    return pb_wordnet_load(&pb_wordnet_examples, dir, out);
}

extern const pb_source pb_source_wordnet_examples;
const pb_source pb_source_wordnet_examples = {
    .name = "wordnet-examples",
    .title = "WordNet 3.0: 29,661 example sentences, plain text",
    .licence = PB_WORDNET_LICENCE,
    .task = PB_TASK_LM,
    .how_to_get = PB_WORDNET_HOW_TO_GET,
    .load = load,
};
