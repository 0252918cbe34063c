// See rounded.h. Compiled by itself, with the tiles' own instructions and AVX-512, where the compiler knows them: nothing
// here may be called where the processor has no AVX-512.
#include "rounded.h"

#if defined(__AMX_BF16__) && defined(__AVX512BF16__) && defined(__linux__)
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace clew {
namespace {

constexpr int64_t SIZE = TILE * DEEP;  // numbers of a tile of either factor
constexpr int STRIDE = 64;             // bytes of a tile's row

struct alignas(64) Shapes {  // of the eight tiles, as the instruction reads them
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t bytes[16] = {STRIDE, STRIDE, STRIDE, STRIDE, STRIDE, STRIDE, STRIDE, STRIDE};
  uint8_t rows[16] = {TILE, TILE, TILE, TILE, TILE, TILE, TILE, TILE};
};
constexpr Shapes SHAPES;  // no local: compilers take it that the first 8 bytes are all that is read

void begin() { _tile_loadconfig(&SHAPES); }

void end() { _tile_release(); }

uint16_t nearest(float x) {
  const __m128bh both = _mm_cvtneps_pbh(_mm_set_ss(x));
  return uint16_t(_mm_cvtsi128_si32((__m128i)both));
}

void pack(int64_t N, int64_t K, const float* const* column, const int64_t* place, uint16_t* to) {
  for (int64_t n = 0; n < N; n += TILE)
    for (int64_t k = 0; k < K; k += DEEP, to += SIZE)
      for (int64_t i = 0; i < TILE; ++i)
        for (int64_t j = 0; j < DEEP; ++j) {
          const bool real = n + i < N && column[n + i] && k + j < K && place[k + j] >= 0;
          to[(j / 2 * TILE + i) * 2 + j % 2] = real ? nearest(column[n + i][place[k + j]]) : 0;
        }
}

void round(int64_t M, int64_t K, const float* const* from, uint16_t* to) {
  const int64_t across = tiled(K, DEEP) / DEEP;
  for (int64_t m = 0; m < tiled(M, TILE); ++m) {
    uint16_t* row = to + m / TILE * across * SIZE + m % TILE * DEEP;
    for (int64_t k = 0; k < K; k += DEEP, row += SIZE) {
      const auto some = [&](int64_t first) {
        const int64_t left = K - first;
        const __mmask16 real = m >= M || left <= 0 ? 0 : left >= 16 ? 0xffff : (1 << left) - 1;
        return real ? _mm512_maskz_loadu_ps(real, from[m] + first) : _mm512_setzero_ps();
      };
      _mm512_storeu_si512(row, (__m512i)_mm512_cvtne2ps_pbh(some(k + 16), some(k)));
    }
  }
}

// DOWN x ACROSS tiles of sums, in registers over the whole product: the first four; two for each factor.
template <int DOWN, int ACROSS>
inline void block(int64_t depth, const uint16_t* a, const uint16_t* w, float* sums, int64_t N) {
  const int64_t next = depth * SIZE, apart = N * int64_t(sizeof(float));
  _tile_zero(0);
  if constexpr (ACROSS > 1) _tile_zero(1);
  if constexpr (DOWN > 1) _tile_zero(2);
  if constexpr (DOWN > 1 && ACROSS > 1) _tile_zero(3);
  for (int64_t k = 0; k < depth; ++k, a += SIZE, w += SIZE) {
    _tile_loadd(4, a, STRIDE);
    _tile_loadd(6, w, STRIDE);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (ACROSS > 1) {
      _tile_loadd(7, w + next, STRIDE);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (DOWN > 1) {
      _tile_loadd(5, a + next, STRIDE);
      _tile_dpbf16ps(2, 5, 6);
    }
    if constexpr (DOWN > 1 && ACROSS > 1) _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, sums, apart);
  if constexpr (ACROSS > 1) _tile_stored(1, sums + TILE, apart);
  if constexpr (DOWN > 1) _tile_stored(2, sums + TILE * N, apart);
  if constexpr (DOWN > 1 && ACROSS > 1) _tile_stored(3, sums + TILE * N + TILE, apart);
}

void product(int64_t M, int64_t N, int64_t K, const uint16_t* rows, const uint16_t* w, float* sums) {
  const int64_t depth = tiled(K, DEEP) / DEEP, next = depth * SIZE;
  M = tiled(M, TILE), N = tiled(N, TILE);
  for (int64_t n = 0; n < N; n += 2 * TILE) {  // two columns of weights stay in the nearest cache
    const uint16_t* columns = w + n / TILE * next;
    const bool wide = n + TILE < N;
    for (int64_t m = 0; m < M; m += 2 * TILE) {
      const uint16_t* a = rows + m / TILE * next;
      float* to = sums + m * N + n;
      const bool deep = m + TILE < M;
      (deep ? (wide ? block<2, 2> : block<2, 1>) : (wide ? block<1, 2> : block<1, 1>))(depth, a, columns, to, N);
    }
  }
}

constexpr Rounded TILES = {begin, end, pack, round, product};

bool allowed() {
  constexpr int ASK = 0x1023, DATA = 18;  // ARCH_REQ_XCOMP_PERM, for the tiles' own state
  __builtin_cpu_init();
  unsigned a = 7, b = 0, c = 0, d = 0;
  __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  const bool tiles = (d >> 22 & 1) && (d >> 24 & 1);  // AMX-BF16, AMX-TILE
  return tiles && __builtin_cpu_supports("avx512bf16") && syscall(SYS_arch_prctl, ASK, DATA) == 0;
}

}  // namespace

const Rounded* rounded() {
  static const bool here = allowed();
  return here ? &TILES : nullptr;
}

}  // namespace clew

#else

namespace clew {
const Rounded* rounded() { return nullptr; }
}  // namespace clew

#endif
