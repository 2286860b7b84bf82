// softmax(q kᵀ / sqrt(d)) v for every head, on tensor cores: bf16 operands, float32 sums. No matrix of queries × keys exists.
//
// Dao et al., "FlashAttention", 2022, and "FlashAttention-2", 2023. The forward keeps log2 Σ 2^s of every row (s being the
// scores times log2 e); with P = 2^(s - log_sum), D = rowsum(dy y) and dS = P (dy vᵀ - D) / sqrt(d):
// dv = Pᵀ dy, dq = dS k, dk = dSᵀ q.
// The backward is two kernels, one for dq and one for dk and dv, each of which computes P again: seven products instead of
// five, but no atomic additions, so the same numbers every time.
//
// Every operand is [batch, tokens, heads · d] with rows a stride apart, so q, k and v may lie in one packed projection.
#include "tensor_core.cuh"

constexpr int WARPS = 4, THREADS = WARPS * WARP;
constexpr float LOG2_E = 1.44269504f;

struct AttentionSizes {
    int queries, keys, heads;
    long long stride;      // between rows of q, k, v and their gradients
    long long out_stride;  // between rows of y and dy
};

// Where head `blockIdx.y` of image `blockIdx.z` begins.
template <typename T, int D>
__device__ __forceinline__ T* head(T* values, int rows, long long stride) {
    return values + blockIdx.z * rows * stride + (long long)blockIdx.y * D;
}

__device__ __forceinline__ long long statistics_of_head(const AttentionSizes& s) {
    return ((long long)blockIdx.z * s.heads + blockIdx.y) * s.queries;
}

// The 16 rows of a result that a warp holds, as bf16, to rows `row`.. of a head; none from `end` on. Each row times its factor.
template <int D>
__device__ __forceinline__ void write_rows(
    bf16* out, long long stride, const float (&c)[D / 8][4], int row, int end, float factor0, float factor1
) {
    const int lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int n = 0; n < D / 8; n++) {
        const int column = n * 8 + 2 * t;
        if (row + g < end) {
            *reinterpret_cast<uint32_t*>(out + (row + g) * stride + column) = pack(c[n][0] * factor0, c[n][1] * factor0);
        }
        if (row + g + 8 < end) {
            *reinterpret_cast<uint32_t*>(out + (row + g + 8) * stride + column) = pack(c[n][2] * factor1, c[n][3] * factor1);
        }
    }
}

// A block works on 64 queries, a warp on 16 of them.
template <int D>
__device__ void attention_forward(
    const bf16* q, const bf16* k, const bf16* v, bf16* y, float* log_sums, AttentionSizes s, float scale
) {
    constexpr int KEYS = 64, STEPS = D / 16;
    __shared__ __align__(16) bf16 shared[2 * KEYS * Tile<D>::STRIDE];
    const Tile<D> k_tile = {shared}, v_tile = {shared + KEYS * Tile<D>::STRIDE};
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, t = lane % 4;
    const int first = blockIdx.x * 16 * WARPS, row = first + 16 * warp;
    q = head<const bf16, D>(q, s.queries, s.stride);
    k = head<const bf16, D>(k, s.keys, s.stride);
    v = head<const bf16, D>(v, s.keys, s.stride);
    const float log2_scale = scale * LOG2_E;

    k_tile.template read<16 * WARPS, THREADS>(q, s.stride, first, s.queries);
    __syncthreads();
    uint32_t queries[STEPS][4];
#pragma unroll
    for (int i = 0; i < STEPS; i++) k_tile.left(queries[i], 16 * warp, 16 * i);

    float out[D / 8][4] = {};
    float largest[2] = {-INFINITY, -INFINITY}, sums[2] = {0, 0};
    for (int key = 0; key < s.keys; key += KEYS) {
        __syncthreads();
        k_tile.template read<KEYS, THREADS>(k, s.stride, key, s.keys);
        v_tile.template read<KEYS, THREADS>(v, s.stride, key, s.keys);
        __syncthreads();
        float scores[KEYS / 8][4] = {};
#pragma unroll
        for (int i = 0; i < STEPS; i++) {
#pragma unroll
            for (int n = 0; n < KEYS / 16; n++) {
                uint32_t b[4];
                k_tile.right_transposed(b, 16 * n, 16 * i);
                mma(scores[2 * n], queries[i], b[0], b[1]);
                mma(scores[2 * n + 1], queries[i], b[2], b[3]);
            }
        }
        float tile_largest[2] = {-INFINITY, -INFINITY};
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const bool inside = key + 8 * n + 2 * t + i % 2 < s.keys;
                scores[n][i] = inside ? scores[n][i] * log2_scale : -INFINITY;
                tile_largest[i / 2] = fmaxf(tile_largest[i / 2], scores[n][i]);
            }
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const float now = fmaxf(largest[half], row_max(tile_largest[half]));
            const float shrink = exp2f(largest[half] - now);
            largest[half] = now;
            sums[half] *= shrink;
#pragma unroll
            for (int n = 0; n < D / 8; n++) {
                out[n][2 * half] *= shrink;
                out[n][2 * half + 1] *= shrink;
            }
        }
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                scores[n][i] = exp2f(scores[n][i] - largest[i / 2]);
                sums[i / 2] += scores[n][i];
            }
        }
