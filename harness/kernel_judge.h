/* Is a kernel right? What an op writes, and how far each of its tensors may be from the reference's.
 * Test: tests/test_kernel_judge.c.
 *
 * An element of an output with unit roundoff u (2^-24 in f32, 2^-8 in bf16) may differ from the
 * reference's r by
 *
 *     2 u |r| + e (|r| + rms),   e = 2^-24 (16 + 4 sqrt(terms) + 2 angle)
 *
 * 2 u |r|: both sides round once. terms: how many products or numbers the op adds up for one element;
 * f32 sums of n terms with random signs are wrong by 2^-24 n / 7 where the sum itself is sqrt(n) / 3
 * (one after the other, numbers in -1..1), at five standard deviations by 2.1 2^-24 sqrt(n) of its rms;
 * the kernels sum in blocks and are wrong by less. Whole-tensor sums are made of pieces of at most 8192
 * that are added in double. angle: the largest position, for rotations by position x frequency. rms: of
 * the tensor's elements that are not 0. Where an op may round a factor of its product to bf16 on the way
 * (`inner`: probabilities of attention, the rank-r gradient), 4 2^-8 rms is added: 0.58 2^-8 rms is one
 * standard deviation of that. Probabilities of the loss have no absolute part at all.
 *
 * bf16 rounds a wrong scale of 1e-3 away from most single elements, not from all together: the mean of
 * (got - r) / r over the m elements with |r| >= rms / 2 may be
 *
 *     6 * 0.82 u / sqrt(m) + 3 e    (inner: 6 * hypot(0.82 u, 1.25 2^-8) / sqrt(m) + 3 e + 2^-8 / 8)
 *
 * 0.82 u is the standard deviation of the difference of two roundings, 1.25 2^-8 that of inner ones where
 * |r| = rms / 2, 2^-8 / 8 what fewer roundings than elements (a rank's, a row's) may leave of these. 1e-3
 * is seen from some 400 bf16 elements on, from 5000 with inner ones.
 *
 * Codes of 4 or 8 bits: one step of their table, in at most 2 + n / 5000 of n. Whole numbers: equal.
 * Everything that the op does not write: every byte as it was. */
#ifndef PB_HARNESS_KERNEL_JUDGE_H
#define PB_HARNESS_KERNEL_JUDGE_H

#include "harness/kernel_contents.h"

#define PB_KERNEL_OUTPUTS 8

typedef enum pb_code_kind { PB_NO_CODES, PB_CODES4, PB_CODES8 } pb_code_kind;

/* One tensor that an op writes. */
typedef struct pb_kernel_output {
    const char *name; /* of the argument: "dx" */
    pb_tensor t;
    double terms;
    pb_tensor positions; /* (optional) i32: the angle is the largest of them */
    bool inner, relative; /* relative: no absolute part */
    pb_code_kind codes;
    pb_code table; /* of PB_CODES4 */
} pb_kernel_output;

/* What `op` writes when it is called with `args`; returns how many. */
int pb_kernel_outputs(pb_op op, const void *args, pb_kernel_output out[PB_KERNEL_OUTPUTS]);

typedef struct pb_kernel_verdict {
    double worst; /* largest error as a fraction of what is allowed; infinity for what never is */
    bool wrong;
    char why[160]; /* of wrong: tensor, element, both values */
} pb_kernel_verdict;

/* Compares what a call left in the layer's tensors (`got`, args of that call) with what the reference
 * left there from the same `start`. PB_E_BUG when the reference changed what is no output. */
pb_status pb_kernel_judge(pb_op op, const void *args, const pb_layer *layer,
                          const pb_contents *start, const pb_contents *want,
                          const pb_contents *got, pb_kernel_verdict *out);

#endif
