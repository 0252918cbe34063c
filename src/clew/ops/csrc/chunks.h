// S' = w S + k v', y = S'' q, with one decay w for all keys: many steps at once, as products of matrices.
//
// Within a chunk the state is never formed. What step s writes is read at step t through the decay between them,
//
//   y[t] = L[t] S' q[t] + sum over s <= t of D[t, s] (q[t]' k[s]) v[s]      S the state before the chunk
//
// D[t, s] the product of w from s + 1 to t, L[t] that from the first step to t, E[s] that from s + 1 to the last. No
// ratio of products is formed, so that decays near 0 and near 1 keep their digits. What is not finite, or a decay that is
// 0, goes through matrix.h: products of matrices would carry 0 times NaN to earlier steps.
#pragma once
#include "algebra.h"
#include "tile.h"

namespace clew::CLEW_ISA {

template <class S, int R, int N>
INLINE void product_tile(int64_t terms, const S* a, int64_t a_row, int64_t a_term, const S* b, int64_t wide, S* c,
                         bool fresh) {
  constexpr int V = Simd<S>::V;
  Vec<S> sums[R][N];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) sums[r][n] = fresh ? Vec<S>{} : load(c + r * wide + n * V);
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

// c (rows, wide) = a b, or added to it; b (terms, wide), whole vectors wide.
template <class S>
static void product(int64_t rows, int64_t terms, Left<S> a, const S* b, int64_t wide, S* c, bool fresh) {
  constexpr int V = Simd<S>::V;
  for (int64_t n = 0; n < wide; n += 4 * V)
    CLEW_WIDE(least((wide - n) / V, 4), {
      constexpr int MOST = most_rows(WIDE);
      in_tiles<MOST>(rows, [&](int64_t first, int R) {
        CLEW_ROWS(MOST, R, (product_tile<S, ROWS, WIDE>(terms, a.at + first * a.row, a.row, a.term, b + n, wide,
                                                        c + first * wide + n, fresh)))
      });
    })
}

// One head of one row.
template <class S>
struct Chunks {
  static constexpr int V = Simd<S>::V;
  const Matrix<S>& p;
  int64_t row, head, steps, C, K, W;  // W: values, as whole vectors
  S *q, *k, *of_q, *of_k;             // (K, C): q and k; q times L and k times E, and later their gradients
  S *v, *dy, *out;                    // (C, W): values, the gradient of y, y or dv
  S *v_k, *dy_k;                      // (W, C): v times E and dy times L
  S *D, *P, *G, *turned;              // (C, C): decays, scores of reads and writes, their gradient
  S *L, *E, *z, *e;                   // (C)
  S *state, *g, *first, *dfirst;      // (K, W)

  static int64_t wide(int64_t n) { return (n + V - 1) / V * V; }
  static int64_t room(const Matrix<S>& p) {
    const int64_t C = p.time.chunk, K = p.K, W = wide(p.V);
    return 4 * K * C + 5 * C * W + 4 * C * C + 4 * C + 4 * K * W;
  }

  Chunks(const Matrix<S>& p, int64_t row, int64_t head, S* room)
      : p(p), row(row), head(head), steps(p.time.steps(row)), C(p.time.chunk), K(p.K), W(wide(p.V)) {
    const auto give = [&](auto& names, int64_t n) {
      for (S** each : names) *each = room, room += n;
    };
    S **keys[] = {&q, &k, &of_q, &of_k}, **values[] = {&v, &dy, &out, &v_k, &dy_k}, **steps[] = {&D, &P, &G, &turned};
    S **one_each[] = {&L, &E, &z, &e}, **states[] = {&state, &g, &first, &dfirst};
    give(keys, K * C), give(values, C * W), give(steps, C * C), give(one_each, C), give(states, K * W);
  }

  int64_t at(int64_t t) const { return (row * p.time.T + t) * p.H + head; }
  S* kept(int64_t t) const { return p.kept + ((row * p.H + head) * p.time.chunks() + t / C) * K * p.V; }

  static bool finite(const S* x, int64_t n) {
    Vec<S> sums = {};
    for (int64_t i = 0; i < n; i += V) sums += load_some(x + i, n - i) * S(0);
    return sum<S>(sums) == 0;
  }

