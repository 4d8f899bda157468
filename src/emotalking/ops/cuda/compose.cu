// The finished frame in 8 bit from its layers: what ops/composite.py and player/finish.py say, in two passes.
//
// KIND: 0: RGB over torso and plate; 1: RGB, and the head's coverage as a fourth channel; 2: RGBA over the torso alone,
// with straight alpha.
#include "device.h"

constexpr int THREADS = 256, WARPS = THREADS / 32, MAX_WIDTH = 4080;
constexpr unsigned ALL = 0xffffffffu;

inline float4 add(const float4 &a, const float4 &b) { return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w); }

// Sum over a block; every thread gets it. The order of the sums is always the same.
inline float4 total(float4 value) {
    __shared__ float4 parts[WARPS];
    for (int step = 16; step; step /= 2)
        value = add(value, make_float4(__shfl_xor_sync(ALL, value.x, step), __shfl_xor_sync(ALL, value.y, step),
                                       __shfl_xor_sync(ALL, value.z, step), __shfl_xor_sync(ALL, value.w, step)));
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = value;
    __syncthreads();
    value = parts[0];
    for (int i = 1; i < WARPS; ++i) value = add(value, parts[i]);
    return value;
}

// A block a row of the mouth: its coverage widened along the row, and the sum of its colours and coverage.
extern "C" __global__ void __launch_bounds__(THREADS)
widen_rows(int height, int width, int reach, const float4 *mouth, float *widened, float4 *sums) {
    __shared__ float row[MAX_WIDTH];
    const long long start = ((long long)blockIdx.y * height + blockIdx.x) * width;
    float4 sum = make_float4(0.f, 0.f, 0.f, 0.f);
    for (int x = threadIdx.x; x < width; x += THREADS) {
        const float4 pixel = mouth[start + x];
        row[x] = pixel.w, sum = add(sum, pixel);
    }
    sum = total(sum);  // its barrier also shows the row to all
    if (threadIdx.x == 0) sums[blockIdx.y * height + blockIdx.x] = sum;
    for (int x = threadIdx.x; x < width; x += THREADS) {
        float most = row[x];
        for (int k = max(x - reach, 0); k <= min(x + reach, width - 1); ++k) most = fmaxf(most, row[k]);
        widened[start + x] = most;
    }
}

inline unsigned char byte(float value) { return (unsigned char)(fminf(fmaxf(value, 0.f), 1.f) * 255.f + 0.5f); }

// torsos, plates: addresses of each frame's straight RGBA in 8 bit and of its RGB in [0, 1].
extern "C" __global__ void __launch_bounds__(THREADS)
compose(int height, int width, int reach, const float4 *face, const float4 *mouth, const float *widened,
        const float4 *sums, const long long *torsos, const long long *plates, unsigned char *out) {
    const int frame = blockIdx.y, place = blockIdx.x * THREADS + threadIdx.x;
    float4 sum = make_float4(0.f, 0.f, 0.f, 0.f);
    for (int y = threadIdx.x; y < height; y += THREADS) sum = add(sum, sums[frame * height + y]);
    sum = total(sum);
    if (place >= height * width) return;
    const int x = place % width, y = place / width;
    const long long at = (long long)frame * height * width + place;
    float cover = 0.f;
    for (int k = max(y - reach, 0); k <= min(y + reach, height - 1); ++k)
        cover = fmaxf(cover, widened[((long long)frame * height + k) * width + x]);
    const float4 front = face[at], inside = mouth[at];
    const float gap = cover - inside.w, open = 1.f - front.w;
    const uchar4 torso = ((const uchar4 *)torsos[frame])[place];
    const float share = torso.w / 255.f, body[3] = {torso.x / 255.f * share, torso.y / 255.f * share, torso.z / 255.f * share};
    const float heads[3] = {front.x, front.y, front.z}, mouths[3] = {inside.x, inside.y, inside.z};
    const float colours[3] = {sum.x, sum.y, sum.z}, head_alpha = front.w + cover * open;
    const float *plate = KIND == 2 ? nullptr : (const float *)plates[frame] + 3 * place;
    constexpr int CHANNELS = KIND ? 4 : 3;
    const float alpha = head_alpha + share * (1.f - head_alpha);
    for (int c = 0; c < 3; ++c) {
        const float behind = KIND == 2 ? 0.f : body[c] + plate[c] * (1.f - share);
        const float mean = colours[c] / fmaxf(sum.w, 1.f);
        float value = heads[c] + (mouths[c] + gap * mean * mean + behind * (1.f - cover)) * open;
        if (KIND == 2) value = (fminf(fmaxf(value, 0.f), 1.f) + body[c] * (1.f - head_alpha)) / fmaxf(alpha, 1e-6f);
        out[at * CHANNELS + c] = byte(value);
    }
    if (KIND) out[at * CHANNELS + 3] = byte(KIND == 1 ? head_alpha : alpha);
}
