// S' = w S + a (b' S) + k v', y = S'' q, step by step; chunks.h takes many steps at once where it can. The columns of S do
// not know of one another: a few vectors of them at a time go through all steps, so few that they stay in the cache next
// to the core.
#pragma once
#include "chunks.h"

namespace clew::CLEW_ISA {

constexpr int64_t NEAR = 20 << 10;  // bytes of that cache which the columns may take
constexpr int FEW = 4;              // keys whose sums are taken together

// N vectors of columns of one head of one row, from column v on: (K, N V) with what is not there 0.
//
// What the loops read is in local variables: a store might change what is not.
template <class S, int N, bool ERASES>
struct Columns {
  static constexpr int V = Simd<S>::V, WIDE = N * V;
  const Matrix<S>& p;
  int64_t row, head, v, steps;

  int64_t at(int64_t t) const { return (row * p.time.T + t) * p.H + head; }
  int64_t keys_at(int64_t t) const { return (row * p.time.T + t) * p.groups + head / (p.H / p.groups); }
  int64_t left(int i) const { return p.V - v - i * V; }
  int64_t one() const { return p.K * WIDE; }

  // From a head's (K, V), and to it.
  void load_all(const S* from, S* to) const {
    for (int64_t k = 0; k < p.K; ++k)
      for (int i = 0; i < N; ++i) store(to + k * WIDE + i * V, load_some(from + k * p.V + v + i * V, left(i)));
  }
  void store_all(const S* from, S* to) const {
    for (int64_t k = 0; k < p.K; ++k)
      for (int i = 0; i < N; ++i) store_some(to + k * p.V + v + i * V, load(from + k * WIDE + i * V), left(i));
  }
  void state_from(const S* all, S* to) const { load_all(all + (row * p.H + head) * p.K * p.V, to); }
  void state_to(const S* from, S* all) const { store_all(from, all + (row * p.H + head) * p.K * p.V); }

  S* kept(int64_t t) const { return p.kept + ((row * p.H + head) * p.time.chunks() + t / p.time.chunk) * p.K * p.V; }

  // Calls `some(k, few)` for keys from k on, FEW together and the last ones one by one.
  template <class Some>
  static void by_keys(int64_t K, const Some& some) {
    int64_t k = 0;
    for (; k + FEW <= K; k += FEW) some(k, std::integral_constant<int, FEW>());
    for (; k < K; ++k) some(k, std::integral_constant<int, 1>());
  }

  template <int F>
  static void add(S* to, const Vec<S> (&v)[F]) {
    if constexpr (F == FEW) add_sums<S>(to, v);
    else *to += sum<S>(v[0]);
  }

  void erase_by(const S* b, const S* before, Vec<S>* erased) const {
    const int64_t K = p.K;
    Vec<S> sums[N] = {};
    for (int64_t k = 0; k < K; ++k)
      for (int i = 0; i < N; ++i) sums[i] += b[k] * load(before + k * WIDE + i * V);
    for (int i = 0; i < N; ++i) erased[i] = sums[i];
  }

  // The state after step t; y too, or in the gradient's pass the gradient of q.
  template <bool GRADIENT>
  void step(int64_t t, const S* before, S* after) const {
    const int64_t K = p.K, next_w = p.wide == 1 ? 0 : 1, n = keys_at(t) * K, place = at(t) * p.V + v;
    const S *const q = p.q + n, *const key = p.k + n, *const w = p.w + at(t) * p.wide;
    const S* const a = ERASES ? p.a + n : nullptr;
    S* const of_dq = GRADIENT ? p.dq + n : nullptr;
    Vec<S> value[N], erased[N], out[N];  // out: y, or its gradient
    for (int i = 0; i < N; ++i) {
      value[i] = load_some(p.v + place + i * V, left(i));
      out[i] = GRADIENT ? load_some(p.dy + place + i * V, left(i)) : Vec<S>{};
    }
    if constexpr (ERASES) erase_by(p.b + n, before, erased);
    by_keys(K, [&](int64_t k0, auto few) {
      Vec<S> dq[few.value] = {};
      for (int j = 0; j < few.value; ++j) {
        const int64_t k = k0 + j;
        const S of_w = w[k * next_w], of_k = key[k], of_q = q[k];
        for (int i = 0; i < N; ++i) {
          Vec<S> now = of_w * load(before + k * WIDE + i * V) + of_k * value[i];
          if constexpr (ERASES) now += a[k] * erased[i];
          store(after + k * WIDE + i * V, now);
          if constexpr (GRADIENT) dq[j] += now * out[i];
          else out[i] += of_q * now;
        }
      }
      if constexpr (GRADIENT) add(of_dq + k0, dq);
    });
    if constexpr (!GRADIENT)
      for (int i = 0; i < N; ++i) store_some(p.y + place + i * V, out[i], left(i));
  }

