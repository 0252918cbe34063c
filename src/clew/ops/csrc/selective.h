// h' = exp(dt A) h + dt x B, y = C h: a vector holds as many channels, and for each of them all N states stay at hand
// while time passes. Nothing of size (B, T, D, N) is ever there.
#pragma once
#include "algebra.h"
#include "simd.h"

namespace clew::CLEW_ISA {

// A vector of channels of one row.
template <class S>
struct Channels {
  static constexpr int V = Simd<S>::V;
  const Selective<S>& p;
  int64_t row, d, wide, steps;
  S* A;  // (N, V)

  // (D, N) of this row as (N, V), and back.
  void gather(const S* from, S* to) const {
    for (int64_t n = 0; n < p.N; ++n)
      for (int64_t i = 0; i < V; ++i) to[n * V + i] = i < wide ? from[(d + i) * p.N + n] : S(0);
  }
  void scatter(const S* from, S* to) const {
    for (int64_t n = 0; n < p.N; ++n)
      for (int64_t i = 0; i < wide; ++i) to[(d + i) * p.N + n] = from[n * V + i];
  }
  int64_t across() const { return row * p.D * p.N; }
  int64_t at(int64_t t) const { return (row * p.time.T + t) * p.D + d; }
  int64_t inner(int64_t t) const { return (row * p.time.T + t) * p.N; }

  // h (N, V) after step t; y too, where it is asked for.
  void step(int64_t t, const S* h, S* after, S* y) const {
    const Vec<S> dt = load_some(p.dt + at(t), wide), drive = dt * load_some(p.x + at(t), wide);
    const S *b = p.Bt + inner(t), *c = p.Ct + inner(t);
    Vec<S> read = {};
    for (int64_t n = 0; n < p.N; ++n) {
      const Vec<S> now = exponential<S>(dt * load(A + n * V)) * load(h + n * V) + drive * b[n];
      store(after + n * V, now);
      read += now * c[n];
    }
    if (y) store_some(y + at(t), read, wide);
  }

  void forward(S* h) const {
    gather(p.h0 + across(), h);
    for (int64_t t = 0; t < steps; ++t) {
      if (p.kept && t % p.time.chunk == 0)
        scatter(h, p.kept + (row * p.time.chunks() + t / p.time.chunk) * p.D * p.N);
      if (p.time.begins(row, t)) gather(p.hr + across(), h);
      step(t, h, h, p.y);
    }
    scatter(h, p.h + across());
    for (int64_t t = steps; t < p.time.T; ++t) store_some(p.y + at(t), Vec<S>{}, wide);
  }

  // The gradients of step t, from g (N, V), that of the state behind it, which becomes that of the state before.
  void back(int64_t t, const S* before, const S* after, S* g, S* dA, S* dBt, S* dCt) const {
    const Vec<S> dt = load_some(p.dt + at(t), wide), x = load_some(p.x + at(t), wide), dy = load_some(p.dy + at(t), wide);
    const Vec<S> drive = dt * x;
    const S *b = p.Bt + inner(t), *c = p.Ct + inner(t);
    Vec<S> ddrive = {}, ddt = {};
    for (int64_t n = 0; n < p.N; ++n) {
      const Vec<S> rate = load(A + n * V), decay = exponential<S>(dt * rate);
      Vec<S> now = load(g + n * V) + dy * c[n];
      dCt[inner(t) + n] += sum<S>(dy * load(after + n * V));
      dBt[inner(t) + n] += sum<S>(now * drive);
      ddrive += now * b[n];
      now *= decay;
      const Vec<S> dlog = now * load(before + n * V);
      store(dA + n * V, load(dA + n * V) + dlog * dt);
      ddt += dlog * rate;
      store(g + n * V, now);
    }
    store_some(p.ddt + at(t), ddt + ddrive * x, wide);
    store_some(p.dx + at(t), ddrive * dt, wide);
  }

  void backward(S* room, S* dBt, S* dCt) const {
    const int64_t one = p.N * V, chunk = p.time.chunk;
    S *g = room, *dA = g + one, *dhr = dA + one, *first = dhr + one, *states = first + one;
    for (int64_t t = steps; t < p.time.T; ++t) {
      store_some(p.dx + at(t), Vec<S>{}, wide);
      store_some(p.ddt + at(t), Vec<S>{}, wide);
    }
    std::memset(dA, 0, 2 * one * sizeof(S));
    gather(p.dh + across(), g);
    gather(p.hr + across(), first);
    for (int64_t begin = (steps - 1) / chunk * chunk; begin >= 0 && steps; begin -= chunk) {
      const int64_t end = begin + chunk < steps ? begin + chunk : steps;
      gather(p.kept + (row * p.time.chunks() + begin / chunk) * p.D * p.N, states);
      const auto before = [&](int64_t t) { return p.time.begins(row, t) ? first : states + (t - begin) * one; };
      for (int64_t t = begin; t < end; ++t) step(t, before(t), states + (t - begin + 1) * one, nullptr);
      for (int64_t t = end; t-- > begin;) {
        back(t, before(t), states + (t - begin + 1) * one, g, dA, dBt, dCt);
        if (!p.time.begins(row, t)) continue;
        for (int64_t i = 0; i < one; ++i) dhr[i] += g[i];
        std::memset(g, 0, one * sizeof(S));
      }
    }
    scatter(g, p.dh0 + across());
    scatter(dA, p.dA + across());
    scatter(dhr, p.dhr + across());
  }
};

template <class S>
static int64_t selective_room(const Selective<S>& p, bool gradient) {
  return p.N * Simd<S>::V * (gradient ? 6 + p.time.chunk : 2);
}

template <class S>
static void selective(const Selective<S>& p, bool gradient, int64_t item, S* room) {
  const NoDenormals none;
  constexpr int64_t V = Simd<S>::V;
  const int64_t row = item / p.parts, part = item % p.parts, vectors = (p.D + V - 1) / V;
  const int64_t of_part = (part * p.time.B + row) * p.time.T * p.N, of_row = row * p.time.T * p.N;
  if (gradient) {
    std::memset(p.dBt + of_part, 0, p.time.T * p.N * sizeof(S));
    std::memset(p.dCt + of_part, 0, p.time.T * p.N * sizeof(S));
  }
  for (int64_t i = vectors * part / p.parts; i < vectors * (part + 1) / p.parts; ++i) {
    const int64_t d = i * V;
    const Channels<S> channels = {p, row, d, p.D - d < V ? p.D - d : V, p.time.steps(row), room};
    channels.gather(p.A, room);
    if (gradient) channels.backward(room + p.N * V, p.dBt + of_part - of_row, p.dCt + of_part - of_row);
    else channels.forward(room + p.N * V);
  }
}

}  // namespace clew::CLEW_ISA
