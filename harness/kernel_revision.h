/* Builds of git revisions, for comparisons: each commit is built once, apart from the working tree, and
 * its program kept. Test: tests/test_kernel_revision.c. */
#ifndef PB_HARNESS_KERNEL_REVISION_H
#define PB_HARNESS_KERNEL_REVISION_H

#include <stdbool.h>

#include "base/status.h"

/* The program of revision `name` (anything that names a commit) of the git repository that `folder`
 * lies in. It is kept as CACHE/KEY/peftbench, where KEY is made of the commit, the compiler's version
 * and the variables CC, CFLAGS, LDFLAGS and CMAKE_PREFIX_PATH: a second call builds nothing. A clone
 * without a working copy of the objects and the build lie in a folder in $TMPDIR (/tmp) that is removed;
 * the repository is only read. Release, without tests. cuda: the target cuda_backend is built too and
 * kept beside the program, under a KEY of its own that nvcc's version and the variables of nvcc and of
 * its host compiler (CUDACXX, CUDAFLAGS, CUDAARCHS, CUDAHOSTCXX, CXX, ...) take part in; without it nvcc
 * is not looked for.
 * PB_E_INPUT when the name is no commit; PB_E_ENV when git, cmake or the compiler fails, or when no
 * backend came of it: one line, and the path of the log, CACHE/KEY.log. */
pb_status pb_kernel_revision(const char *folder, const char *name, const char *cache,
                             bool cuda, char program[1024]);

#endif
