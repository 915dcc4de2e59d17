/* Bounded reads, read-only maps, atomic writes, folders. Every message names the path and the system's reason.
 * Test: tests/test_base.c. */
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"

/* Opens a regular file for reading. O_NONBLOCK: opening a FIFO by mistake is refused instead of hanging. */
static pb_status open_regular(const char *path, int *fd, struct stat *st) {
    pb_status status = PB_OK;
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0) PB_FAIL(PB_E_INPUT, "%s: cannot be opened: %s", path, strerror(errno));
    if (fstat(*fd, st) != 0) PB_FAIL(PB_E_IO, "%s: cannot be examined: %s", path, strerror(errno));
    if (!S_ISREG(st->st_mode))
        PB_FAIL(PB_E_INPUT, "%s: is %s, expected a regular file", path, S_ISDIR(st->st_mode) ? "a folder" : "a special file");
done:
    if (status != PB_OK && *fd >= 0) {
        close(*fd);
        *fd = -1;
    }
    return status;
}

pb_status pb_file_read(const char *path, size_t max, char **data, size_t *len) {
    pb_status status = PB_OK;
    char *buf = NULL;
    size_t n = 0, cap = 0;
    int fd = -1;
    struct stat st;
    *data = NULL;
    if (len) *len = 0;
    if (max > SIZE_MAX / 4) max = SIZE_MAX / 4;
    PB_TRY(open_regular(path, &fd, &st));
    if (st.st_size > 0 && (uintmax_t)st.st_size > max)
        PB_FAIL(PB_E_INPUT, "%s: has %jd bytes, expected at most %zu", path, (intmax_t)st.st_size, max);
    cap = (st.st_size > 0 ? (size_t)st.st_size : 4096) + 2; /* one to see the end in, one for the NUL */
    if (!(buf = malloc(cap))) PB_FAIL(PB_E_OOM, "%s: no memory for %zu bytes", path, cap);
    for (;;) {
        if (n + 1 == cap) {
            char *bigger = realloc(buf, cap * 2);
            if (!bigger) PB_FAIL(PB_E_OOM, "%s: no memory for %zu bytes", path, cap * 2);
            buf = bigger;
            cap *= 2;
        }
        ssize_t got = read(fd, buf + n, cap - 1 - n);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) PB_FAIL(PB_E_IO, "%s: reading failed: %s", path, strerror(errno));
        if (got == 0) break;
        n += (size_t)got;
        if (n > max) PB_FAIL(PB_E_INPUT, "%s: has more than the %zu bytes that are expected at most", path, max);
    }
    buf[n] = 0;
    *data = buf;
    buf = NULL;
    if (len) *len = n;
done:
    free(buf);
    if (fd >= 0) close(fd);
    return status;
}

pb_status pb_map_open(const char *path, pb_map *map) {
    pb_status status = PB_OK;
    int fd = -1;
    struct stat st;
    *map = (pb_map){0};
    PB_TRY(open_regular(path, &fd, &st));
    if ((uintmax_t)st.st_size > SIZE_MAX) PB_FAIL(PB_E_INPUT, "%s: is too large for this machine's addresses", path);
    if (st.st_size == 0) {
        map->data = (const unsigned char *)"";
    } else {
        void *at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (at == MAP_FAILED)
            PB_FAIL(errno == ENOMEM ? PB_E_OOM : PB_E_INPUT, "%s: cannot be mapped: %s", path, strerror(errno));
        map->data = at;
        map->len = (size_t)st.st_size;
    }
done:
    if (fd >= 0) close(fd);
    return status;
}

void pb_map_close(pb_map *map) {
    if (!map) return;
    if (map->len) {
        void *at;
        memcpy(&at, &map->data, sizeof at); /* munmap wants it without const */
        munmap(at, map->len);
    }
    *map = (pb_map){0};
}

