/* The op contract: everything a model, a method or an optimizer may ask a device to compute.
 *
 * Each op has one args struct and one typed wrapper `pb_<op>(dev, &args)`. The wrapper checks shapes and dtypes (a fault is
 * PB_E_BUG with names and numbers), takes the kernel's workspace from PB_MEM_WORK for the time of the call, counts the
 * op's work and enqueues the device's kernel. No op allocates anything else. A backend without a kernel for an op is
 * PB_E_UNSUPPORTED: never a silent detour.
 *
 * Conventions. N rows = tokens of a batch, packed without padding (rounded up to PB_ROW_ROUND rows; rows that belong to no
 * sequence hold finite values forward and exact zeros backward). "real" = f32, bf16 or (ref only) f64. Activations and
 * compute weights share one real dtype T; statistics, losses, gradients of parameters and optimizer state have the master
 * type M = f32 (f64 when T is f64). Every product and reduction accumulates in f32 or wider. Gradients of parameters are
 * always added to (+=): the trainer zeroes them once a step. Gradients of activations take an explicit `beta`:
 * dx = beta*dx + new; an output whose beta is 0 is never read, so its old content may be anything, NaN too. Element
 * [row, col] of a tensor under dropout has the index row*cols + col. Rows of any matrix may be strided (stride >= cols);
 * vectors are contiguous. Aliasing is allowed only where said; column slices of one matrix do not alias. Results must
 * not depend on the number of threads. */
#ifndef PB_KERNELS_OPS_H
#define PB_KERNELS_OPS_H

#include "base/status.h"
#include "kernels/core/device.h"
#include "kernels/core/rng.h"
#include "kernels/core/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

#define PB_ROW_ROUND 16 /* token rows of a batch are rounded up to a multiple of this */

/* --- matrix products ------------------------------------------------------------------------------------------------ */

/* c[M,N] = alpha * op(a)[M,K] op(b)[K,N] + beta * c + bias[N]. op = transpose where the flag says. a, b: one real dtype;
 * c: that dtype or M. bias (optional): T or M. Rows may be strided (stride > cols). c aliases nothing. */
typedef struct pb_gemm_args {
    pb_tensor a, b, c, bias;
    bool trans_a, trans_b;
    double alpha, beta; /* set alpha explicitly: 0 means 0 */
} pb_gemm_args;

/* 4-bit block-wise storage of a matrix [out,in], flattened row-major; two codes a byte, element 2k in the high nibble
 * (Dettmers et al. 2023; the layout of bitsandbytes). */
typedef enum pb_code { PB_CODE_NF4, PB_CODE_FP4, PB_CODE_INT4, PB_CODE_COUNT } pb_code;
const char *pb_code_name(pb_code code); /* "nf4", "fp4", "int4" */
/* The 16 values by code; INT4 is symmetric: (code-8)/7 clamped at -1, codes 1..15 used. */
const float *pb_code_table(pb_code code);
/* QLoRA's 256-entry dynamic maps, ascending: signed (first moments, absmax) and unsigned (second moments). */
const float *pb_dynamic_map_signed(void);
const float *pb_dynamic_map_unsigned(void);

typedef struct pb_quant4 {
    pb_code code;
    int block;           /* elements per absmax, 64 */
    bool double_quant;   /* absmax itself in 8 bits, blocks of 256 */
    pb_dtype compute;    /* T that dequantised values are cast to */
    int64_t out, in;
    pb_tensor codes;     /* u8 [(out*in+1)/2] */
    pb_tensor absmax;    /* M [blocks]; none with double_quant */
    pb_tensor absmax_q;  /* u8 [blocks]; with double_quant */
    pb_tensor absmax2;   /* M [(blocks+255)/256] */
    pb_tensor offset;    /* M [1] mean of absmax */
} pb_quant4;

/* A linear layer's weight [out,in] in whatever form it is stored: exactly one of `dense` and `quant`. */
typedef struct pb_weight {
    pb_tensor dense;        /* T [out,in] */
    const pb_quant4 *quant; /* or NULL */
} pb_weight;
static inline int64_t pb_weight_out(pb_weight w) { return w.quant ? w.quant->out : w.dense.dim[0]; }
static inline int64_t pb_weight_in(pb_weight w) { return w.quant ? w.quant->in : w.dense.dim[1]; }

