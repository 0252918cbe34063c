// One step's operations, for one instruction set: compiled once for each, with CLEW_ISA and CLEW_BYTES set.
//
// Nothing from the standard library but its C part: what is compiled here must not be shared with other instruction
// sets.
#include "step.h"

#include "view.h"

namespace clew::CLEW_ISA {
namespace {

constexpr int GATES_OF[PRODUCTS] = {1, 1, 1, 3, 4};

constexpr int BLOCKS[PRODUCTS] = {4, 4, 4, 1, 1};  // of a panel: cells with several gates fill their registers with one

template <int KIND, int UB, int R, class W>
INLINE void product_tile(const Step& op, int64_t first, int64_t block, const W* wx, const W* wh) {
  constexpr int G = GATES_OF[KIND], N = UB * G;
  constexpr bool scaled = sizeof(W) == 1;
  Vec<S> tile[R][N], n_x[R];
  const S *x[R], *h[R];
  const S* bias = op.bias + block * G * V;
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    x[r] = op.x + (first + r) * op.x_stride;
    h[r] = KIND == LINEAR ? nullptr : op.h + (first + r) * op.h_stride;
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) tile[r][n] = scaled ? Vec<S>{} : load<S>(bias + n * V);
  }
  multiply<S, R, N>(x, wx, op.in, tile);
  if constexpr (KIND == STEP_GRU) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      n_x[r] = tile[r][2];
      tile[r][2] = scaled ? Vec<S>{} : load<S>(op.bias_n + block * V);
    }
  }
  if constexpr (KIND != LINEAR) multiply<S, R, N>(h, wh, op.out, tile);
  if constexpr (scaled) {
    const S* scale = op.scale + block * G * V;
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      if constexpr (KIND == STEP_GRU) n_x[r] = n_x[r] * load<S>(scale + 2 * V) + load<S>(bias + 2 * V);
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) {
        const S* b = KIND == STEP_GRU && n == 2 ? op.bias_n + block * V : bias + n * V;
        tile[r][n] = tile[r][n] * load<S>(scale + n * V) + load<S>(b);
      }
    }
  }
  if constexpr (KIND == STEP_LSTM) lstm_gates<S>(tile);
  if constexpr (KIND == STEP_GRU) gru_gates<S>(tile, n_x);
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int u = 0; u < UB; ++u) {
      const int64_t at = (first + r) * op.h_stride + (block + u) * V;
      const Vec<S>* z = tile[r] + u * G;
      if constexpr (KIND == STEP_LSTM) {
        const Vec<S> c = z[1] * load<S>(op.c + at) + z[0] * z[2];
        store<S>(op.next_c + at, c);
        store<S>(op.next + at, z[3] * tanh<S>(c));
      } else if constexpr (KIND == STEP_GRU) {
        store<S>(op.next + at, n_x[r] + z[1] * (load<S>(op.h + at) - n_x[r]));
      } else {
        store<S>(op.next + at, KIND == STEP_TANH ? tanh<S>(z[0]) : KIND == STEP_RELU ? relu<S>(z[0]) : z[0]);
      }
    }
  }
}

template <int KIND, int UB, class W>
INLINE void panel(const Step& op, int64_t block, const W* wx, const W* wh) {
  constexpr int N = UB * GATES_OF[KIND], MOST = most_rows(N) < 4 ? most_rows(N) : 4;
  in_tiles<MOST>(op.B, [&](int64_t first, int R) {
    CLEW_ROWS(MOST, R, (product_tile<KIND, UB, ROWS>(op, first, block, wx, wh)))
  });
}

// Every second step the panels are read from the last to the first: where the weights do not fit into a cache, it still
// has those that were read last.
template <int KIND, class W>
void product(const Step& op, bool from_the_last) {
  constexpr int MOST = BLOCKS[KIND], G = GATES_OF[KIND];
  const W *wx = static_cast<const W*>(op.weight), *wh = static_cast<const W*>(op.recurrent);
  const int64_t blocks = (op.out + V - 1) / V, panels = (blocks + MOST - 1) / MOST;
  for (int64_t i = 0; i < panels; ++i) {
    const int64_t block = (from_the_last ? panels - 1 - i : i) * MOST, before = block * G * V;
    CLEW_WIDE(least(blocks - block, MOST),
              (panel<KIND, (WIDE < MOST ? WIDE : MOST)>(op, block, wx + op.in * before, wh + op.out * before)))
  }
}

template <class W>
void any_product(const Step& op, bool from_the_last) {
  switch (op.operation) {
    case LINEAR: return product<LINEAR, W>(op, from_the_last);
    case STEP_TANH: return product<STEP_TANH, W>(op, from_the_last);
    case STEP_RELU: return product<STEP_RELU, W>(op, from_the_last);
    case STEP_GRU: return product<STEP_GRU, W>(op, from_the_last);
    case STEP_LSTM: return product<STEP_LSTM, W>(op, from_the_last);
  }
}

void step(const Step* ops, int64_t n, bool from_the_last) {
  NoDenormals guard;
  for (const Step* op = ops; op < ops + n; ++op) {
    if (op->operation >= VIEWS) views(op, op->joined), op += op->joined - 1;
    else if (op->operation >= PRODUCTS) over_rows(*op);
    else if (op->kept == FLOAT) any_product<float>(*op, from_the_last);
    else if (op->kept == BFLOAT16) any_product<uint16_t>(*op, from_the_last);
    else any_product<int8_t>(*op, from_the_last);
  }
}

template <class W>
void pack(int G, int64_t H, int64_t HP, int64_t K, const void* from, void* to) {
  pack_product<S>(G, G == 1 ? BLOCKS[LINEAR] : 1, H, HP, K, static_cast<const W*>(from), static_cast<W*>(to));
}

void pack_step(int kept, int G, int64_t H, int64_t HP, int64_t K, const void* from, void* to) {
  (kept == FLOAT ? pack<float> : kept == BFLOAT16 ? pack<uint16_t> : pack<int8_t>)(G, H, HP, K, from, to);
}

}  // namespace
}  // namespace clew::CLEW_ISA

namespace clew {

const StepKernels CLEW_TABLE(steps, CLEW_ISA) = {CLEW_ISA::step, CLEW_ISA::pack_step};

}  // namespace clew
