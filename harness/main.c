#include <stdlib.h>
#include <unistd.h>

#include "harness/cli.h"

/* OpenMP's threads wait for their next piece of work by spinning, by default for milliseconds: as soon as another program
 * wants one of the cores a training step takes ten times as long. The library reads its policy before main(), so the
 * program starts itself once more with a short spin (some 10 us) unless the user has set a policy. Measured on two quiet
 * cores this costs nothing; sleeping at once (OMP_WAIT_POLICY=passive) costs a sixth of a forward pass. */
static void wait_briefly(char **argv) {
    if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT")) return;
    if (setenv("GOMP_SPINCOUNT", "3000", 1) == 0) execv("/proc/self/exe", argv);
}

int main(int argc, char **argv) {
    wait_briefly(argv); /* returns when there is nothing to do, or no way to do it */
    return pb_cli_main(argc, argv);
}
