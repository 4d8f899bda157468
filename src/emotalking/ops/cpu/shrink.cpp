// Images shrunk by the mean of what each pixel covers; the meaning is that of OpenCV's INTER_AREA.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace {

struct Part {  // pixels [begin, end) of a row or column, and the weights of the first, the last and those between
    int begin, end;
    float first, last, between;
};

std::vector<Part> parts_of(int large, int small) {
    const double scale = 1 / (double(small) / large);
    std::vector<Part> out(small);
    for (int i = 0; i < small; ++i) {
        const double low = i * scale, high = low + scale, covered = std::min(scale, large - low);
        const int to = std::min(int(std::floor(high)), large - 1), from = std::min(int(std::ceil(low)), to);
        const bool before = from - low > 1e-3, after = high - to > 1e-3;
        const float one = float((from - low) / covered), whole = float(1 / covered);
        const float rest = float(std::min(std::min(high - to, 1.0), covered) / covered);
        out[i] = {from - before, to + after, before ? one : whole, after ? rest : whole, whole};
    }
    return out;
}

}  // namespace

extern "C" {

// out [h][w][3] of an image [height][width][3] whose rows are `stride` bytes apart.
void shrink(const uint8_t *image, int64_t stride, int width, int height, int w, int h, uint8_t *out) {
    constexpr int channels = 3;
    const auto columns = parts_of(width, w), rows = parts_of(height, h);
    const int wide = width * channels;
    std::vector<float> sums(wide);
    for (int y = 0; y < h; ++y) {
        const Part &down = rows[y];
        for (int row = down.begin; row < down.end; ++row) {
            const float share = row == down.begin ? down.first : row + 1 == down.end ? down.last : down.between;
            const uint8_t *__restrict from = image + row * stride;
            float *__restrict to = sums.data();
            if (row == down.begin)
                for (int x = 0; x < wide; ++x) to[x] = share * from[x];
            else
                for (int x = 0; x < wide; ++x) to[x] += share * from[x];
        }
        for (int x = 0; x < w; ++x) {
            const Part &across = columns[x];
            float total[channels] = {};
            for (int at = across.begin; at < across.end; ++at) {
                const float share = at == across.begin ? across.first : at + 1 == across.end ? across.last : across.between;
                for (int c = 0; c < channels; ++c) total[c] += share * sums[at * channels + c];
            }
            for (int c = 0; c < channels; ++c) *out++ = uint8_t(std::min(std::lrint(total[c]), 255L));
        }
    }
}
}