/* transpose false: y[N,out] = x[N,in] W^T + bias + beta*y.  transpose true (input gradient): y[N,in] = x[N,out] W + beta*y.
 * x, y: T. bias (optional): T [out], only with transpose false. */
typedef struct pb_linear_args {
    pb_tensor x, y, bias;
    pb_weight w;
    bool transpose;
    double beta;
} pb_linear_args;

/* A dense linear layer with GELU's tanh form (Hendrycks & Gimpel 2016) behind it and, for the gradient, in front of it: a
 * device whose product library can applies it to the sums before they are stored, which may be those before their rounding
 * to T; the others do what linear and act do.
 * y[N,out] = gelu(s), s = x[N,in] w[out,in]^T + bias; pre[N,out] (optional) = s, for the backward. All T. */
typedef struct pb_linear_gelu_args {
    pb_tensor x, w, bias, y, pre;
} pb_linear_gelu_args;
/* dx[N,in] = gelu'(pre[N,in]) .* (dy[N,out] w[out,in]): the input gradient of a layer that reads gelu(pre). All T. */
typedef struct pb_gelu_linear_bwd_args {
    pb_tensor dy, w, pre, dx;
} pb_gelu_linear_bwd_args;

/* q := quantised src [out,in] (T or M). The tensors of q are given, sized by pb_quant4_alloc. */
typedef struct pb_quantize4_args {
    pb_tensor src;
    pb_quant4 q;
} pb_quantize4_args;
/* dst [out,in] T or M := dequantised. */
typedef struct pb_dequantize4_args {
    pb_quant4 q;
    pb_tensor dst;
} pb_dequantize4_args;
/* Allocates codes (PB_MEM_BASE) and constants (PB_MEM_QUANT) for a matrix. */
pb_status pb_quant4_alloc(pb_device *dev, pb_code code, int block, bool double_quant, pb_dtype compute, int64_t out,
                          int64_t in, pb_quant4 *q);

/* The low-rank branch, fused as far as a backend likes: u = D(x); h = u A^T; y += scale * (h .* e) B^T.
 * x[N,in], y[N,out], h[N,r] (written, kept for backward): T. a[r,in], b[out,r]: T, rows may be strided (rank slices).
 * e[r] (optional): T. */
typedef struct pb_lowrank_args {
    pb_tensor x, a, e, b, y, h;
    double scale;
    pb_drop drop;
} pb_lowrank_args;
/* With g = scale * dy: db[out,r] += g^T (h .* e); dq = (g B); de[r] += sum_N dq .* h; dh = dq .* e; da[r,in] += dh^T u;
 * dx = beta_dx*dx + D'(dh A). da, de, db, dx each optional (no tensor = not wanted); da, de, db: M, may be strided. */
typedef struct pb_lowrank_bwd_args {
    pb_tensor x, h, a, e, b, dy;
    pb_tensor dx, da, de, db;
    double scale, beta_dx;
    pb_drop drop;
} pb_lowrank_bwd_args;

/* --- pointwise and normalisation ------------------------------------------------------------------------------------ */

typedef enum pb_act { PB_ACT_GELU, PB_ACT_GELU_TANH, PB_ACT_RELU, PB_ACT_SILU, PB_ACT_COUNT } pb_act;
const char *pb_act_name(pb_act act); /* "gelu", "gelu_tanh", "relu", "silu" */

/* y = act(x), y may alias x. */
typedef struct pb_act_fwd_args {
    pb_act act;
    pb_tensor x, y;
} pb_act_fwd_args;
/* dx = act'(x) .* dy; dx may alias dy. */
typedef struct pb_act_bwd_args {
    pb_act act;
    pb_tensor x, dy, dx;
} pb_act_bwd_args;

/* y = silu(gate) .* up (Shazeer 2020). */
typedef struct pb_swiglu_fwd_args {
    pb_tensor gate, up, y;
} pb_swiglu_fwd_args;
/* dgate, dup from dy; dgate may alias dy. */
typedef struct pb_swiglu_bwd_args {
    pb_tensor gate, up, dy, dgate, dup;
} pb_swiglu_bwd_args;

/* y = D(x) + beta*y elementwise; y may alias x (with beta 0). Same call forward (x) and backward (dy). */
typedef struct pb_dropout_args {
    pb_tensor x, y;
    double beta;
    pb_drop drop;
} pb_dropout_args;

