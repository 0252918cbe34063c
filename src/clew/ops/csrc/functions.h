// What a step's operations do to one vector of floats, and to one number of any kind.
#pragma once
#include <math.h>

#include "step.h"
#include "tile.h"

namespace clew::CLEW_ISA {
namespace {

using S = float;
constexpr int V = Simd<S>::V;

// ------------------------------------------------------------------------------------------------------- one vector

// ln x for positive normal numbers: x = 2^e m with m near 1, ln m = 2 artanh((m - 1) / (m + 1)).
INLINE Vec<S> natural(Vec<S> x) {
  using IntVec = Simd<S>::IntVec;
  const IntVec bits = (IntVec)x, e = (bits - 0x3f3504f3) >> 23;  // sqrt(1/2) <= m < sqrt(2)
  const Vec<S> m = (Vec<S>)(bits - (e << 23)), s = (m - 1) / (m + 1), z = s * s;
  const Vec<S> p = S(2) + z * (S(2) / 3 + z * (S(2) / 5 + z * (S(2) / 7 + z * (S(2) / 9))));
  return s * p + __builtin_convertvector(e, Vec<S>) * S(0.6931471805599453);
}

// ln(1 + e^x), without loss at either end.
INLINE Vec<S> softplus(Vec<S> x) {
  const Vec<S> size = x < 0 ? x : -x, u = exponential<S>(size), one = 1 + u;
  const Vec<S> lost = u - (one - 1);
  return (x < 0 ? Vec<S>{} : x) + natural(one) + lost / one;
}

template <int K>
constexpr bool by_vectors =
    K == COPY || K == NEG || K == ABS || K == EXP || K == RECIPROCAL || K == TANH || K == SIGMOID || K == RELU ||
    K == SILU || K == SOFTPLUS || K == LOG_SIGMOID || K == ADD || K == SUB || K == MUL || K == DIV || K == LARGER ||
    K == SMALLER || K == MULTIPLY_ADD;

constexpr int operands(int kind) { return kind < ADD ? 1 : kind < WHERE ? 2 : 3; }

template <int K>
INLINE Vec<S> apply(Vec<S> a, Vec<S> b, Vec<S> c) {
  if constexpr (K == NEG) return -a;
  else if constexpr (K == ABS) return (Vec<S>)((Simd<S>::IntVec)a & 0x7fffffff);
  else if constexpr (K == EXP) return exponential<S>(a);
  else if constexpr (K == RECIPROCAL) return 1 / a;
  else if constexpr (K == TANH) return tanh<S>(a);
  else if constexpr (K == SIGMOID) return sigmoid<S>(a);
  else if constexpr (K == RELU) return relu<S>(a);
  else if constexpr (K == SILU) return a * sigmoid<S>(a);
  else if constexpr (K == SOFTPLUS) return softplus(a);
  else if constexpr (K == LOG_SIGMOID) return -softplus(-a);
  else if constexpr (K == ADD) return a + b;
  else if constexpr (K == SUB) return a - b;
  else if constexpr (K == MUL) return a * b;
  else if constexpr (K == DIV) return a / b;
  else if constexpr (K == LARGER) return (a != a) | (a > b) ? a : b;  // a NaN stays one
  else if constexpr (K == SMALLER) return (a != a) | (a < b) ? a : b;
  else if constexpr (K == MULTIPLY_ADD) return a + b * c;
  else return a;
}

// ------------------------------------------------------------------------------------------------------- one number

double apply_one(int kind, double a, double b, double c) {
  switch (kind) {
    case NEG: return -a;
    case ABS: return fabs(a);
    case NOT: return a == 0;
    case EXP: return exp(a);
    case EXPM1: return expm1(a);
    case EXP2: return exp2(a);
    case LOG: return log(a);
    case LOG1P: return log1p(a);
    case SQRT: return sqrt(a);
    case RSQRT: return 1 / sqrt(a);
    case RECIPROCAL: return 1 / a;
    case SIN: return sin(a);
    case COS: return cos(a);
    case TANH: return ::tanh(a);
    case SIGMOID: return 1 / (1 + exp(-a));
    case RELU: return a < 0 ? 0 : a;
    case SILU: return a / (1 + exp(-a));
    case GELU: return a * 0.5 * (1 + erf(a * 0.7071067811865476));
    case SOFTPLUS: return (a > 0 ? a : 0) + log1p(exp(-fabs(a)));
    case LOG_SIGMOID: return -((a < 0 ? -a : 0) + log1p(exp(-fabs(a))));
    case FINITE: return a - a == 0;
    case ADD: return a + b;
    case SUB: return a - b;
    case MUL: return a * b;
    case DIV: return a / b;
    case POW: return pow(a, b);
    case LARGER: return a != a || a > b ? a : b;
    case SMALLER: return a != a || a < b ? a : b;
    case EQ: return a == b;
    case NE: return a != b;
    case LT: return a < b;
    case LE: return a <= b;
    case GT: return a > b;
    case GE: return a >= b;
    case AND: return a != 0 && b != 0;
    case OR: return a != 0 || b != 0;
    case WHERE: return a != 0 ? b : c;
    case MULTIPLY_ADD: return a + b * c;
    default: return a;
  }
}

uint64_t apply_whole(int kind, uint64_t a, uint64_t b, uint64_t c) {  // wraps, as torch's whole numbers do
  switch (kind) {
    case ADD: return a + b;
    case SUB: return a - b;
    case MUL: return a * b;
    case NEG: return -a;
    case COPY: return a;
    case MULTIPLY_ADD: return a + b * c;
    default: return uint64_t(int64_t(apply_one(kind, double(int64_t(a)), double(int64_t(b)), double(int64_t(c)))));
  }
}

}  // namespace
}  // namespace clew::CLEW_ISA
