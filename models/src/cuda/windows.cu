// The windows of an image as the rows of a matrix: x [batch, channels, height, width] to [batch, windows, channels · kernel
// height · kernel width], zeros outside of the image. A convolution is a product of that with its weights.
//
// The backward gathers: one thread a pixel adds up its copies in the rows, in order.
#include "device.cuh"

struct WindowSizes {
    int channels, height, width, out_height, out_width, kernel_height, kernel_width, stride, padding;
};

template <typename T> __device__ void unfold(const T* x, T* rows, long long batch, WindowSizes s) {
    const int depth = s.channels * s.kernel_height * s.kernel_width;
    const long long count = batch * s.out_height * s.out_width * depth, lanes = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += lanes) {
        const int at = i % depth;
        const long long window = i / depth;
        const int kernel_column = at % s.kernel_width, kernel_row = at / s.kernel_width % s.kernel_height;
        const int channel = at / s.kernel_width / s.kernel_height;
        const int column = int(window % s.out_width) * s.stride - s.padding + kernel_column;
        const int row = int(window / s.out_width % s.out_height) * s.stride - s.padding + kernel_row;
        const long long plane = window / s.out_width / s.out_height * s.channels + channel;
        const bool inside = row >= 0 && row < s.height && column >= 0 && column < s.width;
        rows[i] = inside ? x[(plane * s.height + row) * s.width + column] : from_float<T>(0);
    }
}

template <typename T> __device__ void fold(const T* drows, T* dx, long long batch, WindowSizes s) {
    const int depth = s.channels * s.kernel_height * s.kernel_width;
    const long long count = batch * s.channels * s.height * s.width, lanes = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += lanes) {
        const int column = i % s.width, row = i / s.width % s.height, channel = i / s.width / s.height % s.channels;
        const T* image = drows + i / s.width / s.height / s.channels * s.out_height * s.out_width * depth;
        float sum = 0;
        for (int kernel_row = 0; kernel_row < s.kernel_height; kernel_row++) {
            const int down = row + s.padding - kernel_row;
            if (down < 0 || down % s.stride != 0 || down / s.stride >= s.out_height) continue;
            for (int kernel_column = 0; kernel_column < s.kernel_width; kernel_column++) {
                const int across = column + s.padding - kernel_column;
                if (across < 0 || across % s.stride != 0 || across / s.stride >= s.out_width) continue;
                const long long window = (long long)(down / s.stride) * s.out_width + across / s.stride;
                const int at = (channel * s.kernel_height + kernel_row) * s.kernel_width + kernel_column;
                sum += to_float(image[window * depth + at]);
            }
        }
        dx[i] = from_float<T>(sum);
    }
}

#define KERNELS(name, T)                                                                                               \
    extern "C" __global__ void unfold_##name(                                                                          \
        const T* x, T* rows, long long batch, int channels, int height, int width, int out_height, int out_width,      \
        int kernel_height, int kernel_width, int stride, int padding                                                   \
    ) {                                                                                                                \
        unfold(                                                                                                        \
            x, rows, batch,                                                                                            \
            {channels, height, width, out_height, out_width, kernel_height, kernel_width, stride, padding}             \
        );                                                                                                             \
    }                                                                                                                  \
    extern "C" __global__ void fold_##name(                                                                            \
        const T* drows, T* dx, long long batch, int channels, int height, int width, int out_height, int out_width,    \
        int kernel_height, int kernel_width, int stride, int padding                                                   \
    ) {                                                                                                                \
        fold(                                                                                                          \
            drows, dx, batch,                                                                                          \
            {channels, height, width, out_height, out_width, kernel_height, kernel_width, stride, padding}             \
        );                                                                                                             \
    }

KERNELS(f32, float)
KERNELS(bf16, bf16)