/* The folder part of a path: "a/b" -> "a", "b" -> ".", "/b" -> "/". */
static char *folder_of(const char *path) {
    const char *slash = strrchr(path, '/');
    if (!slash) return strdup(".");
    return strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

/* Creates a new file beside the target, with the mode the umask gives (mkstemp would leave 0600 behind). */
static pb_status open_temp(const char *path, const char *folder, char **temp, int *fd) {
    for (int attempt = 0; attempt < 100; attempt++) {
        free(*temp);
        if (asprintf(temp, "%s/.pb-tmp-%ld-%llx", folder, (long)getpid(), (unsigned long long)pb_now_ns()) < 0) {
            *temp = NULL;
            return PB_ERROR(PB_E_OOM, "%s: no memory for a file name", path);
        }
        *fd = open(*temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (*fd >= 0) return PB_OK;
        if (errno != EEXIST && errno != EINTR) break;
    }
    int why = errno;
    free(*temp);
    *temp = NULL;
    return PB_ERROR(PB_E_IO, "%s: cannot create a file in its folder %s: %s", path, folder, strerror(why));
}

static pb_status write_all(int fd, const char *path, const char *data, size_t len) {
    while (len) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return PB_ERROR(PB_E_IO, "%s: writing failed: %s", path, strerror(errno));
        data += n;
        len -= (size_t)n;
    }
    return PB_OK;
}

static int sync_fd(int fd) {
    int rc;
    do rc = fsync(fd);
    while (rc != 0 && errno == EINTR);
    return rc;
}

pb_status pb_file_write_atomic(const char *path, const void *data, size_t len) {
    pb_status status = PB_OK;
    char *temp = NULL;
    int fd = -1, folder_fd = -1;
    char *folder = folder_of(path);
    if (!folder) PB_FAIL(PB_E_OOM, "%s: no memory for a file name", path);
    PB_TRY(open_temp(path, folder, &temp, &fd));
    PB_TRY(write_all(fd, path, data, len));
    if (sync_fd(fd) != 0) PB_FAIL(PB_E_IO, "%s: fsync failed: %s", path, strerror(errno));
    int closed = close(fd);
    fd = -1;
    if (closed != 0 && errno != EINTR) PB_FAIL(PB_E_IO, "%s: closing failed: %s", path, strerror(errno));
    if (rename(temp, path) != 0) PB_FAIL(PB_E_IO, "%s: renaming into place failed: %s", path, strerror(errno));
    free(temp);
    temp = NULL;
    folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder_fd < 0) PB_FAIL(PB_E_IO, "%s: its folder %s cannot be opened: %s", path, folder, strerror(errno));
    /* Some file systems cannot sync a folder and say so with EINVAL: then there is nothing more to do. */
    if (sync_fd(folder_fd) != 0 && errno != EINVAL)
        PB_FAIL(PB_E_IO, "%s: fsync of its folder %s failed: %s", path, folder, strerror(errno));
done:
    if (fd >= 0) close(fd);
    if (temp) unlink(temp);
    if (folder_fd >= 0) close(folder_fd);
    free(temp);
    free(folder);
    return status;
}

pb_status pb_make_dirs(const char *path) {
    pb_status status = PB_OK;
    char *part = NULL;
    if (!*path) PB_FAIL(PB_E_INPUT, "cannot create a folder without a name");
    if (!(part = strdup(path))) PB_FAIL(PB_E_OOM, "%s: no memory for a folder name", path);
    for (char *p = part + 1;; p++) {
        if (*p && *p != '/') continue;
        char end = *p;
        *p = 0;
        if (mkdir(part, 0777) != 0) {
            int why = errno; /* an existing folder may also be reported as read-only or not permitted */
            if (!pb_is_dir(part))
                PB_FAIL(PB_E_IO, "%s: cannot create the folder %s: %s", path, part,
                        why == EEXIST || why == ENOTDIR ? "a file of that name is in the way" : strerror(why));
        }
        if (!end) break;
        *p = end;
    }
done:
    free(part);
    return status;
}

