/* SHA-256 over OpenSSL's EVP interface. Test: tests/test_base.c (FIPS 180-4 examples). */
#include "base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK ((size_t)1 << 18)

struct pb_sha256 {
    EVP_MD_CTX *ctx;
};

pb_status pb_sha256_new(pb_sha256 **out) {
    pb_status status = PB_OK;
    pb_sha256 *h = calloc(1, sizeof *h);
    *out = NULL;
    if (h) h->ctx = EVP_MD_CTX_new();
    if (!h || !h->ctx) PB_FAIL(PB_E_OOM, "no memory for a SHA-256 state");
    if (EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL) != 1)
        PB_FAIL(PB_E_ENV, "OpenSSL offers no SHA-256: check its configuration (OPENSSL_CONF)");
    *out = h;
    h = NULL;
done:
    pb_sha256_free(h);
    return status;
}

void pb_sha256_add(pb_sha256 *h, const void *data, size_t len) {
    if (len) PB_ASSERT(EVP_DigestUpdate(h->ctx, data, len) == 1);
}

void pb_sha256_end(pb_sha256 *h, char hex[PB_SHA256_HEX]) {
    static const char digits[] = "0123456789abcdef";
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    PB_ASSERT(EVP_DigestFinal_ex(h->ctx, digest, &n) == 1 && n == 32);
    for (unsigned i = 0; i < n; i++) {
        hex[2 * i] = digits[digest[i] >> 4];
        hex[2 * i + 1] = digits[digest[i] & 15];
    }
    hex[64] = 0;
    pb_sha256_free(h);
}

void pb_sha256_free(pb_sha256 *h) {
    if (!h) return;
    EVP_MD_CTX_free(h->ctx);
    free(h);
}

pb_status pb_sha256_bytes(const void *data, size_t len, char hex[PB_SHA256_HEX]) {
    pb_sha256 *h = NULL;
    PB_RETURN(pb_sha256_new(&h));
    pb_sha256_add(h, data, len);
    pb_sha256_end(h, hex);
    return PB_OK;
}

/* Reads instead of mapping: a file that shrinks meanwhile is a short read, not a SIGBUS. */
pb_status pb_sha256_file(const char *path, char hex[PB_SHA256_HEX]) {
    pb_status status = PB_OK;
    pb_sha256 *h = NULL;
    unsigned char *chunk = NULL;
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) PB_FAIL(PB_E_INPUT, "%s: cannot be opened: %s", path, strerror(errno));
    if (fstat(fd, &st) != 0) PB_FAIL(PB_E_IO, "%s: cannot be examined: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        PB_FAIL(PB_E_INPUT, "%s: is %s, expected a regular file", path, S_ISDIR(st.st_mode) ? "a folder" : "a special file");
    if (!(chunk = malloc(CHUNK))) PB_FAIL(PB_E_OOM, "%s: no memory for a read buffer of %zu bytes", path, CHUNK);
    PB_TRY(pb_sha256_new(&h));
    for (;;) {
        ssize_t n = read(fd, chunk, CHUNK);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) PB_FAIL(PB_E_IO, "%s: reading failed: %s", path, strerror(errno));
        if (n == 0) break;
        pb_sha256_add(h, chunk, (size_t)n);
    }
    pb_sha256_end(h, hex);
    h = NULL;
done:
    pb_sha256_free(h);
    free(chunk);
    if (fd >= 0) close(fd);
    return status;
}
