// AdamW, SGD and sums of squares over many tensors in one launch.
//
// A table of the tensors lies on the device; a block works on BLOCK values of one of them, which it finds by its number.
// The formulas are those of `adamw_step` and `sgd_step`, in float32. Gradients are float32 or bf16, the rest float32.
#include "device.cuh"

constexpr int BLOCK = 4096;

// One tensor: as `Entry` in optimizer.rs lays it out.
struct Entry {
    float* param;
    const void* gradient;
    float* first;           // AdamW: m; SGD: the momentum buffer or null
    float* second;          // AdamW: v
    long long count;
    long long first_block;  // the number of blocks before this tensor's
    float lr;               // AdamW: lr / (1 - β₁ᵗ); SGD: lr
    float decay;            // AdamW: 1 - lr · weight decay; SGD: the weight decay
    float root;             // AdamW: sqrt(1 - β₂ᵗ)
    int narrow;             // whether the gradient is bf16
};

__device__ __forceinline__ const Entry& entry_of_block(const Entry* entries, int tensors) {
    int low = 0, high = tensors - 1;
    while (low < high) {
        const int middle = (low + high + 1) / 2;
        if (entries[middle].first_block <= blockIdx.x) low = middle;
        else high = middle - 1;
    }
    return entries[low];
}

__device__ __forceinline__ float gradient_at(const Entry& entry, long long i) {
    return entry.narrow ? to_float(static_cast<const bf16*>(entry.gradient)[i])
                        : static_cast<const float*>(entry.gradient)[i];
}

// Calls f(i) for the values of this block's tensor that are this thread's.
template <typename F> __device__ __forceinline__ void values_of_block(const Entry& entry, F f) {
    const long long start = (blockIdx.x - entry.first_block) * BLOCK;
    const long long end = start + BLOCK < entry.count ? start + BLOCK : entry.count;
    for (long long i = start + threadIdx.x; i < end; i += blockDim.x) f(i);
}

// What gradients are multiplied by, `scale` brought down so that their norm is no larger than `largest` (0 for any) as
// `clip_factor` in multi_tensor.rs does; false if their norm is not finite, so that there is no step. Without `squares`, the
// square of the norm, it is `scale`.
__device__ __forceinline__ bool clipped(const double* squares, float largest, float& scale) {
    if (!squares) return true;
    const double norm = sqrt(*squares);
    if (!isfinite(norm)) return false;
    const double factor = static_cast<double>(largest) / (norm + 1e-6);
    if (largest > 0 && factor < 1) scale = static_cast<float>(scale * factor);
    return true;
}

extern "C" __global__ void adamw_f32(
    const Entry* entries, int tensors, float beta1, float rest1, float beta2, float rest2, float eps, float scale,
    const double* squares, float largest
) {
    if (!clipped(squares, largest, scale)) return;
    const Entry entry = entry_of_block(entries, tensors);
    values_of_block(entry, [&](long long i) {
        const float g = gradient_at(entry, i) * scale;
        const float m = beta1 * entry.first[i] + rest1 * g;
        const float v = beta2 * entry.second[i] + rest2 * g * g;
        entry.first[i] = m;
        entry.second[i] = v;
        entry.param[i] = entry.param[i] * entry.decay - entry.lr * (m / (sqrtf(v) / entry.root + eps));
    });
}

extern "C" __global__ void sgd_f32(
    const Entry* entries, int tensors, float momentum, int nesterov, float scale, const double* squares, float largest
) {
    if (!clipped(squares, largest, scale)) return;
    const Entry entry = entry_of_block(entries, tensors);
    values_of_block(entry, [&](long long i) {
        const float p = entry.param[i];
        const float g = gradient_at(entry, i) * scale + entry.decay * p;
        float direction = g;
        if (entry.first) {
            const float buffer = momentum * entry.first[i] + g;
            entry.first[i] = buffer;
            direction = nesterov ? g + momentum * buffer : buffer;
        }
        entry.param[i] = p - entry.lr * direction;
    });
}

// partials [blocks], in float64
extern "C" __global__ void sum_of_squares_f64(const Entry* entries, int tensors, double* partials) {
    __shared__ double sums[256];
    const Entry entry = entry_of_block(entries, tensors);
    double sum = 0;
    values_of_block(entry, [&](long long i) {
        const double g = gradient_at(entry, i);
        sum += g * g;
    });
    sums[threadIdx.x] = sum;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x == 0) partials[blockIdx.x] = sums[0];
}

// sums [tensors + 1]: of the partials of every tensor, its blocks in order, and of all tensors; by one block of threads
extern "C" __global__ void sum_of_squares_by_tensor_f64(
    const Entry* entries, int tensors, const double* partials, double* sums, long long blocks
) {
    for (int tensor = threadIdx.x; tensor < tensors; tensor += blockDim.x) {
        const long long end = tensor + 1 < tensors ? entries[tensor + 1].first_block : blocks;
        double sum = 0;
        for (long long i = entries[tensor].first_block; i < end; i++) sum += partials[i];
        sums[tensor] = sum;
    }
    __syncthreads();
    if (threadIdx.x > 0) return;
    double sum = 0;
    for (int tensor = 0; tensor < tensors; tensor++) sum += sums[tensor];
    sums[tensors] = sum;
}
