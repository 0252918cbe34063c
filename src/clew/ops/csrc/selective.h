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
  int64_t kept(int64_t t) const { return (row * p.time.chunks() + t / p.time.chunk) * p.D * p.N; }

  // h (N, V) after step t; y where READS, else the decays of the step.
  template <bool READS>
  void step(int64_t t, const S* A, const S* h, S* after, S* decays) const {
    const int64_t N = p.N;
    const Vec<S> dt = load_some(p.dt + at(t), wide), drive = dt * load_some(p.x + at(t), wide);
    const S *const b = p.Bt + inner(t), *const c = p.Ct + inner(t);
    Vec<S> read = {};
    for (int64_t n = 0; n < N; ++n) {
      const Vec<S> decay = exponential<S>(dt * load(A + n * V)), now = decay * load(h + n * V) + drive * b[n];
      if constexpr (READS) read += now * c[n];
      else store(decays + n * V, decay);
      store(after + n * V, now);
    }
    if constexpr (READS) store_some(p.y + at(t), read, wide);
  }

  void forward(const S* A, S* h) const {
    gather(p.h0 + across(), h);
    for (int64_t t = 0; t < steps; ++t) {
      if (p.kept && t % p.time.chunk == 0) scatter(h, p.kept + kept(t));
      if (p.time.begins(row, t)) gather(p.hr + across(), h);
      step<true>(t, A, h, h, nullptr);
    }
    scatter(h, p.h + across());
    for (int64_t t = steps; t < p.time.T; ++t) store_some(p.y + at(t), Vec<S>{}, wide);
  }

  // The gradients of step t, from g (N, V), that of the state behind it, which becomes that of the state before. What
  // all channels share is added up by vectors: dB and dC (N, V) of the step.
  void back(int64_t t, const S* A, const S* decays, const S* before, const S* after, S* g, S* dA, S* dB, S* dC) const {
    const int64_t N = p.N;
    const Vec<S> dt = load_some(p.dt + at(t), wide), x = load_some(p.x + at(t), wide), dy = load_some(p.dy + at(t), wide);
    const Vec<S> drive = dt * x;
    const S *const b = p.Bt + inner(t), *const c = p.Ct + inner(t);
    Vec<S> ddrive = {}, ddt = {};
    for (int64_t n = 0; n < N; ++n) {
      const int64_t i = n * V;
      const Vec<S> now = load(g + i) + dy * c[n], decayed = now * load(decays + i), dlog = decayed * load(before + i);
      ddrive += now * b[n];
      ddt += dlog * load(A + i);
      store(dC + i, load(dC + i) + dy * load(after + i));
      store(dB + i, load(dB + i) + now * drive);
      store(dA + i, load(dA + i) + dlog * dt);
      store(g + i, decayed);
    }
    store_some(p.ddt + at(t), ddt + ddrive * x, wide);
    store_some(p.dx + at(t), ddrive * dt, wide);
  }
};

// What a vector of channels carries from chunk to chunk, (N, V) each.
enum { RATES, BEHIND, OF_RATES, OF_INITIAL, INITIAL, CARRIED };

template <class S>
static int64_t selective_room(const Selective<S>& p, bool gradient) {
  const int64_t one = p.N * Simd<S>::V, vectors = (p.D + Simd<S>::V - 1) / Simd<S>::V;
  return gradient ? one * (CARRIED * vectors + 1 + 4 * p.time.chunk) : 2 * one;
}

