/* The safetensors format: a read-only mapped reader (single file or sharded by model.safetensors.index.json) that checks
 * every size before use, and an atomic writer. */
#ifndef PB_MODELS_SAFETENSORS_H
#define PB_MODELS_SAFETENSORS_H

#include <stdint.h>

#include "base/hash.h"
#include "base/json.h"
#include "base/status.h"

typedef struct pb_safetensors pb_safetensors;

typedef struct pb_stored_tensor {
    const char *name;
    char dtype[8]; /* "F32", "BF16", "F16", "F64", "I64", ... */
    int ndim;
    int64_t dim[8];
    const unsigned char *data; /* into the mapping, maybe unaligned */
    uint64_t bytes;
    const char *file; /* for messages */
} pb_stored_tensor;

/* path: a .safetensors file, or a folder with model.safetensors or model.safetensors.index.json. Refused with file, offset
 * or tensor name, value and expectation: truncated or overlapping data, holes, duplicate names, shape overflow, unknown
 * dtypes, a header over 100 MB, more than 131072 tensors, 16 MiB of names or 4 MiB of index, missing shards. Memory
 * beyond the mapping stays under 64 MiB. */
pb_status pb_safetensors_open(const char *path, pb_safetensors **out);
/* From memory, for fuzzing; `bytes` must outlive the reader. */
pb_status pb_safetensors_open_bytes(const char *where, const void *bytes, size_t len, pb_safetensors **out);
void pb_safetensors_close(pb_safetensors *st);
/* As given to open, for messages. */
const char *pb_safetensors_path(const pb_safetensors *st);
/* Value of a key of __metadata__, NULL when absent. */
const char *pb_safetensors_metadata(const pb_safetensors *st, const char *key);
int pb_safetensors_count(const pb_safetensors *st);
const pb_stored_tensor *pb_safetensors_at(const pb_safetensors *st, int i);
/* NULL when absent. */
const pb_stored_tensor *pb_safetensors_find(const pb_safetensors *st, const char *name);
/* Elements [from, from+n) converted to double from F64, F32, F16 or BF16; PB_E_INPUT for other dtypes. */
pb_status pb_stored_tensor_f64(const pb_stored_tensor *t, int64_t from, int64_t n, double *out);
pb_status pb_stored_tensor_f32(const pb_stored_tensor *t, int64_t from, int64_t n, float *out);

/* One tensor to write; data in the named dtype, row-major. */
typedef struct pb_write_tensor {
    const char *name;
    const char *dtype;
    int ndim;
    int64_t dim[4];
    const void *data;
    uint64_t bytes;
} pb_write_tensor;
/* Sorted, 8-byte aligned, atomic. metadata: object of strings or NULL. */
pb_status pb_safetensors_write(const char *path, const pb_write_tensor *tensors, int n, const pb_json *metadata);

#endif
