// S' = w S + k v', y = S'' q, with one decay w for all keys: many steps at once, as products of matrices.
//
// Within a chunk the state is never formed. What step s writes is read at step t through the decay between them,
//
//   y[t] = L[t] S' q[t] + sum over s <= t of D[t, s] (q[t]' k[s]) v[s]      S the state before the chunk
//
// D[t, s] the product of w from s + 1 to t, L[t] that from the first step to t, E[s] that from s + 1 to the last. No
// ratio of products is formed, so that decays near 0 and near 1 keep their digits. The heads of a group have q and k in
// common, so their scores too, and of the gradients what passes through those.
//
// What is not finite, or a decay that is 0, goes through matrix.h: products of matrices would carry 0 times NaN to
// earlier steps. Every number read is a term of some number made, so it is enough to look at those.
#pragma once
#include "algebra.h"
#include "tile.h"
#include "turn.h"

namespace clew::CLEW_ISA {

template <class S, int R, int N>
INLINE void product_tile(int64_t terms, const S* a, int64_t a_row, int64_t a_term, const S* b, int64_t wide, S keep,
                         S* c) {
  constexpr int V = Simd<S>::V;
  Vec<S> sums[R][N];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) sums[r][n] = keep == 0 ? Vec<S>{} : keep * load(c + r * wide + n * V);
  for (int64_t i = 0; i < terms; ++i, a += a_term, b += wide) {
    Vec<S> of_b[N];
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) of_b[n] = load(b + n * V);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) sums[r][n] += a[r * a_row] * of_b[n];
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) store(c + r * wide + n * V, sums[r][n]);
}

// A matrix as a product reads it: rows `row` numbers apart, terms of the sum `term`.
template <class S>
struct Left {
  const S* at;
  int64_t row, term;
};

// c (rows, wide) = keep c + a b; b (terms, wide), whole vectors wide.
template <class S>
static void product(int64_t rows, int64_t terms, Left<S> a, const S* b, int64_t wide, S keep, S* c) {
  constexpr int V = Simd<S>::V;
  for (int64_t n = 0; n < wide; n += 4 * V)
    CLEW_WIDE(least((wide - n) / V, 4), {
      constexpr int MOST = most_rows(WIDE);
      in_tiles<MOST>(rows, [&](int64_t first, int R) {
        CLEW_ROWS(MOST, R, (product_tile<S, ROWS, WIDE>(terms, a.at + first * a.row, a.row, a.term, b + n, wide, keep,
                                                        c + first * wide + n)))
      });
    })
}

// The heads of one group of one row.
template <class S>
struct Chunks {
  static constexpr int V = Simd<S>::V;
  const Matrix<S>& p;
  int64_t row, group, heads, steps, C, K, W;  // W: values, as whole vectors
  // Of all heads:
  S *q, *k, *dq, *dk;   // (K, C)
  S *scores, *dscores;  // (C, C) of reads and writes
  S *states, *dfirst;   // (heads, K, W); in the gradient's pass the states' gradients
  // Of the head at work:
  S *v, *dy, *out;          // (C, W): values, the gradient of y, y or dv
  S *v_turned, *dy_turned;  // (W, C)
  S *D, *P, *G;             // (C, C): decays, decayed scores, their gradient
  S *L, *E, *z, *e;         // (C)
  S *from, *read;           // (K, W) the state before; (K, C) a part of dq

  static int64_t wide(int64_t n) { return (n + V - 1) / V * V; }
  static int64_t room(const Matrix<S>& p) {
    const int64_t C = p.time.chunk, K = p.K, W = wide(p.V);
    return 5 * K * C + 5 * C * W + 5 * C * C + 4 * C + (2 * p.H / p.groups + 1) * K * W;
  }

  Chunks(const Matrix<S>& p, int64_t row, int64_t group, S* room)
      : p(p), row(row), group(group), heads(p.H / p.groups), steps(p.time.steps(row)), C(p.time.chunk), K(p.K),
        W(wide(p.V)) {
    const auto give = [&](auto& names, int64_t n) {
      for (S** each : names) *each = room, room += n;
    };
    S **keys[] = {&q, &k, &dq, &dk, &read}, **values[] = {&v, &dy, &out, &v_turned, &dy_turned};
    S **steps[] = {&scores, &dscores, &D, &P, &G}, **one_each[] = {&L, &E, &z, &e}, **of_heads[] = {&states, &dfirst};
    S** matrix[] = {&from};
    give(keys, K * C), give(values, C * W), give(steps, C * C), give(one_each, C), give(of_heads, heads * K * W);
    give(matrix, K * W);
  }

  static bool takes(const Matrix<S>& p, int64_t row) {
    return !p.a && p.wide == 1 && p.time.chunk % V == 0 && p.time.steps(row) >= p.time.chunk / 2 && p.K >= 8 && p.V >= 8;
  }

