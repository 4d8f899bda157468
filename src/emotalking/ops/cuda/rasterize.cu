// Gaussian splatting on a GPU. The meaning is that of ops/reference/rasterize.py.
//
// Project all Gaussians (one thread each); the host sorts them by depth; then every tile of 16 x 16 pixels walks all of
// them front to back, picks those whose box meets it, and blends. No list of intersections is ever stored, so nothing
// has a capacity that could overflow and nothing is read back by the host: the whole pass can be captured in a graph.
// The backward pass walks front to back too: with total = sum over outputs of value * gradient, what lies behind
// Gaussian i is total minus the prefix up to i, so no division restores the transmittance.
//
// CHANNELS: of the features. NUM_DETACHED: so many of them, the last, give no gradient to geometry and opacity.
// DEPTH: whether the expected depth has a gradient.
#include "device.h"
#include "tiles.h"

constexpr float LOG2E = 1.4426950408889634f;
enum { X, Y, A, B, C, LOG2_OPACITY, Z, ROW_HEAD };  // a record's fields; the features follow
enum { S, SX, SY, SXX, SXY, SYY, SUMS };            // sums over pixels; depth's if it has a gradient, then the features'
constexpr int VALUES = 1 + CHANNELS, ROW4 = (ROW_HEAD + CHANNELS + 3) / 4;
constexpr int GRADS = SUMS + DEPTH + CHANNELS, FOLD = GRADS <= 16 ? 16 : 32;
static_assert(GRADS <= 32, "too many channels");

extern "C" __global__ void project_all(Settings s, int images, int cameras, const float *means, const float *quats,
                                       const float *scales, const float *opacities, const float *viewmats,
                                       const float *Ks, const float *probe, float4 *records, float *keys,
                                       unsigned *boxes, int *radii) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= images * s.count) return;
    const int image = i / s.count, g = (image / cameras) * s.count + i % s.count;
    const Camera cam(viewmats + 16 * image, Ks + 9 * image, s);
    const Seen seen = project(means + 3 * g, quats + 4 * g, scales + 3 * g, opacities[g],
                              probe ? probe + 2 * i : nullptr, cam, s);
    radii[i] = seen.radius, keys[i] = __int_as_float(0x7f800000), boxes[i] = NOWHERE;
    if (!seen.radius) return;
    // exp(-power) * opacity = 2^(log2 opacity - log2e * power): the factors go into the record.
    records[2 * i] = make_float4(seen.x, seen.y, -0.5f * LOG2E * seen.a, -LOG2E * seen.b);
    records[2 * i + 1] = make_float4(-0.5f * LOG2E * seen.c, log2f(opacities[g]), seen.z, 0.f);
    const unsigned box = box_of(seen, s);
    if (box != NOWHERE) keys[i] = seen.z, boxes[i] = box;
}

struct Queue : Places {
    int ids[THREADS];
    float4 rows[THREADS * ROW4];
};

struct Walk : TileWalk {
    Queue &q;
    const long long *order;  // Gaussian at each place
    const float4 *records;
    const float *features;

    // Bring up to THREADS Gaussians into shared memory; 0: there are no more.
    int fetch() {
        const int n = fill();
        if (tid < n) {
            const int id = int(order[place(tid)]);
            const float4 front = records[2 * id], back = records[2 * id + 1];
            float row[4 * ROW4] = {front.x, front.y, front.z, front.w, back.x, back.y, back.z};
            for (int d = 0; d < CHANNELS; ++d) row[ROW_HEAD + d] = features[(long long)id * CHANNELS + d];
            for (int i = 0; i < ROW4; ++i)
                q.rows[tid * ROW4 + i] = make_float4(row[4 * i], row[4 * i + 1], row[4 * i + 2], row[4 * i + 3]);
            q.ids[tid] = id;
        }
        __syncthreads();
        return n;
    }
    // Quarters of a row: the first two say where the Gaussian is, the others how it looks.
    void row(int j, float (&out)[4 * ROW4], int from, int to) const {
        for (int i = from; i < to; ++i) {
            const float4 part = q.rows[j * ROW4 + i];
            out[4 * i] = part.x, out[4 * i + 1] = part.y, out[4 * i + 2] = part.z, out[4 * i + 3] = part.w;
        }
    }
};

// A warp sees 8 x 4 pixels, so that small Gaussians concern few warps.
inline void pixel_of(int tid, int &x, int &y) {
    const int warp = tid >> 5, lane = tid & 31;
    x = blockIdx.x * TILE + (warp & 1) * 8 + (lane & 7), y = blockIdx.y * TILE + (warp >> 1) * 4 + (lane >> 3);
}

