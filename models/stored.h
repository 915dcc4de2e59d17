/* Private to models/: what the safetensors reader and writer share. */
#ifndef PB_MODELS_STORED_H
#define PB_MODELS_STORED_H

#include <stdint.h>

/* Bytes of one element of a dtype as safetensors names it, 0 when unknown. */
uint64_t pb_stored_dtype_bytes(const char *dtype);

#endif
