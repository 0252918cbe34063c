// Vectors of the width that this file is compiled for, by the compiler's own vector types, and what they are needed for.
// Who includes it is compiled once per instruction set: nothing here may be shared between those.
#pragma once
#include <cstdint>
#include <cstring>
#include <type_traits>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define CLEW_TABLE2(NAME, ISA) NAME##_##ISA
#define CLEW_TABLE(NAME, ISA) CLEW_TABLE2(NAME, ISA)  // the name of this instruction set's table

namespace clew::CLEW_ISA {

template <class S>
struct Simd {
  using Int = typename std::conditional<sizeof(S) == 4, int32_t, int64_t>::type;
  static constexpr int V = CLEW_BYTES / sizeof(S);
  typedef S Vec __attribute__((vector_size(CLEW_BYTES)));
  typedef Int IntVec __attribute__((vector_size(CLEW_BYTES)));
};

template <class S>
using Vec = typename Simd<S>::Vec;

template <class S>
static inline Vec<S> load(const S* from) {
  Vec<S> v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

// A vector of weights, from how they are kept: as they are, as bfloat16 (the upper half of a float) or as int8.
template <class S>
static inline Vec<S> widen(const S* from) {
  return load<S>(from);
}

template <class S>
static inline Vec<S> widen(const uint16_t* from) {
  typedef uint32_t Whole __attribute__((vector_size(CLEW_BYTES)));
#if defined(__AVX512F__)
  return (Vec<S>)((Whole)_mm512_maskz_cvtepu16_epi32(0xffff, _mm256_loadu_si256((const __m256i*)from)) << 16);
#elif defined(__AVX2__)
  return (Vec<S>)((Whole)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)from)) << 16);
#else
  typedef uint16_t Half __attribute__((vector_size(CLEW_BYTES / 2)));
  Half half;
  std::memcpy(&half, from, sizeof half);
  return (Vec<S>)(__builtin_convertvector(half, Whole) << 16);
#endif
}

template <class S>
static inline Vec<S> widen(const int8_t* from) {
#if defined(__AVX512F__)
  return (Vec<S>)_mm512_maskz_cvtepi32_ps(0xffff, _mm512_maskz_cvtepi8_epi32(0xffff, _mm_loadu_si128((const __m128i*)from)));
#elif defined(__AVX2__)
  return (Vec<S>)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)from)));
#else
  typedef int8_t Bytes __attribute__((vector_size(CLEW_BYTES / 4)));
  typedef int32_t Whole __attribute__((vector_size(CLEW_BYTES)));
  Bytes bytes;
  std::memcpy(&bytes, from, sizeof bytes);
  return __builtin_convertvector(__builtin_convertvector(bytes, Whole), Vec<S>);
#endif
}

template <class S>
static inline void store(S* to, Vec<S> v) {
  std::memcpy(to, &v, sizeof v);
}

// Asks for what will soon be read or written there; any address will do.
static inline void ahead(const void* address) { __builtin_prefetch(address); }

// The first `n` numbers, where there may be fewer than a vector has; zeros in the place of the others.
template <class S>
static inline Vec<S> load_some(const S* from, int64_t n) {
  if (n >= Simd<S>::V) return load<S>(from);
  Vec<S> v = {};
  if (n > 0) std::memcpy(&v, from, n * sizeof(S));
  return v;
}

template <class S>
static inline void store_some(S* to, Vec<S> v, int64_t n) {
  if (n >= Simd<S>::V) return store<S>(to, v);
  if (n > 0) std::memcpy(to, &v, n * sizeof(S));
}

template <class S>
static inline Vec<S> splat(S value) {
  return value - Vec<S>{};  // keeps the sign of zero
}

template <class S>
static inline Vec<S> reciprocal(Vec<S> v) {
#if defined(__AVX512F__)
  if constexpr (sizeof(S) == 4) {  // 14 bits, and one step of Newton's: a quarter of a division's time
    Vec<S> r = (Vec<S>)_mm512_maskz_rcp14_ps(0xffff, (__m512)v);
    return r + r * (1 - v * r);
  }
#endif
  return 1 / v;
}

// e^x - 1 as scale * q + (scale - 1), exact where x is small; x must lie where 2^(x / ln 2) is a normal number.
// A NaN stays one.
template <class S>
struct Exp {
  Vec<S> scale, q;

  explicit Exp(Vec<S> x) {
    using Int = typename Simd<S>::Int;
    using IntVec = typename Simd<S>::IntVec;
    constexpr bool single = sizeof(S) == 4;
    constexpr S ROUND = single ? S(0x1.8p23) : S(0x1.8p52);  // adding it leaves an integer in the low bits
    constexpr S LN2_HIGH = single ? S(0x1.62e4p-1) : S(0x1.62e42feep-1);
    constexpr S LN2_LOW = single ? S(0x1.7f7d1cf8p-20) : S(0x1.a39ef35793c76p-33);
    Vec<S> shifted = x * S(1.4426950408889634) + ROUND;
    Vec<S> n = shifted - ROUND;
    Vec<S> r = x - n * LN2_HIGH - n * LN2_LOW;
    // (e^r - 1) / r on |r| <= ln(2) / 2, by Chebyshev interpolation: off by 3e-10, or by 3e-19.
    constexpr S A[] = {S(1.9901620653935255e-4), S(1.3943221776566e-3), S(8.33329560832435e-3), S(4.16663270022855e-2),
                       S(1.66666667256042e-1), S(5.00000005306725e-1), S(1)};
    constexpr S B[] = {S(2.09198025349083843e-9), S(2.51123805585008305e-8), S(2.75572586886239302e-7),
                       S(2.7557234458834414e-6), S(2.48015873408182606e-5), S(1.9841269896204483e-4),
                       S(1.38888888888773977e-3), S(8.33333333331724218e-3), S(4.1666666666666679e-2),
                       S(1.66666666666666839e-1), S(0.5), S(1)};
    Vec<S> p = splat<S>(single ? A[0] : B[0]);
#pragma GCC unroll 16
    for (int i = 1; i < (single ? 7 : 12); ++i) p = p * r + (single ? A[i] : B[i]);
    q = p * r;
    constexpr int MANTISSA = single ? 23 : 52, BIAS = single ? 127 : 1023;
    IntVec bits = (((IntVec)shifted - (IntVec)splat<S>(ROUND)) + Int(BIAS)) << Int(MANTISSA);
    scale = (Vec<S>)bits;
  }
};

