/* Softmax attention over packed sequences, forward and backward, with dropout on the probabilities.
 *
 * Backward, per query row and head, with P = exp(s - lse), Pd = keep .* P:
 *   dV += Pd^T dO;  dP = keep .* (dO V^T);  dS = P .* (dP - sum_k P dP);  dQ = scale dS K;  dK +=
 * scale dS^T Q. */
#include <math.h>
#include <string.h>

#include "kernels/ref/ref.h"

typedef struct place {
    int64_t first, len;   /* the sequence's rows */
    int64_t i, row;       /* query within the sequence, and as a row */
    int64_t head, qc, kc; /* head; first column of the head in q and in k, v */
    int64_t keys;         /* keys this query sees: the first `keys` of the sequence */
} place;

static place place_of(int64_t first, int64_t len, int64_t i, int64_t head, int64_t group,
                      int64_t head_dim, bool causal) {
    place p = {.first = first, .len = len, .i = i, .row = first + i, .head = head};
    p.qc = head * head_dim;
    p.kc = head / group * head_dim;
    p.keys = causal ? i + 1 : len;
    return p;
}

static double dot(pb_tensor a, int64_t ar, int64_t ac, pb_tensor b, int64_t br, int64_t bc,
                  int64_t n) {
    double sum = 0.0;
    for (int64_t d = 0; d < n; d++) sum += ref_get(a, ar, ac + d) * ref_get(b, br, bc + d);
    return sum;
}

static pb_status check_cu(pb_tensor cu, int64_t sequences, int64_t max_len, int64_t rows) {
    for (int64_t s = 0; s < sequences; s++) {
        int64_t from = ref_int(cu, s), to = ref_int(cu, s + 1);
        if (from >= 0 && from <= to && to - from <= max_len && to <= rows) continue;
        return PB_ERROR(
            PB_E_BUG, "attention: sequence %lld is rows %lld to %lld of %lld, max_len %lld",
            (long long)s, (long long)from, (long long)to, (long long)rows, (long long)max_len);
    }
    return PB_OK;
}

static void zero_rows(pb_tensor t, int64_t from, int64_t to) {
    for (int64_t n = from; n < to; n++) {
        for (int64_t c = 0; c < pb_cols(t); c++) ref_set(t, n, c, 0.0);
    }
}

static int64_t keep_index(place p, int64_t heads, int64_t max_len, int64_t key) {
    return (p.row * heads + p.head) * max_len + key;
}

/* --- forward ---------------------------------------------------------------------------------- */

static size_t fwd_workspace(const pb_device *dev, const void *args) {
    (void)dev;
    return (size_t)((const pb_attention_fwd_args *)args)->max_len * sizeof(double);
}

static void fwd_row(const pb_attention_fwd_args *a, place p, double *s) {
    double most = -INFINITY, sum = 0.0;
    for (int64_t j = 0; j < p.keys; j++) {
        s[j] = a->scale * dot(a->q, p.row, p.qc, a->k, p.first + j, p.kc, a->head_dim);
        most = fmax(most, s[j]);
    }
    for (int64_t j = 0; j < p.keys; j++) sum += exp(s[j] - most);
    double lse = most + log(sum);
    ref_put(a->lse, p.row * a->heads + p.head, lse);
    for (int64_t j = 0; j < p.keys; j++)
        s[j] = exp(s[j] - lse) * ref_keep(a->drop, keep_index(p, a->heads, a->max_len, j));
    for (int64_t d = 0; d < a->head_dim; d++) {
        double o = 0.0;
        for (int64_t j = 0; j < p.keys; j++) o += s[j] * ref_get(a->v, p.first + j, p.kc + d);
        ref_set(a->o, p.row, p.qc + d, o);
    }
}

static pb_status attention_fwd(pb_device *dev, const void *args, void *ws) {
    (void)dev;
    const pb_attention_fwd_args *a = args;
    PB_RETURN(check_cu(a->cu, a->sequences, a->max_len, pb_rows(a->q)));
    for (int64_t s = 0; s < a->sequences; s++) {
        int64_t first = ref_int(a->cu, s), len = ref_int(a->cu, s + 1) - first;
        for (int64_t i = 0; i < len; i++) {
            for (int64_t h = 0; h < a->heads; h++) {
                fwd_row(a,
                        place_of(first, len, i, h, a->heads / a->kv_heads, a->head_dim, a->causal),
                        ws);
            }
        }
    }
    int64_t end = ref_int(a->cu, a->sequences);
    zero_rows(a->o, end, pb_rows(a->o));
    for (int64_t i = end * a->heads; i < pb_numel(a->lse); i++) ref_put(a->lse, i, 0.0);
    return PB_OK;
}

