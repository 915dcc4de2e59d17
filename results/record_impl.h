/* Private to results/: what writer, reader and verifier share. */
#ifndef PB_RESULTS_RECORD_IMPL_H
#define PB_RESULTS_RECORD_IMPL_H

#include "results/record.h"

#define PB_RECORD_MAX_BYTES (64u << 20)
#define PB_RECORD_FILE "record.json"
#define PB_SAMPLE_DTYPE "f64le"

/* Checks every rule of SCHEMA.md that does not need the sample files. `where` names the file;
 * failures have `code`. */
pb_status pb_record_validate(const pb_record *r, const char *where, pb_status code);

/* The digest of a record's text: its SHA-256 with the 64 characters of the digest itself taken as
 * zeros. `stored` is the digest as it stands in the text. PB_E_INPUT when the text does not hold
 * it. */
pb_status pb_record_digest(const char *where, const char *text, size_t len, const char *stored,
                           char hex[PB_SHA256_HEX]);

/* The file name of a sample: its tag with '/' as '-', and ".f64". */
void pb_sample_file_name(const char *tag, char file[128]);

/* Loads one sample beside record.json and checks length and hash. */
pb_status pb_sample_load(const char *dir, pb_sample *s);

/* Paths of every record.json under dir, sorted; an empty list is PB_OK here. Free with
 * pb_names_free. */
pb_status pb_record_paths(const char *dir, char ***paths, size_t *n);

/* "how:tag": how into how[16], *tag points behind the colon. False when the form is wrong. */
bool pb_from_split(const char *from, char how[16], const char **tag);
bool pb_derive_known(const char *how);

#endif
