// loss = mean over rows of -Σ target log softmax(logits), target = (1 - ε) at the label + ε / classes everywhere.
//
// dlogits = (softmax(logits) - target) dloss / rows. One warp a row. A label that names no class makes the loss NaN.
#include "device.cuh"

// losses [rows]; statistics [rows, 2]: the maximum, and log Σ exp(x - maximum)
template <typename T>
__device__ void cross_entropy_forward(
    const T* logits, const uint32_t* labels, float* losses, float* statistics, long long rows, int classes,
    float smoothing
) {
    const long long row = row_of_warp();
    if (row >= rows) return;
    const int lane = threadIdx.x % WARP;
    logits += row * classes;
    float largest = -INFINITY;
    for (int i = lane; i < classes; i += WARP) largest = fmaxf(largest, to_float(logits[i]));
    largest = warp_max(largest);
    float sum = 0, shifted = 0;
    for (int i = lane; i < classes; i += WARP) {
        const float x = to_float(logits[i]) - largest;
        sum += expf(x);
        shifted += x;
    }
    const float log_sum = logf(warp_sum(sum));
    shifted = warp_sum(shifted);
    if (lane == 0) {
        const uint32_t label = labels[row];
        float loss = NAN;
        if (label < (uint32_t)classes) {
            loss = log_sum - (to_float(logits[label]) - largest);
            if (smoothing != 0) loss = (1 - smoothing) * loss + smoothing * (log_sum - shifted / classes);
        }
        losses[row] = loss;
        statistics[2 * row] = largest;
        statistics[2 * row + 1] = log_sum;
    }
}

// out = mean of losses [rows], in one block
__device__ void cross_entropy_mean(const float* losses, float* out, long long rows) {
    __shared__ double sums[256];
    double sum = 0;
    for (long long i = threadIdx.x; i < rows; i += blockDim.x) sum += losses[i];
    sums[threadIdx.x] = sum;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x == 0) *out = (float)(sums[0] / rows);
}

template <typename T>
__device__ void cross_entropy_backward(
    const T* logits, const uint32_t* labels, const float* statistics, const float* dloss, T* dlogits, long long rows,
    int classes, float smoothing
) {
    const long long row = row_of_warp();
    if (row >= rows) return;
    const int lane = threadIdx.x % WARP;
    const float largest = statistics[2 * row], log_sum = statistics[2 * row + 1];
    const float scale = *dloss / rows, everywhere = smoothing / classes;
    const uint32_t label = labels[row];
    for (int i = lane; i < classes; i += WARP) {
        const float target = everywhere + ((uint32_t)i == label ? 1 - smoothing : 0);
        const float p = expf(to_float(logits[row * classes + i]) - largest - log_sum);
        dlogits[row * classes + i] = from_float<T>((p - target) * scale);
    }
}

extern "C" __global__ void cross_entropy_mean_f32(const float* losses, float* out, long long rows) {
    cross_entropy_mean(losses, out, rows);
}

#define KERNELS(name, T)                                                                                               \
    extern "C" __global__ void cross_entropy_forward_##name(                                                           \
        const T* logits, const uint32_t* labels, float* losses, float* statistics, long long rows, int classes,        \
        float smoothing                                                                                                \
    ) {                                                                                                                \
        cross_entropy_forward(logits, labels, losses, statistics, rows, classes, smoothing);                           \
    }                                                                                                                  \
    extern "C" __global__ void cross_entropy_backward_##name(                                                          \
        const T* logits, const uint32_t* labels, const float* statistics, const float* dloss, T* dlogits,              \
        long long rows, int classes, float smoothing                                                                   \
    ) {                                                                                                                \
        cross_entropy_backward(logits, labels, statistics, dloss, dlogits, rows, classes, smoothing);                  \
    }

KERNELS(f32, float)
KERNELS(bf16, bf16)
