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
#include "tiles.h"

constexpr int ROW = 3;  // float4s of a record
constexpr float LOG2E = 1.4426950408889634f;

struct Rows {  // of a tensor [images, count, values], which may be a part of a wider one; mirrored in splat.py
    const float *start;
    long long image;
    int row;

    const float *operator()(int i, int n) const { return start + i * image + (long long)n * row; }
};

extern "C" __global__ void project_moved(Settings s, Rows means, Rows quats, Rows scales, const float *opacities,
                                         Rows first, const float *rest, const float *viewmats, const float *K,
                                         float4 *records, float *keys, unsigned *boxes) {
    const int n = blockIdx.x * blockDim.x + threadIdx.x, image = blockIdx.y;
    if (n >= s.count) return;
    const long long i = (long long)image * s.count + n;
    const float *view = viewmats + 16 * image, *at = means(image, n);
    const Camera cam(view, K, s);
    const Seen seen = project(at, quats(image, n), scales(image, n), opacities[n], nullptr, cam, s);
    keys[i] = __int_as_float(0x7f800000), boxes[i] = NOWHERE;
    if (!seen.radius) return;
    const unsigned box = box_of(seen, s);
    if (box == NOWHERE) return;
    keys[i] = seen.z, boxes[i] = box;
    float centre[3], value[USED], rgb[3];
    for (int j = 0; j < 3; ++j) centre[j] = -(view[j] * view[3] + view[4 + j] * view[7] + view[8 + j] * view[11]);
    basis(at, centre, value);
    for (int c = 0; c < 3; ++c) rgb[c] = fmaxf(colour(value, first(image, n), rest + 3 * (BASES - 1) * n, c), 0.f);
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

struct Queue : Places {
    float4 rows[THREADS * ROW];
};

struct Walk : TileWalk {
    Queue &q;
    const long long *order;  // Gaussian at each place
    const float4 *records;

    // Bring up to THREADS Gaussians into shared memory; 0: there are no more.
    int fetch() {
        const int n = fill();
        if (tid < n) {
            const float4 *record = records + ROW * order[place(tid)];
            for (int i = 0; i < ROW; ++i) q.rows[tid * ROW + i] = record[i];
        }
        __syncthreads();
        return n;
    }
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
    Walk walk{{queue, boxes + first, blockIdx.x, blockIdx.y, tid, s.count}, queue, order + first, records + ROW * first};
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
