// Splatting for rendering without gradient: moved Gaussians to one layer, colours and coverage. The meaning is that of
// ops/rasterize.py and ops/sh.py.
//
// As in rasterize.cu every tile of 16 x 16 pixels walks all Gaussians front to back and picks those whose box meets it,
// so there is no list that could overflow. Here a warp blends only those that reach its own 8 x 4 pixels: its lanes look
// at 32 Gaussians at once, each at the largest value that one has there.
//
// DEGREE: of the spherical harmonics. BASES: coefficients a colour channel has, at least (DEGREE + 1)^2.
#include "device.h"

#include "harmonics.h"
#include "projection.h"

constexpr int TILE = 16, THREADS = TILE * TILE, WARPS = THREADS / 32, ROUNDS = 32 / WARPS, SCANNED = ROUNDS * THREADS;
constexpr int ROW = 3;  // float4s of a record
constexpr float LOG2E = 1.4426950408889634f;
constexpr unsigned ALL = 0xffffffffu, NOWHERE = 1;  // a box from column 1 to column 0

struct Rows {  // of a tensor [images, count, values], which may be a part of a wider one; mirrored in splat.py
    const float *start;
    long long image;
    int row;

    const float *operator()(int i, int n) const { return start + i * image + (long long)n * row; }
};

extern "C" __global__ void project_moved(Settings s, Rows means, Rows quats, Rows scales, const float *opacities,
                                         const float *first, const float *rest, const float *viewmats, const float *K,
                                         float4 *records, float *keys, unsigned *boxes) {
    const int n = blockIdx.x * blockDim.x + threadIdx.x, image = blockIdx.y;
    if (n >= s.count) return;
    const long long i = (long long)image * s.count + n;
    const float *view = viewmats + 16 * image, *at = means(image, n);
    const Camera cam(view, K, s);
    const Seen seen = project(at, quats(image, n), scales(image, n), opacities[n], nullptr, cam, s);
    keys[i] = __int_as_float(0x7f800000), boxes[i] = NOWHERE;
    if (!seen.radius) return;
    const float ex = seen.extent_x + 0.01f, ey = seen.extent_y + 0.01f;  // wider against rounding
    const float w = s.width, h = s.height;
    const int x0 = int(fminf(fmaxf(ceilf(seen.x - ex - 0.5f), 0.f), w)), x1 = int(fminf(fmaxf(floorf(seen.x + ex + 0.5f), 0.f), w));
    const int y0 = int(fminf(fmaxf(ceilf(seen.y - ey - 0.5f), 0.f), h)), y1 = int(fminf(fmaxf(floorf(seen.y + ey + 0.5f), 0.f), h));
    if (x0 >= x1 || y0 >= y1) return;
    keys[i] = seen.z;
    boxes[i] = x0 / TILE | ((x1 - 1) / TILE + 1) << 8 | y0 / TILE << 16 | unsigned((y1 - 1) / TILE + 1) << 24;
    float centre[3], value[USED], rgb[3];
    for (int j = 0; j < 3; ++j) centre[j] = -(view[j] * view[3] + view[4 + j] * view[7] + view[8 + j] * view[11]);
    basis(at, centre, value);
    for (int c = 0; c < 3; ++c) rgb[c] = fmaxf(colour(value, first + 3 * n, rest + 3 * (BASES - 1) * n, c), 0.f);
    // exp(-power) * opacity = 2^(log2 opacity - log2e * power): the factors go into the record.
    records[ROW * i] = make_float4(seen.x, seen.y, -0.5f * LOG2E * seen.a, -LOG2E * seen.b);
    records[ROW * i + 1] = make_float4(-0.5f * LOG2E * seen.c, log2f(opacities[n]), rgb[0], rgb[1]);
    records[ROW * i + 2] = make_float4(rgb[2], 0.f, 0.f, 0.f);
}

// Logarithm of what a Gaussian adds at a distance from its centre.
inline float exponent(const float4 &front, const float4 &back, float dx, float dy) {
    return back.y + front.z * dx * dx + dy * (front.w * dx + back.x * dy);
}

inline float within(float value, float low, float high) { return fminf(fmaxf(value, low), high); }

// The largest of it over pixel centres of a rectangle, or a little more: at the centre if that is inside, else on one of
// the sides that face it.
inline float largest(const float4 &front, const float4 &back, float x0, float y0, float x1, float y1) {
    const float left = front.x - x1, right = front.x - x0, low = front.y - y1, high = front.y - y0;
    const float dx = within(0.f, left, right), dy = within(0.f, low, high);
    const float along_y = within(-0.5f * front.w * dx / back.x, low, high);
    const float along_x = within(-0.5f * front.w * dy / front.z, left, right);
    return fmaxf(exponent(front, back, dx, along_y), exponent(front, back, along_x, dy));
}