  // Whether these are numbers that go together.
  bool takes(bool gradient) const {
    constexpr S LEAST = S(1e-12), MOST = S(4);
    if (p.a || p.wide != 1 || C % V || steps < C / 2 || K < 8 || p.V < 8) return false;
    const int64_t n = K * p.V, own = (row * p.H + head) * n;
    if (!finite(p.h0 + own, n) || !finite(p.hr + own, n) || (gradient && !finite(p.dh + own, n))) return false;
    for (int64_t t = 0; t < steps; ++t) {
      const S w = p.w[at(t)];
      if (!(w >= LEAST && w <= MOST) || !finite(p.q + at(t) * K, K) || !finite(p.k + at(t) * K, K) ||
          !finite(p.v + at(t) * p.V, p.V) || (gradient && !finite(p.dy + at(t) * p.V, p.V)))
        return false;
    }
    return true;
  }

  void load_state(const S* from, S* to) const {
    for (int64_t i = 0; i < K; ++i)
      for (int64_t j = 0; j < W; j += V) store(to + i * W + j, load_some(from + i * p.V + j, p.V - j));
  }
  void store_state(const S* from, S* to) const {
    for (int64_t i = 0; i < K; ++i)
      for (int64_t j = 0; j < W; j += V) store_some(to + i * p.V + j, load(from + i * W + j), p.V - j);
  }
  void state_from(const S* all, S* to) const { load_state(all + (row * p.H + head) * K * p.V, to); }
  void state_to(const S* from, S* all) const { store_state(from, all + (row * p.H + head) * K * p.V); }

  void scale(S* matrix, S by) const {
    for (int64_t i = 0; i < K * W; i += V) store(matrix + i, by * load(matrix + i));
  }

  // Rows of C numbers, each number times its own factor.
  void columns_times(const S* from, const S* factors, int64_t rows, S* to) const {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t j = 0; j < C; j += V) store(to + r * C + j, load(from + r * C + j) * load(factors + j));
  }

  // to[t] = the sum over rows r of a[r, t] b[r, t].
  void sums_of_columns(const S* a, const S* b, S* to) const {
    for (int64_t j = 0; j < C; j += V) {
      Vec<S> sums = {};
      for (int64_t r = 0; r < K; ++r) sums += load(a + r * C + j) * load(b + r * C + j);
      store(to + j, sums);
    }
  }

  // The first step of the chunk that holds t, or the latest that begins anew in it.
  int64_t piece(int64_t t) const {
    int64_t begin = t;
    while (begin % C && !p.time.begins(row, begin)) --begin;
    return begin;
  }

  // What n steps from t on read and write, zeros behind them; and their scores.
  void prepare(int64_t t, int64_t n) {
    std::memset(q, 0, 2 * K * C * sizeof(S));
    std::memset(v, 0, C * W * sizeof(S));
    std::memset(D, 0, C * C * sizeof(S));
    std::memset(L, 0, 2 * C * sizeof(S));
    for (int64_t i = 0; i < n; ++i) {
      const S *of_q = p.q + at(t + i) * K, *of_k = p.k + at(t + i) * K, w = p.w[at(t + i)];
      for (int64_t j = 0; j < K; ++j) q[j * C + i] = of_q[j], k[j * C + i] = of_k[j];
      std::memcpy(v + i * W, p.v + at(t + i) * p.V, p.V * sizeof(S));
      L[i] = w * (i ? L[i - 1] : S(1));
      for (int64_t j = 0; j < i; ++j) D[i * C + j] = w * D[(i - 1) * C + j];
      D[i * C + i] = 1;
    }
    std::memcpy(E, D + (n - 1) * C, C * sizeof(S));
    product<S>(n, K, {q, 1, C}, k, C, P, true);
    decayed(n, P, nullptr);
    columns_times(q, L, K, of_q);
    columns_times(k, E, K, of_k);
  }

  // Scores times their decays, 0 where a read is before the write; `before`, if asked for, what they were times P.
  void decayed(int64_t n, S* scores, S* before) const {
    for (int64_t i = 0; i < n * C; i += V) {
      const Vec<S> d = load(D + i), s = load(scores + i);
      if (before) store(before + i, d != 0 ? s * load(P + i) : Vec<S>{});
      store(scores + i, d != 0 ? s * d : Vec<S>{});
    }
  }

