// softmax(q kᵀ / sqrt(d)) v for every head without tensor cores: float32 operands, or bf16 ones with a head dim that
// attention.cu has no kernel for (any up to 128). The formulas and what is kept are those of attention.cu.
//
// A block of 16 × 16 threads works on 16 rows and takes the other side 16 rows at a time; every thread has one score of a
// tile, and up to 8 values of a row of the result.
#include "device.cuh"

constexpr int SIDE = 16, LARGEST_D = 128, SHARE = LARGEST_D / SIDE;
constexpr float LOG2_E = 1.44269504f;

struct AttentionSizes {
    int queries, keys, heads, d;
    long long stride, out_stride;
};

template <typename T> __device__ __forceinline__ T* head(T* values, int rows, int d, long long stride) {
    return values + blockIdx.z * rows * stride + (long long)blockIdx.y * d;
}

__device__ __forceinline__ long long statistics_of_head(const AttentionSizes& s) {
    return ((long long)blockIdx.z * s.heads + blockIdx.y) * s.queries;
}

typedef float Rows[SIDE][LARGEST_D + 1];

// Rows first..first + 16 of a head, zeros from row `end` on.
template <typename T>
__device__ __forceinline__ void read(Rows& rows, const T* source, long long stride, int first, int end, int d) {
    for (int column = threadIdx.x; column < d; column += SIDE) {
        const int row = first + threadIdx.y;
        rows[threadIdx.y][column] = row < end ? to_float(source[row * stride + column]) : 0;
    }
}

// This thread's share of row threadIdx.y: columns threadIdx.x, threadIdx.x + 16, …
template <typename T>
__device__ __forceinline__ void write(T* out, long long stride, int row, int end, int d, const float (&share)[SHARE]) {
    if (row >= end) return;
#pragma unroll
    for (int i = 0; i < SHARE; i++) {
        const int column = threadIdx.x + i * SIDE;
        if (column < d) out[row * stride + column] = from_float<T>(share[i]);
    }
}

__device__ __forceinline__ float dot(const float* a, const float* b, int d) {
    float sum = 0;
    for (int i = 0; i < d; i++) sum += a[i] * b[i];
    return sum;
}

// share += row threadIdx.y of `factors` times `rows`
__device__ __forceinline__ void add_product(
    float (&share)[SHARE], const float (&factors)[SIDE][SIDE + 1], const Rows& rows, int d
) {
    for (int j = 0; j < SIDE; j++) {
        const float factor = factors[threadIdx.y][j];
#pragma unroll
        for (int i = 0; i < SHARE; i++) {
            const int column = threadIdx.x + i * SIDE;
            if (column < d) share[i] += factor * rows[j][column];
        }
    }
}

__device__ __forceinline__ float side_sum(float x) {
#pragma unroll
    for (int distance = SIDE / 2; distance > 0; distance /= 2) x += __shfl_xor_sync(ALL_LANES, x, distance);
    return x;
}

__device__ __forceinline__ float side_max(float x) {
#pragma unroll
    for (int distance = SIDE / 2; distance > 0; distance /= 2) x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, distance));
    return x;
}

template <typename T>
__device__ void attention_forward(const T* q, const T* k, const T* v, T* y, float* log_sums, AttentionSizes s, float scale) {
    __shared__ Rows queries, keys, values;
    __shared__ float probabilities[SIDE][SIDE + 1];
    const int first = blockIdx.x * SIDE, row = first + threadIdx.y;
    read(queries, head(q, s.queries, s.d, s.stride), s.stride, first, s.queries, s.d);
    float share[SHARE] = {}, largest = -INFINITY, sum = 0;
    for (int key = 0; key < s.keys; key += SIDE) {
        __syncthreads();
        read(keys, head(k, s.keys, s.d, s.stride), s.stride, key, s.keys, s.d);
        read(values, head(v, s.keys, s.d, s.stride), s.stride, key, s.keys, s.d);
        __syncthreads();
        const float product = dot(queries[threadIdx.y], keys[threadIdx.x], s.d) * scale * LOG2_E;
        const float score = key + threadIdx.x < s.keys ? product : -INFINITY;
        const float now = fmaxf(largest, side_max(score)), shrink = exp2f(largest - now), p = exp2f(score - now);
        largest = now;
        sum = sum * shrink + side_sum(p);
        probabilities[threadIdx.y][threadIdx.x] = p;
        __syncthreads();
#pragma unroll
        for (int i = 0; i < SHARE; i++) share[i] *= shrink;
        add_product(share, probabilities, values, s.d);
    }
#pragma unroll
    for (int i = 0; i < SHARE; i++) share[i] /= sum;
    write(head(y, s.queries, s.d, s.out_stride), s.out_stride, row, s.queries, s.d, share);
    if (threadIdx.x == 0 && row < s.queries) log_sums[statistics_of_head(s) + row] = largest + log2f(sum);
}

template <typename T>
__device__ void attention_backward_q(
    const T* q, const T* k, const T* v, const T* dy, const float* log_sums, const float* along, T* dq, AttentionSizes s,
    float scale
) {
    __shared__ Rows queries, gradients, others;
    __shared__ float slopes[SIDE][SIDE + 1];
    const int first = blockIdx.x * SIDE, row = first + threadIdx.y;
    read(queries, head(q, s.queries, s.d, s.stride), s.stride, first, s.queries, s.d);
    read(gradients, head(dy, s.queries, s.d, s.out_stride), s.out_stride, first, s.queries, s.d);
    const bool exists = row < s.queries;
    const float log_sum = exists ? log_sums[statistics_of_head(s) + row] : INFINITY;
    const float along_row = exists ? along[statistics_of_head(s) + row] : 0;
    float share[SHARE] = {};
    for (int key = 0; key < s.keys; key += SIDE) {
        __syncthreads();
        read(others, head(v, s.keys, s.d, s.stride), s.stride, key, s.keys, s.d);
        __syncthreads();
        const float slope = dot(gradients[threadIdx.y], others[threadIdx.x], s.d) - along_row;
        __syncthreads();
        read(others, head(k, s.keys, s.d, s.stride), s.stride, key, s.keys, s.d);
        __syncthreads();
        const float score = dot(queries[threadIdx.y], others[threadIdx.x], s.d) * scale * LOG2_E;
        const float p = key + threadIdx.x < s.keys ? exp2f(score - log_sum) : 0;
        slopes[threadIdx.y][threadIdx.x] = p * slope * scale;
        __syncthreads();
        add_product(share, slopes, others, s.d);
    }
    write(head(dq, s.queries, s.d, s.stride), s.stride, row, s.queries, s.d, share);
}

