/* Stored weights, read, changed and put back (merge.h). Test: tests/test_methods_unit.c. */
#include "methods/merge.h"

static pb_status keep_one(pb_device *dev, pb_tensor src, pb_tensor *copy) {
    if (!pb_has(src)) return PB_OK;
    PB_RETURN(pb_device_alloc(dev, PB_MEM_WORK, src.dtype, src.ndim, src.dim, copy));
    return pb_device_copy(dev, *copy, src);
}

pb_status pb_weight_keep(pb_device *dev, pb_weight w, pb_kept_weight *kept) {
    *kept = (pb_kept_weight){0};
    if (!w.quant) return keep_one(dev, w.dense, &kept->dense);
    PB_RETURN(keep_one(dev, w.quant->codes, &kept->codes));
    PB_RETURN(keep_one(dev, w.quant->absmax, &kept->absmax));
    PB_RETURN(keep_one(dev, w.quant->absmax_q, &kept->absmax_q));
    PB_RETURN(keep_one(dev, w.quant->absmax2, &kept->absmax2));
    return keep_one(dev, w.quant->offset, &kept->offset);
}

static pb_status restore_one(pb_device *dev, pb_tensor dst, pb_tensor copy) {
    return pb_has(copy) ? pb_device_copy(dev, dst, copy) : PB_OK;
}

pb_status pb_weight_restore(pb_device *dev, pb_weight w, const pb_kept_weight *kept) {
    if (!w.quant) return restore_one(dev, w.dense, kept->dense);
    PB_RETURN(restore_one(dev, w.quant->codes, kept->codes));
    PB_RETURN(restore_one(dev, w.quant->absmax, kept->absmax));
    PB_RETURN(restore_one(dev, w.quant->absmax_q, kept->absmax_q));
    PB_RETURN(restore_one(dev, w.quant->absmax2, kept->absmax2));
    return restore_one(dev, w.quant->offset, kept->offset);
}

pb_status pb_weight_read(pb_device *dev, pb_weight w, pb_tensor dst) {
    if (w.quant) return pb_dequantize4(dev, &(pb_dequantize4_args){.q = *w.quant, .dst = dst});
    return pb_axpby(dev, &(pb_axpby_args){.x = w.dense, .y = dst, .alpha = 1});
}

pb_status pb_weight_write(pb_device *dev, pb_weight w, pb_tensor src) {
    if (w.quant) return pb_quantize4(dev, &(pb_quantize4_args){.src = src, .q = *w.quant});
    return pb_axpby(dev, &(pb_axpby_args){.x = src, .y = w.dense, .alpha = 1});
}

pb_status pb_weight_add_product(pb_device *dev, pb_weight w, pb_dtype master, double scale,
                                pb_tensor b, pb_tensor a) {
    pb_gemm_args gemm = {.a = b, .b = a, .c = w.dense, .alpha = scale, .beta = 1};
    if (!w.quant) return pb_gemm(dev, &gemm); /* accumulates wide and rounds once, bf16 too */

    pb_status status = PB_OK;
    pb_mark mark = pb_device_mark(dev, PB_MEM_WORK);
    PB_TRY(pb_alloc2_raw(dev, PB_MEM_WORK, master, w.quant->out, w.quant->in, &gemm.c));
    PB_TRY(pb_weight_read(dev, w, gemm.c));
    PB_TRY(pb_gemm(dev, &gemm));
    PB_TRY(pb_weight_write(dev, w, gemm.c));
done:
    pb_device_rewind(dev, PB_MEM_WORK, mark);
    return status;
}
