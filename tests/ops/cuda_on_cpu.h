// CUDA on one CPU thread, for tests of the kernels' logic where there is no GPU: every CUDA thread is a fibre, blocks run
// one after the other, and a barrier or warp operation waits until all fibres have reached it.
#pragma once
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <utility>
#include <vector>
#define __global__
#define __shared__ static
#define __launch_bounds__(...)
struct float4 { float x, y, z, w; };
struct uint2 { unsigned x, y; };
struct uchar4 { unsigned char x, y, z, w; };
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
struct Index { unsigned x = 0, y = 0, z = 0; };
static Index threadIdx, blockIdx, blockDim;
using std::max, std::min, std::pow;

namespace emulated {
constexpr int WARP = 32;
struct Fibre { ucontext_t context; jmp_buf place; std::vector<char> stack; bool begun, done; };
struct Meeting { int arrived = 0, round = 0, sum = 0, total = 0; };
static std::vector<Fibre> fibres(1024);
static jmp_buf outside;
static Meeting block, warps[WARP];
static uint64_t given[WARP][WARP], taken[WARP][WARP];
static int current, alive;
static void (*body)();

// Jumps, as swapcontext asks the kernel for the signals' mask at every switch.
inline void yield() { if (!_setjmp(fibres[current].place)) _longjmp(outside, 1); }
inline void close(Meeting &m) { m.total = m.sum, m.sum = m.arrived = 0, ++m.round; }
inline int meet_block(int value) {
    const int round = block.round;
    block.sum += value;
    if (++block.arrived == alive) close(block);
    while (round == block.round) yield();
    return block.total;
}
inline void meet_warp(uint64_t value) {
    const int w = current / WARP, round = warps[w].round;
    given[w][current % WARP] = value;
    if (++warps[w].arrived == WARP) std::memcpy(taken[w], given[w], sizeof given[w]), close(warps[w]);
    while (round == warps[w].round) yield();
}
template <class T>
T exchange(T value, int lane) {
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    meet_warp(bits);
    std::memcpy(&value, &taken[current / WARP][lane], sizeof value);
    return value;
}
inline void start() {
    body();
    fibres[current].done = true, --alive;
    if (alive && block.arrived == alive) close(block);
    yield();
}
inline void resume(int i) {
    Fibre &fibre = fibres[i];
    current = threadIdx.x = i;
    if (_setjmp(outside)) return;
    if (fibre.begun) _longjmp(fibre.place, 1);
    fibre.begun = true;
    setcontext(&fibre.context);
}
inline void run_block(int threads) {
    alive = threads, block = {};
    for (auto &warp : warps) warp = {};
    for (int i = 0; i < threads; ++i) {
        Fibre &fibre = fibres[i];
        fibre.begun = fibre.done = false;
        if (!fibre.stack.empty()) continue;
        fibre.stack.resize(128 * 1024);
        getcontext(&fibre.context);
        fibre.context.uc_stack.ss_sp = fibre.stack.data(), fibre.context.uc_stack.ss_size = fibre.stack.size();
        fibre.context.uc_link = nullptr;
        makecontext(&fibre.context, start, 0);
    }
    while (alive)
        for (int i = 0; i < threads; ++i)
            if (!fibres[i].done) resume(i);
}
template <class... A, size_t... I>
void launch(void (*kernel)(A...), const unsigned *grid, int threads, void **arguments, std::index_sequence<I...>) {
    static void (*function)(A...);
    static std::tuple<A...> *values;
    std::tuple<A...> given_values(*static_cast<A *>(arguments[I])...);
    function = kernel, values = &given_values, body = [] { std::apply(function, *values); };
    blockDim.x = threads;
    for (blockIdx.z = 0; blockIdx.z < grid[2]; ++blockIdx.z)
        for (blockIdx.y = 0; blockIdx.y < grid[1]; ++blockIdx.y)
            for (blockIdx.x = 0; blockIdx.x < grid[0]; ++blockIdx.x) run_block(threads);
}
template <class... A>
void launch(void (*kernel)(A...), const unsigned *grid, int threads, void **arguments) {
    launch(kernel, grid, threads, arguments, std::index_sequence_for<A...>{});
}
}  // namespace emulated

inline void __syncthreads() { emulated::meet_block(0); }
inline int __syncthreads_count(int value) { return emulated::meet_block(value != 0); }
inline unsigned __ballot_sync(unsigned, bool vote) {
    emulated::meet_warp(vote);
    unsigned votes = 0;
    for (int i = 0; i < 32; ++i) votes |= unsigned(emulated::taken[emulated::current / 32][i]) << i;
    return votes;
}
inline bool __any_sync(unsigned mask, bool vote) { return __ballot_sync(mask, vote) != 0; }
template <class T> T __shfl_sync(unsigned, T v, int lane) { return emulated::exchange(v, lane & 31); }
template <class T> T __shfl_xor_sync(unsigned, T v, int mask) { return emulated::exchange(v, emulated::current % 32 ^ mask); }
template <class T> T __shfl_up_sync(unsigned, T v, int by) {
    const int lane = emulated::current % 32;
    return emulated::exchange(v, lane >= by ? lane - by : lane);
}
template <class T> T atomicAdd(T *at, T value) { return std::exchange(*at, *at + value); }
inline int atomicMax(int *at, int value) { return std::exchange(*at, std::max(*at, value)); }
inline int __popc(unsigned value) { return __builtin_popcount(value); }
inline float __int_as_float(int bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
inline int __ffs(unsigned value) { return __builtin_ffs(value); }

// What matrix.h has of the tensor cores.
inline unsigned pack_half(float low, float high) {
    const _Float16 halves[2] = {_Float16(low), _Float16(high)};
    unsigned packed;
    std::memcpy(&packed, halves, sizeof packed);
    return packed;
}
inline void unpack_half(unsigned packed, float &low, float &high) {
    _Float16 halves[2];
    std::memcpy(halves, &packed, sizeof packed);
    low = float(halves[0]), high = float(halves[1]);
}
template <class T> void emulated_multiply_add(T &c, const unsigned (&a)[4], uint2 b) {
    unsigned left[4][32], right[2][32];
    const int w = emulated::current / 32, lane = emulated::current % 32;
    const auto tell = [w](unsigned value, unsigned (&all)[32]) {
        emulated::meet_warp(value);
        for (int i = 0; i < 32; ++i) all[i] = unsigned(emulated::taken[w][i]);
    };
    const auto half = [](unsigned packed, int upper) {
        float low, high;
        unpack_half(packed, low, high);
        return upper ? high : low;
    };
    for (int i = 0; i < 4; ++i) tell(a[i], left[i]);
    tell(b.x, right[0]), tell(b.y, right[1]);
    for (int i = 0; i < 4; ++i) {
        const int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
        for (int k = 0; k < 16; ++k)
            c.at[i] += half(left[row / 8 + 2 * (k / 8)][row % 8 * 4 + k % 8 / 2], k % 2) *
                       half(right[k / 8][column * 4 + k % 8 / 2], k % 2);
    }
}
#define EMULATED(name) \
    extern "C" void emulated_##name(const unsigned *grid, int threads, void **arguments) { emulated::launch(name, grid, threads, arguments); }
