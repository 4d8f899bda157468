// Connected parts of masks and label maps; the meaning is that of ops/reference/regions.py.
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

// Parts of an image, connected along its axes, whose pixels have one value, as runs along its rows.
struct Parts {
    struct Run {
        int y, begin, end;
    };
    std::vector<Run> runs;
    std::vector<int> first;  // of each run: the first one of its part, in the order of the rows
    std::vector<int> area;   // of the part that begins with a run; 0 for the other runs

    Parts(const uint8_t *image, int height, int width, uint8_t value) {
        const uint64_t eight = value * 0x0101010101010101ull;
        for (int y = 0, above = 0, above_end = 0; y < height; ++y) {
            const uint8_t *row = image + int64_t(y) * width;
            const int here = int(runs.size());
            for (int x = 0; x < width;) {
                const void *found = std::memchr(row + x, value, width - x);
                if (!found) break;
                const int begin = int(static_cast<const uint8_t *>(found) - row);
                uint64_t next;
                for (x = begin + 1; x + 8 <= width && (std::memcpy(&next, row + x, 8), next == eight);) x += 8;
                while (x < width && row[x] == value) ++x;
                const int run = int(runs.size());
                runs.push_back({y, begin, x}), first.push_back(run);
                while (above < above_end && runs[above].end <= begin) ++above;
                for (int k = above; k < above_end && runs[k].begin < x; ++k) join(k, run);
            }
            above = here, above_end = int(runs.size());
        }
        area.resize(runs.size());
        for (int run = 0; run < int(runs.size()); ++run) {
            first[run] = first[first[run]];  // earlier ones are known by now
            area[first[run]] += runs[run].end - runs[run].begin;
        }
    }

    int find(int run) {
        while (first[run] != run) run = first[run] = first[first[run]];
        return run;
    }
    void join(int one, int other) {
        one = find(one), other = find(other);
        if (one < other) first[other] = one;
        else first[one] = other;
    }
    void fill(int run, uint8_t value, uint8_t *image, int width) const {
        std::memset(image + int64_t(runs[run].y) * width + runs[run].begin, value, runs[run].end - runs[run].begin);
    }
};

// What borders a part most, diagonally too: the first of `others` with the most pixels; 0 pixels: -1.
int neighbour(const Parts &parts, const std::vector<int> &runs, const uint8_t *labels, int height, int width,
              const uint8_t *others, int count) {
    int top = height, bottom = 0, left = width, right = 0;
    for (int k : runs) {
        const Parts::Run &run = parts.runs[k];
        if (run.y < top) top = run.y;
        if (run.y >= bottom) bottom = run.y + 1;
        if (run.begin < left) left = run.begin;
        if (run.end > right) right = run.end;
    }
    // 1: beside the part, 2: of it.
    const int wide = right - left + 2;
    std::vector<uint8_t> near(int64_t(wide) * (bottom - top + 2));
    for (const uint8_t mark : {1, 2})
        for (int k : runs) {
            const Parts::Run &run = parts.runs[k];
            const int reach = mark == 1;
            for (int y = run.y - reach; y <= run.y + reach; ++y)
                std::memset(&near[int64_t(y - top + 1) * wide + run.begin - reach - left + 1], mark,
                            run.end - run.begin + 2 * reach);
        }
    int64_t beside[256] = {};
    for (int y = top - 1; y <= bottom; ++y)
        for (int x = left - 1; y >= 0 && y < height && x <= right; ++x)
            if (x >= 0 && x < width && near[int64_t(y - top + 1) * wide + x - left + 1] == 1)
                ++beside[labels[int64_t(y) * width + x]];
    int best = others[0];
    for (int k = 1; k < count; ++k)
        if (beside[others[k]] > beside[best]) best = others[k];
    return beside[best] ? best : -1;
}

}  // namespace

extern "C" {

// out: parts of the mask that hold a pixel of the marker; with `most` only the one that holds the most of them.
void connected_to(const uint8_t *mask, const uint8_t *marker, int height, int width, int most, uint8_t *out) {
    const Parts parts(mask, height, width, 1);
    std::vector<int> marked(parts.runs.size());
    for (size_t k = 0; k < parts.runs.size(); ++k) {
        const Parts::Run &run = parts.runs[k];
        int &total = marked[parts.first[k]];
        const uint8_t *row = marker + int64_t(run.y) * width;
        if (most) {
            for (int x = run.begin; x < run.end; ++x) total += row[x];
        } else if (!total) {
            total = std::memchr(row + run.begin, 1, run.end - run.begin) != nullptr;
        }
    }
    size_t best = 0;
    for (size_t k = 1; k < marked.size(); ++k)
        if (marked[k] > marked[best]) best = k;
    std::memset(out, 0, int64_t(height) * width);
    for (size_t k = 0; k < parts.runs.size(); ++k)
        if (marked[parts.first[k]] && (!most || parts.first[k] == int(best))) parts.fill(int(k), 1, out, width);
}

// Add parts of what is not the mask with less than `smallest` pixels to it.
void fill_holes(uint8_t *mask, int height, int width, int smallest) {
    const Parts parts(mask, height, width, 0);
    for (size_t k = 0; k < parts.runs.size(); ++k)
        if (parts.area[parts.first[k]] < smallest) parts.fill(int(k), 1, mask, width);
}

// Give islands of a label to what borders them most; root may be null.
void absorb_islands(uint8_t *labels, int height, int width, int label, const uint8_t *others, int count, int smallest,
                    const uint8_t *root) {
    const Parts parts(labels, height, width, uint8_t(label));
    const int total = int(parts.runs.size());
    std::vector<uint8_t> stays(total);
    for (int k = 0; k < total; ++k) {
        const int part = parts.first[k];
        const Parts::Run &run = parts.runs[k];
        if (parts.area[part] >= smallest && !stays[part])
            stays[part] = !root || std::memchr(root + int64_t(run.y) * width + run.begin, 1, run.end - run.begin);
    }
    std::vector<int> island(total, -1);
    std::vector<std::vector<int>> islands;
    for (int k = 0; k < total; ++k) {
        const int part = parts.first[k];
        if (stays[part]) continue;
        if (part == k) island[k] = int(islands.size()), islands.emplace_back();
        islands[island[part]].push_back(k);
    }
    for (const auto &runs : islands) {
        const int best = neighbour(parts, runs, labels, height, width, others, count);
        for (int k : runs)
            if (best >= 0) parts.fill(k, uint8_t(best), labels, width);
    }
}
}
