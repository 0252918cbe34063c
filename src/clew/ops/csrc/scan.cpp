// One thread's part of a pass, for one instruction set: compiled once for each, with CLEW_ISA and CLEW_BYTES set.
//
// A tile is R rows times one panel of UB blocks: R UB G vectors, that stay in registers over the whole product with
// W_hh. The panel's weights come from the nearest cache, once for all tiles of the step.
//
// Nothing from the standard library but types: what is compiled here must not be shared with other instruction sets.
#include "scan.h"

#include "tile.h"

namespace clew::CLEW_ISA {
namespace {

// What the rows of a thread stand at. h lies twice, for this step and the next.
template <class S>
struct Place {
  const Part& part;
  const Pass<S>& pass;
  S *h, *next, *c;

  Place(const Part& part, const Pass<S>& pass)
      : part(part), pass(pass), h(pass.work), next(h + part.count * pass.HP), c(next + part.count * pass.HP) {}

  int64_t time(int64_t i, int64_t s) const { return pass.backwards ? part.length[i] - 1 - s : s; }
  int64_t step(int64_t i, int64_t s) const { return part.start[i] + time(i, s); }  // among all real ones
  int64_t output(int64_t i, int64_t s) const { return (part.row[i] * pass.T + time(i, s)) * pass.H; }
  bool anew(int64_t i, int64_t s) const { return pass.reset && pass.reset[part.row[i] * pass.T + time(i, s)]; }

  // This thread's units of a row, between a padded buffer and a tensor that is not.
  void read(S* buffer, const S* tensor, int64_t i) const {
    for (int64_t j = part.from; j < part.to; ++j)
      buffer[i * pass.HP + j] = j < pass.H ? tensor[part.row[i] * pass.H + j] : S(0);
  }
  void write(S* tensor, const S* buffer, int64_t i) const {
    for (int64_t j = part.from; j < part.to && j < pass.H; ++j)
      tensor[part.row[i] * pass.H + j] = buffer[i * pass.HP + j];
  }
};

// CALL with the number of blocks in a panel as the constant BLOCKS.
#define CLEW_BLOCKS(UB, CALL)                         \
  switch (UB) {                                       \
    case 4: { constexpr int BLOCKS = 4; CALL; break; } \
    case 2: { constexpr int BLOCKS = 2; CALL; break; } \
    default: { constexpr int BLOCKS = 1; CALL; }       \
  }

// --------------------------------------------------------------------------------------------------------- forward

template <class S, int KIND, int UB, int R>
INLINE void forward_tile(const Place<S>& at, int64_t first, int64_t s, int64_t panel, const S* w) {
  constexpr int V = Simd<S>::V, G = GATES[KIND], N = UB * G;
  const Pass<S>& p = at.pass;
  Vec<S> tile[R][N], n_x[R];
  const S* h[R];
  S* gates[R];
#pragma GCC unroll 32
  for (int r = 0; r < R; ++r) {
    h[r] = at.h + (first + r) * p.HP;
    gates[r] = p.gates + (at.step(first + r, s) * p.HP + panel) * G;
  }
  if (p.x) {
    const S* x[R];
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r) {
      x[r] = p.x + at.step(first + r, s) * p.I;
#pragma GCC unroll 32
      for (int n = 0; n < N; ++n) tile[r][n] = load<S>(p.x_bias + panel * G + n * V);
    }
    multiply<S, R, N>(x, p.x_weight + panel * G * p.I, p.I, tile);
  } else {
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 32
      for (int n = 0; n < N; ++n) tile[r][n] = load<S>(gates[r] + n * V);
  }
  if constexpr (KIND == GRU) {  // the reset gate stands between n's two parts
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r) {
      n_x[r] = tile[r][2];
      tile[r][2] = load<S>(p.bias + panel);
    }
  }
  multiply<S, R, N>(h, w, p.H, tile);
#pragma GCC unroll 32
  for (int r = 0; r < R; ++r) {
    const int64_t step = at.step(first + r, s);
#pragma GCC unroll 8
    for (int u = 0; u < UB; ++u) {
      const int64_t unit = panel + u * V;
      const Vec<S>* z = tile[r] + u * G;
      S* keep = gates[r] + u * G * V;
      Vec<S> out;
      if constexpr (KIND == LSTM) {
        S* cell = at.c + (first + r) * p.HP + unit;
        const LstmUnit<S> now(z, load<S>(cell));
        out = now.h;
        store<S>(cell, now.c);
        if (p.kept) {
          store<S>(p.kept + step * p.HP + unit, now.c);
          store<S>(keep, now.i), store<S>(keep + V, now.f), store<S>(keep + 2 * V, now.g), store<S>(keep + 3 * V, now.o);
        }
      } else if constexpr (KIND == GRU) {
        const GruUnit<S> now(z[0], z[1], n_x[r], z[2], load<S>(h[r] + unit));
        out = now.h;
        if (p.kept) {
          store<S>(p.kept + step * p.HP + unit, z[2]);
          store<S>(keep, now.r), store<S>(keep + V, now.u), store<S>(keep + 2 * V, now.n);
        }
      } else {
        out = p.relu ? relu<S>(z[0]) : tanh<S>(z[0]);
      }
      store<S>(at.next + (first + r) * p.HP + unit, out);
      store_some<S>(p.y + at.output(first + r, s) + unit, out, p.H - unit);
    }
  }
}

