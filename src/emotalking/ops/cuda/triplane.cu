// Tri-plane features on a GPU; the meaning is that of ops/reference/triplane.py. LANES threads, at least LEVELS of them,
// work on one point, a level each: neighbours read and add at different levels, so they rarely meet at one address.
//
// LEVELS: of the encoder. LANES: a power of two, at most 32.
#include "triplane.h"

extern "C" __global__ void encode(Grid grid, int count, const float *points, const float *table, float *features) {
    const int thread = blockIdx.x * blockDim.x + threadIdx.x, n = thread / LANES, level = thread % LANES;
    if (n >= count || level >= LEVELS) return;
    const int stride = grid.strides[level];
    const Place at(points + 3 * n, grid.bound, grid.scales[level]);
#pragma unroll
    for (int plane = 0; plane < 3; ++plane) {
        const int a = first_axis(plane), b = second_axis(plane);
        const float *corner = table + (long long)plane * grid.entries + grid.offsets[level] + at.cell[a] + at.cell[b] * stride;
        const float low = corner[0] + at.frac[a] * (corner[1] - corner[0]);
        const float high = corner[stride] + at.frac[a] * (corner[stride + 1] - corner[stride]);
        const bool inside = at.inside[a] && at.inside[b];
        features[(long long)n * 3 * LEVELS + plane * LEVELS + level] = inside ? low + at.frac[b] * (high - low) : 0.f;
    }
}

// d_table is added to; d_points is written. Either may be null. Of d_table there are several copies that blocks take in
// turn, to be summed: thousands of points add to each of a small grid's numbers, and would wait for each other.
extern "C" __global__ void encode_backward(Grid grid, int count, const float *points, const float *table,
                                           const float *d_features, float *d_points, float *d_table, int copies) {
    const int thread = blockIdx.x * blockDim.x + threadIdx.x, n = thread / LANES, lane = thread % LANES;
    const bool active = n < count && lane < LEVELS;
    const int point = min(n, count - 1), level = min(lane, LEVELS - 1), stride = grid.strides[level];
    const Place at(points + 3 * point, grid.bound, grid.scales[level]);
    float d_u[3] = {};
#pragma unroll
    for (int plane = 0; plane < 3; ++plane) {
        const int a = first_axis(plane), b = second_axis(plane);
        if (!active || !at.inside[a] || !at.inside[b]) continue;
        const float g = d_features[(long long)n * 3 * LEVELS + plane * LEVELS + level];
        const long long index = (long long)plane * grid.entries + grid.offsets[level] + at.cell[a] + at.cell[b] * stride;
        const float fa = at.frac[a], fb = at.frac[b];
        if (d_points) {
            const float *corner = table + index;
            const float c0 = corner[0], c1 = corner[1], c2 = corner[stride], c3 = corner[stride + 1];
            d_u[a] += g * grid.scales[level] * ((c1 - c0) + fb * ((c3 - c2) - (c1 - c0)));
            d_u[b] += g * grid.scales[level] * ((c2 - c0) + fa * ((c3 - c1) - (c2 - c0)));
        }
        if (d_table) {
            float *corner = d_table + (long long)(blockIdx.x % copies) * 3 * grid.entries + index;
            atomicAdd(corner, g * (1 - fa) * (1 - fb)), atomicAdd(corner + 1, g * fa * (1 - fb));
            atomicAdd(corner + stride, g * (1 - fa) * fb), atomicAdd(corner + stride + 1, g * fa * fb);
        }
    }
    if (!d_points) return;
#pragma unroll
    for (int axis = 0; axis < 3; ++axis) {
        for (int step = LANES / 2; step; step /= 2) d_u[axis] += __shfl_xor_sync(0xffffffffu, d_u[axis], step);
        if (lane == 0 && n < count) d_points[3 * n + axis] = d_u[axis] / (2 * grid.bound);
    }
}
