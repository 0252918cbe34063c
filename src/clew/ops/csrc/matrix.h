// S' = w S + a (b' S) + k v', y = S'' q: the state of a head stays in the cache next to the core while time passes.
#pragma once
#include "algebra.h"
#include "simd.h"

namespace clew::CLEW_ISA {

// One head of one row.
template <class S>
struct Head {
  static constexpr int V = Simd<S>::V;
  const Matrix<S>& p;
  int64_t row, head, steps, VP;
  bool erases;

  int64_t state() const { return (row * p.H + head) * p.K * p.V; }
  int64_t at(int64_t t) const { return (row * p.time.T + t) * p.H + head; }

  // (K, V) as (K, VP), and back.
  void spread(const S* from, S* to) const {
    for (int64_t k = 0; k < p.K; ++k)
      for (int64_t v = 0; v < VP; v += V) store(to + k * VP + v, load_some(from + k * p.V + v, p.V - v));
  }
  void gather(const S* from, S* to) const {
    for (int64_t k = 0; k < p.K; ++k) std::memcpy(to + k * p.V, from + k * VP, p.V * sizeof(S));
  }

  struct Of {  // what a step reads
    const S *q, *k, *w, *a, *b, *v;
    int64_t next_w;  // 0 where the head has one decay
  };
  Of of(int64_t t) const {
    const int64_t n = at(t) * p.K;
    return {p.q + n, p.k + n, p.w + at(t) * p.wide, erases ? p.a + n : nullptr, erases ? p.b + n : nullptr,
            p.v + at(t) * p.V, p.wide == 1 ? 0 : 1};
  }

  // N vectors of values, from v on: the state after the step, and y where it is asked for.
  template <int N>
  void step(const Of& o, int64_t v, const S* before, S* after, S* y) const {
    Vec<S> value[N], erased[N], read[N];
    for (int i = 0; i < N; ++i) value[i] = load_some(o.v + v + i * V, p.V - v - i * V), erased[i] = read[i] = Vec<S>{};
    if (erases)
      for (int64_t k = 0; k < p.K; ++k)
        for (int i = 0; i < N; ++i) erased[i] += o.b[k] * load(before + k * VP + v + i * V);
    for (int64_t k = 0; k < p.K; ++k) {
      const S w = o.w[k * o.next_w];
      for (int i = 0; i < N; ++i) {
        Vec<S> now = w * load(before + k * VP + v + i * V) + o.k[k] * value[i];
        if (erases) now += o.a[k] * erased[i];
        store(after + k * VP + v + i * V, now);
        read[i] += o.q[k] * now;
      }
    }
    if (y)
      for (int i = 0; i < N; ++i) store_some(y + v + i * V, read[i], p.V - v - i * V);
  }

  // The gradients of step t; those of keys (dq, dk, dw, da, db: K each) are added to.
  template <int N>
  void back(const Of& o, int64_t v, const S* before, const S* after, const S* dy, S* g, S* dv, S* const* d) const {
    Vec<S> value[N], erased[N], out[N], dvalue[N], derased[N];
    for (int i = 0; i < N; ++i) {
      const int64_t left = p.V - v - i * V;
      value[i] = load_some(o.v + v + i * V, left), out[i] = load_some(dy + v + i * V, left);
      erased[i] = dvalue[i] = derased[i] = Vec<S>{};
    }
    if (erases)
      for (int64_t k = 0; k < p.K; ++k)
        for (int i = 0; i < N; ++i) erased[i] += o.b[k] * load(before + k * VP + v + i * V);
    for (int64_t k = 0; k < p.K; ++k) {
      const S w = o.w[k * o.next_w];
      Vec<S> dq = {}, dk = {}, dw = {}, da = {};
      for (int i = 0; i < N; ++i) {
        const int64_t at = k * VP + v + i * V;
        const Vec<S> now = load(g + at) + o.q[k] * out[i];
        dq += load(after + at) * out[i];
        dk += now * value[i];
        dw += now * load(before + at);
        dvalue[i] += o.k[k] * now;
        if (erases) da += now * erased[i], derased[i] += o.a[k] * now;
        store(g + at, w * now);
      }
      d[0][k] += sum<S>(dq), d[1][k] += sum<S>(dk), d[2][k * o.next_w] += sum<S>(dw);
      if (erases) d[3][k] += sum<S>(da);
    }
    if (erases)
      for (int64_t k = 0; k < p.K; ++k) {
        Vec<S> db = {};
        for (int i = 0; i < N; ++i) {
          const int64_t at = k * VP + v + i * V;
          db += load(before + at) * derased[i];
          store(g + at, load(g + at) + o.b[k] * derased[i]);
        }
        d[4][k] += sum<S>(db);
      }
    for (int i = 0; i < N; ++i) store_some(dv + v + i * V, dvalue[i], p.V - v - i * V);
  }

