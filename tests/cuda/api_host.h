/* What tests ask of the stand-in for the CUDA libraries (api_host.cpp). */
#ifndef PB_TESTS_CUDA_API_HOST_H
#define PB_TESTS_CUDA_API_HOST_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default) /* all else in the object is hidden */

uint64_t pb_host_calls(void);      /* calls of the seam so far */
void pb_host_fail_at(uint64_t n);  /* the n-th call from now fails (1 = the next); 0 = none */
bool pb_host_failed(void);         /* has that call come? */
int64_t pb_host_live(void);        /* allocations, streams, events, graphs, descriptors not freed yet */
uint64_t pb_host_device_bytes(void); /* allocated in the device's own memory now */
int pb_host_algorithm(void);       /* which of its proposals the library was last asked for */
uint64_t pb_host_launches(void);   /* kernels run */
uint64_t pb_host_graph_launches(void);
uint64_t pb_host_instantiated(void);
uint64_t pb_host_set_anew(void);   /* parameters of a graph's kernel */
void pb_host_seed(uint64_t seed);  /* order of threads */
uint64_t pb_host_threads_run(void);
/* Devices opened from now on have this architecture (9.0 at the start): 7.5 has no bf16 tensor cores. */
void pb_host_architecture(int major, int minor);
void pb_host_driver(int version); /* of the driver from now on, 13000 at the start: an older one finds no device */
void pb_host_fault(void);         /* as if a kernel had failed: every wait and allocation says so until a device is opened */

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