pb_status pb_temp_folder(const char *name, char *out, size_t cap) {
    const char *tmp = getenv("TMPDIR");
    if (!tmp || !*tmp) tmp = "/tmp";
    int n = snprintf(out, cap, "%s/peftbench-%s-XXXXXX", tmp, name);
    bool fits = n > 0 && (size_t)n < cap;
    if (fits && mkdtemp(out)) return PB_OK;
    *out = 0;
    return PB_ERROR(PB_E_IO, "%s: cannot make a folder %s/peftbench-%s-*: %s", tmp, tmp, name,
                    fits ? strerror(errno) : "the path is too long");
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *at) {
    (void)st, (void)kind, (void)at;
    return remove(path) == 0 || errno == ENOENT ? 0 : -1;
}

pb_status pb_remove_tree(const char *path) {
    if (!pb_file_exists(path) && !pb_is_dir(path)) return PB_OK;
    if (nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS) == 0 || errno == ENOENT) return PB_OK;
    return PB_ERROR(PB_E_IO, "%s: cannot be removed: %s", path, strerror(errno));
}

pb_status pb_own_program(char *out, size_t cap) {
    ssize_t n = readlink("/proc/self/exe", out, cap);
    if (n > 0 && (size_t)n < cap) {
        out[n] = 0;
        return PB_OK;
    }
    int why = n < 0 ? errno : ENAMETOOLONG;
    *out = 0;
    return PB_ERROR(PB_E_ENV, "/proc/self/exe, this program's own path: %s", strerror(why));
}

pb_status pb_beside_program(const char *file, char *out, size_t cap) {
    PB_RETURN(pb_own_program(out, cap));
    char *slash = strrchr(out, '/');
    size_t at = slash ? (size_t)(slash - out) + 1 : 0, len = strlen(file);
    if (at + len >= cap) return PB_ERROR(PB_E_ENV, "%.*s%s: the path is too long", (int)at, out, file);
    memcpy(out + at, file, len + 1);
    return PB_OK;
}

bool pb_file_exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0;
}

bool pb_is_dir(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

char *pb_path_join(const char *a, const char *b) {
    size_t n = strlen(a);
    if (n == 0) return strdup(b);
    while (n > 0 && a[n - 1] == '/') n--;
    bool root = n == 0;
    while (*b == '/') b++;
    if (!*b) return root ? strdup("/") : strndup(a, n);
    size_t m = strlen(b);
    char *joined = malloc(n + m + 2);
    if (!joined) return NULL;
    memcpy(joined, a, n);
    joined[n] = '/';
    memcpy(joined + n + 1, b, m + 1);
    return joined;
}

/* Byte order, not the locale's. */
static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

pb_status pb_list_dir(const char *path, char ***names, size_t *n) {
    pb_status status = PB_OK;
    size_t count = 0, cap = 16;
    char **list = NULL;
    *names = NULL;
    *n = 0;
    DIR *dir = opendir(path);
    if (!dir) PB_FAIL(PB_E_INPUT, "%s: cannot be listed: %s", path, strerror(errno));
    if (!(list = malloc(cap * sizeof *list))) PB_FAIL(PB_E_OOM, "%s: no memory for its listing", path);
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (!entry && errno) PB_FAIL(PB_E_IO, "%s: listing failed: %s", path, strerror(errno));
        if (!entry) break;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        if (count == cap) {
            char **bigger = realloc(list, 2 * cap * sizeof *list);
            if (!bigger) PB_FAIL(PB_E_OOM, "%s: no memory for its listing", path);
            list = bigger;
            cap *= 2;
        }
        if (!(list[count] = strdup(entry->d_name))) PB_FAIL(PB_E_OOM, "%s: no memory for its listing", path);
        count++;
    }
    qsort(list, count, sizeof *list, by_name);
    *names = list;
    *n = count;
    list = NULL;
done:
    if (list) pb_names_free(list, count);
    if (dir) closedir(dir);
    return status;
}

void pb_names_free(char **names, size_t n) {
    if (!names) return;
    for (size_t i = 0; i < n; i++) free(names[i]);
    free(names);
}
