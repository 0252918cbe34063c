// The gradient's pass: for each step, the last first, the gates' gradients and what they are to h before.
#pragma once
#include "place.h"

namespace clew::CLEW_ISA {
namespace {

// A chunk of the gradient's pass: for each of its real steps the gates' gradients, (D, HP), and what the gates were
// computed from, h before the step and x.
template <class S, int KIND>
struct Chunk {
  static constexpr int64_t V = Simd<S>::V, GROUP = AT_ONCE;
  const Place<S>& at;
  const int64_t gates_apart, seen_apart;
  S *const gates, *const seen;
  int64_t M = 0;

  explicit Chunk(const Place<S>& at)
      : at(at), gates_apart(at.gates_apart(GRADIENTS[KIND])), seen_apart((at.pass.chunk | 1) * GROUP),
        gates(at.rest()), seen(gates + at.pass.chunk * gates_apart) {}

  S* gates_of(int64_t i, int64_t s) const {
    const Pass<S>& p = at.pass;
    return p.outside ? p.dgates + at.step(i, s) * GRADIENTS[KIND] * p.HP : gates + (M + i) * gates_apart;
  }

  // One row's columns from `column` on, in the order in which outer_product reads them.
  void see(int64_t i, int64_t column, Vec<S> v) const {
    const int64_t m = M + i;
    S numbers[V];
    store<S>(numbers, v);
    for (int64_t j = 0; j < V; j += GROUP)
      std::memcpy(seen + (column + j) / GROUP * seen_apart + m * GROUP, numbers + j, GROUP * sizeof(S));
  }

