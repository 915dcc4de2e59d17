/* The queue between the ops and the stream, as the files of the backend itself see it. Private to kernels/cuda.
 *
 * Outside a step everything goes to the stream at once. Between pb_cuda_step_begin and _end it is written on a tape, which is
 * handed over when somebody waits, when bytes come from the host, when the step ends, and in pieces of some hundred
 * operations in between, so that the device runs one while the host writes the next. A piece whose like was seen before
 * (the same kernels and products in the same order) becomes a graph; from then on only parameters that changed, such as
 * the step's number or the keys of dropout, are set in it before it is launched. So the host's code runs in every step and
 * decides everything, nothing is captured that could grow stale, and the device gets one launch instead of a hundred. */
#ifndef PB_KERNELS_CUDA_QUEUE_H
#define PB_KERNELS_CUDA_QUEUE_H

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/gemm.h"

/* graphs false: eager always. */
pb_status pb_cuda_queue_new(pb_cuda *cuda, bool graphs);
void pb_cuda_queue_free(pb_cuda *cuda);

/* whole: not in pieces, for clocks that must not see the host between two operations. */
pb_status pb_cuda_step_begin(pb_cuda *cuda, bool whole);
pb_status pb_cuda_step_end(pb_cuda *cuda);

pb_status pb_cuda_enqueue_product(pb_cuda *cuda, const pb_cuda_product *p);
pb_status pb_cuda_enqueue_record(pb_cuda *cuda, void *event);
/* Before an event goes away: nothing refers to it any more. */
pb_status pb_cuda_forget_event(pb_cuda *cuda, void *event);

/* "graphs", "eager", or "eager: " and why graphs were given up. */
const char *pb_cuda_queue_mode(const pb_cuda *cuda);

#endif
