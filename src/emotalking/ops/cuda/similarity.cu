// L1 and structural similarity inside boxes of two images, and their gradient; the meaning is that of
// ops/reference/similarity.py. A block works on 16 x 16 pixels of one channel of one box; the window is separable.
//
// CHANNELS: of the images.
constexpr int RADIUS = 5, TAPS = 2 * RADIUS + 1, TILE = 16, THREADS = TILE * TILE, WIDE = TILE + 2 * RADIUS;
constexpr float C1 = 0.01f * 0.01f, C2 = 0.03f * 0.03f;

struct Window {  // mirrored by ctypes in similarity.py
    float weights[TAPS];
};

struct Box {  // as ops/box.py: rows top..bottom and columns left..right of the image, ends excluded
    int top, left, bottom, right;

    Box(const int *at, int height, int width)
        : top(max(at[0], 0)), left(max(at[1], 0)), bottom(min(at[2], height)), right(min(at[3], width)) {}
    bool has(int y, int x) const { return y >= top && y < bottom && x >= left && x < right; }
    bool meets(int y, int x) const {
        return area() > 0.f && y < bottom && y + TILE > top && x < right && x + TILE > left;
    }
    float area() const { return float(max(bottom - top, 0)) * float(max(right - left, 0)); }
};

// Sum of a value over the block, at thread 0.
inline float block_sum(float value, float *scratch) {
    const int tid = threadIdx.x;
    for (int step = 16; step; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
    __syncthreads();
    if (tid % 32 == 0) scratch[tid / 32] = value;
    __syncthreads();
    float total = 0.f;
    if (tid == 0)
        for (int i = 0; i < THREADS / 32; ++i) total += scratch[i];
    return total;
}

// sums [K, 2]: mean L1 and mean similarity of each box are added. derivatives [K, 3, H, W, CHANNELS]: of each pixel's
// similarity by the mean of a, the mean of its square and the mean of the product, written inside the box; or null.
extern "C" __global__ void __launch_bounds__(THREADS)
similarity(Window window, int height, int width, int boxes, const float *a, const float *b, const int *box_at,
           float *sums, float *derivatives) {
    __shared__ float in_a[WIDE][WIDE + 1], in_b[WIDE][WIDE + 1], rows[5][WIDE][TILE + 1], scratch[THREADS / 32];
    const int k = blockIdx.z / CHANNELS, c = blockIdx.z % CHANNELS;
    const int x0 = blockIdx.x * TILE, y0 = blockIdx.y * TILE, tid = threadIdx.x;
    const Box box(box_at + 4 * k, height, width);
    // Nothing differs in an empty box.
    if (!(box.area() > 0.f) && !blockIdx.x && !blockIdx.y && !c && !tid) sums[2 * k + 1] = 1.f;
    if (!box.meets(y0, x0)) return;
    for (int i = tid; i < WIDE * WIDE; i += THREADS) {
        const int y = y0 - RADIUS + i / WIDE, x = x0 - RADIUS + i % WIDE;
        const bool inside = box.has(y, x);
        const long long at = ((long long)y * width + x) * CHANNELS + c;
        in_a[i / WIDE][i % WIDE] = inside ? a[at] : 0.f, in_b[i / WIDE][i % WIDE] = inside ? b[at] : 0.f;
    }
    __syncthreads();
    for (int i = tid; i < WIDE * TILE; i += THREADS) {
        const int y = i / TILE, x = i % TILE;
        float s[5] = {};
#pragma unroll
        for (int t = 0; t < TAPS; ++t) {
            const float va = in_a[y][x + t], vb = in_b[y][x + t], wa = window.weights[t] * va, wb = window.weights[t] * vb;
            s[0] += wa, s[1] += wb, s[2] += wa * va, s[3] += wb * vb, s[4] += wa * vb;
        }
        for (int m = 0; m < 5; ++m) rows[m][y][x] = s[m];
    }
    __syncthreads();
    const int ty = tid / TILE, tx = tid % TILE, y = y0 + ty, x = x0 + tx;
    float l1 = 0.f, similar = 0.f;
    if (box.has(y, x)) {
        float s[5] = {};
#pragma unroll
        for (int t = 0; t < TAPS; ++t)
            for (int m = 0; m < 5; ++m) s[m] += window.weights[t] * rows[m][ty + t][tx];
        const float ma = s[0], mb = s[1];
        const float n1 = 2 * ma * mb + C1, n2 = ma * ma + mb * mb + C1;
        const float n3 = 2 * (s[4] - ma * mb) + C2, n4 = (s[2] - ma * ma) + (s[3] - mb * mb) + C2;
        const float inv = 1.f / (n2 * n4);
        similar = n1 * n3 * inv, l1 = fabsf(in_a[ty + RADIUS][tx + RADIUS] - in_b[ty + RADIUS][tx + RADIUS]);
        if (derivatives) {
            const float square = -similar / n4, product = 2 * n1 * inv;
            const long long plane = (long long)height * width * CHANNELS, at = ((long long)y * width + x) * CHANNELS + c;
            float *out = derivatives + 3 * k * plane + at;
            out[0] = mb * (2 * n3 * inv - product) - ma * 2 * (similar / n2 + square), out[plane] = square, out[2 * plane] = product;
        }
    }
    const float share = 1.f / (box.area() * CHANNELS);
    const float l1_sum = block_sum(l1, scratch), similar_sum = block_sum(similar, scratch);
    if (tid == 0) atomicAdd(sums + 2 * k, l1_sum * share), atomicAdd(sums + 2 * k + 1, similar_sum * share);
}

// Gradient to a of the weighted means: grads [K, 2] are of the boxes' L1 and similarity.
extern "C" __global__ void __launch_bounds__(THREADS)
similarity_backward(Window window, int height, int width, int boxes, const float *a, const float *b, const int *box_at,
                    const float *derivatives, const float *grads, float *d_a) {
    __shared__ float in[3][WIDE][WIDE + 1], rows[3][WIDE][TILE + 1];
    const int c = blockIdx.z, x0 = blockIdx.x * TILE, y0 = blockIdx.y * TILE, tid = threadIdx.x;
    const int ty = tid / TILE, tx = tid % TILE, y = y0 + ty, x = x0 + tx;
    const bool here = y < height && x < width;
    const long long plane = (long long)height * width * CHANNELS, at = ((long long)y * width + x) * CHANNELS + c;
    const float va = here ? a[at] : 0.f, vb = here ? b[at] : 0.f;
    float total = 0.f;
    for (int k = 0; k < boxes; ++k) {
        const Box box(box_at + 4 * k, height, width);
        if (!box.meets(y0, x0)) continue;
        const float share = 1.f / (box.area() * CHANNELS);
        __syncthreads();
        for (int i = tid; i < WIDE * WIDE; i += THREADS) {
            const int yy = y0 - RADIUS + i / WIDE, xx = x0 - RADIUS + i % WIDE;
            const bool inside = box.has(yy, xx);
            const float *from = derivatives + 3 * k * plane + ((long long)yy * width + xx) * CHANNELS + c;
            for (int m = 0; m < 3; ++m) in[m][i / WIDE][i % WIDE] = inside ? from[m * plane] : 0.f;
        }
        __syncthreads();
        for (int i = tid; i < WIDE * TILE; i += THREADS)
            for (int m = 0; m < 3; ++m) {
                float s = 0.f;
#pragma unroll
                for (int t = 0; t < TAPS; ++t) s += window.weights[t] * in[m][i / TILE][i % TILE + t];
                rows[m][i / TILE][i % TILE] = s;
            }
        __syncthreads();
        if (!box.has(y, x)) continue;
        float s[3] = {};
#pragma unroll
        for (int t = 0; t < TAPS; ++t)
            for (int m = 0; m < 3; ++m) s[m] += window.weights[t] * rows[m][ty + t][tx];
        const float sign = va > vb ? 1.f : va < vb ? -1.f : 0.f;
        total += share * (grads[2 * k] * sign + grads[2 * k + 1] * (s[0] + 2 * va * s[1] + vb * s[2]));
    }
    if (here) d_a[at] = total;
}
