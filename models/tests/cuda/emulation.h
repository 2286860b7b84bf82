// CUDA's execution model on the host, for tests on machines without a GPU: the threads of a block are fibers, barriers and
// warp instructions wait for all of theirs, shared memory is static, blocks run one after the other.
//
// `mma.sync` and `ldmatrix` are written down from the fragment layouts of the PTX ISA (version 9.0, 9.7.14.5.8 and
// 9.7.14.5.15). What this cannot show: races between warps that the order of the fibers hides (see SHUFFLED), timing, and
// whether a launch fits the device.
#pragma once
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

using std::isfinite;
using std::isnan;
using std::max;
using std::min;

#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
inline dim3 threadIdx, blockIdx, blockDim, gridDim;

struct uint4 {
    uint32_t x, y, z, w;
};

struct bf16 {
    uint16_t bits;
};

inline float widen(bf16 x) {
    uint32_t bits = uint32_t(x.bits) << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

inline bf16 narrow(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if (std::isnan(x)) return {uint16_t(bits >> 16 | 0x40)};
    return {uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

namespace emulation {

constexpr size_t STACK = 256 << 10;

struct Barrier {
    unsigned arrived = 0, generation = 0;
};

struct Fiber {
    ucontext_t context;
    std::vector<char> stack = std::vector<char>(STACK);
    dim3 thread;
    bool done = false;
};

inline std::vector<Fiber> fibers;
inline std::vector<Barrier> warps;
inline Barrier block;
inline ucontext_t scheduler;
inline size_t running;
inline unsigned long long waits;
inline std::function<void()> kernel;

inline unsigned linear(dim3 t) { return t.x + blockDim.x * (t.y + blockDim.y * t.z); }

inline void yield() { swapcontext(&fibers[running].context, &scheduler); }

inline void wait(Barrier& barrier, unsigned count) {
    const unsigned generation = barrier.generation;
    if (++barrier.arrived == count) {
        barrier.arrived = 0;
        barrier.generation++;
        waits = 0;
        return;
    }
    while (barrier.generation == generation) {
        if (++waits > 1000000) {
            fprintf(stderr, "deadlock: not all threads of a block or warp came to a barrier\n");
            exit(1);
        }
        yield();
    }
}

inline unsigned lane() { return running % 32; }
inline void sync_warp() { wait(warps[running / 32], std::min<unsigned>(32, fibers.size() - running / 32 * 32)); }

// What the lanes of a warp show one another.
struct Slot {
    uint32_t a[4], b[2];
    const bf16* row;
    float value;
};
inline std::vector<Slot> slots;
inline Slot& slot(unsigned lane) { return slots[running / 32 * 32 + lane]; }

inline void start() {
    kernel();
    fibers[running].done = true;
    swapcontext(&fibers[running].context, &scheduler);
}

// Runs `f` for every thread of a grid. The order of the threads differs from block to block, so that a missing barrier shows.
inline void launch(dim3 grid, dim3 threads, std::function<void()> f) {
    kernel = std::move(f);
    gridDim = grid;
    blockDim = threads;
    const size_t count = size_t(threads.x) * threads.y * threads.z;
    fibers.resize(count);
    slots.resize(count + 32);
    uint32_t state = 1;
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                blockIdx = dim3(x, y, z);
                block = {};
                warps.assign((count + 31) / 32, {});
                std::vector<size_t> order(count);
                for (size_t i = 0; i < count; i++) {
                    order[i] = i;
                    Fiber& fiber = fibers[i];
                    fiber.done = false;
                    fiber.thread = dim3(i % threads.x, i / threads.x % threads.y, i / threads.x / threads.y);
                    getcontext(&fiber.context);
                    fiber.context.uc_stack.ss_sp = fiber.stack.data();
                    fiber.context.uc_stack.ss_size = STACK;
                    fiber.context.uc_link = nullptr;
                    makecontext(&fiber.context, start, 0);
                }
                for (size_t i = count; i > 1; i--) {
                    state = state * 1664525 + 1013904223;
                    std::swap(order[i - 1], order[state / 65536 % i]);
                }
                for (size_t left = count; left > 0;) {
                    left = 0;
                    for (size_t i : order) {
                        if (fibers[i].done) continue;
                        running = i;
                        threadIdx = fibers[i].thread;
                        swapcontext(&scheduler, &fibers[i].context);
                        left += !fibers[i].done;
                    }
                }
            }
}

}  // namespace emulation

// A fiber that goes on after others ran finds its own index again, as the scheduler sets it before.
inline void __syncthreads() { emulation::wait(emulation::block, emulation::fibers.size()); }

inline float __shfl_xor_sync(unsigned, float value, int distance) {
    using namespace emulation;
    slot(lane()).value = value;
    sync_warp();
    const float other = slot(lane() ^ distance).value;
    sync_warp();
    return other;
}

inline float half_of(uint32_t pair, int which) { return widen({uint16_t(pair >> 16 * which)}); }

// PTX ISA, mma.m16n8k16 with .bf16: with g = lane / 4, t = lane % 4, register r and half h of a lane hold
// a: row g + 8 (r % 2), column 2t + h + 8 (r / 2); b: row 2t + h + 8 r, column g; c: row g + 8 (r / 2), column 2t + r % 2.
inline void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    using namespace emulation;
    Slot& mine = slot(lane());
    memcpy(mine.a, a, sizeof a);
    mine.b[0] = b0;
    mine.b[1] = b1;
    sync_warp();
    const unsigned g = lane() / 4, t = lane() % 4;
    for (int r = 0; r < 4; r++) {
        const unsigned row = g + 8 * (r / 2), column = 2 * t + r % 2;
        for (unsigned k = 0; k < 16; k++) {
            const Slot& of_a = slot(row % 8 * 4 + k % 8 / 2);
            const Slot& of_b = slot(column * 4 + k % 8 / 2);
            c[r] += half_of(of_a.a[row / 8 + 2 * (k / 8)], k % 2) * half_of(of_b.b[k / 8], k % 2);
        }
    }
    sync_warp();
}

// PTX ISA, ldmatrix .m8n8.x4: lanes 8i..8i + 8 give the rows of matrix i; a lane receives row lane / 4, columns 2 (lane % 4) and
// the next, or with .trans rows 2 (lane % 4) and the next of column lane / 4.
template <bool TRANSPOSED> inline void load_matrices(uint32_t (&to)[4], const bf16* row) {
    using namespace emulation;
    if (reinterpret_cast<uintptr_t>(row) % 16 != 0) {
        fprintf(stderr, "ldmatrix: a row that is not 16-byte aligned\n");
        exit(1);
    }
    slot(lane()).row = row;
    sync_warp();
    const unsigned g = lane() / 4, t = lane() % 4;
    for (unsigned i = 0; i < 4; i++) {
        uint32_t halves[2];
        for (unsigned h = 0; h < 2; h++) {
            const unsigned r = TRANSPOSED ? 2 * t + h : g, c = TRANSPOSED ? g : 2 * t + h;
            halves[h] = slot(8 * i + r).row[c].bits;
        }
        to[i] = halves[0] | halves[1] << 16;
    }
    sync_warp();
}