/* --- backward --------------------------------------------------------------------------------- */

/* ws: p, dp [max_len]; dk, dv [max_len, head_dim] of one key head of one sequence. */
static size_t bwd_workspace(const pb_device *dev, const void *args) {
    (void)dev;
    const pb_attention_bwd_args *a = args;
    return (size_t)(2 * a->max_len + 2 * a->max_len * a->head_dim) * sizeof(double);
}

static void bwd_row(const pb_attention_bwd_args *a, place p, double *prob, double *dprob,
                    double *dk, double *dv) {
    int64_t hd = a->head_dim;
    double lse = ref_at(a->lse, p.row * a->heads + p.head), mean = 0.0;
    for (int64_t j = 0; j < p.keys; j++) {
        double keep = ref_keep(a->drop, keep_index(p, a->heads, a->max_len, j));
        prob[j] = exp(a->scale * dot(a->q, p.row, p.qc, a->k, p.first + j, p.kc, hd) - lse);
        dprob[j] = keep * dot(a->d_o, p.row, p.qc, a->v, p.first + j, p.kc, hd);
        mean += prob[j] * dprob[j];
        for (int64_t d = 0; d < hd; d++)
            dv[j * hd + d] += keep * prob[j] * ref_get(a->d_o, p.row, p.qc + d);
    }
    for (int64_t d = 0; d < hd; d++) {
        double dq = 0.0, q = ref_get(a->q, p.row, p.qc + d);
        for (int64_t j = 0; j < p.keys; j++) {
            double ds = a->scale * prob[j] * (dprob[j] - mean);
            dq += ds * ref_get(a->k, p.first + j, p.kc + d);
            dk[j * hd + d] += ds * q;
        }
        ref_set(a->dq, p.row, p.qc + d, dq);
    }
}

static void bwd_key_head(const pb_attention_bwd_args *a, int64_t first, int64_t len,
                         int64_t kv_head, double *ws) {
    int64_t hd = a->head_dim, group = a->heads / a->kv_heads;
    double *prob = ws, *dprob = ws + a->max_len, *dk = ws + 2 * a->max_len,
           *dv = dk + a->max_len * hd;
    memset(dk, 0, (size_t)(2 * a->max_len * hd) * sizeof *dk);
    for (int64_t h = kv_head * group; h < (kv_head + 1) * group; h++) {
        for (int64_t i = 0; i < len; i++) {
            bwd_row(a, place_of(first, len, i, h, group, hd, a->causal), prob, dprob, dk, dv);
        }
    }
    for (int64_t j = 0; j < len; j++) {
        for (int64_t d = 0; d < hd; d++) {
            ref_set(a->dk, first + j, kv_head * hd + d, dk[j * hd + d]);
            ref_set(a->dv, first + j, kv_head * hd + d, dv[j * hd + d]);
        }
    }
}

static pb_status attention_bwd(pb_device *dev, const void *args, void *ws) {
    (void)dev;
    const pb_attention_bwd_args *a = args;
    PB_RETURN(check_cu(a->cu, a->sequences, a->max_len, pb_rows(a->q)));
    for (int64_t s = 0; s < a->sequences; s++) {
        int64_t first = ref_int(a->cu, s), len = ref_int(a->cu, s + 1) - first;
        for (int64_t g = 0; len > 0 && g < a->kv_heads; g++) bwd_key_head(a, first, len, g, ws);
    }
    int64_t end = ref_int(a->cu, a->sequences);
    zero_rows(a->dq, end, pb_rows(a->dq));
    zero_rows(a->dk, end, pb_rows(a->dk));
    zero_rows(a->dv, end, pb_rows(a->dv));
    return PB_OK;
}

static const pb_kernel kernels[] = {
    {PB_OP_attention_fwd, "plain", fwd_workspace, attention_fwd},
    {PB_OP_attention_bwd, "plain", bwd_workspace, attention_bwd},
};
const pb_kernel_set pb_kernels_ref_attention = REF_SET(kernels);
