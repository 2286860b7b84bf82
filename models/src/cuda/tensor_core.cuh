// Products of 16×16 by 16×8 on tensor cores (`mma.sync.m16n8k16`, bf16 with float32 sums), and how their operands come from
// tiles in shared memory. Layouts: PTX ISA, "Matrix Fragments for mma.m16n8k16".
//
// A thread's share of the result c [16, 8], with g = lane / 4 and t = lane % 4: c[0], c[1] are row g, columns 2t, 2t + 1;
// c[2], c[3] the same columns of row g + 8.
#pragma once
#include "device.cuh"

#ifdef __CUDACC__
// c += a b
__device__ __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1)
    );
}

// Four 8×8 matrices; lane i gives where row i % 8 of matrix i / 8 begins. A lane gets row lane / 4, columns 2 (lane % 4) and
// the next of each; with TRANSPOSED column lane / 4 and rows 2 (lane % 4) and the next.
template <bool TRANSPOSED> __device__ __forceinline__ void load_matrices(uint32_t (&to)[4], const bf16* row) {
    const uint32_t place = static_cast<uint32_t>(__cvta_generic_to_shared(row));
    if (TRANSPOSED) {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(place) : "memory");
    } else {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(place) : "memory");
    }
}
#endif

// A tile of rows of D values in shared memory. Rows lie D + 8 apart, so that eight of them start in different banks.
template <int D> struct Tile {
    static constexpr int STRIDE = D + 8;
    bf16* values;

    // Rows first..first + ROWS of `source`, zeros from row `end` on; rows are `row_stride` apart and 16-byte aligned.
    template <int ROWS_, int THREADS>
    __device__ __forceinline__ void read(const bf16* source, long long row_stride, int first, int end) const {
        constexpr int CHUNKS = D / 8;
        for (int i = threadIdx.x; i < ROWS_ * CHUNKS; i += THREADS) {
            const int row = i / CHUNKS, column = i % CHUNKS * 8;
            uint4 chunk = {0, 0, 0, 0};
            if (first + row < end) {
                chunk = *reinterpret_cast<const uint4*>(source + (first + row) * row_stride + column);
            }
            *reinterpret_cast<uint4*>(values + row * STRIDE + column) = chunk;
        }
    }

    // Rows row..row + 16, columns column..column + 16, as the left operand.
    __device__ __forceinline__ void left(uint32_t (&a)[4], int row, int column) const {
        const int lane = threadIdx.x % WARP;
        load_matrices<false>(a, values + (row + lane % 16) * STRIDE + column + lane / 16 * 8);
    }

    // The right operands of two products, b[0], b[1] and b[2], b[3], whose columns are rows row..row + 8 and row + 8..row + 16
    // of the tile, and whose depth runs over columns column..column + 16.
    __device__ __forceinline__ void right_transposed(uint32_t (&b)[4], int row, int column) const {
        const int lane = threadIdx.x % WARP;
        load_matrices<false>(b, values + (row + lane / 16 * 8 + lane % 8) * STRIDE + column + lane / 8 % 2 * 8);
    }

    // The right operands of two products whose depth runs over rows row..row + 16 of the tile, and whose columns are columns
    // column..column + 8 and column + 8..column + 16.
    __device__ __forceinline__ void right(uint32_t (&b)[4], int row, int column) const {
        const int lane = threadIdx.x % WARP;
        load_matrices<true>(b, values + (row + lane / 8 % 2 * 8 + lane % 8) * STRIDE + column + lane / 16 * 8);
    }
};

// The results of two neighbouring products as one left operand.
__device__ __forceinline__ void as_left(uint32_t (&a)[4], const float (&first)[4], const float (&second)[4]) {
    a[0] = pack(first[0], first[1]);
    a[1] = pack(first[2], first[3]);
    a[2] = pack(second[0], second[1]);
    a[3] = pack(second[2], second[3]);
}

// Sum and maximum over the four lanes that share a row of a result.
__device__ __forceinline__ float row_sum(float x) {
    x += __shfl_xor_sync(ALL_LANES, x, 1);
    return x + __shfl_xor_sync(ALL_LANES, x, 2);
}

__device__ __forceinline__ float row_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 1));
    return fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 2));
}
