// Products whose factors are rounded to bfloat16 and whose sums are floats, on a processor's matrix tiles (AMX).
//
// A tile of rows is 16 rows of 32 numbers; one of weights 32 numbers of 16 columns, pairs of numbers side by side.
#pragma once
#include <cstdint>

namespace clew {

inline constexpr int64_t TILE = 16, DEEP = 32;

static inline int64_t tiled(int64_t n, int64_t of) { return (n + of - 1) / of * of; }

struct Rounded {
  // A thread's tiles, made ready before a pass and given back behind it.
  void (*begin)();
  void (*end)();
  // N columns of K weights, of which the k-th of column n is column[n][place[k]], or 0 where the one is null or the other
  // negative: to (N / TILE, K / DEEP, 16, TILE, 2), both rounded up with zeros.
  void (*pack)(int64_t N, int64_t K, const float* const* column, const int64_t* place, uint16_t* to);
  // M rows of K numbers, to (M / TILE, K / DEEP, TILE, DEEP), both rounded up with zeros.
  void (*round)(int64_t M, int64_t K, const float* const* from, uint16_t* to);
  // sums (M, N), both rounded up to whole tiles.
  void (*product)(int64_t M, int64_t N, int64_t K, const uint16_t* rows, const uint16_t* w, float* sums);
};

// Null where the processor, its system or the compiler has no tiles.
const Rounded* rounded();

}  // namespace clew
