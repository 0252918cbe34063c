// Matrices turned about their diagonal.
#pragma once
#include <utility>

#include "tile.h"

namespace clew::CLEW_ISA {

// Of two rows of a block the parts that change places: their halves at this stage, the first or the second.
template <class S, int HALF, bool SECOND, size_t... J>
INLINE Vec<S> joined(Vec<S> a, Vec<S> b, std::index_sequence<J...>) {
  constexpr int V = Simd<S>::V;
  return __builtin_shufflevector(
      a, b, int((SECOND ? (J & HALF ? V + J : J + HALF) : (J & HALF ? V + J - HALF : J)))...);
}

template <class S, int HALF = 1>
INLINE void turn_block(Vec<S> (&rows)[Simd<S>::V]) {
  constexpr int V = Simd<S>::V;
  if constexpr (HALF < V) {
    constexpr auto ALL = std::make_index_sequence<V>();
#pragma GCC unroll 16
    for (int i = 0; i < V; ++i) {
      if (i & HALF) continue;
      const Vec<S> a = rows[i], b = rows[i + HALF];
      rows[i] = joined<S, HALF, false>(a, b, ALL), rows[i + HALF] = joined<S, HALF, true>(a, b, ALL);
    }
    turn_block<S, 2 * HALF>(rows);
  }
}

// to (columns, wide) = from (rows, columns) turned, zeros in the place of rows that are not there; their own rows lie
// `from_row` and `to_row` numbers apart. No number of a row of `to` behind `wide` is written.
template <class S>
static void turn(const S* from, int64_t from_row, int64_t rows, int64_t columns, S* to, int64_t to_row, int64_t wide) {
  constexpr int V = Simd<S>::V;
  for (int64_t i = 0; i < wide; i += V)
    for (int64_t j = 0; j < columns; j += V) {
      Vec<S> block[V];
#pragma GCC unroll 16
      for (int r = 0; r < V; ++r)
        block[r] = i + r < rows ? load_some(from + (i + r) * from_row + j, columns - j) : Vec<S>{};
      turn_block<S>(block);
#pragma GCC unroll 16
      for (int r = 0; r < V; ++r)
        if (j + r < columns) store_some(to + (j + r) * to_row + i, block[r], wide - i);
    }
}

}  // namespace clew::CLEW_ISA
