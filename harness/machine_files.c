/* Small files of the system: harness/machine_files.h. */
#include "harness/machine_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"

#define SMALL_FILE ((size_t)1 << 20)

/* Content of root + path, malloc'ed; NULL when it is not there. */
char *pb_machine_text(const char *root, const char *path) {
    char whole[768], *text = NULL;
    int n = snprintf(whole, sizeof whole, "%s%s", root, path);
    if (n < 0 || (size_t)n >= sizeof whole || access(whole, R_OK) != 0) return NULL;
    if (pb_file_read(whole, SMALL_FILE, &text, NULL) == PB_OK) return text;
    pb_error_clear();
    return NULL;
}

/* Its first word; false when it is not there. */
bool pb_machine_word(const char *root, const char *path, char *out, size_t cap) {
    char *text = pb_machine_text(root, path);
    *out = 0;
    if (!text) return false;
    text[strcspn(text, " \t\n")] = 0;
    pb_copy(out, cap, text);
    free(text);
    return *out != 0;
}

bool pb_machine_number(const char *root, const char *path, double *out) {
    char text[64];
    return pb_machine_word(root, path, text, sizeof text) && pb_parse_f64(text, out);
}

bool pb_machine_cpu_number(const char *root, int cpu, const char *name, double *out) {
    char path[128];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/%s", cpu, name);
    return pb_machine_number(root, path, out);
}
