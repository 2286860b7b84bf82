// y = act(x + bias), act being GELU (x Φ(x), its tanh approximation, or x sigmoid(1.702 x)), x sigmoid(x), max(x, 0) or tanh(x);
// bias may be null.
//
// dx = dy act'(x + bias), dbias = Σ dx over rows. As an activation, `add` leaves what it gets: the bias of a linear layer.
#include "device.cuh"

struct Add {
    static __device__ __forceinline__ float value(float x) { return x; }
    static __device__ __forceinline__ float slope(float) { return 1; }
};

struct Relu {
    // Written so that NaN goes through; the derivative at 0 is 0.
    static __device__ __forceinline__ float value(float x) { return x <= 0 ? 0 : x; }
    static __device__ __forceinline__ float slope(float x) { return x <= 0 ? 0 : 1; }
};

struct HyperbolicTangent {
    static __device__ __forceinline__ float value(float x) { return tanhf(x); }
    static __device__ __forceinline__ float slope(float x) {
        const float y = tanhf(x);
        return 1 - y * y;
    }
};

struct Erf {
    static __device__ __forceinline__ float value(float x) { return 0.5f * x * (1 + erff(x * 0.70710678f)); }
    static __device__ __forceinline__ float slope(float x) {
        return 0.5f * (1 + erff(x * 0.70710678f)) + x * 0.39894228f * expf(-0.5f * x * x);
    }
};

__device__ __forceinline__ float sigmoid(float x) { return 1 / (1 + expf(-x)); }

struct Tanh {
    // (1 + tanh(u)) / 2 = sigmoid(2 u), u = sqrt(2 / π) (x + 0.044715 x³)
    static __device__ __forceinline__ float inner(float x) { return 1.5957691f * (x + 0.044715f * x * x * x); }
    static __device__ __forceinline__ float value(float x) { return x * sigmoid(inner(x)); }
    static __device__ __forceinline__ float slope(float x) {
        const float s = sigmoid(inner(x));
        return s + x * s * (1 - s) * 1.5957691f * (1 + 3 * 0.044715f * x * x);
    }
};

struct Quick {
    static __device__ __forceinline__ float value(float x) { return x * sigmoid(1.702f * x); }
    static __device__ __forceinline__ float slope(float x) {
        const float s = sigmoid(1.702f * x);
        return s + 1.702f * x * s * (1 - s);
    }
};

struct Silu {
    static __device__ __forceinline__ float value(float x) { return x * sigmoid(x); }
    static __device__ __forceinline__ float slope(float x) {
        const float s = sigmoid(x);
        return s + x * s * (1 - s);
    }
};

template <typename Act, typename T, typename W>
__device__ void bias_act_forward(const T* x, const W* bias, T* y, long long rows, int dim) {
    const bool fours = in_fours(dim, x, y) && (!bias || in_fours(dim, bias));
    const long long lanes = (long long)gridDim.x * blockDim.x, lane = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    auto apply = [&](auto width, long long at) {
        constexpr int N = decltype(width)::value;
        float values[N], b[N] = {};
        load(values, x + at);
        if (bias) load(b, bias + at % dim);
        for (int i = 0; i < N; i++) values[i] = Act::value(values[i] + b[i]);
        store(y + at, values);
    };
    if (fours) {
        for (long long i = lane; i < rows * dim / 4; i += lanes) apply(Width<4>(), 4 * i);
    } else {
        for (long long i = lane; i < rows * dim; i += lanes) apply(Width<1>(), i);
    }
}

// dx, and partials [parts, dim] of dbias
template <typename Act, typename T, typename W>
__device__ void bias_act_backward(
    const T* x, const W* bias, const T* dy, T* dx, float* partials, long long rows, int dim
) {
    column_partials<1>(partials, rows, dim, [&](long long row, int column, float* sums) {
        const long long at = row * dim + column;
        const float b = bias ? to_float(bias[column]) : 0;
        const float gradient = to_float(dy[at]) * Act::slope(to_float(x[at]) + b);
        dx[at] = from_float<T>(gradient);
        sums[0] += gradient;
    });
}

#define KERNELS(act, Act, name, T, W)                                                                                  \
    extern "C" __global__ void bias_##act##_forward_##name(                                                            \
        const T* x, const W* bias, T* y, long long rows, int dim                                                       \
    ) {                                                                                                                \
        bias_act_forward<Act>(x, bias, y, rows, dim);                                                                  \
    }                                                                                                                  \
    extern "C" __global__ void bias_##act##_backward_##name(                                                           \
        const T* x, const W* bias, const T* dy, T* dx, float* partials, long long rows, int dim                        \
    ) {                                                                                                                \
        bias_act_backward<Act>(x, bias, dy, dx, partials, rows, dim);                                                  \
    }
#define ACTIVATIONS(name, T, W)                                                                                        \
    KERNELS(add, Add, name, T, W) KERNELS(relu, Relu, name, T, W) KERNELS(tanh, HyperbolicTangent, name, T, W)         \
    KERNELS(gelu, Erf, name, T, W) KERNELS(silu, Silu, name, T, W)                                                     \
    KERNELS(gelu_tanh, Tanh, name, T, W) KERNELS(quick_gelu, Quick, name, T, W)

// The type of x, then that of the bias.
ACTIVATIONS(f32_f32, float, float)
ACTIVATIONS(bf16_bf16, bf16, bf16)
ACTIVATIONS(bf16_f32, bf16, float)
