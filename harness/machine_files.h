/* Private to harness/machine_*.c: small files below /proc and /sys, or below a test's folder. What is not
 * there, or may not be read, is no error. */
#ifndef PB_HARNESS_MACHINE_FILES_H
#define PB_HARNESS_MACHINE_FILES_H

#include <stdbool.h>
#include <stddef.h>

/* Content of root + path, malloc'ed; NULL when it is not there. */
char *pb_machine_text(const char *root, const char *path);
/* Its first word, or that word as a number; false when there is none. */
bool pb_machine_word(const char *root, const char *path, char *out, size_t cap);
bool pb_machine_number(const char *root, const char *path, double *out);
/* Of /sys/devices/system/cpu/cpuN/NAME. */
bool pb_machine_cpu_number(const char *root, int cpu, const char *name, double *out);

#endif
