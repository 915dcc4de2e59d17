/* Where a run took place: machine, system, build, libraries. Only what matters for its numbers; no
 * host or user name. */
#ifndef PB_HARNESS_ENVIRONMENT_H
#define PB_HARNESS_ENVIRONMENT_H

#include "base/json.h"
#include "base/status.h"

/* Remembers the command line for records. Call once, first thing in main; the strings must stay. */
void pb_environment_set_argv(int argc, char *const *argv);

/* {machine, system, build, libraries, variables, argv, device, threads}. threads 0 = all the device
 * would use. */
pb_status pb_environment_json(const char *device, int threads, pb_json **out);

/* What comes behind `key` ("driver ") in what pb_device_describe says, up to the next ",", ";" or space; false, and out "",
 * where there is no such key. */
bool pb_environment_word(const char *described, const char *key, char *out, size_t cap);

/* Adds machine.gpu {name, driver} and libraries {cuda_runtime, cublaslt}, taken out of what
 * pb_device_describe says; nothing where that is empty, as on every device but a GPU. Once for an environment. PB_E_OOM. */
pb_status pb_environment_add_gpu(pb_json *environment, const char *described);
/* What the machine is called: its GPU's name where one was added, else its processor's, else
 * "unknown". Points into the tree. */
const char *pb_environment_machine(const pb_json *environment);

/* Now in UTC, "2026-01-31T12:34:56Z". */
void pb_utc_now(char out[32]);

#endif
