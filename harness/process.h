/* A program run to its end with what it says in a file: builds that are measured, git, cmake. */
#ifndef PB_HARNESS_PROCESS_H
#define PB_HARNESS_PROCESS_H

#include <stddef.h>

#include "base/status.h"

/* argv[0] is looked up in PATH unless it holds a '/'; `folder` is where it runs (NULL = here); stdout
 * and stderr go to `log`, which is created or emptied. *code is the exit status, 128 + the signal's
 * number after one. PB_E_ENV when it does not start. */
pb_status pb_process_run(const char *const *argv, const char *folder, const char *log, int *code);

/* The last line that says something, without its line break; "" when there is none. */
void pb_process_last_line(const char *log, char *out, size_t cap);

#endif
