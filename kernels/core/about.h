/* What the kernels are built on, for records. */
#ifndef PB_KERNELS_CORE_ABOUT_H
#define PB_KERNELS_CORE_ABOUT_H

/* Name and version of the library behind the matrix products as it is loaded now, "oneDNN 2.6.0".
 * Static storage. */
const char *pb_kernels_library(void);

/* The instruction sets that run-time dispatch takes in this process: of the cpu backend's own
 * kernels, "avx512", "avx2" or "base"; of the library, its own number for it, "0x7f". Static
 * storage. */
const char *pb_kernels_isa(void);
const char *pb_kernels_library_isa(void);

#endif
