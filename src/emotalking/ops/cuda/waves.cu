// Waves added to 8-bit images, as strong as each image hides them, in three passes: what ops/reference/waves.py says.
#include "device.h"
#include "hiding.h"

constexpr int THREADS = 256, WARPS = THREADS / 32;
constexpr unsigned ALL = 0xffffffffu;

inline float warp_sum(float value) {
    for (int step = 16; step; step /= 2) value += __shfl_xor_sync(ALL, value, step);
    return value;
}

// A warp a cell: its means of texture and level, cells [frames][2][rows][columns].
extern "C" __global__ void __launch_bounds__(THREADS)
measure(int height, int width, int rows, int columns, Hiding h, const unsigned char *images, float *cells) {
    const int cell = blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (cell >= rows * columns) return;
    const unsigned char *green = images + (long long)blockIdx.y * height * width * CHANNELS + 1;
    const int x0 = cell % columns * h.cell, y0 = cell / columns * h.cell;
    const int wide = min(h.cell, width - x0), high = min(h.cell, height - y0);
    int texture = 0, level = 0;
    for (int i = lane; i < wide * high; i += 32) {
        const int x = x0 + i % wide, y = y0 + i / wide;
        const unsigned char *at = green + ((long long)y * width + x) * CHANNELS;
        const int here = at[0], right = x + 1 < width ? at[CHANNELS] : here;
        const int below = y + 1 < height ? at[(long long)width * CHANNELS] : here;
        texture += min(abs(right - here) + abs(below - here), h.clip), level += here;
    }
    const float rough = warp_sum(float(texture)), bright = warp_sum(float(level));  // whole numbers: exact
    if (lane) return;
    float *out = cells + (long long)blockIdx.y * 2 * rows * columns + cell;
    out[0] = rough / float(wide * high), out[rows * columns] = bright / float(wide * high);
}

inline float bump(int index, int count, const float *place) {
    const float at = ((float(index) + 0.5f) / float(count) - place[0]) / place[1];
    return expf(-at * at / 2.f);
}

// A block an image: strengths of both waves in each cell, of what `measure` found.
extern "C" __global__ void __launch_bounds__(THREADS)
strengths(int rows, int columns, Hiding h, const float *cells, float *out) {
    __shared__ float parts[2][WARPS];
    const int count = rows * columns;
    cells += (long long)blockIdx.x * 2 * count, out += (long long)blockIdx.x * 2 * count;
    float made[2] = {0.f, 0.f};
    for (int i = threadIdx.x; i < count; i += THREADS) {
        const int row = i / columns, column = i % columns;
        const int top = max(row - 1, 0), bottom = min(row + 1, rows - 1);
        const int left = max(column - 1, 0), right = min(column + 1, columns - 1);
        float rough = 0.f;
        for (int r = top; r <= bottom; ++r)
            for (int c = left; c <= right; ++c) rough += cells[r * columns + c];
        rough /= float((bottom - top + 1) * (right - left + 1));
        const float level = cells[count + i];
        const float visible = fminf(fmaxf(fminf(level - h.dark, h.bright - level) / h.fade, 0.f), 1.f);
        const float whole = fminf(fmaxf((rough - h.smooth[0]) / (h.smooth[1] - h.smooth[0]), 0.f), 1.f);
        const float middle = bump(row, rows, h.down) * bump(column, columns, h.across);
        const float share = (whole * (1.f - h.faint) + h.faint) * visible * (1.f + h.more * middle);
        for (int k = 0; k < 2; ++k) {
            const float some = share * powf(1.f + rough, h.growth[k]);
            made[k] += h.cost[k] * powf(1.f + rough, -h.fall) * some * some;
            out[k * count + i] = some;
        }
    }
    for (int k = 0; k < 2; ++k) {
        made[k] = warp_sum(made[k]);
        if (threadIdx.x % 32 == 0) parts[k][threadIdx.x / 32] = made[k];
    }
    __syncthreads();
    for (int k = 0; k < 2; ++k) {
        float all = 0.f;
        for (int w = 0; w < WARPS; ++w) all += parts[k][w];
        const float scale = sqrtf(h.distance[k] / fmaxf(all / float(count), SMALLEST_COST));
        for (int i = threadIdx.x; i < count; i += THREADS)
            out[k * count + i] = fminf(out[k * count + i] * scale, h.strongest[k]);
    }
}

// A thread a pixel.
extern "C" __global__ void __launch_bounds__(THREADS)
add(int height, int width, int rows, int columns, Hiding h, const unsigned char *images, const float *waves,
    const float *factors, const float *cells, unsigned char *out) {
    const int pixels = height * width, place = blockIdx.x * THREADS + threadIdx.x;
    if (place >= pixels) return;
    const float y = fmaxf((place / width + 0.5f) / h.cell - 0.5f, 0.f), x = fmaxf((place % width + 0.5f) / h.cell - 0.5f, 0.f);
    const int top = int(y), left = int(x), bottom = min(top + 1, rows - 1), right = min(left + 1, columns - 1);
    const float down = y - top, across = x - left;
    cells += (long long)blockIdx.y * 2 * rows * columns;
    float wanted = 0.f;
    for (int k = 0; k < 2; ++k) {
        const float *part = cells + k * rows * columns, *above = part + top * columns, *below = part + bottom * columns;
        const float upper = above[left] + across * (above[right] - above[left]);
        const float lower = below[left] + across * (below[right] - below[left]);
        wanted += (upper + down * (lower - upper)) * waves[k * pixels + place] * (k ? 1.f : factors[blockIdx.y]);
    }
    const int steps = int(rintf(wanted * 7.f)), whole = int(floorf((float(steps) + 0.5f) / 7.f)), left_over = steps - 7 * whole;
    const int more[3] = {left_over >> 1 & 1, left_over >> 2, left_over & 1};
    const long long at = ((long long)blockIdx.y * pixels + place) * CHANNELS;
    for (int c = 0; c < 3; ++c) out[at + c] = (unsigned char)min(max(images[at + c] + whole + more[c], 0), 255);
    if (CHANNELS == 4) out[at + 3] = images[at + 3];
}