template <class S, int KIND, int UB>
INLINE void forward_step(const Place<S>& at, int64_t active, int64_t s) {
  constexpr int V = Simd<S>::V, N = UB * GATES[KIND], MOST = most_rows(N);
  const S* w = at.pass.weight + at.part.from * GATES[KIND] * at.pass.H;
  for (int64_t panel = at.part.from; panel < at.part.to; panel += UB * V, w += at.pass.H * N * V)
    in_tiles<MOST>(active, [&](int64_t first, int R) {
      CLEW_ROWS(MOST, R, (forward_tile<S, KIND, UB, ROWS>(at, first, s, panel, w)))
    });
}

template <class S, int KIND>
void forward(const Part& part, const Pass<S>& p) {
  NoDenormals guard;
  Place<S> at(part, p);
  const auto begin = [&](int64_t i, S* h, const S* h_from, const S* c_from) {
    at.read(h, h_from, i);
    if (KIND == LSTM) at.read(at.c, c_from, i);
  };
  for (int64_t i = 0; i < part.count; ++i) {
    const bool anew = part.length[i] && at.anew(i, 0);
    begin(i, at.h, anew ? p.hr : p.h0, anew ? p.cr : p.c0);
  }
  int64_t active = part.count;
  for (int64_t s = 0;; ++s) {
    for (; active && part.length[active - 1] <= s; --active) {  // this row has ended
      at.write(p.h, at.h, active - 1);
      if (KIND == LSTM) at.write(p.c, at.c, active - 1);
    }
    if (!active) break;
    part.team->wait();  // all of h is there
    if constexpr (GATES[KIND] > 1) {
      forward_step<S, KIND, 1>(at, active, s);
    } else {
      CLEW_BLOCKS(p.blocks, (forward_step<S, KIND, BLOCKS>(at, active, s)))
    }
    if (p.reset)
      for (int64_t i = 0; i < active && part.length[i] > s + 1; ++i)
        if (at.anew(i, s + 1)) begin(i, at.next, p.hr, p.cr);
    S* done = at.h;
    at.h = at.next;
    at.next = done;
  }
}

// -------------------------------------------------------------------------------------------------------- backward

// dh[i] += gates[i] W_hh, for a panel of UB blocks of h.
template <class S, int UB, int R>
INLINE void gradient_tile(const Place<S>& at, S* dh, int64_t first, int64_t s, int64_t panel, int64_t K, const S* w) {
  constexpr int V = Simd<S>::V;
  Vec<S> tile[R][UB];
  const S* a[R];
  S* to[R];
#pragma GCC unroll 32
  for (int r = 0; r < R; ++r) {
    a[r] = at.pass.gates + at.step(first + r, s) * K;
    to[r] = dh + (first + r) * at.pass.HP + panel;
#pragma GCC unroll 32
    for (int n = 0; n < UB; ++n) tile[r][n] = load<S>(to[r] + n * V);
  }
  multiply<S, R, UB>(a, w, K, tile);
#pragma GCC unroll 32
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 32
    for (int n = 0; n < UB; ++n) store<S>(to[r] + n * V, tile[r][n]);
}

template <class S, int UB>
INLINE void gradient_step(const Place<S>& at, S* dh, int64_t active, int64_t s, int64_t K) {
  constexpr int V = Simd<S>::V, MOST = most_rows(UB);
  const S* w = at.pass.weight + at.part.from * K;
  for (int64_t panel = at.part.from; panel < at.part.to; panel += UB * V, w += K * UB * V)
    in_tiles<MOST>(active, [&](int64_t first, int R) {
      CLEW_ROWS(MOST, R, (gradient_tile<S, UB, ROWS>(at, dh, first, s, panel, K, w)))
    });
}

