/* A program run to its end: base/process.h. */
#include "base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/file.h"
#include "base/text.h"

#define MOST_BYTES ((size_t)64 << 20)

extern char **environ;

pb_status pb_process_run(const char *const *argv, char *const *env, const char *folder, const char *log, int *code) {
    posix_spawn_file_actions_t actions;
    pid_t child;
    int status = 0, failed = posix_spawn_file_actions_init(&actions);
    if (failed) return PB_ERROR(PB_E_OOM, "no memory to start %s", argv[0]);
    failed = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    if (!failed) failed = posix_spawn_file_actions_addopen(&actions, 1, log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (!failed) failed = posix_spawn_file_actions_adddup2(&actions, 1, 2);
    if (!failed && folder) failed = posix_spawn_file_actions_addchdir_np(&actions, folder);
    if (!failed)
        failed = posix_spawnp(&child, argv[0], &actions, NULL, (char *const *)(uintptr_t)argv, env ? env : environ);
    posix_spawn_file_actions_destroy(&actions);
    if (failed) return PB_ERROR(PB_E_ENV, "%s: does not start: %s", argv[0], strerror(failed));
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR) return PB_ERROR(PB_E_ENV, "%s: lost its process", argv[0]);
    *code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return PB_OK;
}

void pb_process_last_line(const char *log, char *out, size_t cap) {
    char *text = NULL, *save = NULL;
    size_t len = 0;
    *out = 0;
    if (pb_file_read(log, MOST_BYTES, &text, &len) != PB_OK) {
        pb_error_clear();
        return;
    }
    for (char *s = strtok_r(text, "\n", &save); s; s = strtok_r(NULL, "\n", &save))
        if (strspn(s, " \t\r") != strlen(s)) pb_copy(out, cap, s);
    free(text);
}