struct Queue {
    int places[THREADS + SCANNED];  // in the order of depth
    int counts[32];
    float4 rows[THREADS * ROW];
};

struct Walk {
    Queue &q;
    const unsigned *boxes;   // of this image, sorted
    const long long *order;  // Gaussian at each place
    const float4 *records;
    unsigned tx, ty;
    int tid, end, head = 0, filled = 0, base = 0;

    // Look at the next SCANNED boxes and append those that meet the tile.
    void scan() {
        const int warp = tid >> 5, lane = tid & 31;
        const int kept = tid < filled ? q.places[head + tid] : 0;  // filled < THREADS here
        unsigned votes[ROUNDS];
        for (int r = 0; r < ROUNDS; ++r) {
            const int k = base + r * THREADS + tid;
            const unsigned b = k < end ? boxes[k] : NOWHERE;
            const bool hit = (b & 255) <= tx && tx < (b >> 8 & 255) && (b >> 16 & 255) <= ty && ty < (b >> 24);
            votes[r] = __ballot_sync(ALL, hit);
            if (lane == 0) q.counts[r * WARPS + warp] = __popc(votes[r]);
        }
        __syncthreads();
        if (tid < filled) q.places[tid] = kept;
        const int count = q.counts[lane];
        int upto = count;
        for (int step = 1; step < 32; step *= 2) {
            const int before = __shfl_up_sync(ALL, upto, step);
            if (lane >= step) upto += before;
        }
        const int total = __shfl_sync(ALL, upto, 31);
        for (int r = 0; r < ROUNDS; ++r) {
            const int start = filled + __shfl_sync(ALL, upto - count, r * WARPS + warp);
            if (votes[r] >> lane & 1) q.places[start + __popc(votes[r] & ((1u << lane) - 1))] = base + r * THREADS + tid;
        }
        head = 0, filled += total, base += SCANNED;
        __syncthreads();
    }

    // Bring up to THREADS Gaussians into shared memory; 0: there are no more.
    int fetch() {
        while (filled < THREADS && base < end) scan();
        const int n = min(filled, THREADS);
        if (tid < n) {
            const float4 *record = records + ROW * order[q.places[head + tid]];
            for (int i = 0; i < ROW; ++i) q.rows[tid * ROW + i] = record[i];
        }
        __syncthreads();
        return n;
    }
    void advance(int n) { head += n, filled -= n; }
};

extern "C" __global__ void __launch_bounds__(THREADS)
paint(Settings s, const float4 *records, const unsigned *boxes, const long long *order, float4 *image) {
    __shared__ Queue queue;
    const int view = blockIdx.z, tid = threadIdx.x, warp = tid >> 5, lane = tid & 31;
    // A warp sees 8 x 4 pixels.
    const int left = blockIdx.x * TILE + (warp & 1) * 8, top = blockIdx.y * TILE + (warp >> 1) * 4;
    const int x = left + (lane & 7), y = top + (lane >> 3);
    const float cx = x + 0.5f, cy = y + 0.5f, least = log2f(s.min_alpha) - 1e-3f;
    const long long first = (long long)view * s.count;
    Walk walk{queue, boxes + first, order + first, records + ROW * first, blockIdx.x, blockIdx.y, tid, s.count};
    float live = 1.f, r = 0.f, g = 0.f, b = 0.f;
    bool done = x >= s.width || y >= s.height;
    while (const int n = walk.fetch()) {
        for (int start = 0; start < n && __any_sync(ALL, !done); start += 32) {
            bool reaches = false;
            if (start + lane < n) {
                const float4 *row = queue.rows + (start + lane) * ROW;
                reaches = largest(row[0], row[1], left + 0.5f, top + 0.5f, left + 7.5f, top + 3.5f) >= least;
            }
            for (unsigned wanted = __ballot_sync(ALL, reaches); wanted; wanted &= wanted - 1) {
                const float4 *row = queue.rows + (start + __ffs(wanted) - 1) * ROW;
                const float4 front = row[0], back = row[1];
                const float blue = row[2].x;
                const float alpha = fminf(exp2f(exponent(front, back, front.x - cx, front.y - cy)), s.max_alpha);
                const float after = live * (1.f - alpha);
                const bool seen = !done && alpha >= s.min_alpha, through = seen && after > s.min_transmittance;
                done = done || (seen && !through);
                const float weight = through ? alpha * live : 0.f;
                r += weight * back.z, g += weight * back.w, b += weight * blue;
                if (through) live = after;
            }
        }
        if (__syncthreads_count(done) == THREADS) break;
        walk.advance(n);
    }
    if (x < s.width && y < s.height) image[((long long)view * s.height + y) * s.width + x] = make_float4(r, g, b, 1.f - live);
}
