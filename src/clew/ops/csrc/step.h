// One step of a stack of layers, as a list of operations on buffers that stay where they are.
//
//   B rows, every buffer between layers (B, width) with a row's numbers at a stride of whole vectors, so that kernels
//   need no edges
#pragma once
#include <cstdint>

namespace clew {

enum Operation {
  LINEAR,       // y = W x + b
  STEP_TANH,    // the cells: y = h, which they replace
  STEP_RELU,
  STEP_GRU,
  STEP_LSTM,    // state: c
  PRODUCTS,     // how many of the above
  LOOKUP = PRODUCTS,  // y = table[units]; weight (rows, width)
  ADD,          // y = x + other
  LAYER_NORM,   // y = (x - mean) / deviation * gain + bias; weight: gain
  RMS_NORM,
  LOG_SOFTMAX,
  SQUASH,       // y = limit tanh(x / limit)
  GATES_TANH,   // the cells once more, for those with a norm, a projection or zoneout: y = what h becomes without the
  GATES_RELU,   // latter two. x: the input's part of the gates, other: the state's, (gate, unit); old: h
  GATES_GRU,
  GATES_LSTM,   // state: c; weight: the gain of c's norm, or null
  MIX,          // y = keep y + (1 - keep) x
  SUM_POOL,     // state += x; y = state
  MAX_POOL,
  MEAN_POOL,    // state += w [x, 1]; y = its first numbers by its last; w = e^other, or 1 without
  ANCHOR,       // y = [x, (x - state[0]) / scale], or its last columns; state: the last `lag` inputs, moved on
  RAISE,        // y[k] = state[k mod lag] + scale x[k], for each of `in` targets; scale as wide as y
  OPERATIONS,
};

enum Kept { FLOAT, BFLOAT16, INT8, KEPT };  // how weights are kept

struct Step {
  int operation, kept;
  int64_t B, in, out, x_stride, y_stride, other_stride, state_stride, lag, columns;  // columns: of each input in `state`
  const float* x;
  const int64_t* units;  // (B) LOOKUP
  float* y;
  float* state;          // (B, state_stride)
  float* next;           // (B, y_stride) where LINEAR writes y; the cells' and GATES_LSTM's room
  const float *other, *old;
  uint8_t* begun;        // (B) ANCHOR: whether the row has had an input
  const void *weight, *recurrent;  // packed W_ih, W_hh
  const float *bias, *bias_n;      // (blocks, G, V) both biases' sum; (HP) GRU: b_hn, which the reset gate also gates
  const float* scale;              // INT8: (blocks, G, V) what a weight of 1 means
  float epsilon, limit, keep, keep_c;
};

struct StepKernels {
  void (*step)(const Step* operations, int64_t count, bool from_the_last);  // see product in step.cpp
  void (*pack)(int kept, int gates, int64_t H, int64_t HP, int64_t K, const void* weights, void* packed);
};

extern const StepKernels steps_baseline, steps_avx2, steps_avx512;

}  // namespace clew
