/* pb_tokenize DIR: tokenises texts for tests/goldens/tokenizer.py. Standard input: texts, each as
 * its length in bytes in decimal, a line feed, the bytes. Standard output: one line of ids per
 * text, or "error: message". */
#include <stdio.h>
#include <stdlib.h>

#include "datasets/tokenizer.h"

static pb_status run(const char *dir) {
    pb_status status = PB_OK;
    pb_tokenizer *tok = NULL;
    pb_ids ids = {0};
    char *text = NULL;
    size_t len = 0;
    PB_TRY(pb_tokenizer_open(dir, &tok));
    while (scanf("%zu", &len) == 1) {
        char *more = realloc(text, len + 1);
        if (!more) PB_FAIL(PB_E_OOM, "no memory for %zu bytes", len);
        text = more;
        if (getchar() != '\n' || fread(text, 1, len, stdin) != len)
            PB_FAIL(PB_E_INPUT, "standard input ends early");
        ids.n = 0;
        if (pb_tokenizer_encode(tok, text, len, true, &ids) != PB_OK) {
            printf("error: %s\n", pb_error_message());
            continue;
        }
        for (int64_t i = 0; i < ids.n; i++) printf(i ? " %d" : "%d", ids.ids[i]);
        putchar('\n');
    }
done:
    free(text);
    free(ids.ids);
    pb_tokenizer_free(tok);
    return status;
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: pb_tokenize DIR < texts\n");
        return 2;
    }
    pb_status status = run(argv[1]);
    if (status != PB_OK)
        fprintf(stderr, "pb_tokenize: %s (%s)\n", pb_error_message(), pb_error_trace());
    return pb_status_exit_code(status);
}
