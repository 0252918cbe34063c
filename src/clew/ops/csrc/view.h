// A step's operations that are no products: passes over views of any strides, tile by tile, and along a row of a tile by
// whole vectors where all of it is float and lies side by side, or stands still.
#pragma once
#include "functions.h"

namespace clew::CLEW_ISA {
namespace {

template <class A>
INLINE A get(const Operand& o, const char* at) {
  return o.number == SINGLE    ? A(*reinterpret_cast<const S*>(at))
         : o.number == WHOLE   ? A(*reinterpret_cast<const int64_t*>(at))
         : o.number == DOUBLED ? A(*reinterpret_cast<const double*>(at))
                               : A(*reinterpret_cast<const uint8_t*>(at));
}

template <class A>
INLINE void put(const Operand& o, char* at, A v) {
  if (o.number == SINGLE) *reinterpret_cast<S*>(at) = S(v);
  else if (o.number == WHOLE) *reinterpret_cast<int64_t*>(at) = int64_t(v);
  else if (o.number == DOUBLED) *reinterpret_cast<double*>(at) = double(v);
  else *reinterpret_cast<uint8_t*>(at) = v != 0;
}

// -------------------------------------------------------------------------------------------------------- one tile

struct Tile {  // the last two dimensions: rows of n
  const Step& op;
  char* const* at;  // to, first, second, third

