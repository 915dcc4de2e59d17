/* WordNet data files; the first byte chooses the part of speech. */
#include <string.h>

#include "datasets/wordnet.h"
#include "tests/fuzz/fuzz.h"

static void parse(const uint8_t *data, size_t size, const pb_wordnet_use *use, int32_t least,
                  int32_t most) {
    pb_texts texts = {0};
    pb_status status = pb_wordnet_parse("fuzz", (const char *)data + 1, size - 1,
                                        "nvar"[data[0] % 4], use, &texts);
    PB_ASSERT(status == PB_OK || status == PB_E_INPUT);
    for (int i = 0; i < PB_SPLITS; i++)
        for (int64_t k = 0; k < texts.split[i].n; k++) {
            const pb_text_example *e = &texts.split[i].examples[k];
            PB_ASSERT(e->text_len > 0 && strlen(e->text) == e->text_len && e->label >= least &&
                      e->label <= most);
        }
    pb_texts_free(&texts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    parse(data, size, &pb_wordnet_definitions, 0, 44);
    parse(data, size, &pb_wordnet_examples, -1, -1);
    return 0;
}
