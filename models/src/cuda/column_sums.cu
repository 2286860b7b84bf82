// Sums over the rows of a matrix: bias gradients, and the second half of every gradient that is a sum over rows.
#include "device.cuh"

// partials [parts, dim] of x [rows, dim]
template <typename T> __device__ void column_sums(const T* x, float* partials, long long rows, int dim) {
    column_partials<1>(partials, rows, dim, [&](long long row, int column, float* sums) {
        sums[0] += to_float(x[row * dim + column]);
    });
}

// out [width] = Σ partials [parts, width]; one thread a column, the parts in order
template <typename T> __device__ void add_up(const float* partials, T* out, int parts, int width) {
    const int column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= width) return;
    float total = 0;
    for (int part = 0; part < parts; part++) total += partials[(long long)part * width + column];
    out[column] = from_float<T>(total);
}

#define KERNELS(name, T)                                                                                               \
    extern "C" __global__ void column_sums_##name(const T* x, float* partials, long long rows, int dim) {              \
        column_sums(x, partials, rows, dim);                                                                           \
    }                                                                                                                  \
    extern "C" __global__ void add_up_##name(const float* partials, T* out, int parts, int width) {                    \
        add_up(partials, out, parts, width);                                                                           \
    }

KERNELS(f32, float)
KERNELS(bf16, bf16)
