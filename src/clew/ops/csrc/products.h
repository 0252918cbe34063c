// Products over many real steps at once: a chunk's rows times weights, and the sums that are weights' gradients.
#pragma once
#include "tile.h"

namespace clew::CLEW_ISA {

template <class S, int N, int R>
INLINE void rows_tile(const S* const* from, S* const* to, int64_t column, int64_t width, const S* bias, int64_t K,
                      const S* w) {
  constexpr int V = Simd<S>::V;
  Vec<S> tile[R][N];
  const S* a[R];
#pragma GCC unroll 32
  for (int r = 0; r < R; ++r) {
    a[r] = from[r];
#pragma GCC unroll 32
    for (int n = 0; n < N; ++n) tile[r][n] = bias ? load<S>(bias + column + n * V) : Vec<S>{};
  }
  multiply<S, R, N>(a, w, K, tile);
#pragma GCC unroll 32
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 32
    for (int n = 0; n < N; ++n) store_some<S>(to[r] + column + n * V, tile[r][n], width - column - n * V);
}

template <class S, int N>
INLINE void rows_panel(int64_t M, const S* const* from, S* const* to, int64_t column, int64_t width, const S* bias,
                       int64_t K, const S* w) {
  in_tiles<most_rows(N)>(M, [&](int64_t m, int R) {
    CLEW_ROWS(most_rows(N), R, (rows_tile<S, N, ROWS>(from + m, to + m, column, width, bias, K, w)))
  });
}

// to[m] = bias + from[m] W for M rows and the columns from `first` to `last`, of `width` in all. W lies in panels of
// `wide` vectors, each (K, columns); w is the first one's. bias may be null.
template <class S>
void rows_product(int64_t M, const S* const* from, S* const* to, int64_t first, int64_t last, int64_t width, int wide,
                  const S* bias, int64_t K, const S* w) {
  constexpr int V = Simd<S>::V;
  for (int64_t column = first; column < last; column += wide * V) {
    const int64_t n = least((last - column + V - 1) / V, wide);
    CLEW_WIDE(n, (rows_panel<S, WIDE>(M, from, to, column, width, bias, K, w)))
    w += K * n * V;
  }
}

constexpr int AT_ONCE = CLEW_BYTES == 64 ? 4 : 2;  // columns of a that a product of outer sums reads at once

template <class S, int N>
INLINE void outer_tile(const S* a, const S* b, int64_t b_apart, int64_t M, S* c) {
  constexpr int V = Simd<S>::V, R = AT_ONCE;
  Vec<S> tile[R][N];
#pragma GCC unroll 32
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 32
    for (int n = 0; n < N; ++n) tile[r][n] = load<S>(c + (r * N + n) * V);
  for (int64_t m = 0; m < M; ++m, a += R, b += b_apart)
#pragma GCC unroll 32
    for (int n = 0; n < N; ++n) {
      const Vec<S> row = load<S>(b + n * V);
#pragma GCC unroll 32
      for (int r = 0; r < R; ++r) tile[r][n] += a[r] * row;
    }
#pragma GCC unroll 32
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 32
    for (int n = 0; n < N; ++n) store<S>(c + (r * N + n) * V, tile[r][n]);
}

// c[i][j] += sum over M rows of a[m][i] b[m][j], for i and j that fill whole vectors. a lies in groups of AT_ONCE
// columns, each (M, AT_ONCE), and c in panels of `wide` vectors, each (rows, columns). A block of b's panel stays in the
// nearest cache, c's panel in the next, while a streams by.
template <class S>
void outer_product(const S* a, int64_t a_apart, int64_t rows, const S* b, int64_t b_apart, int64_t columns, int wide,
                   int64_t M, S* c) {
  constexpr int V = Simd<S>::V, BLOCK = 64;
  for (int64_t column = 0; column < columns; column += wide * V) {
    const int64_t n = least((columns - column) / V, wide);
    for (int64_t m = 0; m < M; m += BLOCK)
      for (int64_t i = 0; i < rows; i += AT_ONCE)
        CLEW_WIDE(n, (outer_tile<S, WIDE>(a + i / AT_ONCE * a_apart + m * AT_ONCE, b + m * b_apart + column, b_apart,
                                          least(M - m, BLOCK), c + i * n * V)))
    c += rows * n * V;
  }
}

// W (G H, K) turned around, in the order in which rows_product reads it: (panel, [gate, unit], columns). The gates come
// in their order from `first` on and round; what only fills a vector up weighs nothing.
template <class S>
void pack_transposed(int G, int first, int wide, int64_t H, int64_t HP, int64_t K, const S* w, S* to) {
  constexpr int64_t V = Simd<S>::V;
  const int64_t KP = (K + V - 1) / V * V;
  for (int64_t panel = 0; panel < KP; panel += wide * V) {
    const int64_t columns = least(wide * V, KP - panel), real = least(columns, K - panel);
    for (int64_t g = first; g < first + G; ++g)
      for (int64_t unit = 0; unit < HP; ++unit, to += columns) {
        const S* row = w + (g % G * H + unit) * K + panel;
        for (int64_t k = 0; k < columns; ++k) to[k] = unit < H && k < real ? row[k] : S(0);
      }
  }
}

}  // namespace clew::CLEW_ISA