typedef enum pb_norm { PB_NORM_LAYER, PB_NORM_RMS } pb_norm;
/* sum = D(x) + res (res optional: sum = D(x)); y = norm(sum) * gamma (+ beta for LAYER).
 * x, res, sum, y: T [N,C]; gamma, beta: T [C]; mean (LAYER), rstd: M [N]. sum optional (not kept); may alias x or res.
 * LAYER: Ba et al. 2016; RMS: Zhang & Sennrich 2019, rstd = 1/sqrt(mean(x^2)+eps). Two-pass variance. */
typedef struct pb_norm_fwd_args {
    pb_norm norm;
    pb_tensor x, res, gamma, beta, y, sum, mean, rstd;
    double eps;
    pb_drop drop;
} pb_norm_fwd_args;
/* dx = beta_dx*dx + gradient w.r.t. sum. dgamma, dbeta (optional): M, +=. dx may alias dy when beta_dx is 0. */
typedef struct pb_norm_bwd_args {
    pb_norm norm;
    pb_tensor dy, sum, gamma, mean, rstd, dx, dgamma, dbeta;
    double beta_dx;
} pb_norm_bwd_args;

/* y = alpha*x + beta*y, dtypes may differ (a cast when beta is 0); x, y of equal shape, y may alias x. */
typedef struct pb_axpby_args {
    pb_tensor x, y;
    double alpha, beta;
} pb_axpby_args;

/* y[n,j] = x[n,j]*c[j] + bias[j] + beta*y[n,j]; c T or M [C]; bias optional T or M [C]; y may alias x with beta 0. */
typedef struct pb_scale_cols_args {
    pb_tensor x, c, bias, y;
    double beta;
} pb_scale_cols_args;

/* y[j] += (sum_n a[n,j]*b[n,j]) / div[j]; b optional (ones: bias gradients), div optional (1), M [C]; y: M [C]. */
typedef struct pb_coldot_args {
    pb_tensor a, b, div, y;
} pb_coldot_args;

/* y[0] = beta*y[0] + alpha * sum(x) or sum(x^2), fixed order; x real, y: M [1]. */
typedef struct pb_reduce_args {
    pb_tensor x, y;
    bool square;
    double alpha, beta;
} pb_reduce_args;

/* --- embedding, attention, pooling, loss ---------------------------------------------------------------------------- */

/* y[n] = word[ids[n]] + pos[positions[n]] + type[types[n]]. word[V,C], pos[P,C], type[Y,C], y[N,C]: T; ids, positions,
 * types: i32 [N]. pos and type optional; types absent = 0. Ids were checked when the batch was made. */
typedef struct pb_embed_fwd_args {
    pb_tensor word, pos, type, ids, positions, types, y;
} pb_embed_fwd_args;
/* dword, dpos, dtype (each optional): M, += rows of dy in token order. */
typedef struct pb_embed_bwd_args {
    pb_tensor ids, positions, types, dy, dword, dpos, dtype;
} pb_embed_bwd_args;

/* Rotary position embedding in place, rotate-half form (Su et al. 2021; Hugging Face layout): x[N, heads*head_dim] T,
 * inv_freq M [head_dim/2], positions i32 [N]. inverse = backward. Rows may be strided. */
typedef struct pb_rope_args {
    pb_tensor x, inv_freq, positions;
    int64_t heads;
    bool inverse;
} pb_rope_args;

/* Variable-length attention without a T x T matrix in memory beyond one head of one sequence.
 * q[N, heads*head_dim], k, v[N, kv_heads*head_dim], o like q: T (rows may be strided); lse: M [N*heads], log-sum-exp at
 * row*heads + head. cu: i32 [sequences+1], first row of each sequence and the end of the last; rows of o behind it are
 * zeroed (lse there: undefined). No sequence is longer than max_len.
 * heads is a multiple of kv_heads (grouped queries). scale multiplies q.k. causal: key <= query within the sequence.
 * drop: dropout on the probabilities, index = ((query row * heads) + head) * max_len + key position in its sequence. */
