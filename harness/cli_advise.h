/* How advice is printed. Private to harness/cli_advise*.c. */
#ifndef PB_HARNESS_CLI_ADVISE_H
#define PB_HARNESS_CLI_ADVISE_H

#include "harness/advise.h"

/* suite_file: where the suite was written, or NULL. */
pb_status pb_advise_print_text(const pb_advise *a, const char *suite_file);
pb_status pb_advise_print_json(const pb_advise *a);

#endif
