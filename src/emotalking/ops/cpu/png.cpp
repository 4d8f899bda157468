// Compressed rows of PNG files (RFC 1950, 1951; PNG specification 9): filter "up" and one block of deflate.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <queue>
#include <utility>
#include <vector>

namespace {

constexpr int end = 256, all_literals = 257 + 29, all_distances = 30, most_bits = 15;
constexpr int shortest = 4, longest = 258, farthest = 32768, hash_bits = 12;

// Symbol, further bits and first value of each length 3 to 258, or of each distance 1 to 32768.
template <int count, int pairs, int begin, int last>
struct Ranges {
    uint8_t symbol[last + 1], extra[count];
    int first[count];

    Ranges() {
        for (int k = 0, at = begin; k < count; ++k) {
            const bool single = count == 29 && k == count - 1;  // the longest has a symbol of its own
            extra[k] = k < 2 * pairs || single ? 0 : k / pairs - 1;
            first[k] = at = single ? last : at;
            for (int i = 0; i < 1 << extra[k] && at <= last; ++i, ++at) symbol[at] = uint8_t(k);
        }
    }
};
const Ranges<29, 4, 3, longest> lengths;
const Ranges<all_distances, 2, 1, farthest> distances;

struct Token {
    uint16_t length, value;  // 0 and a literal, or a repetition and its distance - 1
};

template <class Word>
inline Word load(const uint8_t *from) {
    Word word;
    std::memcpy(&word, from, sizeof word);
    return word;
}

// Bytes as literals and repetitions of the last place with the same four, as zlib's fastest level has them.
void tokens_of(const uint8_t *bytes, int64_t size, std::vector<Token> &out) {
    std::vector<int64_t> places(1 << hash_bits, -farthest - 1);
    for (int64_t at = 0; at < size;) {
        int64_t length = 0, from = 0;
        if (size - at >= 8) {
            const uint32_t four = load<uint32_t>(bytes + at);
            int64_t &place = places[four * 2654435761u >> (32 - hash_bits)];
            from = place, place = at;
            // In a run of zeros: readers copy from the byte before slowly, as each copy waits for the last.
            if (!four && at >= 16 && !bytes[at - 1])
                from = at - (load<uint64_t>(bytes + at - 16) | load<uint64_t>(bytes + at - 8) ? 1 : 16);
            if (at - from <= farthest && load<uint32_t>(bytes + from) == four) {
                const int64_t most = std::min<int64_t>(size - at, longest);
                for (length = 4; length + 8 <= most; length += 8)
                    if (load<uint64_t>(bytes + at + length) != load<uint64_t>(bytes + from + length)) break;
                while (length < most && bytes[at + length] == bytes[from + length]) ++length;
            }
        }
        if (length)
            out.push_back({uint16_t(length), uint16_t(at - from - 1)}), at += length;
        else
            out.push_back({0, bytes[at++]});
    }
}

// Lengths of a Huffman code; counts are halved until none is longer than `most_bits`.
void code_lengths(std::vector<int64_t> counts, uint8_t *bits) {
    const int symbols = int(counts.size());
    for (;;) {
        typedef std::pair<int64_t, int> Node;
        std::priority_queue<Node, std::vector<Node>, std::greater<Node>> left;
        std::vector<int> parent(2 * symbols, -1);
        int made = symbols, deepest = 0;
        for (int s = 0; s < symbols; ++s)
            if (counts[s]) left.push({counts[s], s});
        while (left.size() > 1) {
            const Node one = left.top();
            left.pop();
            const Node other = left.top();
            left.pop();
            parent[one.second] = parent[other.second] = made;
            left.push({one.first + other.first, made++});
        }
        for (int s = 0; s < symbols; ++s) {
            int depth = 0;
            for (int at = s; parent[at] >= 0; at = parent[at]) ++depth;
            bits[s] = uint8_t(depth), deepest = std::max(deepest, depth);
        }
        if (deepest <= most_bits) return;
        for (auto &count : counts) count = (count + 1) / 2;
    }
}

// Canonical codes, their first bit lowest.
void assign(const uint8_t *bits, int symbols, uint16_t *codes) {
    for (int length = 1, next = 0; length <= most_bits; ++length, next <<= 1)
        for (int s = 0; s < symbols; ++s)
            if (bits[s] == length) {
                codes[s] = 0;
                for (int k = 0; k < length; ++k) codes[s] |= (next >> k & 1) << (length - 1 - k);
                ++next;
            }
}

struct Writer {
    uint8_t *out;
    uint64_t held = 0;
    int count = 0;