  // The gradients that do not wait for the step before: those of the input and of the weights, of the whole chunk.
  void finish() {
    constexpr int64_t G = GATES[KIND], D = GRADIENTS[KIND];
    const Pass<S>& p = at.pass;
    const Part& part = at.part;
    if (p.dx) {  // each member of the team has some of the columns, or of the steps where there are few columns
      for (int64_t m = 0; m < M; ++m) p.from[m] = gates + m * gates_apart + (D - G) * p.HP;
      const int64_t panels = p.IP / V / WIDEST, wide = WIDEST * V;
      const bool few = panels < part.members;
      const auto share = [&](int64_t of, int member) { return of * member / part.members; };
      const int64_t m = few ? share(M, part.member) : 0, end = few ? share(M, part.member + 1) : M;
      const int64_t first = few ? 0 : share(panels, part.member) * wide;
      const int64_t last = few || part.member + 1 == part.members ? p.IP : share(panels, part.member + 1) * wide;
      rows_product<S>(end - m, p.from + m, p.to + m, first, last, p.I, WIDEST, nullptr, G * p.HP,
                      p.ih + first * G * p.HP);
    }
    const int64_t from = part.from, units = part.to - from;
    for (int64_t g = 0; g < D; ++g) {
      const S *of_gate = gates + g * p.HP + from, *x = seen + p.HP / GROUP * seen_apart;
      const int64_t with_x = g - (D - G);
      if (p.dhh && g < G)
        outer_product<S>(seen, seen_apart, p.HP, of_gate, gates_apart, units, p.blocks, M,
                         p.dhh + (g * p.HP + from) * p.HP);
      if (p.dih && with_x >= 0)
        outer_product<S>(x, seen_apart, p.IP, of_gate, gates_apart, units, p.blocks, M,
                         p.dih + (with_x * p.HP + from) * p.IP);
      if (p.dbias)
        for (int64_t j = 0; j < units; j += V) {
          Vec<S> sum = load<S>(p.dbias + g * p.HP + from + j);
          for (int64_t m = 0; m < M; ++m) sum += load<S>(of_gate + m * gates_apart + j);
          store<S>(p.dbias + g * p.HP + from + j, sum);
        }
    }
    M = 0;
  }
};

// From the gradient of one row's h (and c) to that of its gates; what remains of dh goes straight to h before.
template <class S, int KIND>
INLINE void gradient_of_gates(const Chunk<S, KIND>& chunk, int64_t i, int64_t s, S* dh, S* dc) {
  constexpr int V = Simd<S>::V, G = GATES[KIND];
  const Place<S>& at = chunk.at;
  const Pass<S>& p = at.pass;
  const int64_t row = at.part.row[i], cell = at.cell(i, s), step = at.step(i, s), earlier = p.backwards ? 1 : -1;
  const bool anew = at.anew(i, s), first = anew || s == 0;
  const S* h_before = anew ? p.hr + row * p.H : s ? p.y + (cell + earlier) * p.H : p.h0 + row * p.H;
  const S* c_before = KIND != LSTM ? nullptr
                      : first      ? (anew ? p.cr : p.c0) + row * p.H
                                   : p.kept + (step + earlier) * p.HP;
  const S *y = p.y + cell * p.H, *dy = p.dy + cell * p.H;
  const int64_t before = s ? earlier : 0;
  S* to = chunk.gates_of(i, s);
  for (int64_t j = at.part.from; j < at.part.to; j += V) {
    const int64_t real = p.H - j;
    const S *gates = p.gates + (step * p.HP + j) * G, *kept = p.kept + step * p.HP + j;
    const Vec<S> d = load<S>(dh + j) + load_some<S>(dy + j, real), h = load_some<S>(h_before + j, real);
    const auto give = [&](int gate, Vec<S> gradient) { store<S>(to + gate * p.HP + j, gradient); };
    if (p.outside) store_some<S>(p.seen + step * p.seen_apart + j, h, real);
    else chunk.see(i, j, h);
    ahead(dy + before * p.H + j);  // what the step before will read
    if constexpr (KIND == ELMAN) ahead(y + 2 * before * p.H + j);
    if constexpr (KIND != ELMAN) {
      ahead(h_before + before * p.H + j);
      ahead(kept + (KIND == LSTM ? 2 : 1) * before * p.HP);
      for (int g = 0; g < G; ++g) ahead(gates + before * p.HP * G + g * V);
    }
    Vec<S> rest = {};
    if constexpr (KIND == LSTM) {
      const Vec<S> i = load<S>(gates), f = load<S>(gates + V), g = load<S>(gates + 2 * V), o = load<S>(gates + 3 * V);
      const Vec<S> read = tanh<S>(load<S>(kept)), c = first ? load_some<S>(c_before + j, real) : load<S>(c_before + j);
      const Vec<S> e = load<S>(dc + j) + d * o * (1 - read * read);
      give(0, e * g * i * (1 - i));
      give(1, e * c * f * (1 - f));
      give(2, e * i * (1 - g * g));
      give(3, d * read * o * (1 - o));
      store<S>(dc + j, e * f);
    } else if constexpr (KIND == GRU) {
      const Vec<S> r = load<S>(gates), u = load<S>(gates + V), n = load<S>(gates + 2 * V);
      const Vec<S> dn = d * (1 - u) * (1 - n * n);
      give(0, dn * r);
      give(1, dn * load<S>(kept) * r * (1 - r));
      give(2, d * (h - n) * u * (1 - u));
      give(3, dn);
      rest = d * u;
    } else {
      const Vec<S> out = load_some<S>(y + j, real);
      give(0, p.relu ? (out > 0 ? d : Vec<S>{}) : d * (1 - out * out));
    }
    store<S>(dh + j, rest);
  }
  if (p.outside || i % at.part.members != at.part.member) return;
  const S* x = p.x + cell * p.I;
  for (int64_t j = 0; j < p.IP; j += V) chunk.see(i, p.HP + j, load_some<S>(x + j, p.I - j));
}

// dh[i] += gates[i] W_hh, for a panel of h.
template <class S, int KIND, int N, int R>
INLINE void gradient_tile(const Chunk<S, KIND>& chunk, S* dh, int64_t first, int64_t s, int64_t panel, const S* w) {
  constexpr int V = Simd<S>::V;
  const Pass<S>& p = chunk.at.pass;
  Vec<S> tile[R][N];
  const S* a[R];
#pragma GCC unroll 32
  for (int r = 0; r < R; ++r) {
    a[r] = chunk.gates_of(first + r, s);
#pragma GCC unroll 32
    for (int n = 0; n < N; ++n) tile[r][n] = load<S>(dh + (first + r) * p.HP + panel + n * V);
  }
  multiply<S, R, N>(a, w, GATES[KIND] * p.HP, tile);
#pragma GCC unroll 32
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 32
    for (int n = 0; n < N; ++n) store<S>(dh + (first + r) * p.HP + panel + n * V, tile[r][n]);
}

template <class S, int KIND, int N>
INLINE void gradient_panel(const Chunk<S, KIND>& chunk, S* dh, int64_t active, int64_t s, int64_t panel, const S* w) {
  in_tiles<most_rows(N)>(active, [&](int64_t first, int R) {
    CLEW_ROWS(most_rows(N), R, (gradient_tile<S, KIND, N, ROWS>(chunk, dh, first, s, panel, w)))
  });
}

template <class S, int KIND>
void gradient_step(const Chunk<S, KIND>& chunk, S* dh, int64_t active, int64_t s) {
  constexpr int V = Simd<S>::V;
  const Part& part = chunk.at.part;
  const Pass<S>& p = chunk.at.pass;
  const int64_t K = GATES[KIND] * p.HP, blocks = p.blocks, units = part.to - part.from;
  if (p.tiles) {
    for (int64_t i = 0; i < active; ++i) p.from[i] = chunk.gates_of(i, s);
    chunk.at.rounded_product(active, K, 1);
    for (int64_t i = 0; i < active; ++i)
      for (int64_t j = 0; j < units; j += V) {
        S* to = dh + i * p.HP + part.from + j;
        store<S>(to, load<S>(to) + load<S>(p.sums + i * units + j));
      }
    return;
  }
  const S* w = p.hh + part.from * K;
  for (int64_t panel = part.from; panel < part.to; panel += blocks * V) {
    const int64_t wide = least(blocks, (part.to - panel) / V);
    CLEW_WIDE(wide, (gradient_panel<S, KIND, WIDE>(chunk, dh, active, s, panel, w)))
    w += K * wide * V;
  }
}

template <class S, int KIND>
void backward(const Part& part, const Pass<S>& p) {
  NoDenormals guard;
  const Tiles tiles(p.tiles);
  Place<S> at(part, p);
  Chunk<S, KIND> chunk(at);
  S *dh = at.h, *dc = at.next;
  if (p.dx) at.clear_padding(p.dx, p.I);
  for (int64_t i = 0; i < part.count; ++i) {
    at.read(dh, p.dh, i);
    if (KIND == LSTM) at.read(dc, p.dc, i);
  }
  int64_t active = 0;
  for (int64_t s = part.count ? part.length[0] - 1 : -1; s >= 0; --s) {
    while (active < part.count && part.length[active] > s) ++active;
    if (chunk.M + active > p.chunk) {
      chunk.finish();
      part.team->wait();  // before its room is used again
    }
    for (int64_t i = 0; i < active; ++i) {
      gradient_of_gates<S, KIND>(chunk, i, s, dh + i * p.HP, dc + i * p.HP);
      if (p.dx) p.to[chunk.M + i] = p.dx + at.cell(i, s) * p.I;
    }
    part.team->wait();  // all gates' gradients are there
    gradient_step<S, KIND>(chunk, dh, active, s);
    if (!p.outside) chunk.M += active;
    if (p.reset)
      for (int64_t i = 0; i < active; ++i)
        if (at.anew(i, s))  // what stood before has no part in what came after
          for (int64_t j = part.from; j < part.to; ++j) {
            S *d = dh + i * p.HP + j, *e = dc + i * p.HP + j;
            if (j < p.H) p.dhr[part.row[i] * p.H + j] += *d;
            *d = 0;
            if (KIND == LSTM && j < p.H) p.dcr[part.row[i] * p.H + j] += *e;
            if (KIND == LSTM) *e = 0;
          }
  }
  chunk.finish();
  for (int64_t i = 0; i < part.count; ++i) {
    at.write(p.dh0, dh, i);
    if (KIND == LSTM) at.write(p.dc0, dc, i);
  }
}

}  // namespace
}  // namespace clew::CLEW_ISA
