/* The one registry of named parameters: the single source for the optimizer, checkpoints, counts and tests.
 *
 * A parameter's `value` is what forward reads (compute dtype T). A trainable parameter also has a `master` (M = f32; f64
 * when T is f64) that the optimizer updates, and a `grad` of type M. When T equals M, master *is* value. Frozen parameters
 * have neither: their gradients are never allocated. */
#ifndef PB_METHODS_PARAM_H
#define PB_METHODS_PARAM_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/core/device.h"
#include "kernels/ops.h"

typedef enum pb_role {
    PB_ROLE_BASE,    /* pretrained */
    PB_ROLE_ADAPTER, /* added by the method */
    PB_ROLE_HEAD     /* the task head (new, always trained) */
} pb_role;

typedef struct pb_param {
    char name[96]; /* Hugging Face name for BASE, "<site>.lora_A" style for ADAPTER, "head.weight" for HEAD */
    pb_role role;
    bool trainable;
    bool decay;       /* weight decay applies (false for biases and norms) */
    double lr_scale;  /* multiplies the run's learning rate; 1 */
    int ndim;
    int64_t dim[2];
    pb_tensor value, master, grad;
    const pb_quant4 *quant; /* a 4-bit base matrix: value is empty then */
} pb_param;

typedef struct pb_params pb_params;

pb_status pb_params_new(pb_device *dev, pb_dtype compute, pb_params **out);
void pb_params_free(pb_params *params); /* the registry only: tensors belong to the device */

pb_dtype pb_params_compute(const pb_params *params);
pb_dtype pb_params_master(const pb_params *params); /* M of the compute dtype */

/* Declares a parameter and allocates value (BASE in PB_MEM_BASE, others in PB_MEM_ADAPTER), zero-filled. The pointer stays
 * valid until pb_params_free. A duplicate name is PB_E_BUG. dim1 = 0 for vectors. */
pb_status pb_params_add(pb_params *params, pb_role role, const char *name, int64_t dim0, int64_t dim1, pb_param **out);
/* Declares a base matrix stored in 4 bits; value stays empty; `quant` must outlive the registry. */
pb_status pb_params_add_quant(pb_params *params, const char *name, const pb_quant4 *quant, pb_param **out);

/* Makes a parameter trainable: allocates master (PB_MEM_MASTER, when T != M) from value, and grad (PB_MEM_GRAD). Idempotent.
 * PB_E_INPUT for a 4-bit parameter. */
pb_status pb_param_train(pb_params *params, pb_param *p);

int pb_params_count(const pb_params *params);
pb_param *pb_params_at(pb_params *params, int i);
pb_param *pb_params_find(pb_params *params, const char *name); /* NULL when absent */
int64_t pb_params_elements(const pb_params *params, bool trainable_only);
/* Zeroes every gradient (start of a step), neighbours in memory together. */
pb_status pb_params_zero_grads(pb_params *params);

/* Initial values, written to master (when there is one) and value. The same on every device. */
pb_status pb_param_fill(pb_params *params, pb_param *p, double constant);
pb_status pb_param_init_uniform(pb_params *params, pb_param *p, double lo, double hi, uint64_t seed, uint64_t stream);
/* N(0, sigma^2), cut at `cut` sigmas by redrawing when cut > 0. */
pb_status pb_param_init_normal(pb_params *params, pb_param *p, double sigma, double cut, uint64_t seed, uint64_t stream);
/* From host values (numel doubles). */
pb_status pb_param_set(pb_params *params, pb_param *p, const double *host);
/* To host: master when there is one, else value (dequantised for 4-bit). */
pb_status pb_param_get(pb_params *params, const pb_param *p, double *host);

#endif
