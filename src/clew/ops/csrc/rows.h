// A step's operations that are no products, on one row: buffers are whole vectors wide, arrays of weights are not.
#pragma once
#include <math.h>

#include "step.h"
#include "tile.h"

namespace clew::CLEW_ISA {
namespace {

using S = float;
constexpr int V = Simd<S>::V;

void norm(bool centred, int64_t width, S epsilon, const S* gain, const S* bias, const S* x, S* y) {
  S mean = 0, square = 0;
  if (centred) {
    for (int64_t i = 0; i < width; ++i) mean += x[i];
    mean /= width;
  }
  for (int64_t i = 0; i < width; ++i) square += (x[i] - mean) * (x[i] - mean);
  const S inverse = 1 / sqrtf(square / width + epsilon);
  for (int64_t i = 0; i < width; ++i) y[i] = (x[i] - mean) * inverse * (gain ? gain[i] : 1) + (bias ? bias[i] : 0);
}

void log_softmax(int64_t width, const S* x, S* y) {
  S most = x[0], sum = 0;
  for (int64_t i = 1; i < width; ++i) most = x[i] > most ? x[i] : most;
  for (int64_t i = 0; i < width; ++i) sum += expf(x[i] - most);
  const S all = most + logf(sum);
  for (int64_t i = 0; i < width; ++i) y[i] = x[i] - all;
}

void gates(const Step& op, const S* gx, const S* gh, const S* old, S* c, S* room, S* y) {
  const int64_t H = op.out;
  for (int64_t j = 0; j < H; j += V) {
    const auto of_x = [&](int gate) { return load_some<S>(gx + gate * H + j, H - j); };
    const auto of_h = [&](int gate) { return load_some<S>(gh + gate * H + j, H - j); };
    const auto z = [&](int gate) { return of_x(gate) + of_h(gate); };
    if (op.operation == GATES_TANH) {
      store<S>(y + j, tanh<S>(z(0)));
    } else if (op.operation == GATES_RELU) {
      store<S>(y + j, relu<S>(z(0)));
    } else if (op.operation == GATES_GRU) {
      const Vec<S> n = tanh<S>(of_x(2) + sigmoid<S>(z(0)) * of_h(2));
      store<S>(y + j, n + sigmoid<S>(z(1)) * (load<S>(old + j) - n));
    } else {
      const Vec<S> before = load<S>(c + j), now = sigmoid<S>(z(1)) * before + sigmoid<S>(z(0)) * tanh<S>(z(2));
      store<S>(c + j, op.keep_c ? op.keep_c * before + (1 - op.keep_c) * now : now);
      store<S>(y + j, sigmoid<S>(z(3)));
    }
  }
  if (op.operation != GATES_LSTM) return;
  if (op.weight) norm(true, H, op.epsilon, static_cast<const S*>(op.weight), nullptr, c, room);
  for (int64_t j = 0; j < H; j += V) store<S>(y + j, load<S>(y + j) * tanh<S>(load<S>((op.weight ? room : c) + j)));
}

void pool(const Step& op, const S* x, const S* score, S* total, S* y) {
  const S weight = score ? expf(*score) : 1;
  for (int64_t i = 0; i < op.out; ++i)
    total[i] = op.operation == MAX_POOL ? (x[i] > total[i] || x[i] != x[i] ? x[i] : total[i]) : total[i] + weight * x[i];
  if (op.operation == MEAN_POOL) total[op.out] += weight;
  const S by = op.operation == MEAN_POOL ? total[op.out] : 1;
  for (int64_t i = 0; i < op.out; ++i) y[i] = total[i] / by;
}

void anchor(const Step& op, const S* x, uint8_t* begun, S* past, S* y) {
  const int64_t C = op.in, rest = (op.lag - 1) * C;
  for (int64_t t = 0; !*begun && t < op.lag; ++t) std::memcpy(past + t * C, x, C * sizeof(S));
  *begun = 1;
  const int64_t levels = op.out - C;  // C or none
  for (int64_t i = 0; i < levels; ++i) y[i] = x[i];
  for (int64_t i = 0; i < C; ++i) y[levels + i] = (x[i] - past[i]) / op.scale[i];
  std::memmove(past, past + C, rest * sizeof(S));
  std::memcpy(past + rest, x, C * sizeof(S));
}

void raise(const Step& op, const S* x, const S* past, S* y) {
  for (int64_t i = 0; i < op.out; ++i) {
    const int64_t ahead = i / op.in, target = i % op.in;
    y[i] = past[ahead % op.lag * op.columns + target] + op.scale[i] * x[i];
  }
}

void row(const Step& op, int64_t b) {
  const auto of = [&](auto* buffer, int64_t stride) { return buffer ? buffer + b * stride : nullptr; };
  const S *x = of(op.x, op.x_stride), *other = of(op.other, op.other_stride), *old = of(op.old, op.y_stride);
  S *y = of(op.y, op.y_stride), *state = of(op.state, op.state_stride), *room = of(op.next, op.y_stride);
  switch (op.operation) {
    case LOOKUP:
      std::memcpy(y, static_cast<const S*>(op.weight) + op.units[b] * op.out, op.out * sizeof(S));
      break;
    case ADD:
      for (int64_t i = 0; i < op.out; ++i) y[i] = x[i] + other[i];
      break;
    case LAYER_NORM:
    case RMS_NORM:
      norm(op.operation == LAYER_NORM, op.in, op.epsilon, static_cast<const S*>(op.weight), op.bias, x, y);
      break;
    case LOG_SOFTMAX: log_softmax(op.in, x, y); break;
    case SQUASH:
      for (int64_t i = 0; i < op.in; i += V) store<S>(y + i, op.limit * tanh<S>(load<S>(x + i) / op.limit));
      break;
    case MIX:
      for (int64_t i = 0; i < op.out; ++i) y[i] = op.keep ? op.keep * y[i] + (1 - op.keep) * x[i] : x[i];
      break;
    case SUM_POOL:
    case MAX_POOL:
    case MEAN_POOL: pool(op, x, other, state, y); break;
    case ANCHOR: anchor(op, x, op.begun + b, state, y); break;
    case RAISE: raise(op, x, state, y); break;
    default: gates(op, x, other, old, state, room, y);
  }
}

}  // namespace
}  // namespace clew::CLEW_ISA
