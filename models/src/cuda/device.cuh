// What all kernels share: the two storage types, loads and stores that compute in float32, sums over warps and columns.
//
// The same sources compile for the host, where `emulation.h` (models/tests/cuda) plays the device: that is how they are
// tested on machines without a GPU.
#pragma once

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <stdint.h>

typedef __nv_bfloat16 bf16;

__device__ __forceinline__ float widen(bf16 x) { return __bfloat162float(x); }
__device__ __forceinline__ bf16 narrow(float x) { return __float2bfloat16_rn(x); }
#else
#include "emulation.h"
#endif

constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) { return widen(x); }

template <typename T> __device__ __forceinline__ T from_float(float x);
template <> __device__ __forceinline__ float from_float<float>(float x) { return x; }
template <> __device__ __forceinline__ bf16 from_float<bf16>(float x) { return narrow(x); }

// Two bf16 in one register, the first in the lower half.
__device__ __forceinline__ uint32_t pack(float first, float second) {
    union {
        bf16 halves[2];
        uint32_t bits;
    } both;
    both.halves[0] = narrow(first);
    both.halves[1] = narrow(second);
    return both.bits;
}

// N values next to one another; N is 1 or 4, and for 4 they lie at a multiple of their size.
template <int N, typename T> struct alignas(N * sizeof(T)) Values {
    T values[N];
};

template <int N, typename T> __device__ __forceinline__ void load(float (&to)[N], const T* from) {
    Values<N, T> values = *reinterpret_cast<const Values<N, T>*>(from);
#pragma unroll
    for (int i = 0; i < N; i++) to[i] = to_float(values.values[i]);
}

template <int N, typename T> __device__ __forceinline__ void store(T* to, const float (&from)[N]) {
    Values<N, T> values;
#pragma unroll
    for (int i = 0; i < N; i++) values.values[i] = from_float<T>(from[i]);
    *reinterpret_cast<Values<N, T>*>(to) = values;
}

template <int N> struct Width {
    static constexpr int value = N;
};

// Whether rows of `dim` values from these places can be read four at a time; a null pointer does not matter.
__device__ __forceinline__ bool in_fours(int dim) { return dim % 4 == 0; }
template <typename T, typename... Rest>
__device__ __forceinline__ bool in_fours(int dim, const T* place, const Rest*... rest) {
    return reinterpret_cast<uintptr_t>(place) % (4 * sizeof(T)) == 0 && in_fours(dim, rest...);
}

// Calls f(Width<N>, column) for every N columns that are this lane's, with N = 4 or 1.
template <typename F> __device__ __forceinline__ void columns(int dim, bool fours, int lane, int lanes, F f) {
    if (fours) {
        for (int column = 4 * lane; column < dim; column += 4 * lanes) f(Width<4>(), column);
    } else {
        for (int column = lane; column < dim; column += lanes) f(Width<1>(), column);
    }
}

__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
    for (int distance = WARP / 2; distance > 0; distance /= 2) x += __shfl_xor_sync(ALL_LANES, x, distance);
    return x;
}

__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
    for (int distance = WARP / 2; distance > 0; distance /= 2) x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, distance));
    return x;
}

// The row of a kernel that gives every warp a row.
__device__ __forceinline__ long long row_of_warp() {
    return (long long)blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
}

// Sums over rows, column by column: every block of (32, 8) threads adds up what `f(row, column, sums)` adds to SUMS sums for
// 32 columns of the rows blockIdx.y, blockIdx.y + gridDim.y, … (in eights), and writes partials [gridDim.y, SUMS, dim].
// `add_up` finishes. The order of additions depends on nothing but the sizes.
constexpr int COLUMNS = 32, ROWS = 8;

template <int SUMS, typename F>
__device__ __forceinline__ void column_partials(float* partials, long long rows, int dim, F f) {
    __shared__ float shared[SUMS][ROWS][COLUMNS + 1];
    const int column = blockIdx.x * COLUMNS + threadIdx.x;
    float sums[SUMS] = {};
    if (column < dim) {
        for (long long row = (long long)blockIdx.y * ROWS + threadIdx.y; row < rows; row += (long long)ROWS * gridDim.y) {
            f(row, column, sums);
        }
    }
#pragma unroll
    for (int i = 0; i < SUMS; i++) shared[i][threadIdx.y][threadIdx.x] = sums[i];
    __syncthreads();
    if (threadIdx.y == 0 && column < dim) {
#pragma unroll
        for (int i = 0; i < SUMS; i++) {
            float total = 0;
            for (int row = 0; row < ROWS; row++) total += shared[i][row][threadIdx.x];
            partials[((long long)blockIdx.y * SUMS + i) * dim + column] = total;
        }
    }
}