// Chunk by chunk from the last, and in each all the channels in turn, so that the sums over channels stay at hand.
template <class S>
static void selective_back(const Selective<S>& p, int64_t row, int64_t from, int64_t to, S* dBt, S* dCt, S* room) {
  constexpr int64_t V = Simd<S>::V;
  const int64_t one = p.N * V, chunk = p.time.chunk, steps = p.time.steps(row), T = p.time.T;
  S *dB = room + CARRIED * (to - from) * one, *dC = dB + chunk * one, *decays = dC + chunk * one;
  S* states = decays + chunk * one;
  const auto channels = [&](int64_t i) { return Channels<S>{p, row, i * V, p.D - i * V < V ? p.D - i * V : V, steps}; };
  const auto carried = [&](int64_t i, int which) { return room + ((i - from) * CARRIED + which) * one; };
  for (int64_t i = from; i < to; ++i) {
    const Channels<S> c = channels(i);
    c.gather(p.A, carried(i, RATES));
    c.gather(p.dh + c.across(), carried(i, BEHIND));
    c.gather(p.hr + c.across(), carried(i, INITIAL));
    std::memset(carried(i, OF_RATES), 0, one * sizeof(S));
    std::memset(carried(i, OF_INITIAL), 0, one * sizeof(S));
    for (int64_t t = steps; t < T; ++t) {
      store_some(p.dx + c.at(t), Vec<S>{}, c.wide);
      store_some(p.ddt + c.at(t), Vec<S>{}, c.wide);
    }
  }
  for (int64_t begin = (steps - 1) / chunk * chunk; begin >= 0 && steps; begin -= chunk) {
    const int64_t end = begin + chunk < steps ? begin + chunk : steps;
    std::memset(dB, 0, 2 * chunk * one * sizeof(S));
    for (int64_t i = from; i < to; ++i) {
      const Channels<S> c = channels(i);
      const S *A = carried(i, RATES), *first = carried(i, INITIAL);
      S *g = carried(i, BEHIND), *dhr = carried(i, OF_INITIAL);
      c.gather(p.kept + c.kept(begin), states);
      const auto before = [&](int64_t t) { return p.time.begins(row, t) ? first : states + (t - begin) * one; };
      const auto of = [&](S* all, int64_t t) { return all + (t - begin) * one; };
      for (int64_t t = begin; t < end; ++t) c.template step<false>(t, A, before(t), of(states, t + 1), of(decays, t));
      for (int64_t t = end; t-- > begin;) {
        c.back(t, A, of(decays, t), before(t), of(states, t + 1), g, carried(i, OF_RATES), of(dB, t), of(dC, t));
        if (!p.time.begins(row, t)) continue;
        for (int64_t j = 0; j < one; ++j) dhr[j] += g[j];
        std::memset(g, 0, one * sizeof(S));
      }
    }
    for (int64_t j = 0; j < (end - begin) * p.N; ++j) {
      dBt[begin * p.N + j] = sum<S>(load(dB + j * V));
      dCt[begin * p.N + j] = sum<S>(load(dC + j * V));
    }
  }
  std::memset(dBt + steps * p.N, 0, (T - steps) * p.N * sizeof(S));
  std::memset(dCt + steps * p.N, 0, (T - steps) * p.N * sizeof(S));
  for (int64_t i = from; i < to; ++i) {
    const Channels<S> c = channels(i);
    c.scatter(carried(i, BEHIND), p.dh0 + c.across());
    c.scatter(carried(i, OF_RATES), p.dA + c.across());
    c.scatter(carried(i, OF_INITIAL), p.dhr + c.across());
  }
}

template <class S>
static void selective(const Selective<S>& p, bool gradient, int64_t item, S* room) {
  const NoDenormals none;
  constexpr int64_t V = Simd<S>::V;
  const int64_t row = item / p.parts, part = item % p.parts, vectors = (p.D + V - 1) / V;
  const int64_t from = vectors * part / p.parts, to = vectors * (part + 1) / p.parts;
  if (gradient) {
    const int64_t place = (part * p.time.B + row) * p.time.T * p.N;
    return selective_back(p, row, from, to, p.dBt + place, p.dCt + place, room);
  }
  for (int64_t i = from; i < to; ++i) {
    const Channels<S> c = {p, row, i * V, p.D - i * V < V ? p.D - i * V : V, p.time.steps(row)};
    c.gather(p.A, room);
    c.forward(room, room + p.N * V);
  }
}

}  // namespace clew::CLEW_ISA
