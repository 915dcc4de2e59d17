/* What every op writes and how long its sums are: harness/kernel_judge.h. */
#include "harness/kernel_judge.h"

#define PIECE 8192.0 /* whole-tensor sums: then in double */

typedef struct outputs {
    pb_kernel_output *list;
    int n;
    pb_kernel_output absent; /* what is said of an output that is not wanted */
} outputs;

static pb_kernel_output *add(outputs *o, const char *name, pb_tensor t, double terms) {
    if (!pb_has(t)) return &o->absent;
    PB_ASSERT(o->n < PB_KERNEL_OUTPUTS);
    o->list[o->n] = (pb_kernel_output){.name = name, .t = t, .terms = terms};
    return &o->list[o->n++];
}

#define ADD(args, field, terms) add(o, #field, (args)->field, terms)

static double piece(double n) { return n < PIECE ? n : PIECE; }
static double rows(pb_tensor t) { return (double)pb_rows(t); }
static double cols(pb_tensor t) { return (double)pb_cols(t); }

static void quantised(outputs *o, const pb_quant4 *q) {
    double blocks = (double)(q->out * q->in) / q->block;
    pb_kernel_output *codes = add(o, "codes", q->codes, 1);
    codes->codes = PB_CODES4;
    codes->table = q->code;
    add(o, "absmax", q->absmax, 1);
    add(o, "absmax_q", q->absmax_q, 1)->codes = PB_CODES8;
    add(o, "absmax2", q->absmax2, piece(blocks));
    add(o, "offset", q->offset, piece(blocks));
}

static void products(outputs *o, pb_op op, const void *args) {
    if (op == PB_OP_gemm) {
        const pb_gemm_args *a = args;
        ADD(a, c, a->trans_a ? rows(a->a) : cols(a->a));
    } else if (op == PB_OP_linear) {
        const pb_linear_args *a = args;
        ADD(a, y, cols(a->x));
    } else if (op == PB_OP_linear_gelu) {
        const pb_linear_gelu_args *a = args;
        ADD(a, pre, cols(a->x));
        ADD(a, y, cols(a->x))->inner = true;
    } else if (op == PB_OP_gelu_linear_bwd) {
        const pb_gelu_linear_bwd_args *a = args;
        ADD(a, dx, cols(a->dy))->inner = true;
    } else if (op == PB_OP_quantize4) {
        quantised(o, &((const pb_quantize4_args *)args)->q);
    } else if (op == PB_OP_dequantize4) {
        ADD((const pb_dequantize4_args *)args, dst, 1);
    } else if (op == PB_OP_lowrank) {
        const pb_lowrank_args *a = args;
        ADD(a, h, cols(a->x));
        ADD(a, y, cols(a->x) + cols(a->h))->inner = true;
    } else {
        const pb_lowrank_bwd_args *a = args;
        double n = rows(a->x), out = cols(a->dy);
        ADD(a, dx, out + cols(a->h))->inner = true;
        ADD(a, da, out + n)->inner = true;
        ADD(a, de, out + n)->inner = true;
        ADD(a, db, n);
    }
}

