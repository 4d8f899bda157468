// Posterior probabilities of materials; the meaning is that of ops/reference/materials.py.
#include "simd.h"

#include <algorithm>

namespace {

constexpr int BLOCK = 64, BINS = 32;

int colour_bin(const uint8_t *lab) {
    const auto fine = [](int level) { return std::min(std::max((level - 64) >> 2, 0), BINS - 1); };
    return ((lab[0] >> 3) * BINS + fine(lab[1])) * BINS + fine(lab[2]);
}

vf exponential(vf x) { return exp2_fast(x * 1.44269504f); }

}  // namespace

extern "C" {

// out [count][4] of pixels: lab [count][3], log densities of colours [bins][4], the still background's lab [count][3]
// (NaN: never seen), variance and log density [count], share of the person [count], log priors of the three materials of
// a person [count][3], hanging [count], masks of the oval and of what is below the brows [count].
void material_posteriors(const uint8_t *lab, const float *colours, const float *plate, const float *variance,
                         const float *density, const float *person, const float *prior, const float *hanging,
                         const uint8_t *oval, const uint8_t *below, float hangs, float impossible, float anywhere,
                         int64_t count, float *out) {
    for (int64_t begin = 0; begin < count; begin += BLOCK) {
        const int size = int(std::min<int64_t>(BLOCK, count - begin));
        float logit[4][BLOCK] = {}, share[BLOCK], still[BLOCK] = {};
        std::fill(share, share + BLOCK, 0.5f);
        for (int k = 0; k < size; ++k) {
            const int64_t i = begin + k;
            const float *seen = colours + 4 * colour_bin(lab + 3 * i);
            for (int c = 0; c < 4; ++c) logit[c][k] = seen[c];
            float far = 0;
            for (int d = 0; d < 3; ++d) {
                const float step = lab[3 * i + d] - plate[3 * i + d];
                far += step * step;
            }
            still[k] = density[i] - 0.5f * (far / variance[i]);
            share[k] = person[i];
            for (int c = 0; c < 3; ++c) logit[c][k] += prior[3 * i + c];
            logit[2][k] -= hangs * hanging[i];
            const float outside = oval[i] ? impossible : 0.f;
            logit[1][k] -= below[i] ? impossible : 0.f;
            logit[2][k] -= outside;
            // Where the background was never visible the plate is not a number, and the comparison false.
            const float elsewhere = logit[3][k] + anywhere;
            if (still[k] == still[k]) logit[3][k] = still[k] > elsewhere ? still[k] : elsewhere;
            logit[3][k] -= outside;
        }
        float result[4][BLOCK];
        for (int k = 0; k < BLOCK; k += W) {
            const vf with = ln(load(share + k)), without = ln(1.f - load(share + k));
            vf value[4], highest = load(logit[3] + k) + without;
            value[3] = highest;
            for (int c = 0; c < 3; ++c) value[c] = load(logit[c] + k) + with, highest = max(highest, value[c]);
            vf total{};
            for (int c = 0; c < 4; ++c) value[c] = exponential(value[c] - highest), total += value[c];
            for (int c = 0; c < 4; ++c) store(result[c] + k, value[c] / total);
        }
        for (int k = 0; k < size; ++k)
            for (int c = 0; c < 4; ++c) out[4 * (begin + k) + c] = result[c][k];
    }
}
}
