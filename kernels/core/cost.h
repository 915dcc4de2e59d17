/* Operations of f32 arithmetic that functions within an op take, for its analytic work. A multiply-add is
 * one, so are a comparison, a selection, a conversion, a division and a root: what a vector unit issues.
 * Counted from the formulas as they are written down below, so that records of different builds compare;
 * another way to compute the same may take fewer (kernels/cpu/cpu_math.h takes 13 for an exponential),
 * and then reach more than its roof. Private to kernels/. */
#ifndef PB_KERNELS_CORE_COST_H
#define PB_KERNELS_CORE_COST_H

/* Clamp 2, times 1/ln 2 and back 2, remainder 2, polynomial 7, exponent bits 2, product 1, underflow 2. */
#define PB_COST_EXP 18.0
/* 1 / (1 + exp(-x)) */
#define PB_COST_SIGMOID (PB_COST_EXP + 3.0)
/* 0.5 x (1 + tanh v) = x sigmoid(2v): the cubic 3, times x; and its slope times a gradient. */
#define PB_COST_GELU_TANH       (PB_COST_SIGMOID + 4.0)
#define PB_COST_GELU_TANH_SLOPE (PB_COST_SIGMOID + 11.0)
/* exp(-x^2/2), 1/(1 + 0.35 |x|/sqrt 2), polynomial 9, tail 3, either side 2; 1 more for the density. */
#define PB_COST_PHI (PB_COST_EXP + 2.0 + 4.0 + 9.0 + 3.0 + 2.0)
/* Philox 4x32-10: ten rounds of two 32 x 32 -> 64 bit products (4) and four xors, for 4 numbers. */
#define PB_COST_RANDOM 20.0
/* A random number, its comparison, the factor. */
#define PB_COST_DROP (PB_COST_RANDOM + 2.0)

#endif
