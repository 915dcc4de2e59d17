/* RoBERTa (Liu et al. 2019): BERT's shape; positions start behind the padding index, so the first
 * two rows of the position table are never used and not loaded. */
#include "models/family.h"

#define UNUSED_POSITIONS 2 /* padding_idx 1, positions count from padding_idx + 1 */

static pb_status config(const pb_json *root, const char *where, pb_model_config *out) {
    PB_RETURN(pb_config_bert(root, where, out));
    if (out->P <= UNUSED_POSITIONS) {
        return PB_ERROR(PB_E_INPUT, "%s: max_position_embeddings %lld, expected more than %d",
                        where, (long long)out->P, UNUSED_POSITIONS);
    }
    out->P -= UNUSED_POSITIONS;
    return PB_OK;
}

const pb_family pb_family_roberta = {
    .name = "roberta",
    .model_type = "roberta",
    .prefix = "roberta.",
    .config = config,
    .part = PB_PARTS_BERT(UNUSED_POSITIONS),
};
