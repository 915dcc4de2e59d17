/* How advice is printed. Private to harness/cli_advise*.c. */
#ifndef PB_HARNESS_CLI_ADVISE_H
#define PB_HARNESS_CLI_ADVISE_H

#include "harness/advise.h"

pb_status pb_advise_print_text(const pb_advise *a);
pb_status pb_advise_print_json(const pb_advise *a);

#endif
