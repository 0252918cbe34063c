// The product that all passes are made of: a few rows times a panel of weights, summed in registers.
#pragma once
#include "simd.h"

#define INLINE static inline __attribute__((always_inline))

namespace clew::CLEW_ISA {

constexpr int REGISTERS = CLEW_BYTES == 64 ? 24 : 12;  // for a tile, beside what feeds it

INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// tile[r][n] += sum over k of a[r][k] w[k][n], for rows R and vectors N. W is how the weights are kept.
template <class S, int R, int N, class W>
INLINE void multiply(const S* const (&a)[R], const W* w, int64_t K, Vec<S> (&tile)[R][N]) {
  constexpr int V = Simd<S>::V;
  int64_t k = 0;
  if constexpr (R * N < 8) {  // too few sums to hide the latency of an addition: every second step has its own
    Vec<S> odd[R][N] = {};
    for (; k + 1 < K; k += 2, w += 2 * N * V) {
#pragma GCC unroll 32
      for (int n = 0; n < N; ++n) {
        const Vec<S> even_w = widen<S>(w + n * V), odd_w = widen<S>(w + (N + n) * V);
#pragma GCC unroll 32
        for (int r = 0; r < R; ++r) {
          tile[r][n] += a[r][k] * even_w;
          odd[r][n] += a[r][k + 1] * odd_w;
        }
      }
    }
#pragma GCC unroll 32
    for (int n = 0; n < N; ++n)
#pragma GCC unroll 32
      for (int r = 0; r < R; ++r) tile[r][n] += odd[r][n];
  }
  for (; k < K; ++k, w += N * V) {
#pragma GCC unroll 32
    for (int n = 0; n < N; ++n) {
      const Vec<S> column = widen<S>(w + n * V);
#pragma GCC unroll 32
      for (int r = 0; r < R; ++r) tile[r][n] += a[r][k] * column;
    }
  }
}

// Calls tile(first, rows) over `count` rows in pieces as even as can be, of at most MOST rows.
template <int MOST, class Tile>
INLINE void in_tiles(int64_t count, Tile&& tile) {
  const int64_t pieces = (count + MOST - 1) / MOST;
  for (int64_t piece = 0, first = 0; piece < pieces; ++piece) {
    const int64_t end = count * (piece + 1) / pieces;
    tile(first, static_cast<int>(end - first));
    first = end;
  }
}

// CALL with the number of vectors or blocks in a panel as the constant WIDE.
#define CLEW_WIDE(N, CALL)                         \
  switch (N) {                                     \
    case 1: { constexpr int WIDE = 1; CALL; break; } \
    case 2: { constexpr int WIDE = 2; CALL; break; } \
    case 3: { constexpr int WIDE = 3; CALL; break; } \
    default: { constexpr int WIDE = 4; CALL; }       \
  }

// CALL with the number of rows in a piece as the constant ROWS.
#define CLEW_ROWS(MOST, R, CALL)                                      \
  switch (R) {                                                        \
    case 1: { constexpr int ROWS = 1; CALL; break; }                  \
    case 2: { constexpr int ROWS = MOST < 2 ? MOST : 2; CALL; break; } \
    case 3: { constexpr int ROWS = MOST < 3 ? MOST : 3; CALL; break; } \
    case 4: { constexpr int ROWS = MOST < 4 ? MOST : 4; CALL; break; } \
    case 5: { constexpr int ROWS = MOST < 5 ? MOST : 5; CALL; break; } \
    default: { constexpr int ROWS = MOST < 6 ? MOST : 6; CALL; break; } \
  }

constexpr int most_rows(int vectors) {
  const int most = REGISTERS / vectors;
  return most < 1 ? 1 : most > 6 ? 6 : most;
}

// The gates of a tile's rows after the products, in torch's order and forms: first all that do not wait for another, so
// that a processor has many at work at once. GATES of a unit lie side by side.
template <class S, int R, int N>
INLINE void lstm_gates(Vec<S> (&tile)[R][N]) {
#pragma GCC unroll 32
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 32
    for (int n = 0; n < N; ++n) tile[r][n] = n % 4 == 2 ? tanh<S>(tile[r][n]) : sigmoid<S>(tile[r][n]);
}

// n_x and n_h are what the input and the state give n; the reset gate acts on the latter. n is left in n_x's place.
template <class S, int R, int N>
INLINE void gru_gates(Vec<S> (&tile)[R][N], Vec<S> (&n_x)[R]) {
  static_assert(N == 3, "one unit to a row");
#pragma GCC unroll 32
  for (int r = 0; r < R; ++r) tile[r][0] = sigmoid<S>(tile[r][0]), tile[r][1] = sigmoid<S>(tile[r][1]);
#pragma GCC unroll 32
  for (int r = 0; r < R; ++r) n_x[r] = tanh<S>(n_x[r] + tile[r][0] * tile[r][2]);
}

// Weights (G H, K) in the order in which products read them, (panel, k, [block, gate, unit]); units that only fill a
// vector up weigh nothing. The last panel may be narrower than the others.
template <class S, class W>
void pack_product(int G, int UB, int64_t H, int64_t HP, int64_t K, const W* from, W* to) {
  constexpr int64_t V = Simd<S>::V;
  for (int64_t panel = 0; panel < HP / V; panel += UB) {
    const int64_t wide = least(UB, HP / V - panel) * G * V;
    for (int64_t k = 0; k < K; k += V) {  // a vector of a row's columns at a time, for the sake of the cache
      const int64_t some = least(V, K - k);
      for (int64_t place = 0; place < wide; ++place) {
        const int64_t unit = (panel + place / V / G) * V + place % V, gate = place / V % G;
        const W* row = unit < H ? from + (gate * H + unit) * K + k : nullptr;
        W* column = to + k * wide + place;
        for (int64_t j = 0; j < some; ++j) column[j * wide] = row ? row[j] : W(0);
      }
    }
    to += K * wide;
  }
}

}  // namespace clew::CLEW_ISA