static void pointwise(outputs *o, pb_op op, const void *args) {
    if (op == PB_OP_act_fwd) {
        ADD((const pb_act_fwd_args *)args, y, 1);
    } else if (op == PB_OP_act_bwd) {
        ADD((const pb_act_bwd_args *)args, dx, 1);
    } else if (op == PB_OP_swiglu_fwd) {
        ADD((const pb_swiglu_fwd_args *)args, y, 1);
    } else if (op == PB_OP_swiglu_bwd) {
        ADD((const pb_swiglu_bwd_args *)args, dgate, 1);
        ADD((const pb_swiglu_bwd_args *)args, dup, 1);
    } else if (op == PB_OP_dropout) {
        ADD((const pb_dropout_args *)args, y, 1);
    } else if (op == PB_OP_axpby) {
        ADD((const pb_axpby_args *)args, y, 2);
    } else if (op == PB_OP_scale_cols) {
        ADD((const pb_scale_cols_args *)args, y, 2);
    } else if (op == PB_OP_coldot) {
        const pb_coldot_args *a = args;
        ADD(a, y, rows(a->a));
    } else if (op == PB_OP_reduce) {
        const pb_reduce_args *a = args;
        ADD(a, y, piece((double)pb_numel(a->x)));
    } else if (op == PB_OP_fill_uniform) {
        ADD((const pb_fill_uniform_args *)args, x, 1);
    } else if (op == PB_OP_norm_fwd) {
        const pb_norm_fwd_args *a = args;
        ADD(a, y, cols(a->x));
        ADD(a, sum, 2);
        ADD(a, mean, cols(a->x));
        ADD(a, rstd, cols(a->x));
    } else {
        const pb_norm_bwd_args *a = args;
        ADD(a, dx, cols(a->dy));
        ADD(a, dgamma, rows(a->dy));
        ADD(a, dbeta, rows(a->dy));
    }
}

static void sequences(outputs *o, pb_op op, const void *args) {
    if (op == PB_OP_embed_fwd) {
        ADD((const pb_embed_fwd_args *)args, y, 3);
    } else if (op == PB_OP_embed_bwd) {
        const pb_embed_bwd_args *a = args;
        ADD(a, dword, rows(a->dy)); /* a token may come that often */
        ADD(a, dpos, rows(a->dy));
        ADD(a, dtype, rows(a->dy));
    } else if (op == PB_OP_rope) {
        const pb_rope_args *a = args;
        ADD(a, x, 2)->positions = a->positions;
    } else if (op == PB_OP_attention_fwd) {
        const pb_attention_fwd_args *a = args;
        ADD(a, o, (double)(a->head_dim + a->max_len))->inner = true;
        ADD(a, lse, (double)(a->head_dim + a->max_len));
    } else if (op == PB_OP_attention_bwd) {
        const pb_attention_bwd_args *a = args;
        /* Rows that see few tokens cancel what is some times the rms of all: dP - sum P dP. */
        double uneven = a->causal ? 16 : 1, length = (double)a->max_len, dim = (double)a->head_dim;
        double group = (double)(a->heads / a->kv_heads);
        ADD(a, dq, uneven * (dim + length))->inner = true;
        ADD(a, dk, uneven * (dim + length * group))->inner = true;
        ADD(a, dv, uneven * (dim + length * group))->inner = true;
    } else if (op == PB_OP_pool_fwd) {
        const pb_pool_fwd_args *a = args;
        ADD(a, y, rows(a->x) / (rows(a->y) > 1 ? rows(a->y) : 1));
    } else if (op == PB_OP_pool_bwd) {
        ADD((const pb_pool_bwd_args *)args, dx, 1);
    } else if (op == PB_OP_gather_rows) {
        ADD((const pb_gather_rows_args *)args, y, 1);
    } else if (op == PB_OP_scatter_rows) {
        ADD((const pb_scatter_rows_args *)args, y, 1);
    } else {
        const pb_cross_entropy_args *a = args;
        ADD(a, loss, cols(a->logits));
        ADD(a, pred, 1);
        ADD(a, dlogits, cols(a->logits))->relative = true;
    }
}

static void methods(outputs *o, pb_op op, const void *args) {
    if (op == PB_OP_weight_norm2) {
        const pb_weight_norm2_args *a = args;
        ADD(a, y, (double)pb_weight_in(a->w));
    } else if (op == PB_OP_dora_norm) {
        const pb_dora_norm_args *a = args;
        double terms = (double)pb_weight_in(a->w) + rows(a->a);
        ADD(a, n, terms);
        ADD(a, c, terms);
    } else if (op == PB_OP_dora_exact) {
        const pb_dora_exact_args *a = args;
        ADD(a, g, cols(a->g));
    } else if (op == PB_OP_importance) {
        const pb_importance_args *a = args;
        ADD(a, ibar, 2);
        ADD(a, ubar, 2);
        ADD(a, score, a->by_col ? rows(a->w) : cols(a->w));
    } else {
        const pb_orthogonality_args *a = args;
        ADD(a, gram, (double)pb_numel(a->gram));
        ADD(a, loss, (double)pb_numel(a->gram));
    }
}

