/* SHA-256 (OpenSSL's libcrypto). */
#ifndef PB_BASE_HASH_H
#define PB_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define PB_SHA256_HEX 65 /* 64 hex digits and a NUL */

typedef struct pb_sha256 pb_sha256;

/* A running hash; pb_sha256_end writes the hex digest and frees it. pb_sha256_free(NULL) is fine. */
pb_status pb_sha256_new(pb_sha256 **out);
void pb_sha256_add(pb_sha256 *h, const void *data, size_t len);
void pb_sha256_end(pb_sha256 *h, char hex[PB_SHA256_HEX]);
void pb_sha256_free(pb_sha256 *h);

pb_status pb_sha256_bytes(const void *data, size_t len, char hex[PB_SHA256_HEX]);
pb_status pb_sha256_file(const char *path, char hex[PB_SHA256_HEX]);

#endif