template <class S>
static inline Vec<S> clamp(Vec<S> x, S most) {
#if defined(__AVX512F__)
  if constexpr (sizeof(S) == 4) {  // half the instructions; of two numbers with a NaN these give the second
    const __m512 low = _mm512_maskz_min_ps(0xffff, (__m512)splat<S>(most), (__m512)x);
    return (Vec<S>)_mm512_maskz_max_ps(0xffff, (__m512)splat<S>(-most), low);
  }
#endif
  x = x > most ? splat<S>(most) : x;
  return x < -most ? splat<S>(-most) : x;
}

template <class S>
static inline Vec<S> sigmoid(Vec<S> x) {
  Exp<S> e(clamp<S>(-x, sizeof(S) == 4 ? S(87) : S(708)));
  return reciprocal<S>(1 + (e.scale + e.scale * e.q));
}

template <class S>
static inline Vec<S> tanh(Vec<S> x) {
  Exp<S> e(clamp<S>(2 * x, sizeof(S) == 4 ? S(20) : S(40)));
  Vec<S> m = e.scale * e.q + (e.scale - 1);
  return m * reciprocal<S>(m + 2);
}

template <class S>
static inline Vec<S> relu(Vec<S> x) {
  return x < 0 ? Vec<S>{} : x;  // a NaN stays one
}

template <class S>
constexpr S LARGEST = sizeof(S) == 4 ? S(87) : S(708);  // whose e^x, and that of -x, is a normal number

template <class S>
static inline Vec<S> exponential(Vec<S> x) {  // beyond the largest 0, or infinite
  const Exp<S> e(clamp<S>(x, LARGEST<S>));
  const Vec<S> v = x < -LARGEST<S> ? Vec<S>{} : e.scale + e.scale * e.q;
  return x > LARGEST<S> ? splat<S>(S(__builtin_inf())) : v;
}

#if defined(__AVX2__)
static inline float sum_of(__m256 v) {
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}
static inline double sum_of(__m256d v) {
  const __m128d half = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
  return _mm_cvtsd_f64(_mm_add_sd(half, _mm_unpackhi_pd(half, half)));
}
#endif

template <class S>
static inline S sum(Vec<S> v) {
#if defined(__AVX512F__)
  __m256d low, high;
  std::memcpy(&low, &v, sizeof low);
  std::memcpy(&high, reinterpret_cast<const char*>(&v) + sizeof low, sizeof high);
  if constexpr (sizeof(S) == 4) return sum_of(_mm256_add_ps(_mm256_castpd_ps(low), _mm256_castpd_ps(high)));
  else return sum_of(_mm256_add_pd(low, high));
#elif defined(__AVX2__)
  if constexpr (sizeof(S) == 4) return sum_of((__m256)v);
  else return sum_of((__m256d)v);
#else
  S total = 0;
  for (int i = 0; i < Simd<S>::V; ++i) total += v[i];
  return total;
#endif
}

// to[i] += sum(v[i]) for four of them, in a third of the instructions that they take one by one.
template <class S>
static inline void add_sums(S* to, const Vec<S>* v) {
#if defined(__AVX2__)
  if constexpr (sizeof(S) == 4) {
    __m256 half[4];
#if defined(__AVX512F__)
    for (int i = 0; i < 4; ++i) {
      __m256 low, high;
      std::memcpy(&low, v + i, sizeof low);
      std::memcpy(&high, reinterpret_cast<const char*>(v + i) + sizeof low, sizeof high);
      half[i] = _mm256_add_ps(low, high);
    }
#else
    for (int i = 0; i < 4; ++i) half[i] = (__m256)v[i];
#endif
    const __m256 sums = _mm256_hadd_ps(_mm256_hadd_ps(half[0], half[1]), _mm256_hadd_ps(half[2], half[3]));
    const __m128 all = _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps(sums, 1));
    return _mm_storeu_ps(to, _mm_add_ps(_mm_loadu_ps(to), all));
  }
#endif
  for (int i = 0; i < 4; ++i) to[i] += sum<S>(v[i]);
}

// Numbers too small for a full mantissa slow a processor twenty-fold: they are taken for 0 while this lives.
class NoDenormals {
 public:
#if defined(__x86_64__)
  NoDenormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }
  ~NoDenormals() { _mm_setcsr(before_); }

 private:
  unsigned before_;
#elif defined(__aarch64__)
  NoDenormals() {
    asm volatile("mrs %0, fpcr" : "=r"(before_));
    asm volatile("msr fpcr, %0" ::"r"(before_ | (uint64_t(1) << 24)));
  }
  ~NoDenormals() { asm volatile("msr fpcr, %0" ::"r"(before_)); }

 private:
  uint64_t before_;
#endif
};

}  // namespace clew::CLEW_ISA
