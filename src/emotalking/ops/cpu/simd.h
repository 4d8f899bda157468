// What the kernels share: vectors of floats as wide as the processor's registers, and a parallel loop.
#pragma once
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>
#if defined(__AVX__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__) && defined(__AVX512DQ__)
constexpr int W = 16;
#elif defined(__AVX__)
constexpr int W = 8;
#else
constexpr int W = 4;
#endif

// GCC/Clang vector extensions: arithmetic, comparison and ?: work lane by lane. A comparison gives -1 or 0 per lane.
typedef float vf __attribute__((vector_size(W * sizeof(float))));
typedef int32_t vi __attribute__((vector_size(W * sizeof(int32_t))));
typedef float quarter __attribute__((vector_size(16)));  // of a vector of 16

// A vector of pixels is a block of COLUMNS x LINES, so that small Gaussians fill it.
#if defined(__AVX__)
constexpr int COLUMNS = 8;
#else
constexpr int COLUMNS = 4;
#endif
constexpr int LINES = W / COLUMNS;

static inline vf splat(float x) { return vf{} + x; }
static inline vf load(const float *p) {
    vf v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
static inline void store(float *p, vf v) { std::memcpy(p, &v, sizeof v); }
static inline vf min(vf a, vf b) { return a < b ? a : b; }
static inline vf max(vf a, vf b) { return a > b ? a : b; }
static inline vf lane_index() {
    vf v;
    for (int i = 0; i < W; ++i) v[i] = float(i);
    return v;
}

// Up to W values of an array of rows.
static inline vf column(const float *rows, int width, int used) {
    vf v = vf{};
    for (int i = 0; i < used; ++i) v[i] = rows[i * width];
    return v;
}

// Sum of the lanes, by halves: the additions of one level run in parallel.
static inline float sum(vf v) {
    typedef float half __attribute__((vector_size(W * sizeof(float) / 2)));
    half a, b;
    std::memcpy(&a, &v, sizeof a);
    std::memcpy(&b, reinterpret_cast<const char *>(&v) + sizeof a, sizeof b);
    a += b;
    float total = 0;
    if constexpr (W / 2 > 4) {
        quarter c, d;
        std::memcpy(&c, &a, sizeof c);
        std::memcpy(&d, reinterpret_cast<const char *>(&a) + sizeof c, sizeof d);
        c += d;
        total = (c[0] + c[2]) + (c[1] + c[3]);
    } else {
        for (int i = 0; i < W / 2; ++i) total += a[i];
    }
    return total;
}

template <int... I>
static inline quarter mixed(quarter a, quarter b) {
#if defined(__clang__)
    return __builtin_shufflevector(a, b, I...);
#else
    typedef int32_t places __attribute__((vector_size(16)));
    return __builtin_shuffle(a, b, places{I...});
#endif
}

// Add the sums of the lanes of four vectors to four floats, in the order of `sum`.
static inline void add_sums(const vf *of, float *to) {
    quarter part[4], total;
    for (int n = 0; n < 4; ++n) {
        quarter pieces[W / 4];
        std::memcpy(pieces, of + n, sizeof(vf));
        for (int count = W / 8; count; count /= 2)
            for (int i = 0; i < count; ++i) pieces[i] += pieces[i + count];
        part[n] = pieces[0];
    }
    std::memcpy(&total, to, sizeof total);
    const quarter ab = mixed<0, 4, 1, 5>(part[0], part[1]) + mixed<2, 6, 3, 7>(part[0], part[1]);
    const quarter cd = mixed<0, 4, 1, 5>(part[2], part[3]) + mixed<2, 6, 3, 7>(part[2], part[3]);
    total += mixed<0, 1, 4, 5>(ab, cd) + mixed<2, 3, 6, 7>(ab, cd);
    std::memcpy(to, &total, sizeof total);
}

static inline bool any(vi mask) {
#if defined(__AVX512DQ__)
    return _mm512_movepi32_mask((__m512i)mask) != 0;
#elif defined(__AVX__)
    return _mm256_movemask_ps((__m256)mask) != 0;
#else
    int64_t words[W / 2], seen = 0;
    std::memcpy(words, &mask, sizeof words);
    for (int64_t w : words) seen |= w;
    return seen != 0;
#endif
}

// 2^x for x in [-126, 126] (smaller x is taken as -126), relative error below 2e-7.
static inline vf exp2_fast(vf x) {
    const vf magic = splat(12582912.f);  // 1.5 * 2^23: adding it rounds to an integer, kept in the low bits
    x = max(x, splat(-126.f));
    const vf shifted = x + magic;
    const vf f = x - (shifted - magic);  // in [-0.5, 0.5]
    vf p = splat(1.5403530e-4f);
    p = p * f + 1.3333558e-3f;
    p = p * f + 9.6181291e-3f;
    p = p * f + 5.5504109e-2f;
    p = p * f + 2.4022651e-1f;
    p = p * f + 6.9314718e-1f;
    p = p * f + 1.f;
    vi bits, exponent;
    std::memcpy(&bits, &p, sizeof bits);
    std::memcpy(&exponent, &shifted, sizeof exponent);
    bits += exponent << 23;
    std::memcpy(&p, &bits, sizeof p);
    return p;
}

static inline vf root(vf v) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
    return (vf)_mm512_sqrt_ps((__m512)v);
#elif defined(__AVX__)
    return (vf)_mm256_sqrt_ps((__m256)v);
#else
    for (int i = 0; i < W; ++i) v[i] = std::sqrt(v[i]);
    return v;
#endif
}

