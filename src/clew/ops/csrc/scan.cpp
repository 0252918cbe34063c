// One thread's part of a pass, for one instruction set: compiled once for each, with CLEW_ISA and CLEW_BYTES set.
//
// A tile is R rows times one panel of UB blocks: R UB G vectors, that stay in registers over the whole product with
// W_hh. The panel's weights come from the nearest cache, once for all tiles of the step.
//
// Nothing from the standard library but types: what is compiled here must not be shared with other instruction sets.
#include "scan.h"

#include "products.h"

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
  int64_t step(int64_t i, int64_t s) const { return part.start[i] + time(i, s); }           // among all real ones
  int64_t cell(int64_t i, int64_t s) const { return part.row[i] * pass.T + time(i, s); }    // of (B, T)
  bool anew(int64_t i, int64_t s) const { return pass.reset && pass.reset[cell(i, s)]; }
  S* rest() const { return c + part.count * pass.HP; }
  int64_t gates_apart(int64_t gates) const { return apart(gates * pass.HP, Simd<S>::V); }

  // This thread's units of a row, between a padded buffer and a tensor that is not.
  void read(S* buffer, const S* tensor, int64_t i) const {
    for (int64_t j = part.from; j < part.to; ++j)
      buffer[i * pass.HP + j] = j < pass.H ? tensor[part.row[i] * pass.H + j] : S(0);
  }
  void write(S* tensor, const S* buffer, int64_t i) const {
    for (int64_t j = part.from; j < part.to && j < pass.H; ++j)
      tensor[part.row[i] * pass.H + j] = buffer[i * pass.HP + j];
  }
  // 0 in the place of steps that there are not, of a tensor (B, T, width).
  void clear_padding(S* tensor, int64_t width) const {
    for (int64_t i = part.member; i < part.count; i += part.members) {
      S* row = tensor + part.row[i] * pass.T * width;
      for (int64_t j = part.length[i] * width; j < pass.T * width; ++j) row[j] = 0;
    }
  }
};

// --------------------------------------------------------------------------------------------------------- forward

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
  multiply<S, R, N>(h, w, p.H, tile);
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

// -------------------------------------------------------------------------------------------------------- backward

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
      : at(at), gates_apart(at.gates_apart(GRADIENTS[KIND])), seen_apart(apart(at.pass.chunk * V, V) / V * GROUP),
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
  const int64_t K = GATES[KIND] * chunk.at.pass.HP, blocks = chunk.at.pass.blocks;
  const S* w = chunk.at.pass.hh + part.from * K;
  for (int64_t panel = part.from; panel < part.to; panel += blocks * V) {
    const int64_t wide = least(blocks, (part.to - panel) / V);
    CLEW_WIDE(wide, (gradient_panel<S, KIND, WIDE>(chunk, dh, active, s, panel, w)))
    w += K * wide * V;
  }
}

template <class S, int KIND>
void backward(const Part& part, const Pass<S>& p) {
  NoDenormals guard;
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

template <class S>
constexpr Kernels<S> kernels = {
    Simd<S>::V,
    {forward<S, ELMAN>, forward<S, GRU>, forward<S, LSTM>},
    {backward<S, ELMAN>, backward<S, GRU>, backward<S, LSTM>},
    pack_product<S, S>,
    pack_transposed<S>,
};

}  // namespace
}  // namespace clew::CLEW_ISA

namespace clew {

const ScanKernels CLEW_TABLE(scans, CLEW_ISA) = {CLEW_ISA::kernels<float>, CLEW_ISA::kernels<double>};

}  // namespace clew
