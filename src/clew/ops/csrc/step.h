// One step of a stack of layers, as a list of operations on buffers that stay where they are.
//
//   B rows, every buffer (B, width) with a row's numbers at a stride of whole vectors, so that kernels need no edges
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
  ADD,          // y = x + state
  LAYER_NORM,   // y = (x - mean) / deviation * gain + bias; weight: gain
  RMS_NORM,
  LOG_SOFTMAX,
  OPERATIONS,
};

enum Kept { FLOAT, BFLOAT16, INT8, KEPT };  // how weights are kept

struct Step {
  int operation, kept;
  int64_t B, in, out, x_stride, y_stride;
  const float* x;
  const int64_t* units;  // (B) LOOKUP
  float* y;
  float* state;          // LSTM: c (B, y_stride). ADD: the other summand
  float* next;           // cells: (B, y_stride)
  const void *weight, *recurrent;  // packed W_ih, W_hh
  const float *bias, *bias_n;      // (blocks, G, V) both biases' sum; (HP) GRU: b_hn, which the reset gate also gates
  const float* scale;              // INT8: (blocks, G, V) what a weight of 1 means
  float epsilon;
};

struct StepKernels {
  void (*step)(const Step* operations, int64_t count, bool from_the_last);  // see product in step.cpp
  void (*pack)(int kept, int gates, int64_t H, int64_t HP, int64_t K, const void* weights, void* packed);
};

extern const StepKernels steps_baseline, steps_avx2, steps_avx512;

}  // namespace clew