#pragma unroll
        for (int j = 0; j < KEYS / 16; j++) {
            uint32_t p[4];
            as_left(p, scores[2 * j], scores[2 * j + 1]);
#pragma unroll
            for (int n = 0; n < D / 16; n++) {
                uint32_t b[4];
                v_tile.right(b, 16 * j, 16 * n);
                mma(out[2 * n], p, b[0], b[1]);
                mma(out[2 * n + 1], p, b[2], b[3]);
            }
        }
    }
    const float total0 = row_sum(sums[0]), total1 = row_sum(sums[1]);
    write_rows<D>(
        head<bf16, D>(y, s.queries, s.out_stride), s.out_stride, out, row, s.queries, 1 / total0, 1 / total1
    );
    log_sums += statistics_of_head(s);
    const int g = lane / 4;
    if (t == 0 && row + g < s.queries) log_sums[row + g] = largest[0] + log2f(total0);
    if (t == 0 && row + g + 8 < s.queries) log_sums[row + g + 8] = largest[1] + log2f(total1);
}

// A block works on 64 queries, a warp on 16 of them.
template <int D>
__device__ void attention_backward_q(
    const bf16* q, const bf16* k, const bf16* v, const bf16* dy, const float* log_sums, const float* along, bf16* dq,
    AttentionSizes s, float scale
) {
    constexpr int KEYS = D <= 64 ? 64 : 32, STEPS = D / 16, QUERIES = 16 * WARPS;
    constexpr int TILE_ROWS = 2 * KEYS > QUERIES ? 2 * KEYS : QUERIES;
    __shared__ __align__(16) bf16 shared[TILE_ROWS * Tile<D>::STRIDE];
    const Tile<D> k_tile = {shared}, v_tile = {shared + KEYS * Tile<D>::STRIDE};
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, g = lane / 4, t = lane % 4;
    const int first = blockIdx.x * QUERIES, row = first + 16 * warp;
    q = head<const bf16, D>(q, s.queries, s.stride);
    k = head<const bf16, D>(k, s.keys, s.stride);
    v = head<const bf16, D>(v, s.keys, s.stride);
    dy = head<const bf16, D>(dy, s.queries, s.out_stride);
    const float log2_scale = scale * LOG2_E;

    uint32_t queries[STEPS][4], gradients[STEPS][4];
    k_tile.template read<QUERIES, THREADS>(q, s.stride, first, s.queries);
    __syncthreads();
#pragma unroll
    for (int i = 0; i < STEPS; i++) k_tile.left(queries[i], 16 * warp, 16 * i);
    __syncthreads();
    k_tile.template read<QUERIES, THREADS>(dy, s.out_stride, first, s.queries);
    __syncthreads();
#pragma unroll
    for (int i = 0; i < STEPS; i++) k_tile.left(gradients[i], 16 * warp, 16 * i);

    // What does not exist has no probability.
    float log_sum[2] = {INFINITY, INFINITY}, dot[2] = {0, 0};
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int at = row + g + 8 * half;
        if (at < s.queries) {
            log_sum[half] = log_sums[statistics_of_head(s) + at];
            dot[half] = along[statistics_of_head(s) + at];
        }
    }
    float out[D / 8][4] = {};
    for (int key = 0; key < s.keys; key += KEYS) {
        __syncthreads();
        k_tile.template read<KEYS, THREADS>(k, s.stride, key, s.keys);
        v_tile.template read<KEYS, THREADS>(v, s.stride, key, s.keys);
        __syncthreads();
        float scores[KEYS / 8][4] = {}, slopes[KEYS / 8][4] = {};
#pragma unroll
        for (int i = 0; i < STEPS; i++) {
#pragma unroll
            for (int n = 0; n < KEYS / 16; n++) {
                uint32_t b[4];
                k_tile.right_transposed(b, 16 * n, 16 * i);
                mma(scores[2 * n], queries[i], b[0], b[1]);
                mma(scores[2 * n + 1], queries[i], b[2], b[3]);
                v_tile.right_transposed(b, 16 * n, 16 * i);
                mma(slopes[2 * n], gradients[i], b[0], b[1]);
                mma(slopes[2 * n + 1], gradients[i], b[2], b[3]);
            }
        }
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const bool inside = key + 8 * n + 2 * t + i % 2 < s.keys;
                const float p = inside ? exp2f(scores[n][i] * log2_scale - log_sum[i / 2]) : 0;
                slopes[n][i] = p * (slopes[n][i] - dot[i / 2]) * scale;
            }
        }
