// The maximum of every square window of x [planes, height, width], padded with -∞, and where in its plane it is.
//
// The gradient goes to the first maximum of a window (the last NaN, if there is one). The backward gathers: one thread an
// input pixel adds up the windows that chose it, in order.
#include "device.cuh"

struct PoolSizes {
    int height, width, out_height, out_width, kernel, stride, padding;
};

template <typename T>
__device__ void max_pool_forward(const T* x, T* y, uint32_t* maxima, long long planes, PoolSizes s) {
    const long long count = planes * s.out_height * s.out_width;
    const long long lanes = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += lanes) {
        const int column = i % s.out_width, row = i / s.out_width % s.out_height;
        const T* plane = x + i / s.out_width / s.out_height * s.height * s.width;
        const int top = max(row * s.stride - s.padding, 0), left = max(column * s.stride - s.padding, 0);
        const int bottom = min(row * s.stride - s.padding + s.kernel, s.height);
        const int right = min(column * s.stride - s.padding + s.kernel, s.width);
        float largest = -INFINITY;
        // A window of -∞ alone has its maximum at its first pixel.
        uint32_t at = top * s.width + left;
        for (int r = top; r < bottom; r++) {
            for (int c = left; c < right; c++) {
                const float value = to_float(plane[r * s.width + c]);
                if (value > largest || isnan(value)) {
                    largest = value;
                    at = r * s.width + c;
                }
            }
        }
        y[i] = from_float<T>(largest);
        maxima[i] = at;
    }
}

// Windows hold the pixels from w * stride - padding to w * stride - padding + kernel: the first that holds `pixel`.
__device__ __forceinline__ int first_window(int pixel, const PoolSizes& s) {
    const int beyond = pixel + s.padding - s.kernel;
    return beyond < 0 ? 0 : beyond / s.stride + 1;
}

template <typename T>
__device__ void max_pool_backward(const T* dy, const uint32_t* maxima, T* dx, long long planes, PoolSizes s) {
    const long long count = planes * s.height * s.width;
    const long long lanes = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += lanes) {
        const int column = i % s.width, row = i / s.width % s.height;
        const long long windows = i / s.width / s.height * s.out_height * s.out_width;
        const int first_row = first_window(row, s);
        const int first_column = first_window(column, s);
        const int last_row = min((row + s.padding) / s.stride, s.out_height - 1);
        const int last_column = min((column + s.padding) / s.stride, s.out_width - 1);
        const uint32_t here = row * s.width + column;
        float sum = 0;
        for (int r = first_row; r <= last_row; r++) {
            for (int c = first_column; c <= last_column; c++) {
                const long long window = windows + r * s.out_width + c;
                if (maxima[window] == here) sum += to_float(dy[window]);
            }
        }
        dx[i] = from_float<T>(sum);
    }
}

#define KERNELS(name, T)                                                                                               \
    extern "C" __global__ void max_pool_forward_##name(                                                                \
        const T* x, T* y, uint32_t* maxima, long long planes, int height, int width, int out_height, int out_width,    \
        int kernel, int stride, int padding                                                                            \
    ) {                                                                                                                \
        max_pool_forward(x, y, maxima, planes, {height, width, out_height, out_width, kernel, stride, padding});       \
    }                                                                                                                  \
    extern "C" __global__ void max_pool_backward_##name(                                                               \
        const T* dy, const uint32_t* maxima, T* dx, long long planes, int height, int width, int out_height,           \
        int out_width, int kernel, int stride, int padding                                                             \
    ) {                                                                                                                \
        max_pool_backward(dy, maxima, dx, planes, {height, width, out_height, out_width, kernel, stride, padding});    \
    }

KERNELS(f32, float)
KERNELS(bf16, bf16)
