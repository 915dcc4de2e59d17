/* A suite that trains in a moment: a tiny BERT with random weights, its vocabulary, texts in JSON
 * Lines, two rows. */
#ifndef PB_TESTS_TINY_SUITE_H
#define PB_TESTS_TINY_SUITE_H

/* Makes DIR/model, DIR/texts and DIR/tiny.json (model and data by relative path). */
void pb_tiny_suite_write(const char *dir);
void pb_tiny_write(const char *dir, const char *file, const char *text);
/* DIR/file as text; the test fails when it cannot be read. malloc'ed. */
char *pb_tiny_read(const char *dir, const char *file);
/* The suite's text; `extra` is put in front of "runs", e.g. "\"seeds\": [1, 2],". */
extern const char pb_tiny_suite_json[];

#endif