    void put(uint64_t value, int bits) {  // at most 32 of them
        held |= value << count, count += bits;
        if (count >= 32) {
            const uint32_t word = uint32_t(held);
            for (int k = 0; k < 4; ++k) out[k] = uint8_t(word >> 8 * k);
            out += 4, held >>= 32, count -= 32;
        }
    }
    void flush() {
        for (; count > 0; count -= 8, held >>= 8) *out++ = uint8_t(held);
        count = 0;
    }
};

uint32_t adler(const uint8_t *bytes, int64_t size) {
    constexpr int piece = 4096;  // sums of which fit 32 bits
    uint64_t one = 1, two = 0;
    for (; size > 0; bytes += piece, size -= piece) {
        const int count = int(std::min<int64_t>(size, piece));
        uint32_t sum = 0, weighted = 0;
        for (int i = 0; i < count; ++i) sum += bytes[i], weighted += bytes[i] * uint32_t(count - i);
        two = (two + one * count + weighted) % 65521, one = (one + sum) % 65521;
    }
    return uint32_t(two << 16 | one);
}

}  // namespace

extern "C" {

// The zlib stream of an image of 8 bits, `wide` bytes a row; `out` has room for twice the image and 1024 bytes.
void png_rows(const uint8_t *image, int64_t height, int64_t wide, uint8_t *out, int64_t *size) {
    const int64_t total = height * (wide + 1);
    const std::unique_ptr<uint8_t[]> filtered(new uint8_t[total]);
    for (int64_t y = 0; y < height; ++y) {
        uint8_t *__restrict to = &filtered[y * (wide + 1)];
        const uint8_t *from = image + y * wide;
        *to++ = 2;  // each byte less that above it
        if (y)
            for (int64_t x = 0; x < wide; ++x) to[x] = from[x] - from[x - wide];
        else
            std::memcpy(to, from, wide);
    }
    std::vector<Token> tokens;
    tokens.reserve(total / 4);
    tokens_of(filtered.get(), total, tokens);
    std::vector<int64_t> literal_counts(all_literals), distance_counts(all_distances);
    literal_counts[end] = distance_counts[0] = distance_counts[1] = 1;  // a code of one symbol would be incomplete
    for (const Token each : tokens)
        if (each.length)
            ++literal_counts[end + 1 + lengths.symbol[each.length]], ++distance_counts[distances.symbol[each.value + 1]];
        else
            ++literal_counts[each.value];
    uint8_t bits[all_literals + all_distances], *distance_bits = bits + all_literals;
    uint16_t codes[all_literals], distance_codes[all_distances];
    code_lengths(literal_counts, bits), code_lengths(distance_counts, distance_bits);
    assign(bits, all_literals, codes), assign(distance_bits, all_distances, distance_codes);

    Writer to{out};
    to.put(0x0178, 16);  // zlib, fastest
    to.put(1 | 2 << 1, 3);  // the last block, with codes of its own
    to.put(all_literals - 257, 5), to.put(all_distances - 1, 5), to.put(19 - 4, 4);
    for (int k = 0; k < 19; ++k) to.put(k < 3 ? 0 : 4, 3);  // lengths 0 to 15 take four bits each
    for (const auto each : bits) to.put((each & 1) << 3 | (each & 2) << 1 | (each & 4) >> 1 | each >> 3, 4);
    for (const Token each : tokens)
        if (each.length) {
            const int k = lengths.symbol[each.length], d = distances.symbol[each.value + 1];
            to.put(codes[end + 1 + k], bits[end + 1 + k]);
            to.put(each.length - lengths.first[k], lengths.extra[k]);
            to.put(distance_codes[d], distance_bits[d]);
            to.put(each.value + 1 - distances.first[d], distances.extra[d]);
        } else {
            to.put(codes[each.value], bits[each.value]);
        }
    to.put(codes[end], bits[end]);
    to.flush();
    const uint32_t check = adler(filtered.get(), total);
    for (int k = 3; k >= 0; --k) *to.out++ = uint8_t(check >> 8 * k);
    *size = to.out - out;
}
}