typedef struct pb_attention_fwd_args {
    pb_tensor q, k, v, o, lse, cu;
    int64_t heads, kv_heads, head_dim, sequences, max_len;
    double scale;
    bool causal;
    pb_drop drop;
} pb_attention_fwd_args;
/* dq, dk, dv are overwritten (rows behind cu's end zeroed). */
typedef struct pb_attention_bwd_args {
    pb_tensor q, k, v, o, lse, cu, d_o, dq, dk, dv;
    int64_t heads, kv_heads, head_dim, sequences, max_len;
    double scale;
    bool causal;
    pb_drop drop;
} pb_attention_bwd_args;

typedef enum pb_pool { PB_POOL_MEAN, PB_POOL_CLS, PB_POOL_LAST } pb_pool;
/* y[s] = mean, first or last row of sequence s. x[N,C], y[sequences,C]: T. */
typedef struct pb_pool_fwd_args {
    pb_pool pool;
    pb_tensor x, cu, y;
} pb_pool_fwd_args;
/* dx overwritten, zero where nothing flows. */
typedef struct pb_pool_bwd_args {
    pb_pool pool;
    pb_tensor dy, cu, dx;
} pb_pool_bwd_args;

/* y[i] = x[idx[i]]; idx i32 [n] of distinct rows. */
typedef struct pb_gather_rows_args {
    pb_tensor x, idx, y;
} pb_gather_rows_args;
/* y := 0, then y[idx[i]] = x[i]. */
typedef struct pb_scatter_rows_args {
    pb_tensor x, idx, y;
} pb_scatter_rows_args;

/* Softmax cross-entropy of rows of logits[R,V] (T or M) against target i32 [R] (-1 = row ignored: loss 0, gradient 0).
 * loss M [R]; pred i32 [R] = argmax (lowest index on ties); dlogits (optional) = scale*(p - onehot), of the type of logits, or bf16
 * of f32 logits. It may be the logits, or in bf16 begin where each row of them does (pb_narrowed). */
typedef struct pb_cross_entropy_args {
    pb_tensor logits, target, loss, pred, dlogits;
    double scale;
} pb_cross_entropy_args;

/* --- what single methods need ---------------------------------------------------------------------------------------- */

/* y[j] = sum_i W[j,i]^2 of a stored weight; y: M [out]. */
typedef struct pb_weight_norm2_args {
    pb_weight w;
    pb_tensor y;
} pb_weight_norm2_args;

/* DoRA (Liu et al. 2024): n[j] = || W[j,:] + scale * (B A)[j,:] ||, c[j] = m[j]/n[j], without forming W + scale B A.
 * Expand: w2 + 2 scale W.(BA) + scale^2 ||BA||^2, with W A^T [out,r] and A A^T [r,r]. w2 from pb_weight_norm2.
 * a[r,in], b[out,r]: T; m, n, c, w2: M [out]. */
typedef struct pb_dora_norm_args {
    pb_weight w;
    pb_tensor w2, a, b, m, n, c;
    double scale;
} pb_dora_norm_args;

/* DoRA's exact gradient, rows: g[j,:] := (m[j]/n[j]) * (g[j,:] - (g[j,:].v[j,:]) v[j,:] / n[j]^2), in place. g, v: M
 * [out,in]; m, n: M [out]. */
typedef struct pb_dora_exact_args {
    pb_tensor g, v, m, n;
} pb_dora_exact_args;

/* AdaLoRA's importance (Zhang et al. 2023, sec. 3.2) of one matrix w with the gradient of this step, all M, same shape:
 * I = |w*g|; ibar = beta1*ibar + (1-beta1)*I; ubar = beta2*ubar + (1-beta2)*|I - ibar|; s = ibar*ubar, then
 * score[k] += mean of s over row k (by_col false) or column k (by_col true). grad_scale (optional), M [1], multiplies g. */
typedef struct pb_importance_args {
    pb_tensor w, g, grad_scale, ibar, ubar, score;
    double beta1, beta2;
    bool by_col;
} pb_importance_args;

/* AdaLoRA's orthogonality term from a Gram matrix: gram[r,r] (M) -= I; f = ||gram||_F; loss[0] += weight*f;
 * gram *= 2*weight/f (0 when f is 0), ready to multiply the factor. */
typedef struct pb_orthogonality_args {
    pb_tensor gram, loss;
    double weight;
} pb_orthogonality_args;

/* --- optimizer -------------------------------------------------------------------------------------------------------- */

