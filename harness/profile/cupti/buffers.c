/* See buffers.h. */
#include "harness/profile/cupti/buffers.h"

#include <cupti.h>
#include <pthread.h>
#include <stdlib.h>

#include "harness/profile/cupti/common.h"

enum { BUFFER_BYTES = 8 << 20 };

static struct {
    pthread_mutex_t lock;
    pb_cupti_buffer *full, *last, *out; /* out: given to CUPTI and not yet back */
    uint64_t refused; /* requests without memory */
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void CUPTIAPI requested(uint8_t **data, size_t *size, size_t *max_records) {
    pb_cupti_buffer *b = calloc(1, sizeof *b);
    *size = 0;
    *data = NULL;
    *max_records = 0;
    if (b != NULL) b->data = aligned_alloc(8, BUFFER_BYTES);
    pthread_mutex_lock(&pool.lock);
    if (b == NULL || b->data == NULL) {
        pool.refused++;
        free(b);
    } else {
        b->next = pool.out;
        pool.out = b;
        *data = b->data;
        *size = BUFFER_BYTES;
    }
    pthread_mutex_unlock(&pool.lock);
}

static void CUPTIAPI completed(CUcontext context, uint32_t stream, uint8_t *data, size_t size, size_t valid) {
    (void)context;
    (void)stream;
    (void)size;
    pthread_mutex_lock(&pool.lock);
    for (pb_cupti_buffer **p = &pool.out; *p != NULL; p = &(*p)->next) {
        pb_cupti_buffer *b = *p;
        if (b->data != data) continue;
        *p = b->next;
        b->next = NULL;
        b->valid = valid;
        if (pool.last != NULL) pool.last->next = b;
        else pool.full = b;
        pool.last = b;
        break;
    }
    pthread_mutex_unlock(&pool.lock);
}

pb_status pb_cupti_buffers_register(void) {
    return pb_cupti_check(cuptiActivityRegisterCallbacks(requested, completed), "cuptiActivityRegisterCallbacks");
}

pb_cupti_buffer *pb_cupti_buffers_take(void) {
    pthread_mutex_lock(&pool.lock);
    pb_cupti_buffer *list = pool.full;
    pool.full = pool.last = NULL;
    pthread_mutex_unlock(&pool.lock);
    return list;
}

void pb_cupti_buffers_free(pb_cupti_buffer *b) {
    for (pb_cupti_buffer *next = NULL; b != NULL; b = next) {
        next = b->next;
        free(b->data);
        free(b);
    }
}

uint64_t pb_cupti_buffers_dropped(void) {
    size_t dropped = 0;
    if (cuptiActivityGetNumDroppedRecords(NULL, 0, &dropped) != CUPTI_SUCCESS) dropped = 0;
    pthread_mutex_lock(&pool.lock);
    uint64_t lost = dropped + pool.refused;
    pool.refused = 0;
    pthread_mutex_unlock(&pool.lock);
    return lost;
}