// 1 / v of normal v, relative error below 2e-7: an estimate and Newton's steps, which overlap where divisions wait.
static inline vf inverse(vf v) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
    vf guess = (vf)_mm512_rcp14_ps((__m512)v);
#elif defined(__AVX__)
    vf guess = (vf)_mm256_rcp_ps((__m256)v);
    guess += guess * (1.f - v * guess);
#else
    return 1.f / v;
#endif
#if defined(__AVX__)
    return guess + guess * (1.f - v * guess);
#endif
}

// ln u of normal u > 0: exponent * ln 2 + ln(1 + f), 1 + f in [sqrt(1/2), sqrt(2)) (Cephes' polynomial).
static inline vf ln(vf u) {
    vi bits;
    std::memcpy(&bits, &u, sizeof bits);
    const vi exponent = (bits - 0x3f3504f3) >> 23;
    bits -= exponent << 23;
    vf f;
    std::memcpy(&f, &bits, sizeof f);
    f -= 1.f;
    vf p = splat(7.0376836292e-2f);
    for (const float c : {-1.1514610310e-1f, 1.1676998740e-1f, -1.2420140846e-1f, 1.4249322787e-1f, -1.6668057665e-1f,
                          2.0000714765e-1f, -2.4999993993e-1f, 3.3333331174e-1f})
        p = p * f + c;
    return __builtin_convertvector(exponent, vf) * 0.693147181f + (f - f * f * (0.5f - f * p));
}

// ln(1 + e^x), relative error below 2e-6; x itself above 20, as torch has it.
static inline vf softplus(vf x) {
    const vf e = exp2_fast(min(x, splat(20.f)) * 1.44269504f), u = e + 1.f;
    // u lost the last bits of a small e: ln(1 + e) = e ln(u) / (u - 1) has them again.
    const vf added = u - 1.f;
    const vf result = added == vf{} ? e : ln(u) * e / (added == vf{} ? splat(1.f) : added);
    return x > splat(20.f) ? x : result;
}

// Lanes 0, 2, 4, ... and 1, 3, 5, ... of a, then of b.
template <int... I>
static inline void unzip(vf a, vf b, vf &even, vf &odd, std::integer_sequence<int, I...>) {
#if defined(__clang__)
    even = __builtin_shufflevector(a, b, (2 * I)...), odd = __builtin_shufflevector(a, b, (2 * I + 1)...);
#else
    even = __builtin_shuffle(a, b, vi{(2 * I)...}), odd = __builtin_shuffle(a, b, vi{(2 * I + 1)...});
#endif
}
static inline void unzip(vf a, vf b, vf &even, vf &odd) {
    unzip(a, b, even, odd, std::make_integer_sequence<int, W>());
}

#if defined(__linux__)
// The OpenMP pool of the process, if torch has loaded one. Its threads spin for milliseconds after each of torch's own
// loops; threads of ours would share the cores with them (measured: three times the processor time).
extern "C" void GOMP_parallel(void (*run)(void *), void *data, unsigned threads, unsigned flags) __attribute__((weak));
#else
static constexpr void (*GOMP_parallel)(void (*)(void *), void *, unsigned, unsigned) = nullptr;
#endif

// Run body(begin, end, thread) over [0, count) in chunks that idle threads pick up one by one.
template <class Body>
static void parallel(int64_t count, int64_t chunk, int threads, Body body) {
    struct Job {
        Body &body;
        int64_t count, chunk;
        std::atomic<int64_t> next;
        std::atomic<int> joined;

        static void run(void *data) {
            Job &job = *static_cast<Job *>(data);
            const int thread = job.joined.fetch_add(1);
            for (int64_t begin; (begin = job.next.fetch_add(job.chunk)) < job.count;)
                job.body(begin, begin + job.chunk < job.count ? begin + job.chunk : job.count, thread);
        }
    } job{body, count, chunk, {0}, {0}};
    if (threads <= 1 || count <= chunk) {
        Job::run(&job);
    } else if (GOMP_parallel) {
        GOMP_parallel(&Job::run, &job, unsigned(threads), 0);  // torch's number of threads, so that the pool stays
    } else {
        std::vector<std::thread> helpers;
        for (int t = 1; t < threads && t * chunk < count; ++t) helpers.emplace_back(&Job::run, &job);
        Job::run(&job);
        for (auto &helper : helpers) helper.join();
    }
}