  void whole_step(int64_t t, const S* before, S* after, S* y) const {
    const Of o = of(t);
    int64_t v = 0;
    for (; v + 4 * V <= VP; v += 4 * V) step<4>(o, v, before, after, y);
    if (v + 2 * V <= VP) step<2>(o, v, before, after, y), v += 2 * V;
    if (v < VP) step<1>(o, v, before, after, y);
  }

  void whole_back(int64_t t, const S* before, const S* after, S* g, S* const* d) const {
    const Of o = of(t);
    const S* dy = p.dy + at(t) * p.V;
    S* dv = p.dv + at(t) * p.V;
    int64_t v = 0;
    for (; v + 4 * V <= VP; v += 4 * V) back<4>(o, v, before, after, dy, g, dv, d);
    if (v + 2 * V <= VP) back<2>(o, v, before, after, dy, g, dv, d), v += 2 * V;
    if (v < VP) back<1>(o, v, before, after, dy, g, dv, d);
  }

  S* kept(int64_t t) const {
    return p.kept + ((row * p.H + head) * p.time.chunks() + t / p.time.chunk) * p.K * VP;
  }

  void forward(S* h) const {
    const size_t bytes = p.K * VP * sizeof(S);
    spread(p.h0 + state(), h);
    for (int64_t t = 0; t < steps; ++t) {
      if (p.kept && t % p.time.chunk == 0) std::memcpy(kept(t), h, bytes);
      if (p.time.begins(row, t)) spread(p.hr + state(), h);
      whole_step(t, h, h, p.y + at(t) * p.V);
    }
    gather(h, p.h + state());
    for (int64_t t = steps; t < p.time.T; ++t) std::memset(p.y + at(t) * p.V, 0, p.V * sizeof(S));
  }

  void backward(S* room) const {
    const int64_t one = p.K * VP, chunk = p.time.chunk;
    S *g = room, *dhr = g + one, *first = dhr + one, *states = first + one;
    S* const sums[] = {p.dq, p.dk, p.da, p.db};
    for (int64_t t = 0; t < p.time.T; ++t) {  // what is added to, and 0 on padding
      for (int i = 0; i < (erases ? 4 : 2); ++i) std::memset(sums[i] + at(t) * p.K, 0, p.K * sizeof(S));
      std::memset(p.dw + at(t) * p.wide, 0, p.wide * sizeof(S));
      if (t >= steps) std::memset(p.dv + at(t) * p.V, 0, p.V * sizeof(S));
    }
    std::memset(dhr, 0, one * sizeof(S));
    spread(p.dh + state(), g);
    spread(p.hr + state(), first);
    for (int64_t begin = (steps - 1) / chunk * chunk; begin >= 0 && steps; begin -= chunk) {
      const int64_t end = begin + chunk < steps ? begin + chunk : steps;
      std::memcpy(states, kept(begin), one * sizeof(S));
      const auto before = [&](int64_t t) { return p.time.begins(row, t) ? first : states + (t - begin) * one; };
      for (int64_t t = begin; t < end; ++t) whole_step(t, before(t), states + (t - begin + 1) * one, nullptr);
      for (int64_t t = end; t-- > begin;) {
        const int64_t n = at(t) * p.K;
        S* const d[5] = {p.dq + n, p.dk + n, p.dw + at(t) * p.wide, erases ? p.da + n : nullptr, erases ? p.db + n : nullptr};
        whole_back(t, before(t), states + (t - begin + 1) * one, g, d);
        if (!p.time.begins(row, t)) continue;
        for (int64_t i = 0; i < one; ++i) dhr[i] += g[i];
        std::memset(g, 0, one * sizeof(S));
      }
    }
    gather(g, p.dh0 + state());
    gather(dhr, p.dhr + state());
  }
};

template <class S>
static int64_t matrix_room(const Matrix<S>& p, bool gradient) {
  const int64_t V = Simd<S>::V, one = p.K * ((p.V + V - 1) / V * V);
  return one * (gradient ? 4 + p.time.chunk : 1);
}

template <class S>
static void matrix(const Matrix<S>& p, bool gradient, int64_t item, S* room) {
  const NoDenormals none;
  constexpr int64_t V = Simd<S>::V;
  const int64_t row = item / p.H;
  const Head<S> head = {p, row, item % p.H, p.time.steps(row), (p.V + V - 1) / V * V, p.a != nullptr};
  if (gradient) head.backward(room);
  else head.forward(room);
}

}  // namespace clew::CLEW_ISA