  // The gradients of step t, from g, that of the state behind it, which becomes that of the state before; those of keys
  // are added to.
  void back(int64_t t, const S* before, S* g) const {
    const int64_t K = p.K, next_w = p.wide == 1 ? 0 : 1, n = keys_at(t) * K, place = at(t) * p.V + v;
    const S *const q = p.q + n, *const key = p.k + n, *const w = p.w + at(t) * p.wide;
    const S *const a = ERASES ? p.a + n : nullptr, *const b = ERASES ? p.b + n : nullptr;
    S *const of_dk = p.dk + n, *const of_dw = p.dw + at(t) * p.wide;
    S *const of_da = ERASES ? p.da + n : nullptr, *const of_db = ERASES ? p.db + n : nullptr;
    Vec<S> value[N], erased[N], out[N], dvalue[N] = {}, derased[N] = {}, of_all = {};
    for (int i = 0; i < N; ++i) {
      value[i] = load_some(p.v + place + i * V, left(i));
      out[i] = load_some(p.dy + place + i * V, left(i));
    }
    if constexpr (ERASES) erase_by(b, before, erased);
    by_keys(K, [&](int64_t k0, auto few) {
      Vec<S> dk[few.value] = {}, dw[few.value] = {}, da[few.value] = {};
      for (int j = 0; j < few.value; ++j) {
        const int64_t k = k0 + j;
        const S of_w = w[k * next_w], of_k = key[k], of_q = q[k];
        for (int i = 0; i < N; ++i) {
          const int64_t here = k * WIDE + i * V;
          const Vec<S> now = load(g + here) + of_q * out[i];
          dk[j] += now * value[i];
          dw[j] += now * load(before + here);
          dvalue[i] += of_k * now;
          if constexpr (ERASES) da[j] += now * erased[i], derased[i] += a[k] * now;
          store(g + here, of_w * now);
        }
      }
      add(of_dk + k0, dk);
      if (next_w) add(of_dw + k0, dw);
      else for (const Vec<S>& of_one : dw) of_all += of_one;
      if constexpr (ERASES) add(of_da + k0, da);
    });
    if (!next_w) of_dw[0] += sum<S>(of_all);
    if constexpr (ERASES)
      by_keys(K, [&](int64_t k0, auto few) {
        Vec<S> db[few.value] = {};
        for (int j = 0; j < few.value; ++j)
          for (int i = 0; i < N; ++i) {
            const int64_t here = (k0 + j) * WIDE + i * V;
            db[j] += load(before + here) * derased[i];
            store(g + here, load(g + here) + b[k0 + j] * derased[i]);
          }
        add(of_db + k0, db);
      });
    for (int i = 0; i < N; ++i) store_some(p.dv + place + i * V, dvalue[i], left(i));
  }

  void forward(S* h) const {
    state_from(p.h0, h);
    for (int64_t t = 0; t < steps; ++t) {
      if (p.kept && t % p.time.chunk == 0) store_all(h, kept(t));
      if (p.time.begins(row, t)) state_from(p.hr, h);
      step<false>(t, h, h);
    }
    state_to(h, p.h);
  }

