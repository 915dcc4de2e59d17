/* A program run to its end with what it says in a file: gnuplot, git, cmake, builds that are measured. */
#ifndef PB_BASE_PROCESS_H
#define PB_BASE_PROCESS_H

#include <stddef.h>

#include "base/status.h"

/* argv[0] is looked up in PATH unless it holds a '/'; env ends with NULL (NULL = this program's); `folder` is where it
 * runs (NULL = here). It has nothing to read; stdout and stderr go to `log`, which is created or emptied. *code is the exit
 * status, 128 + the signal's number after one. PB_E_ENV when it does not start. */
pb_status pb_process_run(const char *const *argv, char *const *env, const char *folder, const char *log, int *code);

/* The last line that says something, without its line break; "" when there is none. */
void pb_process_last_line(const char *log, char *out, size_t cap);

#endif
