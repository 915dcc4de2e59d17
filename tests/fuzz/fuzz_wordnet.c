/* WordNet data files; the first byte chooses the part of speech. */
#include <string.h>

#include "datasets/texts_impl.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    pb_texts texts = {0};
    if (size == 0) return 0;
    pb_status status =
        pb_wordnet_parse("fuzz", (const char *)data + 1, size - 1, "nvar"[data[0] % 4], &texts);
    PB_ASSERT(status == PB_OK || status == PB_E_INPUT);
    for (int i = 0; i < PB_SPLITS; i++)
        for (int64_t k = 0; k < texts.split[i].n; k++) {
            const pb_text_example *e = &texts.split[i].examples[k];
            PB_ASSERT(e->text_len > 0 && strlen(e->text) == e->text_len && e->label >= 0 &&
                      e->label < 45);
        }
    pb_texts_free(&texts);
    return 0;
}