// Rows are keys, and scores are transposed.
template <typename T>
__device__ void attention_backward_kv(
    const T* q, const T* k, const T* v, const T* dy, const float* log_sums, const float* along, T* dk, T* dv,
    AttentionSizes s, float scale
) {
    __shared__ Rows keys, values, others;
    __shared__ float factors[SIDE][SIDE + 1];
    const int first = blockIdx.x * SIDE, row = first + threadIdx.y;
    read(keys, head(k, s.keys, s.d, s.stride), s.stride, first, s.keys, s.d);
    read(values, head(v, s.keys, s.d, s.stride), s.stride, first, s.keys, s.d);
    float share_k[SHARE] = {}, share_v[SHARE] = {};
    for (int query = 0; query < s.queries; query += SIDE) {
        const int at = query + threadIdx.x;
        const float log_sum = at < s.queries ? log_sums[statistics_of_head(s) + at] : INFINITY;
        const float along_row = at < s.queries ? along[statistics_of_head(s) + at] : 0;
        __syncthreads();
        read(others, head(q, s.queries, s.d, s.stride), s.stride, query, s.queries, s.d);
        __syncthreads();
        const float score = dot(keys[threadIdx.y], others[threadIdx.x], s.d) * scale * LOG2_E;
        const float p = exp2f(score - log_sum);
        __syncthreads();
        read(others, head(dy, s.queries, s.d, s.out_stride), s.out_stride, query, s.queries, s.d);
        factors[threadIdx.y][threadIdx.x] = p;
        __syncthreads();
        const float slope = dot(values[threadIdx.y], others[threadIdx.x], s.d) - along_row;
        add_product(share_v, factors, others, s.d);
        __syncthreads();
        read(others, head(q, s.queries, s.d, s.stride), s.stride, query, s.queries, s.d);
        factors[threadIdx.y][threadIdx.x] = p * slope * scale;
        __syncthreads();
        add_product(share_k, factors, others, s.d);
    }
    write(head(dk, s.keys, s.d, s.stride), s.stride, row, s.keys, s.d, share_k);
    write(head(dv, s.keys, s.d, s.stride), s.stride, row, s.keys, s.d, share_v);
}

// along [batch, heads, queries] = Σ dy y over a head's values; one warp a row of a head. Serves attention.cu too.
template <typename T>
__device__ void attention_along(const T* y, const T* dy, float* along, long long rows, AttentionSizes s) {
    const long long row = row_of_warp();
    if (row >= rows) return;
    const long long query = row % s.queries, unit = row / s.queries, image = unit / s.heads, number = unit % s.heads;
    const long long start = (image * s.queries + query) * s.out_stride + number * s.d;
    float sum = 0;
    for (int i = threadIdx.x % WARP; i < s.d; i += WARP) sum += to_float(y[start + i]) * to_float(dy[start + i]);
    sum = warp_sum(sum);
    if (threadIdx.x % WARP == 0) along[row] = sum;
}

#define KERNELS(name, T)                                                                                               \
    extern "C" __global__ void __launch_bounds__(SIDE * SIDE, 4) attention_plain_forward_##name(                       \
        const T* q, const T* k, const T* v, T* y, float* log_sums, int queries, int keys, int heads, int d,            \
        long long stride, long long out_stride, float scale                                                            \
    ) {                                                                                                                \
        attention_forward(q, k, v, y, log_sums, {queries, keys, heads, d, stride, out_stride}, scale);                 \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(SIDE * SIDE, 4) attention_plain_backward_q_##name(                    \
        const T* q, const T* k, const T* v, const T* dy, const float* log_sums, const float* along, T* dq,             \
        int queries, int keys, int heads, int d, long long stride, long long out_stride, float scale                   \
    ) {                                                                                                                \
        attention_backward_q(                                                                                          \
            q, k, v, dy, log_sums, along, dq, {queries, keys, heads, d, stride, out_stride}, scale                     \
        );                                                                                                             \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(SIDE * SIDE, 4) attention_plain_backward_kv_##name(                   \
        const T* q, const T* k, const T* v, const T* dy, const float* log_sums, const float* along, T* dk, T* dv,      \
        int queries, int keys, int heads, int d, long long stride, long long out_stride, float scale                   \
    ) {                                                                                                                \
        attention_backward_kv(                                                                                         \
            q, k, v, dy, log_sums, along, dk, dv, {queries, keys, heads, d, stride, out_stride}, scale                 \
        );                                                                                                             \
    }                                                                                                                  \
    extern "C" __global__ void attention_along_##name(                                                                 \
        const T* y, const T* dy, float* along, long long rows, int queries, int keys, int heads, int d,                \
        long long stride, long long out_stride                                                                         \
    ) {                                                                                                                \
        attention_along(y, dy, along, rows, {queries, keys, heads, d, stride, out_stride});                            \
    }

KERNELS(f32, float)
KERNELS(bf16, bf16)
