/* The queue between the ops and the stream, as the files of the backend itself see it. Private to kernels/cuda. */
#ifndef PB_KERNELS_CUDA_QUEUE_H
#define PB_KERNELS_CUDA_QUEUE_H

#include "kernels/cuda/cuda.h"

#endif
