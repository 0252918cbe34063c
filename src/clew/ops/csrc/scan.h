// What every instruction set's kernels are asked: one pass of a classical recurrence over the rows of one thread.
//
//   B rows, T steps, I inputs, H hidden units, G gates, N real steps of all rows, V numbers in a vector
//   IP, HP: I and H rounded up to whole vectors
//
// A pass goes through time in chunks. Within a chunk, what does not wait for the step before is one product over all its
// real steps: the input's part of the gates; in the gradient's pass the gradients of the input and of the weights. Where
// weights are too large to stay in a cache beside a chunk, those products are the caller's (`outside`), over all steps.
//
// Gates lie in blocks, (HP / V, G, V): one vector of units for each gate in turn. Their gradients lie gate by gate,
// (D, HP): D is G, and 4 for a GRU, whose n has two: the state's part, r, u, the input's part. So the first three meet
// W_hh and the last three W_ih.
#pragma once
#include <cstdint>

#include "rounded.h"
#include "team.h"

namespace clew {

enum Cell { ELMAN, GRU, LSTM, CELLS };

inline constexpr int GATES[CELLS] = {1, 3, 4};
inline constexpr int GRADIENTS[CELLS] = {1, 4, 4};
inline constexpr int WIDEST = 4;  // vectors in a panel

struct Part {             // of one thread: some rows, the longest first, and of their units some
  int64_t count;
  const int64_t* row;     // which of the batch
  const int64_t* length;  // real steps
  const int64_t* start;   // the row's first among the N real steps
  int64_t from, to;       // units, whole panels
  int member, members;    // of the team that shares these rows
  Team* team;
};

template <class S>
struct Pass {
  int64_t T, I, IP, H, HP;
  int64_t chunk;         // real steps in a chunk: at least the team's rows
  int blocks;            // vectors of units in a panel; the last panel may have fewer
  bool backwards;        // in time: the last real step first
  bool relu;             // Elman: in the place of tanh
  bool outside;          // gates hold the input's part of the gates already; dgates and seen take what its gradients need
  const S* x;            // (B, T, I)
  const S *ih, *hh;      // weights, packed for this pass
  const S* x_bias;       // (HP / V, G, V) what stands beside the input's part of the gates
  const S* bias_n;       // (HP) GRU: b_hn, which the reset gate also gates
  S* gates;              // (N, G HP) after their nonlinearity, for the gradient's pass; null where nobody asks
  S* kept;               // (N, HP) LSTM: c; GRU: W_hn h + b_hn; null where nobody asks
  const uint8_t* reset;  // (B, T) the steps that begin anew, or null
  const S *h0, *c0;      // (B, H) the state before the first step
  const S *hr, *cr;      // (B, H) the state that a reset restores
  S *y, *h, *c;          // (B, T, H) outputs, 0 on padding; (B, H) the state after the last step
  // The gradient's pass alone:
  const S *dy, *dh, *dc;     // of the outputs and of the last state
  S* dx;                     // (B, T, I), 0 on padding; null where nobody asks
  S *dhh, *dih, *dbias;      // this team's sums: (G, panel of HP, HP or IP, unit), (D, HP); null where nobody asks
  S *dh0, *dc0, *dhr, *dcr;  // of the first state and of what resets restore
  S *dgates, *seen;          // outside: (N, D HP), (N, seen_apart) h before the step, in its first columns
  int64_t seen_apart;
  // Where the products with W_hh are rounded, and then only float's (`outside` too): how, W_hh packed for it, and this
  // thread's room for a step's rows and sums. Null elsewhere.
  const Rounded* tiles;
  const uint16_t* rounded_hh;
  uint16_t* rounded_rows;
  S* sums;
  // Room of the team (see room_for) and of the thread (`chunk` of each):
  S* work;
  const S** from;
  S** to;
};

template <class S>
struct Kernels {
  int lanes;
  void (*forward[CELLS])(const Part&, const Pass<S>&);
  void (*backward[CELLS])(const Part&, const Pass<S>&);
  // W (G H, K) for a pass forward: (panel, K, [block, gate, unit]).
  void (*pack)(int gates, int blocks, int64_t H, int64_t HP, int64_t K, const S* w, S* packed);
  // W (G H, K) for the gradient's pass, from the gate `first` on: (panel of K, [gate, unit], columns).
  void (*pack_transposed)(int gates, int first, int blocks, int64_t H, int64_t HP, int64_t K, const S* w, S* packed);
};

struct ScanKernels {
  Kernels<float> f32;
  Kernels<double> f64;
  const Kernels<float>& of(float) const { return f32; }
  const Kernels<double>& of(double) const { return f64; }
};

// Rows of a chunk's buffers lie an odd number of vectors apart, so that they do not meet in the same lines of a cache.
inline int64_t apart(int64_t numbers, int64_t V) { return (numbers / V | 1) * V; }

// Numbers of room that a team needs: the state of its rows and, unless the products are outside, a chunk's gates, or
// their gradients and what they saw.
template <class S>
int64_t room_for(int cell, bool gradient, int64_t rows, const Pass<S>& p, int64_t V) {
  if (p.outside) return 3 * rows * p.HP;
  const int64_t gates = gradient ? GRADIENTS[cell] : GATES[cell], seen = gradient ? p.HP + p.IP : 0;
  return 3 * rows * p.HP + p.chunk * apart(gates * p.HP, V) + seen * (p.chunk | 1);
}

extern const ScanKernels scans_baseline, scans_avx2, scans_avx512;

}  // namespace clew