// From the gradient of one row's h (and c) to that of its gates, in place; what remains of dh goes straight to h before.
template <class S, int KIND>
INLINE void gradient_of_gates(const Place<S>& at, int64_t i, int64_t s, S* dh, S* dc) {
  constexpr int V = Simd<S>::V, G = GATES[KIND];
  const Pass<S>& p = at.pass;
  const int64_t row = at.part.row[i], t = at.time(i, s), step = at.part.start[i] + t, earlier = p.backwards ? 1 : -1;
  const bool anew = at.anew(i, s), first = anew || s == 0;
  const S* h_before = anew ? p.hr + row * p.H : s ? p.y + (row * p.T + t + earlier) * p.H : p.h0 + row * p.H;
  const S* c_before = KIND != LSTM ? nullptr
                      : first      ? (anew ? p.cr : p.c0) + row * p.H
                                   : p.kept + (step + earlier) * p.HP;
  const S *y = p.y + (row * p.T + t) * p.H, *dy = p.dy + (row * p.T + t) * p.H;
  for (int64_t j = at.part.from; j < at.part.to; j += V) {
    const int64_t real = p.H - j;
    S *gates = p.gates + (step * p.HP + j) * G, *kept = p.kept + step * p.HP + j;
    const Vec<S> d = load<S>(dh + j) + load_some<S>(dy + j, real), h = load_some<S>(h_before + j, real);
    store_some<S>(p.before + step * p.before_stride + j, h, real);
    Vec<S> rest = {};
    if constexpr (KIND == LSTM) {
      const Vec<S> i = load<S>(gates), f = load<S>(gates + V), g = load<S>(gates + 2 * V), o = load<S>(gates + 3 * V);
      const Vec<S> read = tanh<S>(load<S>(kept)), c = first ? load_some<S>(c_before + j, real) : load<S>(c_before + j);
      const Vec<S> e = load<S>(dc + j) + d * o * (1 - read * read);
      store<S>(gates, e * g * i * (1 - i));
      store<S>(gates + V, e * c * f * (1 - f));
      store<S>(gates + 2 * V, e * i * (1 - g * g));
      store<S>(gates + 3 * V, d * read * o * (1 - o));
      store<S>(dc + j, e * f);
    } else if constexpr (KIND == GRU) {
      const Vec<S> r = load<S>(gates), u = load<S>(gates + V), n = load<S>(gates + 2 * V);
      const Vec<S> dn = d * (1 - u) * (1 - n * n);
      store<S>(gates, dn * load<S>(kept) * r * (1 - r));
      store<S>(gates + V, d * (h - n) * u * (1 - u));
      store<S>(gates + 2 * V, dn * r);
      store<S>(kept, dn);
      rest = d * u;
    } else {
      const Vec<S> out = load_some<S>(y + j, real);
      store<S>(gates, p.relu ? (out > 0 ? d : Vec<S>{}) : d * (1 - out * out));
    }
    store<S>(dh + j, rest);
  }
}

template <class S, int KIND>
void backward(const Part& part, const Pass<S>& p) {
  NoDenormals guard;
  Place<S> at(part, p);
  S *dh = at.h, *dc = at.next;
  for (int64_t i = 0; i < part.count; ++i) {
    at.read(dh, p.dh, i);
    if (KIND == LSTM) at.read(dc, p.dc, i);
  }
  int64_t active = 0;
  for (int64_t s = part.count ? part.length[0] - 1 : -1; s >= 0; --s) {
    while (active < part.count && part.length[active] > s) ++active;
    for (int64_t i = 0; i < active; ++i) gradient_of_gates<S, KIND>(at, i, s, dh + i * p.HP, dc + i * p.HP);
    part.team->wait();  // all gates' gradients are there
    CLEW_BLOCKS(p.blocks, (gradient_step<S, BLOCKS>(at, dh, active, s, GATES[KIND] * p.HP)))
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
  for (int64_t i = 0; i < part.count; ++i) {
    at.write(p.dh0, dh, i);
    if (KIND == LSTM) at.write(p.dc0, dc, i);
  }
}

// --------------------------------------------------------------------------------------------------------- weights

// W_hh (G H, H) for the gradient's pass: (panel, [block, gate, unit] of the gates, unit of h).
template <class S>
void pack_gradient(int G, int UB, int64_t H, int64_t HP, const S* hh, S* to) {
  constexpr int64_t V = Simd<S>::V;
  for (int64_t panel = 0; panel < HP; panel += UB * V)
    for (int64_t block = 0; block < HP; block += V)
      for (int64_t gate = 0; gate < G; ++gate)
        for (int64_t unit = block; unit < block + V; ++unit)
          for (int64_t column = panel; column < panel + UB * V; ++column)
            *to++ = unit < H && column < H ? hh[(gate * H + unit) * H + column] : S(0);
}

}  // namespace
}  // namespace clew::CLEW_ISA

namespace clew {
using namespace CLEW_ISA;

const ScanKernels CLEW_TABLE(scans, CLEW_ISA) = {
    {Simd<float>::V, Simd<double>::V},
    {forward<float, ELMAN>, forward<float, GRU>, forward<float, LSTM>},
    {forward<double, ELMAN>, forward<double, GRU>, forward<double, LSTM>},
    {backward<float, ELMAN>, backward<float, GRU>, backward<float, LSTM>},
    {backward<double, ELMAN>, backward<double, GRU>, backward<double, LSTM>},
    pack_product<float, float>,
    pack_product<double, double>,
    pack_gradient<float>,
    pack_gradient<double>,
};

}  // namespace clew
