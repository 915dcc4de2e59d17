/* What the kernels are built on, for records. */
#ifndef PB_KERNELS_CORE_ABOUT_H
#define PB_KERNELS_CORE_ABOUT_H

/* Name and version of the library behind the matrix products as it is loaded now, "oneDNN 2.6.0".
 * Static storage. */
const char *pb_kernels_library(void);

#endif
