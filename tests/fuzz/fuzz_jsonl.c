/* JSON Lines as a training split, then the same bytes as a test split: what trains must also test.
 */
#include "datasets/dataset.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    pb_texts texts = {0};
    if (pb_texts_parse_jsonl("fuzz", (const char *)data, size, PB_TRAIN, &texts) == PB_OK) {
        PB_ASSERT(texts.split[PB_TRAIN].n > 0);
        PB_ASSERT(pb_texts_parse_jsonl("fuzz", (const char *)data, size, PB_TEST, &texts) == PB_OK);
        PB_ASSERT(texts.split[PB_TEST].n == texts.split[PB_TRAIN].n);
        for (int64_t i = 0; i < texts.split[PB_TRAIN].n; i++) {
            const pb_text_example *a = &texts.split[PB_TRAIN].examples[i],
                                  *b = &texts.split[PB_TEST].examples[i];
            PB_ASSERT(a->label == b->label && a->label < texts.n_labels &&
                      a->text[a->text_len] == 0);
        }
    }
    pb_texts_free(&texts);
    return 0;
}
