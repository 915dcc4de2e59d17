/* Files: whole reads with a bound, read-only maps, atomic writes (temporary name, fsync, rename, fsync of the folder). */
#ifndef PB_BASE_FILE_H
#define PB_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

/* Reads a regular file of at most `max` bytes (/proc and /sys files too, whose size says nothing). *data is malloc'ed
 * (caller frees), with a NUL after *len bytes. len may be NULL.
 * PB_E_INPUT names the path when it is missing, a folder, or too long. */
pb_status pb_file_read(const char *path, size_t max, char **data, size_t *len);

/* A read-only mapping. Zero-initialise; unmap with pb_map_close (NULL-safe, idempotent). An empty file maps to len 0
 * and data "". */
typedef struct pb_map {
    const unsigned char *data;
    size_t len;
} pb_map;
pb_status pb_map_open(const char *path, pb_map *map);
void pb_map_close(pb_map *map);

/* Writes path atomically: either the old content or all of the new one is there after a crash. The temporary file is
 * .pb-tmp-* in the same folder, which must exist; only a kill leaves one behind. */
pb_status pb_file_write_atomic(const char *path, const void *data, size_t len);

/* Creates the folder and its parents; fine when it exists. */
pb_status pb_make_dirs(const char *path);

/* A new folder for passing files: out := $TMPDIR (or /tmp)/peftbench-NAME-*; "" on failure. Remove with pb_remove_tree. */
pb_status pb_temp_folder(const char *name, char *out, size_t cap);
/* Removes a file, or a folder with all in it; links are not followed. Fine when nothing is there. */
pb_status pb_remove_tree(const char *path);

/* out := the running program's own file. PB_E_ENV when the system does not say, or the path does not fit. */
pb_status pb_own_program(char *out, size_t cap);
/* out := path of `file` (may start with "../") from that program's folder on, whether it exists or not. */
pb_status pb_beside_program(const char *file, char *out, size_t cap);

bool pb_file_exists(const char *path);
bool pb_is_dir(const char *path);

/* Joins with one '/'; an empty side gives the other one. Result malloc'ed, NULL when memory ran out. */
char *pb_path_join(const char *a, const char *b);

/* Sorted names in a folder without "." and "..": malloc'ed array of malloc'ed strings; free with pb_names_free. */
pb_status pb_list_dir(const char *path, char ***names, size_t *n);
void pb_names_free(char **names, size_t n);

#endif