  void forward() {
    state_from(p.h0, state);
    for (int64_t t = 0, end; t < steps; t = end) {
      for (end = t + 1; end < steps && end % C && !p.time.begins(row, end);) ++end;
      const int64_t n = end - t;
      if (p.kept && t % C == 0) store_state(state, kept(t));
      if (p.time.begins(row, t)) state_from(p.hr, state);
      prepare(t, n);
      product<S>(n, K, {of_q, 1, C}, state, W, out, true);
      product<S>(n, n, {P, C, 1}, v, W, out, false);
      for (int64_t i = 0; i < n; ++i) std::memcpy(p.y + at(t + i) * p.V, out + i * W, p.V * sizeof(S));
      scale(state, L[n - 1]);
      product<S>(K, n, {of_k, C, 1}, v, W, state, false);
    }
    state_to(state, p.h);
  }

  void backward() {
    std::memset(dfirst, 0, K * W * sizeof(S));
    state_from(p.dh, g);
    state_from(p.hr, first);
    for (int64_t end = steps, t; end > 0; end = t) {
      t = piece(end - 1);
      const bool anew = p.time.begins(row, t);
      if (!anew) load_state(kept(t), state);
      back(t, end - t, anew ? first : state);
      if (!anew) continue;
      for (int64_t i = 0; i < K * W; i += V) store(dfirst + i, load(dfirst + i) + load(g + i));
      std::memset(g, 0, K * W * sizeof(S));
    }
    state_to(g, p.dh0);
    state_to(dfirst, p.dhr);
  }

  // The gradients of n steps from t on, before which the state was `from`; g becomes the gradient of that.
  void back(int64_t t, int64_t n, const S* from) {
    prepare(t, n);
    std::memset(dy, 0, C * W * sizeof(S));
    std::memset(v_k, 0, 2 * C * W * sizeof(S));
    for (int64_t i = 0; i < n; ++i) {
      std::memcpy(dy + i * W, p.dy + at(t + i) * p.V, p.V * sizeof(S));
      for (int64_t j = 0; j < p.V; ++j) v_k[j * C + i] = v[i * W + j], dy_k[j * C + i] = L[i] * dy[i * W + j];
    }
    product<S>(n, p.V, {dy, W, 1}, v_k, C, G, true);
    decayed(n, G, turned);
    of_decays(n, from);  // as far as they come from reads of what was written here

    product<S>(n, K, {of_k, 1, C}, g, W, out, true);
    product<S>(n, n, {P, 1, C}, dy, W, out, false);
    for (int64_t i = 0; i < n; ++i) std::memcpy(p.dv + at(t + i) * p.V, out + i * W, p.V * sizeof(S));

    columns_times(v_k, E, p.V, v_k);
    product<S>(K, p.V, {g, W, 1}, v_k, C, of_k, true);
    sums_of_columns(k, of_k, e);
    product<S>(K, n, {q, C, 1}, G, C, of_k, false);

    scale(g, L[n - 1]);
    product<S>(K, n, {of_q, C, 1}, dy, W, g, false);

    product<S>(K, p.V, {from, W, 1}, dy_k, C, of_q, true);
    sums_of_columns(q, of_q, z);
    std::memset(turned, 0, C * C * sizeof(S));
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j <= i; ++j) turned[j * C + i] = G[i * C + j];
    product<S>(K, n, {k, C, 1}, turned, C, of_q, false);

    S read = 0, written = 0;
    for (int64_t i = n; i-- > 0;) D[i] += read += z[i];
    for (int64_t i = 0; i < n; written += e[i++]) p.dw[at(t + i)] = (D[i] + written) / p.w[at(t + i)];
    for (int64_t i = 0; i < n; ++i) {
      S *dq = p.dq + at(t + i) * K, *dk = p.dk + at(t + i) * K;
      for (int64_t j = 0; j < K; ++j) dq[j] = of_q[j * C + i], dk[j] = of_k[j * C + i];
    }
  }

  // D[i] = what decay i, times its gradient, has from all that it lies between: reads at or after it of what was written
  // before it, and the state before the chunk in that behind it. `turned` holds scores times their gradients.
  void of_decays(int64_t n, const S* from) {
    Vec<S> through = {};
    for (int64_t i = 0; i < K * W; i += V) through += load(g + i) * load(from + i);
    const S whole = L[n - 1] * sum<S>(through);
    for (int64_t i = 0; i < C; ++i) D[i] = whole;
    for (int64_t read = 0; read < n; ++read) {
      S up_to = 0;
      for (int64_t i = 1; i <= read; ++i) D[i] += up_to += turned[read * C + i - 1];
    }
  }
};

}  // namespace clew::CLEW_ISA