extern "C" __global__ void __launch_bounds__(THREADS)
blend(Settings s, int cameras, const float4 *records, const unsigned *boxes, const long long *order,
      const float *features, const float *background, float *image, float *alpha_out, float *depth_out, int *last) {
    __shared__ Queue queue;
    const int view = blockIdx.z, tid = threadIdx.x;
    int x, y;
    pixel_of(tid, x, y);
    const bool inside = x < s.width && y < s.height;
    const float cx = x + 0.5f, cy = y + 0.5f;
    const long long first = (long long)view * s.count;
    Walk walk{{queue, boxes + first, blockIdx.x, blockIdx.y, tid, s.count}, queue, order + first, records + 2 * first,
              features + (long long)(view / cameras) * s.count * CHANNELS};
    float live = 1.f, sums[VALUES] = {};
    bool done = !inside;
    int reached = 0;
    while (const int n = walk.fetch()) {
        // The pixels of a warp stay at one Gaussian: left to themselves, they drift apart and each works alone.
        for (int j = 0; j < n && __any_sync(ALL, !done); ++j) {
            float row[4 * ROW4];
            walk.row(j, row, 0, 2);
            const float dx = row[X] - cx, dy = row[Y] - cy;
            const float alpha = fminf(exp2f(row[LOG2_OPACITY] + row[A] * dx * dx + dy * (row[B] * dx + row[C] * dy)), s.max_alpha);
            const bool seen = !done && alpha >= s.min_alpha;
            if (!__any_sync(ALL, seen)) continue;
            walk.row(j, row, 2, ROW4);
            const float after = live * (1.f - alpha);
            const bool through = seen && after > s.min_transmittance;
            done = done || (seen && !through);
            const float weight = through ? alpha * live : 0.f;
            for (int d = 0; d < VALUES; ++d) sums[d] += weight * row[Z + d];
            if (through) live = after, reached = walk.place(j) + 1;
        }
        if (__syncthreads_count(done) == THREADS) break;
        walk.advance(n);
    }
    if (!inside) return;
    const long long pixel = ((long long)view * s.height + y) * s.width + x;
    alpha_out[pixel] = 1.f - live, depth_out[pixel] = sums[0], last[pixel] = reached;
    for (int d = 0; d < CHANNELS; ++d)
        image[pixel * CHANNELS + d] = sums[d + 1] + (background ? live * background[d] : 0.f);
}

// Sum v[i] over the warp for all i at once: each step halves what a lane still carries. Lane l ends with value l * FOLD / 32.
inline float fold(float (&v)[FOLD], int lane) {
#pragma unroll
    for (int half = FOLD / 2, step = 16; half >= 1; half /= 2, step /= 2) {
        const bool upper = lane & step;
#pragma unroll
        for (int i = 0; i < FOLD / 2; ++i) {
            if (i >= half) break;
            const float give = upper ? v[i] : v[i + half], keep = upper ? v[i + half] : v[i];
            v[i] = keep + __shfl_xor_sync(ALL, give, step);
        }
    }
    if (FOLD == 16) v[0] += __shfl_xor_sync(ALL, v[0], 1);
    return v[0];
}

