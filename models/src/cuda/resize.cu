// Images of 8-bit levels [batch, height, width, channels] resized as Pillow does it, then (level · scale + shift) of each
// channel as [batch, out_channels, out_height, out_width]. The only channel of a grey image serves all of them.
//
// Across first, then down; every output pixel is a sum of source pixels times integers with 22 bits after the point,
// rounded to a level after each of the two: bit for bit what `data::resize` computes on the CPU.
#include "device.cuh"

constexpr int PRECISION = 32 - 8 - 2;

__device__ __forceinline__ int level(int sum) {
    sum >>= PRECISION;
    return sum < 0 ? 0 : sum > 255 ? 255 : sum;
}

// starts, counts [out_width]; weights [out_width, taps]; lines = batch · height
extern "C" __global__ void resize_across_u8(
    const uint8_t* images, uint8_t* out, const uint32_t* starts, const uint32_t* counts, const int* weights, int taps,
    long long lines, int width, int out_width, int channels
) {
    const long long count = lines * out_width * channels, lanes = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += lanes) {
        const int channel = i % channels, column = i / channels % out_width;
        const uint8_t* line = images + i / channels / out_width * width * channels;
        const uint32_t start = starts[column], many = counts[column];
        int sum = 1 << (PRECISION - 1);
        for (uint32_t k = 0; k < many; k++) {
            sum += line[(start + k) * channels + channel] * weights[column * taps + k];
        }
        out[i] = level(sum);
    }
}

template <typename T>
__device__ void resize_down(
    const uint8_t* lines, T* out, const uint32_t* starts, const uint32_t* counts, const int* weights, int taps,
    const float* scale, const float* shift, long long batch, int height, int out_height, int out_width, int channels,
    int out_channels
) {
    const long long count = batch * out_channels * out_height * out_width, lanes = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += lanes) {
        const int column = i % out_width, row = i / out_width % out_height;
        const int channel = i / out_width / out_height % out_channels, source = channel % channels;
        const uint8_t* image = lines + i / out_width / out_height / out_channels * height * out_width * channels;
        const uint32_t start = starts[row], many = counts[row];
        int sum = 1 << (PRECISION - 1);
        for (uint32_t k = 0; k < many; k++) {
            sum += image[((start + k) * out_width + column) * channels + source] * weights[row * taps + k];
        }
        out[i] = from_float<T>(level(sum) * scale[channel] + shift[channel]);
    }
}

#define KERNELS(name, T)                                                                                               \
    extern "C" __global__ void resize_down_##name(                                                                     \
        const uint8_t* lines, T* out, const uint32_t* starts, const uint32_t* counts, const int* weights, int taps,    \
        const float* scale, const float* shift, long long batch, int height, int out_height, int out_width,            \
        int channels, int out_channels                                                                                 \
    ) {                                                                                                                \
        resize_down(                                                                                                   \
            lines, out, starts, counts, weights, taps, scale, shift, batch, height, out_height, out_width, channels,   \
            out_channels                                                                                               \
        );                                                                                                             \
    }

KERNELS(f32, float)
KERNELS(bf16, bf16)
