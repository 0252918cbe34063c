// The pass forward: for each step the product of h and W_hh, and the gates.
//
// A tile is R rows times one panel of UB blocks: R UB G vectors, that stay in registers over the whole product. The
// panel's weights come from the nearest cache, once for all tiles of the step.
#pragma once
#include "place.h"

namespace clew::CLEW_ISA {
namespace {

// given: what the input gives the gates of each of the step's rows.
template <class S, int KIND, int UB, int R>
INLINE void forward_tile(const Place<S>& at, const S* const* given, int64_t first, int64_t s, int64_t panel, const S* w) {
  constexpr int V = Simd<S>::V, G = GATES[KIND], N = UB * G;
  const Pass<S>& p = at.pass;
  Vec<S> tile[R][N], n_x[R];
  const S* h[R];
  S* gates[R];
#pragma GCC unroll 32
  for (int r = 0; r < R; ++r) {
    h[r] = at.h + (first + r) * p.HP;
    gates[r] = p.gates + at.step(first + r, s) * G * p.HP + panel * G;
#pragma GCC unroll 32
    for (int n = 0; n < N; ++n) {
      tile[r][n] = load<S>(given[first + r] + panel * G + n * V);
      if (p.kept) ahead(gates[r] + n * V);
    }
    ahead(p.y + at.cell(first + r, s) * p.H + panel);
    if (p.kept) ahead(p.kept + at.step(first + r, s) * p.HP + panel);
  }
  if constexpr (KIND == GRU) {  // the reset gate stands between n's two parts
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r) {
      n_x[r] = tile[r][2];
      tile[r][2] = load<S>(p.bias_n + panel);
    }
  }
  if (p.tiles) {
    const int64_t apart = (at.part.to - at.part.from) * G;
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 32
      for (int n = 0; n < N; ++n)
        tile[r][n] += load<S>(p.sums + (first + r) * apart + (panel - at.part.from) * G + n * V);
  } else {
    multiply<S, R, N>(h, w, p.H, tile);
  }
  if constexpr (KIND == LSTM) lstm_gates<S>(tile);
  if constexpr (KIND == GRU) gru_gates<S>(tile, n_x);
#pragma GCC unroll 32
  for (int r = 0; r < R; ++r) {
    S* kept = p.kept + at.step(first + r, s) * p.HP;
#pragma GCC unroll 8
    for (int u = 0; u < UB; ++u) {
      const int64_t unit = panel + u * V;
      const Vec<S>* z = tile[r] + u * G;
      Vec<S> out;
      if constexpr (KIND == LSTM) {
        S* cell = at.c + (first + r) * p.HP + unit;
        const Vec<S> c = z[1] * load<S>(cell) + z[0] * z[2];
        out = z[3] * tanh<S>(c);
        store<S>(cell, c);
        if (p.kept) {
          store<S>(kept + unit, c);
          for (int g = 0; g < G; ++g) store<S>(gates[r] + g * V, z[g]);
        }
      } else if constexpr (KIND == GRU) {
        out = n_x[r] + z[1] * (load<S>(h[r] + unit) - n_x[r]);
        if (p.kept) {
          store<S>(kept + unit, z[2]);
          store<S>(gates[r], z[0]), store<S>(gates[r] + V, z[1]), store<S>(gates[r] + 2 * V, n_x[r]);
        }
      } else {
        out = p.relu ? relu<S>(z[0]) : tanh<S>(z[0]);
      }
      store<S>(at.next + (first + r) * p.HP + unit, out);
      store_some<S>(p.y + at.cell(first + r, s) * p.H + unit, out, p.H - unit);
    }
  }
}

template <class S, int KIND, int UB>
INLINE void forward_panel(const Place<S>& at, const S* const* given, int64_t active, int64_t s, int64_t panel, const S* w) {
  constexpr int MOST = most_rows(UB * GATES[KIND]);
  in_tiles<MOST>(active, [&](int64_t first, int R) {
    CLEW_ROWS(MOST, R, (forward_tile<S, KIND, UB, ROWS>(at, given, first, s, panel, w)))
  });
}

template <class S, int KIND>
void forward_step(const Place<S>& at, const S* const* given, int64_t active, int64_t s) {
  constexpr int V = Simd<S>::V, G = GATES[KIND];
  const Pass<S>& p = at.pass;
  if (p.tiles) {
    for (int64_t i = 0; i < active; ++i) p.from[i] = at.h + i * p.HP;
    at.rounded_product(active, p.H, G);
  }
  const S* w = p.hh + at.part.from * G * p.H;
  for (int64_t panel = at.part.from; panel < at.part.to; panel += p.blocks * V) {
    const int64_t wide = least(p.blocks, (at.part.to - panel) / V);
    CLEW_WIDE(wide, (forward_panel<S, KIND, (G > 1 ? 1 : WIDE)>(at, given, active, s, panel, w)))
    w += p.H * wide * G * V;
  }
}

// What the input gives the gates of a chunk's steps, from s on: at p.to, for each step its active rows in turn. Returns
// how many.
template <class S, int KIND>
int64_t input_part(const Place<S>& at, int64_t active, int64_t s) {
  constexpr int G = GATES[KIND];
  const Pass<S>& p = at.pass;
  int64_t M = 0;
  for (const int64_t end = s + p.chunk / active; s < end && s < at.part.length[0]; ++s)
    for (int64_t i = 0; i < active && s < at.part.length[i]; ++i, ++M) {
      p.from[M] = p.outside ? nullptr : p.x + at.cell(i, s) * p.I;
      p.to[M] = p.outside ? p.gates + at.step(i, s) * G * p.HP : at.rest() + M * at.gates_apart(G);
    }
  if (p.outside) return M;
  rows_product<S>(M, p.from, p.to, at.part.from * G, at.part.to * G, p.HP * G, p.blocks * G, p.x_bias, p.I,
                  p.ih + at.part.from * G * p.I);
  return M;
}

template <class S, int KIND>
void forward(const Part& part, const Pass<S>& p) {
  NoDenormals guard;
  const Tiles tiles(p.tiles);
  Place<S> at(part, p);
  const auto begin = [&](int64_t i, S* h, const S* h_from, const S* c_from) {
    at.read(h, h_from, i);
    if (KIND == LSTM) at.read(at.c, c_from, i);
  };
  at.clear_padding(p.y, p.H);
  for (int64_t i = 0; i < part.count; ++i) {
    const bool anew = part.length[i] && at.anew(i, 0);
    begin(i, at.h, anew ? p.hr : p.h0, anew ? p.cr : p.c0);
  }
  int64_t active = part.count, known = 0, done = 0;  // of the chunk's steps
  for (int64_t s = 0;; ++s) {
    for (; active && part.length[active - 1] <= s; --active) {  // this row has ended
      at.write(p.h, at.h, active - 1);
      if (KIND == LSTM) at.write(p.c, at.c, active - 1);
    }
    if (!active) break;
    if (done == known) known = input_part<S, KIND>(at, active, s), done = 0;
    part.team->wait();  // all of h is there
    forward_step<S, KIND>(at, p.to + done, active, s);
    done += active;
    if (p.reset)
      for (int64_t i = 0; i < active && part.length[i] > s + 1; ++i)
        if (at.anew(i, s + 1)) begin(i, at.next, p.hr, p.cr);
    S* now = at.h;
    at.h = at.next;
    at.next = now;
  }
}

}  // namespace
}  // namespace clew::CLEW_ISA
