// Vectors of fp32 numbers for compiled code: loads and stores of fp32 and bf16, and elementary functions.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#if defined(__AVX2__)
#include <immintrin.h>
#endif
#if defined(__AVX512F__)
constexpr int LANES = 16;
#else
constexpr int LANES = 8;
#endif

typedef float Vec __attribute__((vector_size(LANES * 4)));
typedef int32_t Ints __attribute__((vector_size(LANES * 4)));
typedef uint32_t Bits __attribute__((vector_size(LANES * 4)));
typedef uint16_t Halves __attribute__((vector_size(LANES * 2)));
typedef uint16_t bf16;

static inline Vec load(const float* from) {
    Vec value;
    memcpy(&value, from, sizeof value);
    return value;
}

static inline Vec load(const bf16* from) {
#if defined(__AVX512F__)
    return (Vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)from)), 16);
#elif defined(__AVX2__)
    return (Vec)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)from)), 16);
#else
    Halves halves;
    memcpy(&halves, from, sizeof halves);
    return (Vec)(__builtin_convertvector(halves, Bits) << 16);
#endif
}

static inline void store(float* to, Vec value) { memcpy(to, &value, sizeof value); }

// bf16 numbers nearest to the value, each in 32 bits.
static inline Bits narrow(Vec value) {
#if defined(__AVX512BF16__)
    return (Bits)_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)value));
#else
    Bits bits = (Bits)value, rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return value == value ? rounded : bits >> 16 | 64;
#endif
}

static inline void store(bf16* to, Vec value) {
#if defined(__AVX512BF16__)
    __m256bh halves = _mm512_cvtneps_pbh((__m512)value);
#else
    Halves halves = __builtin_convertvector(narrow(value), Halves);
#endif
    memcpy(to, &halves, sizeof halves);
}

// Load or store a vector of which only the first `count` numbers may be in memory.
template <class T>
static inline Vec load_part(const T* from, int64_t count) {
    if (count >= LANES) return load(from);
    T padded[LANES] = {};
    std::copy(from, from + count, padded);
    return load(padded);
}

template <class T>
static inline void store_part(T* to, Vec value, int64_t count) {
    if (count >= LANES) return store(to, value);
    T padded[LANES];
    store(padded, value);
    std::copy(padded, padded + count, to);
}

static inline float widen(float value) { return value; }
static inline float widen(bf16 value) {
    uint32_t bits = uint32_t(value) << 16;
    float wide;
    memcpy(&wide, &bits, sizeof wide);
    return wide;
}

static inline float sum(Vec value) {
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512)value);
#else
    return ((value[0] + value[4]) + (value[2] + value[6])) + ((value[1] + value[5]) + (value[3] + value[7]));
#endif
}

static inline Vec exponential(Vec x) {  // Cephes' expf; numbers below -87 count as -87
#if defined(__AVX512F__)
    x = (Vec)_mm512_max_ps((__m512)(Vec{} - 87.0f), (__m512)x);
    Vec whole = (Vec)_mm512_roundscale_ps((__m512)(x * 1.44269504f), 8);
#else
    x = x < -87.0f ? Vec{} - 87.0f : x > 88.0f ? Vec{} + 88.0f : x;
    Vec shifted = x * 1.44269504f + 12582912.0f, whole = shifted - 12582912.0f;  // 1.5 * 2^23 rounds to an integer
#endif
    Vec r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    Vec p = ((((r * 1.9875691500e-4f + 1.3981999507e-3f) * r + 8.3334519073e-3f) * r + 4.1665795894e-2f) * r + 1.6666665459e-1f) * r;
    p = (p + 5.0000001201e-1f) * r * r + r + 1.0f;
#if defined(__AVX512F__)
    return (Vec)_mm512_scalef_ps((__m512)p, (__m512)whole);
#else
    return p * (Vec)((((Bits)shifted - 0x4b400000u) + 127) << 23);
#endif
}

static inline Vec logistic(Vec x) { return 1.0f / (1.0f + exponential(-x)); }

static inline Vec error_function(Vec x) {  // Abramowitz and Stegun 7.1.26: error below 1.5e-7
    Vec size = x < 0 ? -x : x, t = 1.0f / (1.0f + 0.3275911f * size);
    Vec p = ((((t * 1.061405429f - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t + 0.254829592f) * t;
    Vec value = 1.0f - p * exponential(-size * size);
    return x < 0 ? -value : value;
}
