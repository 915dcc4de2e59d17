#include "harness/suite_run.h"

#include "harness/latency.h"
#include "harness/tune.h"

pb_status pb_suite_execute(const pb_suite *suite, const pb_runner_options *options,
                           pb_runner_summary *out) {
    if (suite->tune) return pb_tune_run(suite, options, out);
    if (suite->is_latency) return pb_latency_run(suite, options, out);
    return pb_runner_run(suite, options, out);
}
