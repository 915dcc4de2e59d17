/* Status codes and the error chain.
 *
 * Every function that can fail returns a pb_status. The code that detects a problem writes one message (what, where,
 * what was expected, what to do next); every caller on the way up adds its file:line. Only main() decides to exit.
 * Programmer errors are PB_ASSERT, which stays on in release builds. */
#ifndef PB_BASE_STATUS_H
#define PB_BASE_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

typedef enum pb_status {
    PB_OK = 0,
    PB_E_CHECK,       /* a check failed: a verification, a policy         (exit 1) */
    PB_E_INPUT,       /* usage, bad file, bad value                       (exit 2) */
    PB_E_ENV,         /* the environment lacks something                  (exit 3) */
    PB_E_OOM,         /* memory could not be had                          (run status `oom`) */
    PB_E_IO,          /* a write, fsync or rename failed                  (exit 3) */
    PB_E_DIVERGED,    /* NaN or infinity in training                      (run status `diverged`) */
    PB_E_INTERRUPTED, /* SIGINT or SIGTERM                                (exit 130/143) */
    PB_E_UNSUPPORTED, /* this backend has no kernel for these arguments */
    PB_E_BUG          /* an invariant of our own was broken */
} pb_status;

/* The name of a code, "ok", "input", ... Static storage. */
const char *pb_status_name(pb_status status);

/* Process exit code for a status: 0, 1, 2, 3 as documented above; PB_E_OOM and PB_E_UNSUPPORTED give 3, PB_E_DIVERGED and
 * PB_E_BUG give 1, PB_E_INTERRUPTED gives 130. */
int pb_status_exit_code(pb_status status);

/* Starts a new error chain in this thread with one message; returns `status`. The arguments may be the previous message.
 * Messages beyond 2 KiB are cut and end in "...". errno is left alone. */
pb_status pb_error_set(pb_status status, const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* Adds a frame to this thread's chain (the first 16 are kept, the rest counted). */
void pb_error_frame(const char *file, int line);

/* This thread's last message, "" when none. Valid until the next pb_error_set in the thread. */
const char *pb_error_message(void);

/* The frames as "file:line < file:line ...", innermost first, "" when none. Valid until the next error call in the thread. */
const char *pb_error_trace(void);

/* Forgets the chain. */
void pb_error_clear(void);

/* Prints expression, place and message, then aborts. */
void pb_assert_fail(const char *expr, const char *file, int line) __attribute__((noreturn));

#define PB_ASSERT(expr)                                         \
    do {                                                        \
        if (!(expr)) pb_assert_fail(#expr, __FILE__, __LINE__); \
    } while (0)

/* An expression: records a message and yields the code. `return PB_ERROR(PB_E_INPUT, "%s: ...", path);` */
#define PB_ERROR(code, ...) pb_error_set((code), __FILE__, __LINE__, __VA_ARGS__)

/* In functions that own nothing: return the failure upward. */
#define PB_RETURN(expr)                           \
    do {                                          \
        pb_status pb_s_ = (expr);                 \
        if (pb_s_ != PB_OK) {                     \
            pb_error_frame(__FILE__, __LINE__);   \
            return pb_s_;                         \
        }                                         \
    } while (0)

/* In functions that own something: needs `pb_status status = PB_OK;` and one label `done:` that frees and returns it. */
#define PB_TRY(expr)                              \
    do {                                          \
        status = (expr);                          \
        if (status != PB_OK) {                    \
            pb_error_frame(__FILE__, __LINE__);   \
            goto done;                            \
        }                                         \
    } while (0)

#define PB_FAIL(code, ...)                        \
    do {                                          \
        status = PB_ERROR((code), __VA_ARGS__);   \
        goto done;                                \
    } while (0)

#ifdef __cplusplus
}
#endif
#endif
