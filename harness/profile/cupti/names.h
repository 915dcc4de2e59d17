/* Names of kernels: the one other C++ unit, for the demangler is C++'s. */
#ifndef PB_HARNESS_PROFILE_CUPTI_NAMES_H
#define PB_HARNESS_PROFILE_CUPTI_NAMES_H

#ifdef __cplusplus
extern "C" {
#endif

/* "norm_fwd<float>" of a mangled name, without its parameters; malloc'ed, NULL without memory. */
char *pb_cupti_demangled(const char *name);

#ifdef __cplusplus
}
#endif
#endif
