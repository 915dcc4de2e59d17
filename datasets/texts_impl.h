/* Private to datasets/: building a pb_texts. */
#ifndef PB_DATASETS_TEXTS_IMPL_H
#define PB_DATASETS_TEXTS_IMPL_H

#include "datasets/dataset.h"

#define PB_LINE_MAX (16u << 20)

/* Makes an all-zero texts ready for examples of one task. Free with pb_texts_free also after a
 * failure. */
pb_status pb_texts_begin(pb_texts *texts, const char *name, pb_task task);
bool pb_texts_begun(const pb_texts *texts);
/* Copies the strings. */
pb_status pb_texts_add(pb_texts *texts, pb_split_id split, const pb_text_example *example);
/* Index of a label; -1 when it is new and `add` is false. */
pb_status pb_texts_label(pb_texts *texts, const char *label, bool add, int32_t *index);
/* The first label decides whether labels are strings or integers; false when this one is of the
 * other kind. */
bool pb_texts_label_kind(pb_texts *texts, bool integer);

/* 64 well mixed bits of a text; salt: different purposes draw differently. */
uint64_t pb_texts_hash(const char *text, size_t len, uint64_t salt);

/* Moves `target` training examples at most (smallest hash of the text or prompt first) to an empty
 * split. Equal texts go together and no class loses its last training example. PB_E_INPUT when
 * nothing can be moved. */
pb_status pb_texts_split_off(pb_texts *texts, pb_split_id to, int64_t target);

#endif