  void backward(S* room) const {
    const int64_t chunk = p.time.chunk;
    S *g = room, *dhr = g + one(), *first = dhr + one(), *states = first + one();
    std::memset(dhr, 0, one() * sizeof(S));
    state_from(p.dh, g);
    state_from(p.hr, first);
    for (int64_t begin = (steps - 1) / chunk * chunk; begin >= 0 && steps; begin -= chunk) {
      const int64_t end = begin + chunk < steps ? begin + chunk : steps;
      load_all(kept(begin), states);
      const auto after = [&](int64_t t) { return states + (t - begin + 1) * one(); };
      const auto before = [&](int64_t t) { return p.time.begins(row, t) ? first : after(t - 1); };
      for (int64_t t = begin; t < end; ++t) step<true>(t, before(t), after(t));
      for (int64_t t = end; t-- > begin;) {
        back(t, before(t), g);
        if (!p.time.begins(row, t)) continue;
        for (int64_t i = 0; i < one(); ++i) dhr[i] += g[i];
        std::memset(g, 0, one() * sizeof(S));
      }
    }
    state_to(g, p.dh0);
    state_to(dhr, p.dhr);
  }
};

// How many vectors of columns go through time together: 4, 2 or 1.
template <class S>
static int together(int64_t K) {
  const int64_t most = NEAR / ((K ? K : 1) * CLEW_BYTES);
  return most >= 4 ? 4 : most >= 2 ? 2 : 1;
}

template <class S>
static int64_t matrix_room(const Matrix<S>& p, bool gradient) {
  const int64_t columns = p.K * together<S>(p.K) * Simd<S>::V * (gradient ? 4 + p.time.chunk : 1);
  const int64_t chunks = p.wide == 1 && !p.a ? Chunks<S>::room(p) : 0;
  return columns > chunks ? columns : chunks;
}

template <class S, int N>
static void columns(const Matrix<S>& p, int64_t row, int64_t head, int64_t v, bool gradient, S* room) {
  const int64_t steps = p.time.steps(row);
  const Columns<S, N, false> keeps = {p, row, head, v, steps};
  const Columns<S, N, true> erases = {p, row, head, v, steps};
  if (p.a) gradient ? erases.backward(room) : erases.forward(room);
  else gradient ? keeps.backward(room) : keeps.forward(room);
}

// 0 where sums begin, and on padding.
template <class S>
static void clear(const Matrix<S>& p, int64_t row, int64_t group, bool gradient) {
  const int64_t steps = p.time.steps(row), heads = p.H / p.groups;
  S* const of_keys[] = {p.dq, p.dk, p.da, p.db};
  for (int64_t t = 0; t < p.time.T; ++t) {
    const int64_t at = (row * p.time.T + t) * p.groups + group;
    if (t >= steps) std::memset((gradient ? p.dv : p.y) + at * heads * p.V, 0, heads * p.V * sizeof(S));
    if (!gradient) continue;
    for (int i = 0; i < (p.a ? 4 : 2); ++i) std::memset(of_keys[i] + at * p.K, 0, p.K * sizeof(S));
    std::memset(p.dw + at * heads * p.wide, 0, heads * p.wide * sizeof(S));
  }
}

// The heads of a group, which share their keys.
template <class S>
static void matrix(const Matrix<S>& p, bool gradient, int64_t item, S* room) {
  const NoDenormals none;
  constexpr int64_t V = Simd<S>::V;
  const int64_t row = item / p.groups, group = item % p.groups, heads = p.H / p.groups;
  const int most = together<S>(p.K);
  clear(p, row, group, gradient);
  if (Chunks<S>::takes(p, row)) {
    Chunks<S> chunks(p, row, group, room);
    if (gradient ? chunks.backward() : chunks.forward()) return;
    clear(p, row, group, gradient);
  }
  for (int64_t head = group * heads; head < (group + 1) * heads; ++head) {
    int64_t v = 0;
    for (; most == 4 && v + 3 * V < p.V; v += 4 * V) columns<S, 4>(p, row, head, v, gradient, room);
    for (; most >= 2 && v + V < p.V; v += 2 * V) columns<S, 2>(p, row, head, v, gradient, room);
    for (; v < p.V; v += V) columns<S, 1>(p, row, head, v, gradient, room);
  }
}

}  // namespace clew::CLEW_ISA
