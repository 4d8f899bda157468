// How a tile of 16 x 16 pixels finds the Gaussians that meet it, in the order of depth: it walks all of them, and no list
// is ever stored that could overflow.
#pragma once
#include "projection.h"

constexpr int TILE = 16, THREADS = TILE * TILE, WARPS = THREADS / 32, ROUNDS = 32 / WARPS, SCANNED = ROUNDS * THREADS;
constexpr unsigned ALL = 0xffffffffu, NOWHERE = 1;  // a box from column 1 to column 0

// The tiles whose pixel centres lie within a Gaussian's extents, a hundredth of a pixel wider against rounding.
inline unsigned box_of(const Seen &seen, const Settings &s) {
    const float ex = seen.extent_x + 0.01f, ey = seen.extent_y + 0.01f;
    const float w = s.width, h = s.height;
    const int x0 = int(fminf(fmaxf(ceilf(seen.x - ex - 0.5f), 0.f), w)), x1 = int(fminf(fmaxf(floorf(seen.x + ex + 0.5f), 0.f), w));
    const int y0 = int(fminf(fmaxf(ceilf(seen.y - ey - 0.5f), 0.f), h)), y1 = int(fminf(fmaxf(floorf(seen.y + ey + 0.5f), 0.f), h));
    if (x0 >= x1 || y0 >= y1) return NOWHERE;
    return x0 / TILE | ((x1 - 1) / TILE + 1) << 8 | y0 / TILE << 16 | unsigned((y1 - 1) / TILE + 1) << 24;
}

// In shared memory.
struct Places {
    int places[THREADS + SCANNED];  // in the order of depth
    int counts[32];
};

// The walk of one tile: a queue of places that is filled as it is worked off.
struct TileWalk {
    Places &p;
    const unsigned *boxes;  // of this image, sorted
    unsigned tx, ty;
    int tid, end, head = 0, filled = 0, base = 0;

    // Look at the next SCANNED boxes and append those that meet the tile.
    void scan() {
        const int warp = tid >> 5, lane = tid & 31;
        const int kept = tid < filled ? p.places[head + tid] : 0;  // filled < THREADS here
        unsigned votes[ROUNDS];
        for (int r = 0; r < ROUNDS; ++r) {
            const int k = base + r * THREADS + tid;
            const unsigned b = k < end ? boxes[k] : NOWHERE;
            const bool hit = (b & 255) <= tx && tx < (b >> 8 & 255) && (b >> 16 & 255) <= ty && ty < (b >> 24);
            votes[r] = __ballot_sync(ALL, hit);
            if (lane == 0) p.counts[r * WARPS + warp] = __popc(votes[r]);
        }
        __syncthreads();
        if (tid < filled) p.places[tid] = kept;
        const int count = p.counts[lane];
        int upto = count;
        for (int step = 1; step < 32; step *= 2) {
            const int before = __shfl_up_sync(ALL, upto, step);
            if (lane >= step) upto += before;
        }
        const int total = __shfl_sync(ALL, upto, 31);
        for (int r = 0; r < ROUNDS; ++r) {
            const int start = filled + __shfl_sync(ALL, upto - count, r * WARPS + warp);
            if (votes[r] >> lane & 1) p.places[start + __popc(votes[r] & ((1u << lane) - 1))] = base + r * THREADS + tid;
        }
        head = 0, filled += total, base += SCANNED;
        __syncthreads();
    }

    // Have up to THREADS Gaussians at place(0), place(1), ...; 0: there are no more.
    int fill() {
        while (filled < THREADS && base < end) scan();
        return min(filled, THREADS);
    }
    int place(int j) const { return p.places[head + j]; }
    void advance(int n) { head += n, filled -= n; }
};
