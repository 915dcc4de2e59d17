/* Strict JSON: what is accepted prints and reads back to the same text. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    pb_json *json = NULL, *again = NULL;
    if (pb_json_parse("fuzz", (const char *)data, size, &json) != PB_OK) {
        PB_ASSERT(!json && strncmp(pb_error_message(), "fuzz:", 5) == 0);
        return 0;
    }
    for (int pretty = 0; pretty < 2; pretty++) {
        char *text = pb_json_print(json, pretty != 0);
        PB_ASSERT(text && pb_json_parse("again", text, strlen(text), &again) == PB_OK);
        char *second = pb_json_print(again, pretty != 0);
        PB_ASSERT(second && strcmp(text, second) == 0);
        free(text);
        free(second);
        pb_json_free(again);
    }
    pb_json_free(json);
    return 0;
}