/* Of the first tensor of a list: the cases have one. */
static void optimizers(outputs *o, pb_op op, const void *args) {
    if (op == PB_OP_adamw) {
        const pb_adamw_args *a = args;
        PB_ASSERT(a->n == 1);
        ADD(a->items, w, 2);
        ADD(a->items, m, 2);
        ADD(a->items, v, 2);
        ADD(a->items, copy, 2);
    } else if (op == PB_OP_adamw8) {
        const pb_adamw8_args *a = args;
        PB_ASSERT(a->n == 1);
        ADD(a->items, w, 2);
        ADD(a->items, copy, 2);
        ADD(a->items, m, 2)->codes = PB_CODES8;
        ADD(a->items, v, 2)->codes = PB_CODES8;
        ADD(a->items, m_absmax, 2);
        ADD(a->items, v_absmax, 2);
    } else {
        const pb_grad_norm_args *a = args;
        double n = 0;
        for (int i = 0; i < a->n; i++) n += (double)pb_numel(a->grads[i]);
        ADD(a, norm, piece(n));
        ADD(a, coef, piece(n));
    }
}

int pb_kernel_outputs(pb_op op, const void *args, pb_kernel_output out[PB_KERNEL_OUTPUTS]) {
    static void (*const of[PB_OP_COUNT])(outputs *, pb_op, const void *) = {
        [PB_OP_gemm] = products,
        [PB_OP_linear] = products,
        [PB_OP_linear_gelu] = products,
        [PB_OP_gelu_linear_bwd] = products,
        [PB_OP_quantize4] = products,
        [PB_OP_dequantize4] = products,
        [PB_OP_lowrank] = products,
        [PB_OP_lowrank_bwd] = products,
        [PB_OP_act_fwd] = pointwise,
        [PB_OP_act_bwd] = pointwise,
        [PB_OP_swiglu_fwd] = pointwise,
        [PB_OP_swiglu_bwd] = pointwise,
        [PB_OP_dropout] = pointwise,
        [PB_OP_norm_fwd] = pointwise,
        [PB_OP_norm_bwd] = pointwise,
        [PB_OP_axpby] = pointwise,
        [PB_OP_scale_cols] = pointwise,
        [PB_OP_coldot] = pointwise,
        [PB_OP_reduce] = pointwise,
        [PB_OP_fill_uniform] = pointwise,
        [PB_OP_embed_fwd] = sequences,
        [PB_OP_embed_bwd] = sequences,
        [PB_OP_rope] = sequences,
        [PB_OP_attention_fwd] = sequences,
        [PB_OP_attention_bwd] = sequences,
        [PB_OP_pool_fwd] = sequences,
        [PB_OP_pool_bwd] = sequences,
        [PB_OP_gather_rows] = sequences,
        [PB_OP_scatter_rows] = sequences,
        [PB_OP_cross_entropy] = sequences,
        [PB_OP_weight_norm2] = methods,
        [PB_OP_dora_norm] = methods,
        [PB_OP_dora_exact] = methods,
        [PB_OP_importance] = methods,
        [PB_OP_orthogonality] = methods,
        [PB_OP_adamw] = optimizers,
        [PB_OP_adamw8] = optimizers,
        [PB_OP_grad_norm] = optimizers,
    };
    outputs o = {.list = out};
    PB_ASSERT((unsigned)op < PB_OP_COUNT && of[op] != NULL);
    of[op](&o, op, args);
    return o.n;
}
