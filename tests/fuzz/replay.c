/* Feeds files, or the files of folders, to a fuzz target without libFuzzer, so that every finding
 * stays a test. Exit 1 when there was nothing to feed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "tests/fuzz/fuzz.h"

static pb_status feed(const char *path, int *n) {
    pb_status status = PB_OK;
    char *data = NULL, **names = NULL;
    size_t len = 0, count = 0;
    if (pb_is_dir(path)) {
        PB_TRY(pb_list_dir(path, &names, &count));
        for (size_t i = 0; i < count; i++) {
            char *inner = pb_path_join(path, names[i]);
            status = inner ? feed(inner, n) : PB_E_OOM;
            free(inner);
            if (status != PB_OK) goto done;
        }
    } else {
        PB_TRY(pb_file_read(path, (size_t)1 << 26, &data, &len));
        char *exact = malloc(len ? len : 1);
        PB_ASSERT(exact);
        if (len) memcpy(exact, data, len);
        LLVMFuzzerTestOneInput((const uint8_t *)exact, len);
        free(exact);
        (*n)++;
    }
done:
    free(data);
    pb_names_free(names, count);
    return status;
}

int main(int argc, char **argv) {
    int n = 0;
    for (int i = 1; i < argc; i++) {
        pb_status status = feed(argv[i], &n);
        if (status == PB_OK) continue;
        fprintf(stderr, "replay: %s\n", pb_error_message());
        return pb_status_exit_code(status);
    }
    printf("%d inputs\n", n);
    return n > 0 ? 0 : 1;
}
