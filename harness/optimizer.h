/* AdamW over the trainable parameters of a registry: f32 or 8-bit block-wise moments, decoupled
 * weight decay, clipping by the global norm, learning-rate schedules. The state and the item arrays
 * are made once; a step allocates nothing. */
#ifndef PB_HARNESS_OPTIMIZER_H
#define PB_HARNESS_OPTIMIZER_H

#include "harness/suite.h"
#include "methods/param.h"

/* Tensors with fewer elements keep f32 moments under adamw8 (bitsandbytes' min_8bit_size). */
#define PB_MIN_8BIT_ELEMENTS 4096

typedef struct pb_optim_config {
    pb_optimizer kind;
    pb_schedule schedule;
    double lr, warmup;                            /* warmup: < 1 a share of steps, >= 1 steps */
    double beta1, beta2, eps, weight_decay, clip; /* clip 0 = none */
    int64_t steps;
} pb_optim_config;

typedef struct pb_optim pb_optim;

/* Takes every parameter that is trainable now; moments in PB_MEM_OPTIM, norm and coefficient in
 * PB_MEM_DATA. The device and the registry must outlive it. */
pb_status pb_optim_new(pb_device *dev, pb_params *params, const pb_optim_config *config,
                       pb_optim **out);
void pb_optim_free(pb_optim *o);

/* Norm of all gradients (waits for the device), then the update of step `step` (0-based) at its
 * scheduled rate. PB_E_DIVERGED, with nothing updated, when the norm is not finite: names the first
 * parameter with such a gradient. */
pb_status pb_optim_step(pb_optim *o, int64_t step, double *norm);
/* PB_E_DIVERGED: "step 3: <what> is nan; first in layers.0...[7] = nan". Scans every gradient. */
pb_status pb_optim_diverged(const pb_optim *o, int64_t step, const char *what, double value);
/* M [1]: what the last step multiplied every gradient with. */
pb_tensor pb_optim_grad_scale(const pb_optim *o);
/* The rate of step `step`, before a parameter's own lr_scale. */
double pb_optim_lr(const pb_optim *o, int64_t step);

/* One floating value to the host, without taking memory. */
pb_status pb_read_scalar(pb_device *dev, pb_tensor t, double *out);

/* Factor of the learning rate at 0-based step `step`: Hugging Face's
 * get_{linear,cosine,constant}_schedule_with_warmup. */
double pb_schedule_factor(pb_schedule schedule, int64_t step, int64_t warmup_steps, int64_t steps);
/* A share of steps is rounded up, as Hugging Face's get_warmup_steps. */
int64_t pb_schedule_warmup_steps(double warmup, int64_t steps);

#endif
