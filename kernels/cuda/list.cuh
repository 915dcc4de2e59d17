/* Many tensors in one launch: a list of them travels as a parameter of the kernel, so that a hundred
 * small factors cost one launch and nothing is copied to the device. A list longer than the parameters
 * of a launch takes several. */
#ifndef PB_KERNELS_CUDA_LIST_CUH
#define PB_KERNELS_CUDA_LIST_CUH

#include "kernels/cuda/chunk.cuh"

/* E has `int32_t first`: the number of its first piece of work in this launch. EXTRA: bytes of the
 * kernel's other parameters. */
template <typename E, int EXTRA> struct pb_list {
    static const int most = (PB_LAUNCH_BYTES - EXTRA - 16) / (int)sizeof(E);
    E at[most];
    int32_t n, pieces;
};

/* Appends an entry of `pieces` pieces; false when the list is full: launch it, empty it, again. */
template <typename L, typename E> static inline bool pb_list_add(L *list, E entry, int64_t pieces) {
    if (list->n == L::most || pieces > INT32_MAX - list->pieces) return false;
    entry.first = list->pieces;
    list->at[list->n++] = entry;
    list->pieces += (int32_t)pieces;
    return true;
}

/* The entry that holds a piece: the last one that starts at it or before it. */
template <typename L> __device__ __forceinline__ int pb_list_find(const L &list, int32_t piece) {
    int lo = 0, hi = list.n;
    while (hi - lo > 1) {
        int mid = (lo + hi) / 2;
        if (list.at[mid].first <= piece)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

/* Elements of a piece of a contiguous tensor that are left for a chunk of V from `at`. */
__device__ __forceinline__ int pb_clip(int64_t n, int64_t at, int width) {
    int64_t left = n - at;
    return left >= width ? width : left > 0 ? (int)left : 0;
}

#endif
