// One step of a model, as a list of operations on buffers that stay where they are.
//
// Products with packed weights have rows at a stride of whole vectors, so that their kernels need no edges; all others
// walk over views, by strides.
#pragma once
#include <cstdint>

namespace clew {

enum Operation {
  LINEAR,     // next = W x + b
  STEP_TANH,  // the cells: next = h'
  STEP_RELU,
  STEP_GRU,
  STEP_LSTM,  // c: the cell's state, next_c: what becomes of it
  PRODUCTS,   // how many of the above
  LOOKUP = PRODUCTS,  // over B rows of `out` numbers: next = weight[units], a table of `in` rows
  LAYER_NORM,         // next = (x - mean) / deviation * weight + bias, either of which may be missing
  RMS_NORM,
  LOG_SOFTMAX,
  VIEWS,      // over views, of one number:
  COPY = VIEWS,
  NEG, ABS, NOT, EXP, EXPM1, EXP2, LOG, LOG1P, SQRT, RSQRT, RECIPROCAL, SIN, COS, TANH, SIGMOID, RELU, SILU, GELU,
  SOFTPLUS, LOG_SIGMOID, FINITE,
  ADD,        // of two:
  SUB, MUL, DIV, POW, LARGER, SMALLER, EQ, NE, LT, LE, GT, GE, AND, OR,
  WHERE,      // of three: second where first, else third
  MULTIPLY_ADD,  // first + second third
  REDUCE,     // over the dimensions in which `to` does not move:
  SUM = REDUCE,
  DOT,        // the sum of first second
  MOST,       // the largest
  OPERATIONS,
};

enum Kept { FLOAT, BFLOAT16, INT8, KEPT };  // how weights are kept
enum Number { SINGLE, WHOLE, TRUTH, DOUBLED };  // float, int64, bool, double

constexpr int RANK = 7, OPERANDS = 4, JOINED = 12;

struct Operand {
  void* at;
  int64_t number, stride[RANK];
};

struct Step {
  int operation, kept;
  int64_t B, in, out, x_stride, h_stride;
  const float *x, *h;
  const int64_t* units;                    // (B)
  float *next, *next_c;                    // (B, h_stride)
  const float* c;
  const void *weight, *recurrent;  // packed W_ih, W_hh
  const float *bias, *bias_n;      // (blocks, G, V) both biases' sum; (HP) GRU: b_hn, which the reset gate also gates
  const float* scale;              // INT8: (blocks, G, V) what a weight of 1 means
  float epsilon;
  int64_t joined;             // views: this and how many after it go over the same dimensions together
  int64_t dims, shape[RANK];  // the last two are a tile
  Operand of[OPERANDS];       // to, first, second, third
};

struct StepKernels {
  void (*step)(const Step* operations, int64_t count, bool from_the_last);  // see product in step.cpp
  void (*pack)(int kept, int gates, int64_t H, int64_t HP, int64_t K, const void* weights, void* packed);
};

extern const StepKernels steps_baseline, steps_avx2, steps_avx512;

}  // namespace clew
