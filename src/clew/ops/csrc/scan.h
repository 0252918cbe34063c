// What every instruction set's kernels are asked: one pass of a classical recurrence over the rows of one thread.
//
//   B rows, T steps, H hidden units, HP hidden units rounded up to whole vectors, G gates, N real steps of all rows
//
// Gates lie in blocks: a block is one vector of units, and holds that vector for each gate in turn, (HP / V, G, V).
// Weights, pre-activations and their gradients all use this order, so that a kernel reads and writes whole vectors.
#pragma once
#include <cstdint>

#include "team.h"

namespace clew {

enum Cell { ELMAN, GRU, LSTM, CELLS };

inline constexpr int GATES[CELLS] = {1, 3, 4};

struct Part {             // of one thread: some rows, the longest first, and of their units some
  int64_t count;
  const int64_t* row;     // which of the batch
  const int64_t* length;  // real steps
  const int64_t* start;   // the row's first among the N real steps
  int64_t from, to;       // units, whole panels
  Team* team;             // who has the other units of these rows
};

template <class S>
struct Pass {
  int64_t T, H, HP;
  int blocks;            // of a panel
  bool backwards;        // in time: the last real step first
  bool relu;             // Elman: in the place of tanh
  const S* weight;       // W_hh, packed for this pass
  const S* bias;         // (HP) GRU: b_hn, which the reset gate also gates
  const S *x, *x_weight, *x_bias;  // (N, I), W_ih packed, (G HP): the input, or null where gates hold its part already
  int64_t I;
  S* gates;              // (N, G HP) in: what the input gives the gates. Kept: gates after their nonlinearity
                         // In the gradient's pass they become the gradient of W_hh h (GRU) or of both parts (others)
  S* kept;               // (N, HP) LSTM: c; GRU: W_hn h + b_hn, then the gradient of the input's part of n. May be null
  const uint8_t* reset;  // (B, T) the steps that begin anew, or null
  const S *h0, *c0;      // (B, H) the state before the first step
  const S *hr, *cr;      // (B, H) the state that a reset restores
  S *y, *h, *c;          // (B, T, H) outputs; (B, H) the state after the last step
  // The gradient's pass alone:
  const S *dy, *dh, *dc;    // of the outputs and of the last state
  S *before;                // (N, before_stride) h before each step
  int64_t before_stride;
  S *dh0, *dc0, *dhr, *dcr; // of the first state and of what resets restore
  S* work;                  // this team's own: see work_size
};

struct ScanKernels {
  int lanes[2];  // numbers in a vector: of float, of double
  void (*forward32[CELLS])(const Part&, const Pass<float>&);
  void (*forward64[CELLS])(const Part&, const Pass<double>&);
  void (*backward32[CELLS])(const Part&, const Pass<float>&);
  void (*backward64[CELLS])(const Part&, const Pass<double>&);
  // W (gates H, K) for a pass forward; W_hh for the gradient's.
  void (*pack32)(int gates, int blocks, int64_t H, int64_t HP, int64_t K, const float* w, float* packed);
  void (*pack64)(int gates, int blocks, int64_t H, int64_t HP, int64_t K, const double* w, double* packed);
  void (*pack_gradient32)(int gates, int blocks, int64_t H, int64_t HP, const float* hh, float* packed);
  void (*pack_gradient64)(int gates, int blocks, int64_t H, int64_t HP, const double* hh, double* packed);
};

// Numbers of workspace that a team needs for so many rows.
inline int64_t work_size(int64_t rows, int64_t HP) { return 3 * rows * HP; }

extern const ScanKernels scans_baseline, scans_avx2, scans_avx512;

}  // namespace clew