#pragma unroll
        for (int j = 0; j < KEYS / 16; j++) {
            uint32_t ds[4];
            as_left(ds, slopes[2 * j], slopes[2 * j + 1]);
#pragma unroll
            for (int n = 0; n < D / 16; n++) {
                uint32_t b[4];
                k_tile.right(b, 16 * j, 16 * n);
                mma(out[2 * n], ds, b[0], b[1]);
                mma(out[2 * n + 1], ds, b[2], b[3]);
            }
        }
    }
    write_rows<D>(head<bf16, D>(dq, s.queries, s.stride), s.stride, out, row, s.queries, 1, 1);
}

// A block works on 64 keys, a warp on 16 of them; the scores are transposed, [keys, queries].
template <int D>
__device__ void attention_backward_kv(
    const bf16* q, const bf16* k, const bf16* v, const bf16* dy, const float* log_sums, const float* along, bf16* dk,
    bf16* dv, AttentionSizes s, float scale
) {
    // Where registers do not hold k and v as well, they come from shared memory at every use.
    constexpr bool RESIDENT = D <= 64;
    constexpr int QUERIES = D <= 64 ? 32 : 16, KEYS = 16 * WARPS, STEPS = D / 16, STRIDE = Tile<D>::STRIDE;
    __shared__ __align__(16) bf16 shared[(2 * KEYS + 2 * QUERIES) * STRIDE];
    __shared__ float log_sum[QUERIES], dot[QUERIES];
    const Tile<D> k_tile = {shared}, v_tile = {shared + KEYS * STRIDE};
    const Tile<D> q_tile = {shared + 2 * KEYS * STRIDE}, dy_tile = {shared + (2 * KEYS + QUERIES) * STRIDE};
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, t = lane % 4;
    const int first = blockIdx.x * KEYS, row = first + 16 * warp;
    q = head<const bf16, D>(q, s.queries, s.stride);
    dy = head<const bf16, D>(dy, s.queries, s.out_stride);
    log_sums += statistics_of_head(s);
    along += statistics_of_head(s);
    const float log2_scale = scale * LOG2_E;

    k_tile.template read<KEYS, THREADS>(head<const bf16, D>(k, s.keys, s.stride), s.stride, first, s.keys);
    v_tile.template read<KEYS, THREADS>(head<const bf16, D>(v, s.keys, s.stride), s.stride, first, s.keys);
    __syncthreads();
    uint32_t keys[RESIDENT ? STEPS : 1][4], values[RESIDENT ? STEPS : 1][4];
    if (RESIDENT) {
#pragma unroll
        for (int i = 0; i < STEPS; i++) {
            k_tile.left(keys[RESIDENT ? i : 0], 16 * warp, 16 * i);
            v_tile.left(values[RESIDENT ? i : 0], 16 * warp, 16 * i);
        }
    }
    float out_k[D / 8][4] = {}, out_v[D / 8][4] = {};
    for (int query = 0; query < s.queries; query += QUERIES) {
        __syncthreads();
        q_tile.template read<QUERIES, THREADS>(q, s.stride, query, s.queries);
        dy_tile.template read<QUERIES, THREADS>(dy, s.out_stride, query, s.queries);
        if (threadIdx.x < QUERIES) {
            const int at = query + threadIdx.x;
            // What does not exist has no probability.
            log_sum[threadIdx.x] = at < s.queries ? log_sums[at] : INFINITY;
            dot[threadIdx.x] = at < s.queries ? along[at] : 0;
        }
        __syncthreads();
        float scores[QUERIES / 8][4] = {}, slopes[QUERIES / 8][4] = {};
#pragma unroll
        for (int i = 0; i < STEPS; i++) {
            const int held = RESIDENT ? i : 0;
            if (!RESIDENT) {
                k_tile.left(keys[held], 16 * warp, 16 * i);
                v_tile.left(values[held], 16 * warp, 16 * i);
            }
#pragma unroll
            for (int n = 0; n < QUERIES / 16; n++) {
                uint32_t b[4];
                q_tile.right_transposed(b, 16 * n, 16 * i);
                mma(scores[2 * n], keys[held], b[0], b[1]);
                mma(scores[2 * n + 1], keys[held], b[2], b[3]);
                dy_tile.right_transposed(b, 16 * n, 16 * i);
                mma(slopes[2 * n], values[held], b[0], b[1]);
                mma(slopes[2 * n + 1], values[held], b[2], b[3]);
            }
        }
#pragma unroll
        for (int n = 0; n < QUERIES / 8; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int column = 8 * n + 2 * t + i % 2;
                scores[n][i] = exp2f(scores[n][i] * log2_scale - log_sum[column]);
                slopes[n][i] = scores[n][i] * (slopes[n][i] - dot[column]) * scale;
            }
        }
#pragma unroll
        for (int j = 0; j < QUERIES / 16; j++) {
            uint32_t p[4], ds[4];
            as_left(p, scores[2 * j], scores[2 * j + 1]);
            as_left(ds, slopes[2 * j], slopes[2 * j + 1]);
#pragma unroll
            for (int n = 0; n < D / 16; n++) {
                uint32_t b[4];
                dy_tile.right(b, 16 * j, 16 * n);
                mma(out_v[2 * n], p, b[0], b[1]);
                mma(out_v[2 * n + 1], p, b[2], b[3]);
                q_tile.right(b, 16 * j, 16 * n);
                mma(out_k[2 * n], ds, b[0], b[1]);
                mma(out_k[2 * n + 1], ds, b[2], b[3]);
            }
        }
    }
    write_rows<D>(head<bf16, D>(dk, s.keys, s.stride), s.stride, out_k, row, s.keys, 1, 1);
    write_rows<D>(head<bf16, D>(dv, s.keys, s.stride), s.stride, out_v, row, s.keys, 1, 1);
}

