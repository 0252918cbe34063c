// h' = a h + b, over real numbers, complex ones, and (max, +): plain loops, which the compiler turns into vectors. What
// bounds them is memory.
#pragma once
#include "algebra.h"
#include "simd.h"

namespace clew::CLEW_ISA {

template <int KIND, class S>
static inline void elementwise_step(int64_t n, const S* __restrict a, const S* __restrict b, const S* __restrict h,
                                    S* __restrict after) {
  if constexpr (KIND == REAL)
    for (int64_t i = 0; i < n; ++i) after[i] = a[i] * h[i] + b[i];
  else if constexpr (KIND == MAXIMUM)
    for (int64_t i = 0; i < n; ++i) {
      const S kept = h[i] + a[i];
      after[i] = kept >= b[i] ? kept : b[i];
    }
  else
    for (int64_t i = 0; i < n; i += 2) {
      after[i] = a[i] * h[i] - a[i + 1] * h[i + 1] + b[i];
      after[i + 1] = a[i] * h[i + 1] + a[i + 1] * h[i] + b[i + 1];
    }
}

// From the gradient g of the state behind a step: those of a and b, and of the state before it in g's place.
template <int KIND, class S>
static inline void elementwise_gradient(int64_t n, const S* __restrict a, const S* __restrict b, const S* __restrict h,
                                        S* __restrict g, S* __restrict da, S* __restrict db) {
  if constexpr (KIND == REAL)
    for (int64_t i = 0; i < n; ++i) {
      db[i] = g[i];
      da[i] = g[i] * h[i];
      g[i] *= a[i];
    }
  else if constexpr (KIND == MAXIMUM)
    for (int64_t i = 0; i < n; ++i) {
      const bool first = h[i] + a[i] >= b[i];
      db[i] = first ? S(0) : g[i];
      da[i] = g[i] = first ? g[i] : S(0);
    }
  else
    for (int64_t i = 0; i < n; i += 2) {
      const S r = g[i], m = g[i + 1];
      db[i] = r, db[i + 1] = m;
      da[i] = r * h[i] + m * h[i + 1];
      da[i + 1] = m * h[i] - r * h[i + 1];
      g[i] = r * a[i] + m * a[i + 1];
      g[i + 1] = m * a[i] - r * a[i + 1];
    }
}

template <class S>
static int64_t elementwise_room(const Elementwise<S>& p, bool) {
  return p.N;
}

template <class S, int KIND>
static void elementwise(const Elementwise<S>& p, bool gradient, int64_t item, S* room) {
  const NoDenormals none;
  const int64_t row = item / p.parts, part = item % p.parts, steps = p.time.steps(row), T = p.time.T;
  const auto edge = [&](int64_t i) { return i == p.parts ? p.N : p.N / 2 * i / p.parts * 2; };  // whole pairs
  const int64_t from = edge(part), n = edge(part + 1) - from;
  const S* a = p.a + row * p.a_row + from;
  const int64_t across = row * p.N + from, along = row * T * p.N + from;
  const S *b = p.b + along, *h0 = p.h0 + across, *hr = p.hr + across;
  const size_t bytes = n * sizeof(S);
  S* y = p.y + along;
  if (!gradient) {
    const S* h = h0;
    for (int64_t t = 0; t < steps; ++t) {
      if (p.time.begins(row, t)) h = hr;
      elementwise_step<KIND>(n, a + t * p.a_step, b + t * p.N, h, y + t * p.N);
      h = y + t * p.N;
    }
    std::memcpy(p.h + across, h, bytes);
    for (int64_t t = steps; t < T; ++t) std::memset(y + t * p.N, 0, bytes);
    return;
  }
  S *da = p.da + along, *db = p.db + along, *g = room;
  for (int64_t t = steps; t < T; ++t) {
    std::memset(da + t * p.N, 0, bytes);
    std::memset(db + t * p.N, 0, bytes);
  }
  std::memcpy(g, p.dh + across, bytes);
  std::memset(p.dhr + across, 0, bytes);
  for (int64_t t = steps; t-- > 0;) {
    const S* dy = p.dy + along + t * p.N;
    for (int64_t i = 0; i < n; ++i) g[i] += dy[i];
    const bool begins = p.time.begins(row, t);
    const S* before = begins ? hr : t ? y + (t - 1) * p.N : h0;
    elementwise_gradient<KIND>(n, a + t * p.a_step, b + t * p.N, before, g, da + t * p.N, db + t * p.N);
    if (!begins) continue;
    for (int64_t i = 0; i < n; ++i) p.dhr[across + i] += g[i];
    std::memset(g, 0, bytes);
  }
  std::memcpy(p.dh0 + across, g, bytes);
}

}  // namespace clew::CLEW_ISA