  int64_t at(int64_t t) const { return (row * p.time.T + t) * p.groups + group; }
  int64_t at(int64_t t, int64_t head) const { return at(t) * heads + head; }
  int64_t state_at(int64_t head) const { return ((row * p.groups + group) * heads + head) * K * p.V; }
  S* kept(int64_t t, int64_t head) const { return p.kept + state_at(head) * p.time.chunks() + t / C * K * p.V; }
  S* state_of(int64_t head) const { return states + head * K * W; }

  static bool finite(const S* x, int64_t n) {  // n: whole vectors
    Vec<S> sums = {};
    for (int64_t i = 0; i < n; i += V) sums += load(x + i) * S(0);
    return sum<S>(sums) == 0;
  }

  // Rows of p.V numbers as rows of W with zeros behind them, and back.
  void widened(const S* given, int64_t apart, int64_t rows, S* to) const {
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < W; j += V) store(to + i * W + j, load_some(given + i * apart + j, p.V - j));
  }
  void narrowed(const S* given, int64_t rows, S* to, int64_t apart) const {
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < W; j += V) store_some(to + i * apart + j, load(given + i * W + j), p.V - j);
  }

  // Rows of `wide` numbers, each row, or each number of all rows, times its own factor.
  static void rows_times(S* rows, const S* factors, int64_t n, int64_t wide) {
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < wide; j += V) store(rows + i * wide + j, factors[i] * load(rows + i * wide + j));
  }
  static void columns_times(S* rows, const S* factors, int64_t n, int64_t wide) {
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < wide; j += V) store(rows + i * wide + j, load(factors + j) * load(rows + i * wide + j));
  }

  // The first step of the chunk that holds t, or the latest that begins anew in it.
  int64_t piece(int64_t t) const {
    int64_t begin = t;
    while (begin % C && !p.time.begins(row, begin)) --begin;
    return begin;
  }

  // What n steps from t on read and write by, zeros behind them, and the scores of that.
  void prepare(int64_t t, int64_t n) {
    turn(p.q + at(t) * K, p.groups * K, n, K, q, C, C);
    turn(p.k + at(t) * K, p.groups * K, n, K, k, C, C);
    product<S>(n, K, {q, 1, C}, k, C, 0, scores);
  }

  // A head's values and decays; false where these are not for products.
  bool prepare(int64_t t, int64_t n, int64_t head) {
    constexpr S LEAST = S(1e-12), MOST = S(4);
    widened(p.v + at(t, head) * p.V, p.H * p.V, n, v);
    for (int64_t i = 0; i < n; ++i) {
      const S w = p.w[at(t + i, head)];
      if (!(w >= LEAST && w <= MOST)) return false;
      L[i] = w * (i ? L[i - 1] : S(1));
      for (int64_t j = 0; j < C; j += V) {
        store(D + i * C + j, i ? w * load(D + (i - 1) * C + j) : Vec<S>{});
        store(P + i * C + j, load(D + i * C + j) * load(scores + i * C + j));
      }
      D[i * C + i] = 1, P[i * C + i] = scores[i * C + i];
    }
    std::memcpy(E, D + (n - 1) * C, C * sizeof(S));
    return true;
  }

  // These return false where they met what is not finite; all must then be done anew.
  bool forward() {
    for (int64_t head = 0; head < heads; ++head) widened(p.h0 + state_at(head), p.V, K, state_of(head));
    for (int64_t t = 0, end; t < steps; t = end) {
      for (end = t + 1; end < steps && end % C && !p.time.begins(row, end);) ++end;
      prepare(t, end - t);
      for (int64_t head = 0; head < heads; ++head) {
        S* const state = state_of(head);
        if (p.kept && t % C == 0) narrowed(state, K, kept(t, head), p.V);
        if (p.time.begins(row, t)) widened(p.hr + state_at(head), p.V, K, state);
        if (!forward(t, end - t, head, state)) return false;
      }
    }
    for (int64_t head = 0; head < heads; ++head) narrowed(state_of(head), K, p.h + state_at(head), p.V);
    return true;
  }

  bool forward(int64_t t, int64_t n, int64_t head, S* state) {
    if (!prepare(t, n, head)) return false;
    product<S>(n, K, {q, 1, C}, state, W, 0, out);
    rows_times(out, L, n, W);
    product<S>(n, n, {P, C, 1}, v, W, 1, out);
    narrowed(out, n, p.y + at(t, head) * p.V, p.H * p.V);
    rows_times(v, E, n, W);
    product<S>(K, n, {k, C, 1}, v, W, L[n - 1], state);
    return finite(out, n * W);
  }

  bool backward() {
    std::memset(dfirst, 0, heads * K * W * sizeof(S));
    for (int64_t head = 0; head < heads; ++head) widened(p.dh + state_at(head), p.V, K, state_of(head));
    for (int64_t end = steps, t; end > 0; end = t) {
      t = piece(end - 1);
      const int64_t n = end - t;
      const bool anew = p.time.begins(row, t);
      prepare(t, n);
      std::memset(dq, 0, 2 * K * C * sizeof(S));
      std::memset(dscores, 0, C * C * sizeof(S));
      for (int64_t head = 0; head < heads; ++head) {
        S* const g = state_of(head);
        widened(anew ? p.hr + state_at(head) : kept(t, head), p.V, K, from);
        if (!back(t, n, head, g)) return false;
        if (!anew) continue;
        for (int64_t i = 0; i < K * W; i += V)
          store(dfirst + head * K * W + i, load(dfirst + head * K * W + i) + load(g + i));
        std::memset(g, 0, K * W * sizeof(S));
      }
      turn(dscores, C, n, C, G, C, C);
      product<S>(K, n, {k, C, 1}, G, C, 1, dq);
      product<S>(K, n, {q, C, 1}, dscores, C, 1, dk);
      if (!finite(dq, 2 * K * C)) return false;
      turn(dq, C, K, n, p.dq + at(t) * K, p.groups * K, K);
      turn(dk, C, K, n, p.dk + at(t) * K, p.groups * K, K);
    }
    for (int64_t head = 0; head < heads; ++head) {
      narrowed(state_of(head), K, p.dh0 + state_at(head), p.V);
      narrowed(dfirst + head * K * W, K, p.dhr + state_at(head), p.V);
    }
    return true;
  }

  // The gradients of n steps from t on; g, that of the state behind them, becomes that of the state before.
  bool back(int64_t t, int64_t n, int64_t head, S* g) {
    if (!prepare(t, n, head)) return false;
    widened(p.dy + at(t, head) * p.V, p.H * p.V, n, dy);
    turn(v, W, n, p.V, v_turned, C, C);
    turn(dy, W, n, p.V, dy_turned, C, C);
    product<S>(n, p.V, {dy, W, 1}, v_turned, C, 0, G);
    of_decays(n, g);  // as far as they come from reads of what was written here

    product<S>(n, K, {k, 1, C}, g, W, 0, out);
    rows_times(out, E, n, W);
    for (int64_t i = 0; i < n; ++i) e[i] = dot(v + i * W, out + i * W, W);
    product<S>(n, n, {P, 1, C}, dy, W, 1, out);
    narrowed(out, n, p.dv + at(t, head) * p.V, p.H * p.V);

    columns_times(v_turned, E, p.V, C);
    product<S>(K, p.V, {g, W, 1}, v_turned, C, 1, dk);
    rows_times(dy, L, n, W);
    product<S>(K, n, {q, C, 1}, dy, W, L[n - 1], g);

    columns_times(dy_turned, L, p.V, C);
    product<S>(K, p.V, {from, W, 1}, dy_turned, C, 0, read);
    for (int64_t j = 0; j < C; j += V) {
      Vec<S> sums = {};
      for (int64_t i = 0; i < K; ++i) {
        const Vec<S> of_read = load(read + i * C + j);
        sums += of_read * load(q + i * C + j);
        store(dq + i * C + j, load(dq + i * C + j) + of_read);
      }
      store(z + j, sums);
    }
    S behind = 0, before = 0;
    for (int64_t i = n; i-- > 0;) D[i] += behind += z[i];
    for (int64_t i = 0; i < n; before += e[i++]) p.dw[at(t + i, head)] = (D[i] + before) / p.w[at(t + i, head)];
    return finite(out, n * W);
  }

  static S dot(const S* a, const S* b, int64_t n) {  // n: whole vectors
    Vec<S> sums = {};
    for (int64_t i = 0; i < n; i += V) sums += load(a + i) * load(b + i);
    return sum<S>(sums);
  }

  // D[i] = what decay i, times its gradient, has from all that it lies between: reads at or after it of what was written
  // before it, and the state before the chunk in that behind it. Scores' gradients are added to.
  void of_decays(int64_t n, const S* g) {
    const S whole = L[n - 1] * dot(g, from, K * W);
    for (int64_t i = 0; i < n * C; i += V) {
      const Vec<S> through = load(G + i);
      store(dscores + i, load(dscores + i) + load(D + i) * through);
      store(G + i, load(P + i) * through);
    }
    for (int64_t i = 0; i < C; ++i) D[i] = whole;
    for (int64_t read = 0; read < n; ++read) {
      S up_to = 0;
      for (int64_t i = 1; i <= read; ++i) D[i] += up_to += G[read * C + i - 1];
    }
  }
};

}  // namespace clew::CLEW_ISA