#define KERNELS(D)                                                                                                     \
    extern "C" __global__ void __launch_bounds__(THREADS) attention_forward_bf16_##D(                                  \
        const bf16* q, const bf16* k, const bf16* v, bf16* y, float* log_sums, int queries, int keys, int heads,       \
        long long stride, long long out_stride, float scale                                                            \
    ) {                                                                                                                \
        attention_forward<D>(q, k, v, y, log_sums, {queries, keys, heads, stride, out_stride}, scale);                 \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS) attention_backward_q_bf16_##D(                               \
        const bf16* q, const bf16* k, const bf16* v, const bf16* dy, const float* log_sums, const float* along,        \
        bf16* dq, int queries, int keys, int heads, long long stride, long long out_stride, float scale                \
    ) {                                                                                                                \
        attention_backward_q<D>(                                                                                       \
            q, k, v, dy, log_sums, along, dq, {queries, keys, heads, stride, out_stride}, scale                        \
        );                                                                                                             \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS) attention_backward_kv_bf16_##D(                              \
        const bf16* q, const bf16* k, const bf16* v, const bf16* dy, const float* log_sums, const float* along,        \
        bf16* dk, bf16* dv, int queries, int keys, int heads, long long stride, long long out_stride, float scale      \
    ) {                                                                                                                \
        attention_backward_kv<D>(                                                                                      \
            q, k, v, dy, log_sums, along, dk, dv, {queries, keys, heads, stride, out_stride}, scale                    \
        );                                                                                                             \
    }

KERNELS(32)
KERNELS(64)
KERNELS(96)
KERNELS(128)
