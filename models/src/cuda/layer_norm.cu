// y = (x - mean) / sqrt(var + eps) * weight + bias over rows of `dim` values, one warp a row.
//
// With h = (x - mean) / sqrt(var + eps) and g = dy * weight:
// dx = (g - mean(g) - h mean(g h)) / sqrt(var + eps), dweight = Σ dy h, dbias = Σ dy.
#include "device.cuh"

// statistics [rows, 2]: mean and 1 / sqrt(var + eps)
template <typename T, typename W>
__device__ void layer_norm_forward(
    const T* x, const W* weight, const W* bias, T* y, float* statistics, long long rows, int dim, float eps
) {
    const long long row = row_of_warp();
    if (row >= rows) return;
    const int lane = threadIdx.x % WARP;
    x += row * dim;
    y += row * dim;
    const bool fours = in_fours(dim, x, y, weight, bias);
    float sum = 0;
    columns(dim, fours, lane, WARP, [&](auto width, int column) {
        float values[decltype(width)::value];
        load(values, x + column);
        for (float value : values) sum += value;
    });
    const float mean = warp_sum(sum) / dim;
    float squares = 0;
    columns(dim, fours, lane, WARP, [&](auto width, int column) {
        float values[decltype(width)::value];
        load(values, x + column);
        for (float value : values) squares += (value - mean) * (value - mean);
    });
    const float scale = 1 / sqrtf(warp_sum(squares) / dim + eps);
    columns(dim, fours, lane, WARP, [&](auto width, int column) {
        constexpr int N = decltype(width)::value;
        float values[N], w[N], b[N];
        load(values, x + column);
        load(w, weight + column);
        load(b, bias + column);
        for (int i = 0; i < N; i++) values[i] = (values[i] - mean) * scale * w[i] + b[i];
        store(y + column, values);
    });
    if (lane == 0) {
        statistics[2 * row] = mean;
        statistics[2 * row + 1] = scale;
    }
}

template <typename T, typename W>
__device__ void layer_norm_backward(
    const T* x, const W* weight, const T* dy, const float* statistics, T* dx, long long rows, int dim
) {
    const long long row = row_of_warp();
    if (row >= rows) return;
    const int lane = threadIdx.x % WARP;
    const float mean = statistics[2 * row], scale = statistics[2 * row + 1];
    x += row * dim;
    dy += row * dim;
    dx += row * dim;
    const bool fours = in_fours(dim, x, dy, dx, weight);
    float sum = 0, along = 0;
    columns(dim, fours, lane, WARP, [&](auto width, int column) {
        constexpr int N = decltype(width)::value;
        float values[N], g[N], w[N];
        load(values, x + column);
        load(g, dy + column);
        load(w, weight + column);
        for (int i = 0; i < N; i++) {
            sum += g[i] * w[i];
            along += g[i] * w[i] * (values[i] - mean) * scale;
        }
    });
    sum = warp_sum(sum) / dim;
    along = warp_sum(along) / dim;
    columns(dim, fours, lane, WARP, [&](auto width, int column) {
        constexpr int N = decltype(width)::value;
        float values[N], g[N], w[N];
        load(values, x + column);
        load(g, dy + column);
        load(w, weight + column);
        for (int i = 0; i < N; i++) g[i] = (g[i] * w[i] - sum - (values[i] - mean) * scale * along) * scale;
        store(dx + column, g);
    });
}

// partials [parts, 2, dim] of dweight and dbias
template <typename T>
__device__ void layer_norm_parameters(
    const T* x, const T* dy, const float* statistics, float* partials, long long rows, int dim
) {
    column_partials<2>(partials, rows, dim, [&](long long row, int column, float* sums) {
        const float g = to_float(dy[row * dim + column]);
        sums[0] += g * (to_float(x[row * dim + column]) - statistics[2 * row]) * statistics[2 * row + 1];
        sums[1] += g;
    });
}

#define KERNELS(name, T, W)                                                                                            \
    extern "C" __global__ void layer_norm_forward_##name(                                                              \
        const T* x, const W* weight, const W* bias, T* y, float* statistics, long long rows, int dim, float eps        \
    ) {                                                                                                                \
        layer_norm_forward(x, weight, bias, y, statistics, rows, dim, eps);                                            \
    }                                                                                                                  \
    extern "C" __global__ void layer_norm_backward_##name(                                                             \
        const T* x, const W* weight, const T* dy, const float* statistics, T* dx, long long rows, int dim              \
    ) {                                                                                                                \
        layer_norm_backward(x, weight, dy, statistics, dx, rows, dim);                                                 \
    }                                                                                                                  \
    extern "C" __global__ void layer_norm_parameters_##name(                                                           \
        const T* x, const T* dy, const float* statistics, float* partials, long long rows, int dim                     \
    ) {                                                                                                                \
        layer_norm_parameters(x, dy, statistics, partials, rows, dim);                                                 \
    }

// The type of x, then that of weight and bias.
KERNELS(f32_f32, float, float)
KERNELS(bf16_bf16, bf16, bf16)
KERNELS(bf16_f32, bf16, float)
