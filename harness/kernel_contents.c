/* Tensors of a case on the host: harness/kernel_contents.h. */
#include "harness/kernel_contents.h"

#include <stdlib.h>
#include <string.h>

pb_status pb_contents_take(const pb_layer *layer, pb_contents *out) {
    pb_contents_free(out);
    for (int i = 0; i < layer->n_tensors; i++) {
        pb_tensor t = layer->tensors[i];
        out->tensor[i] = t;
        out->bytes[i] = malloc(pb_bytes(t) + 1);
        out->n = i + 1;
        if (!out->bytes[i])
            return PB_ERROR(PB_E_OOM, "no memory for a copy of %zu bytes", pb_bytes(t));
        PB_RETURN(pb_device_get(layer->dev, out->bytes[i], t, pb_bytes(t)));
    }
    return PB_OK;
}

bool pb_contents_differ(const pb_contents *before, const pb_contents *after, int i) {
    return memcmp(before->bytes[i], after->bytes[i], pb_bytes(before->tensor[i])) != 0;
}

pb_status pb_contents_put(const pb_layer *layer, const pb_contents *before, const bool *wrote) {
    for (int i = 0; i < before->n; i++)
        if (!wrote || wrote[i])
            PB_RETURN(pb_device_put(layer->dev, layer->tensors[i], before->bytes[i],
                                    pb_bytes(before->tensor[i])));
    return PB_OK;
}

void pb_contents_free(pb_contents *c) {
    for (int i = 0; i < c->n; i++) free(c->bytes[i]);
    *c = (pb_contents){.n = 0};
}