/* One tensor of an AdamW call: master w, gradient g, moments m, v, all M; copy (optional): bf16 compute weights rewritten
 * from w. */
typedef struct pb_adamw_item {
    pb_tensor w, g, m, v, copy;
    double lr, weight_decay;
} pb_adamw_item;
/* Decoupled weight decay as in torch.optim.AdamW. step counts from 1. grad_scale: M [1], multiplies every
 * gradient (from pb_grad_norm). */
typedef struct pb_adamw_args {
    const pb_adamw_item *items; /* host array, read during the call only */
    int n;
    double beta1, beta2, eps;
    int64_t step;
    pb_tensor grad_scale; /* optional */
} pb_adamw_args;

/* 8-bit block-wise moments (Dettmers et al. 2022): m in the signed, v in the unsigned dynamic map, blocks of 256 with one
 * absmax each. */
typedef struct pb_adamw8_item {
    pb_tensor w, g, copy;           /* as above */
    pb_tensor m, v;                 /* u8, numel of w */
    pb_tensor m_absmax, v_absmax;   /* M [(numel+255)/256] */
    double lr, weight_decay;
} pb_adamw8_item;
typedef struct pb_adamw8_args {
    const pb_adamw8_item *items;
    int n;
    double beta1, beta2, eps;
    int64_t step;
    pb_tensor grad_scale;
} pb_adamw8_args;

/* norm[0] = sqrt(sum over all tensors of sum g^2), fixed order; coef[0] = min(1, max_norm/(norm + 1e-6)), 1 when max_norm
 * is 0 (as torch.nn.utils.clip_grad_norm_). norm, coef: M [1]. */
typedef struct pb_grad_norm_args {
    const pb_tensor *grads; /* host array, read during the call only */
    int n;
    pb_tensor norm, coef;
    double max_norm;
} pb_grad_norm_args;

/* x[i] = lo + (hi-lo) * u01(philox(key, stream, i)): random weights for benchmarks. */
typedef struct pb_fill_uniform_args {
    pb_tensor x;
    double lo, hi;
    uint64_t key, stream;
} pb_fill_uniform_args;

/* --- the table --------------------------------------------------------------------------------------------------------- */

#define PB_OPS(X)       \
    X(gemm)             \
    X(linear)           \
    X(linear_gelu)      \
    X(gelu_linear_bwd)  \
    X(quantize4)        \
    X(dequantize4)      \
    X(lowrank)          \
    X(lowrank_bwd)      \
    X(act_fwd)          \
    X(act_bwd)          \
    X(swiglu_fwd)       \
    X(swiglu_bwd)       \
    X(dropout)          \
    X(norm_fwd)         \
    X(norm_bwd)         \
    X(axpby)            \
    X(scale_cols)       \
    X(coldot)           \
    X(reduce)           \
    X(embed_fwd)        \
    X(embed_bwd)        \
    X(rope)             \
    X(attention_fwd)    \
    X(attention_bwd)    \
    X(pool_fwd)         \
    X(pool_bwd)         \
    X(gather_rows)      \
    X(scatter_rows)     \
    X(cross_entropy)    \
    X(weight_norm2)     \
    X(dora_norm)        \
    X(dora_exact)       \
    X(importance)       \
    X(orthogonality)    \
    X(adamw)            \
    X(adamw8)           \
    X(grad_norm)        \
    X(fill_uniform)

typedef enum pb_op {
#define X(name) PB_OP_##name,
    PB_OPS(X)
#undef X
    PB_OP_COUNT
} pb_op;

const char *pb_op_name(pb_op op);

/* Checks args, counts work, provides workspace, runs. Use the typed wrappers below. */
pb_status pb_op_run(pb_device *dev, pb_op op, const void *args);
/* Analytic work of one call: FLOPs of products, other FLOPs, least bytes. */
pb_work pb_op_work(pb_op op, const void *args);
/* The variant a device would run ("onednn", "avx512", ...), NULL when it has none. */
const char *pb_op_variant(const pb_device *dev, pb_op op);

#define X(name)                                                                          \
    static inline pb_status pb_##name(pb_device *dev, const pb_##name##_args *args) {    \
        return pb_op_run(dev, PB_OP_##name, args);                                       \
    }
PB_OPS(X)
#undef X

#ifdef __cplusplus
}
#endif
#endif
