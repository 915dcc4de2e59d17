/* Instructions counted by traps: harness/kernel_step.h. */
#include "harness/kernel_step.h"

#if defined(__x86_64__) && defined(__linux__)

#include <errno.h>
#include <link.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <ucontext.h>

#define TRAP_FLAG 0x100

static struct {
    uintptr_t from, size; /* of the program's code */
    volatile bool on;
    volatile uint64_t all, own;
    struct sigaction before;
} count;

static void trapped(int signal, siginfo_t *info, void *context) {
    ucontext_t *c = context;
    (void)signal;
    (void)info;
    if (!count.on) { /* ended: no trap after the next one */
        c->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
        return;
    }
    count.all++;
    count.own += (uintptr_t)c->uc_mcontext.gregs[REG_RIP] - count.from < count.size;
}

/* The program itself comes first; its code is its one executable segment. */
static int find_code(struct dl_phdr_info *info, size_t size, void *user) {
    (void)size;
    (void)user;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type != PT_LOAD || !(p->p_flags & PF_X)) continue;
        count.from = info->dlpi_addr + p->p_vaddr;
        count.size = p->p_memsz;
    }
    return 1;
}

/* Sets the flag below whatever the compiler keeps under the stack's end. */
static inline void start_traps(void) {
    __asm__ volatile("lea -128(%%rsp), %%rsp\n\t"
                     "pushfq\n\t"
                     "orq $0x100, (%%rsp)\n\t"
                     "popfq\n\t"
                     "lea 128(%%rsp), %%rsp" ::
                         : "memory", "cc");
}

pb_status pb_step_begin(void) {
    struct sigaction handler;
    if (count.on) return PB_ERROR(PB_E_BUG, "instructions are counted by traps already");
    memset(&handler, 0, sizeof handler);
    handler.sa_sigaction = trapped;
    handler.sa_flags = SA_SIGINFO;
    (void)dl_iterate_phdr(find_code, NULL);
    if (sigaction(SIGTRAP, &handler, &count.before) != 0)
        return PB_ERROR(PB_E_ENV, "no handler for traps: %s", strerror(errno));
    count.all = count.own = 0;
    count.on = true;
    start_traps();
    if (count.all > 0) return PB_OK;
    (void)pb_step_end();
    return PB_ERROR(PB_E_ENV, "no trap comes after an instruction: under valgrind, or a debugger takes it");
}

double pb_step_end(void) {
    count.on = false;
    __asm__ volatile("nop" ::: "memory"); /* its trap is the last */
    (void)sigaction(SIGTRAP, &count.before, NULL);
    return (double)count.own;
}

#else

pb_status pb_step_begin(void) {
    return PB_ERROR(PB_E_ENV, "instructions are counted by traps on x86-64 Linux only");
}
double pb_step_end(void) { return 0; }

#endif
