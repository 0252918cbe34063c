// y = act(bias + sum over j of weight[j] x[t - P + j]), channel by channel; act is the identity or silu. Time is outside
// and channels inside: what a step reads again is still in the cache.
#pragma once
#include "algebra.h"
#include "simd.h"

namespace clew::CLEW_ISA {

template <class S>
struct Convolution {
  static constexpr int V = Simd<S>::V;
  const Conv<S>& p;
  int64_t row, d, wide, steps, vectors;  // `wide` channels from d on
  bool silu;
  S *weight, *bias, *zero;  // (W, wide), (wide): in whole vectors, as all that `room` holds

  int64_t across() const { return vectors * V; }
  int64_t at(int64_t t) const { return (row * p.time.T + t) * p.D + d; }
  int64_t past(int64_t i) const { return (row * (p.W - 1) + i) * p.D + d; }

  void pack() const {
    for (int64_t i = 0; i < across(); ++i) {
      const bool there = i < wide;
      for (int64_t j = 0; j < p.W; ++j) weight[j * across() + i] = there ? p.weight[(d + i) * p.W + j] : S(0);
      bias[i] = there && p.bias ? p.bias[d + i] : S(0);
      zero[i] = 0;
    }
  }

  // Calls `take(j, place, of_past)` for every tap j of step t that sees something, whose piece began at `first`: with
  // the place of what it sees in x, or in the past that the row came with.
  template <class Take>
  void taps(int64_t t, int64_t first, const Take& take) const {
    for (int64_t j = 0; j < p.W; ++j) {
      const int64_t s = t - (p.W - 1) + j;
      if (s >= 0 && s >= first) take(j, at(s), false);
      else if (first < 0) take(j, past(s + p.W - 1), true);
    }
  }

  // Where the piece of each step began: -1 for the one that the row came with.
  int64_t began(int64_t t, int64_t first) const { return p.time.begins(row, t) ? t : first; }

  Vec<S> before_act(int64_t i, const S* const* seen) const {
    Vec<S> z = load(bias + i);
    for (int64_t j = 0; j < p.W; ++j) z += load(weight + j * across() + i) * load_some(seen[j] + i, wide - i);
    return z;
  }

  // silu; `sigmoid` is never 0, which shows where z is large
  static Vec<S> gated(Vec<S> z) { return z < -LARGEST<S> ? Vec<S>{} : z * sigmoid<S>(z); }

  void see(int64_t t, int64_t first, const S** seen) const {
    for (int64_t j = 0; j < p.W; ++j) seen[j] = zero;
    taps(t, first, [&](int64_t j, int64_t place, bool of_past) { seen[j] = (of_past ? p.h0 : p.x) + place; });
  }

  void forward(const S** seen) const {
    int64_t first = -1;
    for (int64_t t = 0; t < steps; ++t) {
      first = began(t, first);
      see(t, first, seen);
      for (int64_t i = 0; i < wide; i += V) {
        const Vec<S> z = before_act(i, seen);
        store_some(p.y + at(t) + i, silu ? gated(z) : z, wide - i);
      }
    }
    for (int64_t t = steps; t < p.time.T; ++t) std::memset(p.y + at(t), 0, wide * sizeof(S));
    see(steps, first, seen);  // as the taps of one step more, but for the last
    for (int64_t i = 0; i + 1 < p.W; ++i) std::memcpy(p.h + past(i), seen[i], wide * sizeof(S));
  }

  void backward(const S** seen, S* dweight, S* dbias) const {
    std::memset(dweight, 0, p.W * across() * sizeof(S));
    std::memset(dbias, 0, across() * sizeof(S));
    for (int64_t t = 0; t < p.time.T; ++t) std::memset(p.dx + at(t), 0, wide * sizeof(S));
    for (int64_t i = 0; i + 1 < p.W; ++i) std::memset(p.dh0 + past(i), 0, wide * sizeof(S));
    int64_t first = -1;
    for (int64_t t = 0; t < steps; ++t) {
      first = began(t, first);
      see(t, first, seen);
      S* dz = zero + across();
      for (int64_t i = 0; i < wide; i += V) {
        Vec<S> g = load_some(p.dy + at(t) + i, wide - i);
        if (silu) {
          const Vec<S> z = before_act(i, seen), s = sigmoid<S>(z);
          g *= z < -LARGEST<S> ? Vec<S>{} : s * (1 + z * (1 - s));
        }
        store(dz + i, g);
        store(dbias + i, load(dbias + i) + g);
      }
      taps(t, first, [&](int64_t j, int64_t place, bool of_past) {
        S* to = (of_past ? p.dh0 : p.dx) + place;
        const S *w = weight + j * across(), *from = seen[j];
        S* dw = dweight + j * across();
        for (int64_t i = 0; i < wide; i += V) {
          const Vec<S> g = load(dz + i);
          store_some(to + i, load_some(to + i, wide - i) + load(w + i) * g, wide - i);
          store(dw + i, load(dw + i) + load_some(from + i, wide - i) * g);
        }
      });
    }
    taps(steps, first, [&](int64_t j, int64_t place, bool of_past) {
      if (j + 1 == p.W) return;
      S* to = (of_past ? p.dh0 : p.dx) + place;
      for (int64_t i = 0; i < wide; ++i) to[i] += p.dh[past(j) + i];
    });
    for (int64_t i = 0; i < wide; ++i) {
      for (int64_t j = 0; j < p.W; ++j) p.dweight[(row * p.D + d + i) * p.W + j] = dweight[j * across() + i];
      if (p.dbias) p.dbias[row * p.D + d + i] = dbias[i];
    }
  }
};

template <class S>
static int64_t pointers(const Conv<S>& p) {  // in numbers
  return (p.W * sizeof(S*) + sizeof(S) - 1) / sizeof(S);
}

template <class S>
static int64_t conv_room(const Conv<S>& p, bool) {
  const int64_t across = (p.D + Simd<S>::V - 1) / Simd<S>::V * Simd<S>::V;
  return (2 * p.W + 4) * across + pointers(p);
}

template <class S>
static void conv(const Conv<S>& p, bool gradient, int64_t item, S* room) {
  const NoDenormals none;
  constexpr int64_t V = Simd<S>::V;
  const int64_t row = item / p.parts, part = item % p.parts, all = (p.D + V - 1) / V;
  const int64_t from = all * part / p.parts, to = all * (part + 1) / p.parts, d = from * V, across = (to - from) * V;
  const int64_t wide = (to * V < p.D ? to * V : p.D) - d;
  const S** seen = reinterpret_cast<const S**>(room);
  S* weight = room + pointers(p);
  S *bias = weight + p.W * across, *zero = bias + across, *sums = zero + 2 * across;
  const Convolution<S> c = {p, row, d, wide, p.time.steps(row), to - from, p.silu, weight, bias, zero};
  c.pack();
  if (gradient) c.backward(seen, sums, sums + p.W * across);
  else c.forward(seen);
}

}  // namespace clew::CLEW_ISA