  int64_t rows() const { return op.shape[op.dims - 2]; }
  int64_t n() const { return op.shape[op.dims - 1]; }
  int64_t stride(int operand) const { return op.of[operand].stride[op.dims - 1]; }
  char* row(int operand, int64_t r) const { return at[operand] + r * op.of[operand].stride[op.dims - 2]; }
  S* to(int64_t r) const { return reinterpret_cast<S*>(row(0, r)); }
  const S* of(int operand, int64_t r) const { return reinterpret_cast<const S*>(row(operand, r)); }
};

// MOVES: a bit for each operand that moves along a row; the others have one number for all of it.
template <int K, int MOVES>
void vectors(const Tile& tile) {
  constexpr int COUNT = operands(K);
  constexpr auto moves = [](int i) { return bool(MOVES >> (i - 1) & 1); };
  const int64_t n = tile.n(), rows = tile.rows();
  for (int64_t r = 0; r < rows; ++r) {
    const S* const from[] = {nullptr, tile.of(1, r), COUNT > 1 ? tile.of(2, r) : nullptr, COUNT > 2 ? tile.of(3, r) : nullptr};
    Vec<S> v[OPERANDS] = {};
#pragma GCC unroll 4
    for (int i = 1; i <= COUNT; ++i)
      if (!moves(i)) v[i] = splat<S>(*from[i]);
    S* to = tile.to(r);
    int64_t j = 0;
    for (; j + V <= n; j += V) {
#pragma GCC unroll 4
      for (int i = 1; i <= COUNT; ++i)
        if (moves(i)) v[i] = load<S>(from[i] + j);
      store<S>(to + j, apply<K>(v[1], v[2], v[3]));
    }
    if (j == n) continue;
    for (int i = 1; i <= COUNT; ++i)
      if (moves(i)) v[i] = load_some<S>(from[i] + j, n - j);
    store_some<S>(to + j, apply<K>(v[1], v[2], v[3]), n - j);
  }
}

// The same where numbers lie apart.
template <int K>
void apart(const Tile& tile) {
  constexpr int COUNT = operands(K);
  const int64_t n = tile.n(), rows = tile.rows();
  int64_t by[OPERANDS];
  for (int i = 0; i <= COUNT; ++i) by[i] = tile.stride(i) / int64_t(sizeof(S));
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t j = 0; j < n; j += V) {
      const int64_t some = least(V, n - j);
      S numbers[OPERANDS][V] = {};
      for (int i = 1; i <= COUNT; ++i)
        for (int64_t k = 0; k < some; ++k) numbers[i][k] = tile.of(i, r)[(j + k) * by[i]];
      const auto v = [&](int i) { return load<S>(numbers[i]); };
      store<S>(numbers[0], apply<K>(v(1), v(2), v(3)));
      for (int64_t k = 0; k < some; ++k) tile.to(r)[(j + k) * by[0]] = numbers[0][k];
    }
}

// Whole rows of one or of the other.
void where_rows(const Tile& tile) {
  for (int64_t r = 0; r < tile.rows(); ++r) {
    const bool first = get<double>(tile.op.of[1], tile.row(1, r)) != 0;
    const S* from = tile.of(first ? 2 : 3, r);
    const int64_t by = tile.stride(first ? 2 : 3) != 0;
    S* to = tile.to(r);
    for (int64_t j = 0; j < tile.n(); ++j) to[j] = from[j * by];
  }
}

template <class A, class F>
INLINE void numbers(const Tile& tile, int count, F&& of) {
  for (int64_t r = 0; r < tile.rows(); ++r) {
    char* at[OPERANDS] = {};
    for (int i = 0; i <= count; ++i) at[i] = tile.row(i, r);
    for (int64_t j = 0; j < tile.n(); ++j) {
      A v[OPERANDS] = {};
      for (int i = 1; i <= count; ++i) v[i] = get<A>(tile.op.of[i], at[i]);
      put<A>(tile.op.of[0], at[0], of(get<A>(tile.op.of[0], at[0]), v[1], v[2], v[3]));
      for (int i = 0; i <= count; ++i) at[i] += tile.stride(i);
    }
  }
}

void one_by_one(const Tile& tile) {
  const int kind = tile.op.operation, count = operands(kind);
  bool whole = true;
  for (int i = 0; i <= count; ++i) whole = whole && tile.op.of[i].number == WHOLE;
  if (whole)
    numbers<int64_t>(tile, count, [&](int64_t, int64_t a, int64_t b, int64_t c) {
      return int64_t(apply_whole(kind, uint64_t(a), uint64_t(b), uint64_t(c)));
    });
  else
    numbers<double>(tile, count, [&](double, double a, double b, double c) { return apply_one(kind, a, b, c); });
}

// Adds to what stands there: to one number a row, or to EACH. A and B: whether the operand moves along a row.
template <int K, bool EACH, bool A, bool B>
void reduce(const Tile& tile) {
  const int64_t n = tile.n(), rows = tile.rows();
  for (int64_t r = 0; r < rows; ++r) {
    const S *const a = tile.of(1, r), *const b = K == DOT ? tile.of(2, r) : nullptr;
    S* const to = tile.to(r);
    const Vec<S> all_a = splat<S>(*a), all_b = K == DOT ? splat<S>(*b) : Vec<S>{};
    const auto term = [&](int64_t j) {
      const Vec<S> first = A ? load<S>(a + j) : all_a;
      if constexpr (K == DOT) return first * (B ? load<S>(b + j) : all_b);
      else return first;
    };
    const auto last = [&](int64_t j) { return a[A ? j : 0] * (K == DOT ? b[B ? j : 0] : S(1)); };
    int64_t j = 0;
    if constexpr (EACH) {
      for (; j + V <= n; j += V) store<S>(to + j, load<S>(to + j) + term(j));
      for (; j < n; ++j) to[j] += last(j);
    } else {
      Vec<S> sums = {}, more = {};
      for (; j + 2 * V <= n; j += 2 * V) sums += term(j), more += term(j + V);
      for (; j + V <= n; j += V) sums += term(j);
      S total = sum<S>(sums + more);
      for (; j < n; ++j) total += last(j);
      *to += total;
    }
  }
}

void reduce_one_by_one(const Tile& tile) {
  const int kind = tile.op.operation;
  numbers<double>(tile, kind == DOT ? 2 : 1, [&](double before, double a, double b, double) {
    return kind == MOST ? (a != a || a > before ? a : before) : before + (kind == DOT ? a * b : a);
  });
}

// ---------------------------------------------------------------------------------------------------- all dimensions

using OfTile = void (*)(const Tile&);

template <int K, int MOVES = 0>
OfTile moving(int moves) {
  if constexpr (MOVES < 1 << operands(K)) return moves == MOVES ? vectors<K, MOVES> : moving<K, MOVES + 1>(moves);
  return nullptr;
}

template <int K, int MOVES = 0>
OfTile reducing(int moves) {  // a bit for `to`, then one for each operand
  if constexpr (MOVES < 8) {
    if (moves != MOVES) return reducing<K, MOVES + 1>(moves);
    return reduce<K, bool(MOVES & 1), bool(MOVES & 2), bool(MOVES & 4)>;
  }
  return nullptr;
}

// How a tile is done.
template <int K = VIEWS>
OfTile of_tile(const Step& op) {
  if constexpr (K < OPERATIONS) {
    if (op.operation != K) return of_tile<K + 1>(op);
    const int count = K < REDUCE ? operands(K) : K == DOT ? 2 : 1;
    bool single = true, side_by_side = K >= REDUCE || op.of[0].stride[op.dims - 1];
    int moves = 0;
    for (int i = 0; i <= count; ++i) {
      const int64_t stride = op.of[i].stride[op.dims - 1];
      if (K == WHERE && i == 1) {
        side_by_side = side_by_side && stride == 0;
        continue;
      }
      single = single && op.of[i].number == SINGLE;
      side_by_side = side_by_side && (stride == 0 || stride == sizeof(S));
      moves |= (i && stride) << i >> 1;
    }
    if constexpr (by_vectors<K>)
      if (single) return side_by_side ? moving<K>(moves) : apart<K>;
    if constexpr (K == SUM || K == DOT)
      if (single && side_by_side) return reducing<K>(2 * moves + (op.of[0].stride[op.dims - 1] != 0));
    if constexpr (K == WHERE)
      if (single && side_by_side) return where_rows;
    return K < REDUCE ? one_by_one : reduce_one_by_one;
  }
  return nullptr;
}

// Operations that go over the same dimensions, tile by tile: what one leaves in a tile the next one finds in the cache.
void walk(const Step* ops, int64_t count) {
  OfTile tiles[JOINED];
  char* at[JOINED][OPERANDS];
  for (int64_t m = 0; m < count; ++m) {
    tiles[m] = of_tile(ops[m]);
    for (int i = 0; i < OPERANDS; ++i) at[m][i] = static_cast<char*>(ops[m].of[i].at);
  }
  int64_t index[RANK] = {}, d;
  do {
    for (int64_t m = 0; m < count; ++m) tiles[m](Tile{ops[m], at[m]});
    for (d = ops->dims - 3; d >= 0; --d) {
      const bool more = ++index[d] < ops->shape[d];
      const int64_t by = more ? 1 : 1 - ops->shape[d];
      for (int64_t m = 0; m < count; ++m)
        for (int i = 0; i < OPERANDS; ++i) at[m][i] += by * ops[m].of[i].stride[d];
      if (more) break;
      index[d] = 0;
    }
  } while (d >= 0);
}

void fill(const Step& op, S value) {  // where a reduction begins: each number of `to` once
  Step once = op;
  once.operation = COPY;
  for (int d = 0; d < op.dims; ++d)
    if (!op.of[0].stride[d]) once.shape[d] = 1;
  once.of[1] = {&value, SINGLE, {}};
  walk(&once, 1);
}

void views(const Step* ops, int64_t count) {
  for (int64_t m = 0; m < count; ++m)
    if (ops[m].operation >= REDUCE) fill(ops[m], ops[m].operation == MOST ? -INFINITY : S(0));
  walk(ops, count);
}

// ------------------------------------------------------------------------------------------------------------- rows

void norm(bool centred, int64_t width, S epsilon, const S* gain, const S* bias, const S* x, S* y) {
  const auto total = [&](auto&& of) {
    Vec<S> sums = {};
    int64_t i = 0;
    for (; i + V <= width; i += V) sums += of(load<S>(x + i));
    S all = sum<S>(sums);
    for (; i < width; ++i) all += of(x[i]);
    return all;
  };
  const S mean = centred ? total([](auto v) { return v; }) / width : 0;
  const S square = total([&](auto v) { return (v - mean) * (v - mean); });
  const S inverse = 1 / sqrtf(square / width + epsilon);
  for (int64_t i = 0; i < width; ++i) y[i] = (x[i] - mean) * inverse * (gain ? gain[i] : 1) + (bias ? bias[i] : 0);
}

void log_softmax(int64_t width, const S* x, S* y) {
  S most = x[0], sum = 0;
  for (int64_t i = 1; i < width; ++i) most = x[i] > most ? x[i] : most;
  for (int64_t i = 0; i < width; ++i) sum += expf(x[i] - most);
  const S all = most + logf(sum);
  for (int64_t i = 0; i < width; ++i) y[i] = x[i] - all;
}

void over_rows(const Step& op) {
  for (int64_t b = 0; b < op.B; ++b) {
    const S* x = op.x + b * op.x_stride;
    S* y = op.next + b * op.h_stride;
    if (op.operation == LOOKUP)
      std::memcpy(y, static_cast<const S*>(op.weight) + op.units[b] * op.out, op.out * sizeof(S));
    else if (op.operation == LOG_SOFTMAX)
      log_softmax(op.out, x, y);
    else
      norm(op.operation == LAYER_NORM, op.out, op.epsilon, static_cast<const S*>(op.weight), op.bias, x, y);
  }
}

}  // namespace
}  // namespace clew::CLEW_ISA
