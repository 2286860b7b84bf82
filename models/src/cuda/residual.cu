// out = x + keep gamma y: a residual connection with LayerScale (gamma [dim]) and DropPath (keep, a factor a sample).
//
// dx is the gradient itself; dy = keep gamma gradient; dgamma = Σ keep y gradient over rows. gamma, keep and x may be null:
// without x the kernel gives what is added to it, which is also dy.
#include "device.cuh"

template <typename T, typename W>
__device__ void scale_add(
    const T* x, const T* y, const W* gamma, const float* keep, T* out, long long rows, int dim, int rows_per_sample
) {
    const bool fours = in_fours(dim, y, out) && (!x || in_fours(dim, x)) && (!gamma || in_fours(dim, gamma));
    const long long lanes = (long long)gridDim.x * blockDim.x, lane = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    auto apply = [&](auto width, long long at) {
        constexpr int N = decltype(width)::value;
        const float factor = keep ? keep[at / dim / rows_per_sample] : 1;
        float values[N], base[N] = {}, scale[N];
        load(values, y + at);
        if (x) load(base, x + at);
        if (gamma) load(scale, gamma + at % dim);
        for (int i = 0; i < N; i++) values[i] = base[i] + (gamma ? scale[i] * values[i] : values[i]) * factor;
        store(out + at, values);
    };
    if (fours) {
        for (long long i = lane; i < rows * dim / 4; i += lanes) apply(Width<4>(), 4 * i);
    } else {
        for (long long i = lane; i < rows * dim; i += lanes) apply(Width<1>(), i);
    }
}

// partials [parts, dim] of dgamma
template <typename T>
__device__ void scale_add_gamma(
    const T* gradient, const T* y, const float* keep, float* partials, long long rows, int dim, int rows_per_sample
) {
    column_partials<1>(partials, rows, dim, [&](long long row, int column, float* sums) {
        const float factor = keep ? keep[row / rows_per_sample] : 1;
        sums[0] += to_float(gradient[row * dim + column]) * to_float(y[row * dim + column]) * factor;
    });
}

#define KERNELS(name, T, W)                                                                                            \
    extern "C" __global__ void scale_add_##name(                                                                       \
        const T* x, const T* y, const W* gamma, const float* keep, T* out, long long rows, int dim,                    \
        int rows_per_sample                                                                                            \
    ) {                                                                                                                \
        scale_add(x, y, gamma, keep, out, rows, dim, rows_per_sample);                                                 \
    }                                                                                                                  \
    extern "C" __global__ void scale_add_gamma_##name(                                                                 \
        const T* gradient, const T* y, const float* keep, float* partials, long long rows, int dim,                    \
        int rows_per_sample                                                                                            \
    ) {                                                                                                                \
        scale_add_gamma(gradient, y, keep, partials, rows, dim, rows_per_sample);                                      \
    }

// The type of x, then that of gamma.
KERNELS(f32_f32, float, float)
KERNELS(bf16_bf16, bf16, bf16)
KERNELS(bf16_f32, bf16, float)