extern "C" __global__ void __launch_bounds__(THREADS)
blend_backward(Settings s, int cameras, const float4 *records, const unsigned *boxes, const long long *order,
               const float *features, const float *image, const float *alpha_out, const float *depth_out,
               const int *last, const float *g_image, const float *g_alpha, const float *g_depth, float *grads) {
    __shared__ Queue queue;
    __shared__ int furthest;
    const int view = blockIdx.z, tid = threadIdx.x, lane = tid & 31;
    int x, y;
    pixel_of(tid, x, y);
    const float cx = x + 0.5f, cy = y + 0.5f;
    float g[VALUES] = {}, base_worth = 0.f, behind = 0.f;
    int reached = 0;
    if (tid == 0) furthest = 0;
    __syncthreads();
    if (x < s.width && y < s.height) {
        const long long pixel = ((long long)view * s.height + y) * s.width + x;
        reached = last[pixel];
        if (g_alpha) base_worth = g_alpha[pixel], behind = base_worth * alpha_out[pixel];
        if (DEPTH) g[0] = g_depth[pixel], behind += g[0] * depth_out[pixel];
        if (g_image)
            for (int d = 0; d < CHANNELS; ++d) {
                g[d + 1] = g_image[pixel * CHANNELS + d];
                if (d < CHANNELS - NUM_DETACHED) behind += g[d + 1] * image[pixel * CHANNELS + d];
            }
        atomicMax(&furthest, reached);
    }
    __syncthreads();
    const long long first = (long long)view * s.count;
    Walk walk{{queue, boxes + first, blockIdx.x, blockIdx.y, tid, furthest}, queue, order + first, records + 2 * first,
              features + (long long)(view / cameras) * s.count * CHANNELS};
    float live = 1.f;
    while (const int n = walk.fetch()) {
        for (int j = 0; j < n; ++j) {
            float row[4 * ROW4];
            walk.row(j, row, 0, 2);
            const float dx = row[X] - cx, dy = row[Y] - cy;
            const float raw = exp2f(row[LOG2_OPACITY] + row[A] * dx * dx + dy * (row[B] * dx + row[C] * dy));
            const float alpha = fminf(raw, s.max_alpha);
            const bool kept = alpha >= s.min_alpha && walk.place(j) < reached;
            if (!__any_sync(ALL, kept)) continue;
            walk.row(j, row, 2, ROW4);
            float v[FOLD] = {};
            if (kept) {
                const float weight = alpha * live, through = 1.f - alpha;
                float worth = base_worth;
                if (DEPTH) worth += g[0] * row[Z], v[SUMS] = weight * g[0];
#pragma unroll
                for (int d = 0; d < CHANNELS; ++d) {
                    if (d < CHANNELS - NUM_DETACHED) worth += g[d + 1] * row[ROW_HEAD + d];
                    v[SUMS + DEPTH + d] = weight * g[d + 1];
                }
                worth *= weight, behind -= worth, live *= through;
                // d loss / d (log alpha); the clamp at max_alpha passes none.
                const float d_power = raw <= s.max_alpha ? worth - behind * alpha / through : 0.f;
                v[S] = d_power, v[SX] = d_power * dx, v[SY] = d_power * dy;
                v[SXX] = v[SX] * dx, v[SXY] = v[SX] * dy, v[SYY] = v[SY] * dy;
            }
            const float total = fold(v, lane);
            const int index = FOLD == 16 ? lane >> 1 : lane;
            if (index < GRADS && (FOLD == 32 || !(lane & 1)))
                atomicAdd(grads + (first + queue.ids[j]) * GRADS + index, total);
        }
        __syncthreads();
        walk.advance(n);
    }
}

extern "C" __global__ void project_all_backward(Settings s, int batch, int cameras, const float *means,
                                                const float *quats, const float *scales, const float *opacities,
                                                const float *viewmats, const float *Ks, const float4 *records,
                                                const int *radii, const float *grads, float *d_means, float *d_quats,
                                                float *d_scales, float *d_opacities, float *d_features,
                                                float *d_probe) {
    const int g = blockIdx.x * blockDim.x + threadIdx.x;
    if (g >= batch * s.count) return;
    float mean[3] = {}, quat[4] = {}, scale[3] = {}, opacity = 0.f, feature[CHANNELS] = {};
    for (int c = 0; c < cameras; ++c) {
        const int view = (g / s.count) * cameras + c, i = view * s.count + g % s.count;
        ScreenGrad screen{};
        if (radii[i]) {
            const float *t = grads + (long long)i * GRADS;
            const float4 front = records[2 * i], back = records[2 * i + 1];
            const Seen seen{front.x, front.y, back.z, front.z / (-0.5f * LOG2E), front.w / -LOG2E, back.x / (-0.5f * LOG2E), 0.f, 0.f, radii[i]};
            screen = {-(seen.a * t[SX] + seen.b * t[SY]), -(seen.b * t[SX] + seen.c * t[SY]), DEPTH ? t[SUMS] : 0.f,
                      -0.5f * t[SXX], -t[SXY], -0.5f * t[SYY]};
            opacity += t[S] / opacities[g];
            for (int d = 0; d < CHANNELS; ++d) feature[d] += t[SUMS + DEPTH + d];
            const Camera cam(viewmats + 16 * view, Ks + 9 * view, s);
            project_backward(means + 3 * g, quats + 4 * g, scales + 3 * g, cam, seen, screen, mean, quat, scale);
        }
        if (d_probe) d_probe[2 * i] = screen.x, d_probe[2 * i + 1] = screen.y;
    }
    for (int j = 0; j < 3; ++j) d_means[3 * g + j] = mean[j], d_scales[3 * g + j] = scale[j];
    for (int j = 0; j < 4; ++j) d_quats[4 * g + j] = quat[j];
    d_opacities[g] = opacity;
    for (int d = 0; d < CHANNELS; ++d) d_features[(long long)g * CHANNELS + d] = feature[d];
}
