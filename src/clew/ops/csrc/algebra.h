// What every instruction set's kernels are asked of the recurrences that are linear in their state, and of the short
// convolutions before them: one item of a pass, which is a row of the batch and a part of its width. The equations are
// in ops/algebra.py and ops/window.py.
//
//   B rows, T steps; N numbers of state, D channels, H heads, K keys, V values
//
// A gradient's pass computes the states of `chunk` steps anew, from the one that the pass forward kept before them.
#pragma once
#include <cstdint>

namespace clew {

enum Algebra { REAL, COMPLEX, MAXIMUM, SELECTIVE, MATRIX, CONV, CONV_SILU, ALGEBRAS };

struct Time {
  int64_t B, T, chunk;
  const int64_t* lengths;  // (B), or null
  const uint8_t* reset;    // (B, T) the steps that begin anew, or null

  int64_t steps(int64_t row) const { return lengths ? lengths[row] : T; }
  bool begins(int64_t row, int64_t t) const { return reset && reset[row * T + t]; }
  int64_t chunks() const { return (T + chunk - 1) / chunk; }
};

// REAL, COMPLEX (pairs; N counts numbers, two to a pair) and MAXIMUM.
template <class S>
struct Elementwise {
  Time time;
  int64_t N, parts;         // the width is shared out into parts
  int64_t a_row, a_step;    // strides of a, which may be the same for all rows or steps
  const S *a, *b;           // (B, T, N)
  const S *h0, *hr;         // (B, N) the state before the first step; what a reset restores
  S *y, *h;                 // (B, T, N) all states; (B, N) the last
  const S *dy, *dh;
  S *da, *db, *dh0, *dhr;
};

template <class S>
struct Selective {
  Time time;
  int64_t D, N, parts;          // the channels are shared out into parts
  const S *x, *dt, *A, *Bt, *Ct;  // (B, T, D) x 2, (D, N), (B, T, N) x 2
  const S *h0, *hr;             // (B, D, N)
  S *y, *h;                     // (B, T, D), (B, D, N)
  S* kept;                      // (B, chunks, D, N) the state before each chunk; null where nobody asks
  const S *dy, *dh;
  S *dx, *ddt, *dA, *dBt, *dCt;  // dA is (B, D, N), dBt and dCt (parts, B, T, N): their sums are the gradients
  S *dh0, *dhr;
};

template <class S>
struct Matrix {
  Time time;
  int64_t H, K, V, wide, groups;  // wide: numbers of decay a head has, K or 1; groups of heads that share keys
  const S *q, *k, *w;       // (B, T, groups, K); w (B, T, H, wide)
  const S *v;               // (B, T, H, V)
  const S *a, *b;           // (B, T, groups, K) what is erased, or null
  const S *h0, *hr;         // (B, H, K, V)
  S *y, *h;                 // (B, T, H, V), (B, H, K, V)
  S* kept;                  // (B, H, chunks, K, V) the state before each chunk; null where nobody asks
  const S *dy, *dh;
  S *dq, *dk, *dv, *dw, *da, *db, *dh0, *dhr;
};

// A short convolution over time, whose state is the last W - 1 inputs.
template <class S>
struct Conv {
  Time time;
  int64_t D, W, parts;       // the channels are shared out into parts
  bool silu;
  const S *x, *weight, *bias;  // (B, T, D), (D, W), (D) or null
  const S* h0;               // (B, W - 1, D) the oldest first; a reset restores zeros
  S *y, *h;                  // (B, T, D), (B, W - 1, D)
  const S *dy, *dh;
  S *dx, *dweight, *dbias, *dh0;  // dweight is (B, D, W), dbias (B, D) or null
};

// `item` of a pass, in `room` numbers of memory.
template <class S>
struct AlgebraKernels {
  void (*elementwise[3])(const Elementwise<S>&, bool gradient, int64_t item, S* room);
  void (*selective)(const Selective<S>&, bool gradient, int64_t item, S* room);
  void (*matrix)(const Matrix<S>&, bool gradient, int64_t item, S* room);
  void (*conv)(const Conv<S>&, bool gradient, int64_t item, S* room);
  int64_t (*elementwise_room)(const Elementwise<S>&, bool gradient);
  int64_t (*selective_room)(const Selective<S>&, bool gradient);
  int64_t (*matrix_room)(const Matrix<S>&, bool gradient);
  int64_t (*conv_room)(const Conv<S>&, bool gradient);
};

struct Algebras {
  AlgebraKernels<float> f32;
  AlgebraKernels<double> f64;
  const AlgebraKernels<float>& of(float) const { return f32; }
  const AlgebraKernels<double>& of(double) const { return f64; }
};

extern const Algebras algebras_baseline, algebras_avx2, algebras_avx512;

}  // namespace clew
