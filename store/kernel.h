/* Which loops are compiled twice, for x86-64 with AVX2 and for any, and chosen when the program starts (ifunc). Off under
 * sanitizers, which start before ifuncs can be resolved, and where the compiler or C library does not know the attribute. */
#ifndef CONCORDAT_STORE_KERNEL_H
#define CONCORDAT_STORE_KERNEL_H

#include <stdlib.h>

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) &&       \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#if __GNUC__ >= 12
#define STORE_KERNEL __attribute__((target_clones("arch=x86-64-v3", "default"), optimize("O3")))
#endif
#endif
#ifndef STORE_KERNEL
#define STORE_KERNEL
#endif

#endif
