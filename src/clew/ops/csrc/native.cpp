// The compiled part of clew.ops, seen from Python: which kernels there are, and what they are called with. Plain
// addresses and no torch headers, so that one build serves every torch; ops/native.py and ops/native_linear.py know what
// they must point at.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "algebra.h"
#include "batch.h"
#include "items.h"
#include "step.h"

namespace nb = nanobind;
using namespace clew;

namespace {

struct InstructionSet {
  const char* name;
  const ScanKernels* scans;
  const StepKernels* steps;
  const Algebras* algebras;
};

std::vector<InstructionSet> available() {  // the best first
  std::vector<InstructionSet> found;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw"))
    found.push_back({"avx512", &scans_avx512, &steps_avx512, &algebras_avx512});
  if (avx2) found.push_back({"avx2", &scans_avx2, &steps_avx2, &algebras_avx2});
#endif
  found.push_back({"baseline", &scans_baseline, &steps_baseline, &algebras_baseline});
  return found;
}

InstructionSet chosen = available().front();

// Whether there are products that are rounded beside the chosen kernels, whose vectors are as wide as a tile.
bool rounds() { return chosen.scans->f32.lanes == TILE && rounded(); }  // in this order: see rounded.cpp

// Tensors by the names that scan.h, batch.h, algebra.h and step.h have for them; one that is not named is not there.
class Addresses {
 public:
  explicit Addresses(const nb::dict& named) : named_(named) {}

  template <class S>
  S* at(const char* name) const {
    return named_.contains(name) ? reinterpret_cast<S*>(nb::cast<size_t>(named_[name])) : nullptr;
  }

 private:
  const nb::dict& named_;
};

template <class S>
void scan_of(int cell, bool gradient, int threads, const std::vector<int64_t>& sizes, bool backwards, bool relu,
             const Addresses& a) {
  Pass<S> p = {};
  const int64_t B = sizes[0];
  p.T = sizes[1], p.I = sizes[2], p.H = sizes[3], p.HP = sizes[4], p.seen_apart = sizes[5], p.outside = p.seen_apart;
  p.backwards = backwards, p.relu = relu;
  if (sizeof(S) == sizeof(float) && sizes[6] && rounds()) p.tiles = rounded();
  p.x = a.at<S>("x"), p.gates = a.at<S>("gates"), p.kept = a.at<S>("kept"), p.reset = a.at<uint8_t>("reset");
  p.h0 = a.at<S>("h0"), p.c0 = a.at<S>("c0"), p.hr = a.at<S>("hr"), p.cr = a.at<S>("cr");
  p.y = a.at<S>("y"), p.h = a.at<S>("h"), p.c = a.at<S>("c");
  p.dy = a.at<S>("dy"), p.dh = a.at<S>("dh"), p.dc = a.at<S>("dc"), p.dx = a.at<S>("dx");
  p.dgates = a.at<S>("dgates"), p.seen = a.at<S>("seen");
  p.dh0 = a.at<S>("dh0"), p.dc0 = a.at<S>("dc0"), p.dhr = a.at<S>("dhr"), p.dcr = a.at<S>("dcr");
  const Weights<const S> w = {a.at<S>("ih"), a.at<S>("hh"), a.at<S>("b_ih"), a.at<S>("b_hh")};
  const Weights<S> dw = {a.at<S>("d_ih"), a.at<S>("d_hh"), a.at<S>("db_ih"), a.at<S>("db_hh")};
  const int64_t* lengths = a.at<int64_t>("lengths");
  nb::gil_scoped_release release;
  run<S>(*chosen.scans, cell, gradient, threads, B, lengths, w, dw, p);
}

void scan(int cell, bool wide, bool gradient, int threads, const std::vector<int64_t>& sizes, bool backwards,
          bool relu, const nb::dict& addresses) {
  if (cell < 0 || cell >= CELLS || sizes.size() != 7) throw std::invalid_argument("no such pass");
  (wide ? scan_of<double> : scan_of<float>)(cell, gradient, threads, sizes, backwards, relu, Addresses(addresses));
}

// A pass of a recurrence that is linear in its state; sizes: B, T, chunk, parts, then those of the kind.
template <class S>
void algebra_of(int kind, bool gradient, int threads, const std::vector<int64_t>& n, const Addresses& a) {
  const AlgebraKernels<S>& k = chosen.algebras->of(S());
  const Time time = {n[0], n[1], n[2], a.at<int64_t>("lengths"), a.at<uint8_t>("reset")};
  const S *h0 = a.at<S>("h0"), *hr = a.at<S>("hr"), *dy = a.at<S>("dy"), *dh = a.at<S>("dh");
  S *y = a.at<S>("y"), *h = a.at<S>("h"), *kept = a.at<S>("kept"), *dh0 = a.at<S>("dh0"), *dhr = a.at<S>("dhr");
  if (kind == MATRIX) {
    const Matrix<S> p = {time, n[4], n[5], n[6], n[7], n[8], a.at<S>("q"), a.at<S>("k"), a.at<S>("w"), a.at<S>("v"),
                         a.at<S>("a"), a.at<S>("b"), h0, hr, y, h, kept, dy, dh, a.at<S>("dq"), a.at<S>("dk"),
                         a.at<S>("dv"), a.at<S>("dw"), a.at<S>("da"), a.at<S>("db"), dh0, dhr};
    const nb::gil_scoped_release release;
    over_items<S>(threads, time.B * p.groups, k.matrix_room(p, gradient),
                  [&](int64_t item, S* room) { k.matrix(p, gradient, item, room); });
  } else if (kind == SELECTIVE) {
    const Selective<S> p = {time, n[4], n[5], n[3], a.at<S>("x"), a.at<S>("dt"), a.at<S>("A"), a.at<S>("B"),
                            a.at<S>("C"), h0, hr, y, h, kept, dy, dh, a.at<S>("dx"), a.at<S>("ddt"), a.at<S>("dA"),
                            a.at<S>("dB"), a.at<S>("dC"), dh0, dhr};
    const nb::gil_scoped_release release;
    over_items<S>(threads, time.B * p.parts, k.selective_room(p, gradient),
                  [&](int64_t item, S* room) { k.selective(p, gradient, item, room); });
  } else if (kind >= CONV) {
    const Conv<S> p = {time, n[4], n[5], n[3], kind == CONV_SILU, a.at<S>("x"), a.at<S>("weight"), a.at<S>("bias"), h0,
                       y, h, dy, dh, a.at<S>("dx"), a.at<S>("dweight"), a.at<S>("dbias"), dh0};
    const nb::gil_scoped_release release;
    over_items<S>(threads, time.B * p.parts, k.conv_room(p, gradient),
                  [&](int64_t item, S* room) { k.conv(p, gradient, item, room); });
  } else {
    const bool pairs = kind == COMPLEX;
    const Elementwise<S> p = {time, pairs ? 2 * n[4] : n[4], n[3], n[5 + pairs], n[6 + pairs], a.at<S>("a"),
                              a.at<S>("b"), h0, hr, y, h, dy, dh, a.at<S>("da"), a.at<S>("db"), dh0, dhr};
    const nb::gil_scoped_release release;
    over_items<S>(threads, time.B * p.parts, k.elementwise_room(p, gradient),
                  [&](int64_t item, S* room) { k.elementwise[kind](p, gradient, item, room); });
  }
}

void algebra(int kind, bool wide, bool gradient, int threads, const std::vector<int64_t>& sizes,
             const nb::dict& addresses) {
  constexpr size_t SIZES[ALGEBRAS] = {7, 8, 7, 6, 9, 6, 6};
  if (kind < 0 || kind >= ALGEBRAS || sizes.size() != SIZES[kind]) throw std::invalid_argument("no such pass");
  (wide ? algebra_of<double> : algebra_of<float>)(kind, gradient, threads, sizes, Addresses(addresses));
}

// A list of operations that is bound once and run at every step. Whoever adds to it keeps the buffers alive.
class Stepper {
 public:
  // sizes: B, in, out, the strides of x and of h.
  void add(int operation, int kept, const std::vector<int64_t>& sizes, float epsilon, const nb::dict& addresses) {
    if (operation < 0 || operation >= VIEWS || kept < 0 || kept >= KEPT || sizes.size() != 5)
      throw std::invalid_argument("no such operation");
    const Addresses a(addresses);
    Step op = {};
    op.operation = operation, op.kept = kept, op.epsilon = epsilon;
    op.B = sizes[0], op.in = sizes[1], op.out = sizes[2], op.x_stride = sizes[3], op.h_stride = sizes[4];
    op.x = a.at<float>("x"), op.h = a.at<float>("h"), op.units = a.at<int64_t>("units");
    op.next = a.at<float>("next"), op.next_c = a.at<float>("next_c"), op.c = a.at<float>("c");
    op.weight = a.at<void>("weight"), op.recurrent = a.at<void>("recurrent"), op.scale = a.at<float>("scale");
    op.bias = a.at<float>("bias"), op.bias_n = a.at<float>("bias_n");
    operations_.push_back(op);
  }

  // Operations over the same dimensions; operands: what is written, then what is read, each as its address, its kind of
  // number and its strides in bytes.
  void views(const std::vector<int64_t>& shape, const std::vector<int>& names,
             const std::vector<std::vector<std::vector<int64_t>>>& operands) {
    if (shape.size() < 2 || shape.size() > RANK || names.empty() || names.size() > JOINED || names.size() != operands.size())
      throw std::invalid_argument("no such operations");
    for (size_t m = 0; m < names.size(); ++m) {
      if (names[m] < VIEWS || names[m] >= OPERATIONS || operands[m].size() > OPERANDS)
        throw std::invalid_argument("no such operation");
      Step op = {};
      op.operation = names[m], op.joined = int64_t(names.size()), op.dims = int64_t(shape.size());
      std::copy(shape.begin(), shape.end(), op.shape);
      for (size_t i = 0; i < operands[m].size(); ++i) {
        const std::vector<int64_t>& given = operands[m][i];
        if (given.size() != shape.size() + 2) throw std::invalid_argument("an operand needs a stride a dimension");
        op.of[i].at = reinterpret_cast<void*>(given[0]), op.of[i].number = given[1];
        std::copy(given.begin() + 2, given.end(), op.of[i].stride);
      }
      operations_.push_back(op);
    }
  }

  void run() {
    for (const Step& op : operations_)
      for (int64_t b = 0; op.operation == LOOKUP && b < op.B; ++b)
        if (op.units[b] < 0 || op.units[b] >= op.in)
          throw std::out_of_range("no unit " + std::to_string(op.units[b]) + ": the model knows 0 to " +
                                  std::to_string(op.in - 1));
    kernels_.step(operations_.data(), int64_t(operations_.size()), from_the_last_ = !from_the_last_);
  }

 private:
  const StepKernels& kernels_ = *chosen.steps;  // for which the weights are packed
  std::vector<Step> operations_;
  bool from_the_last_ = true;
};

void pack_step(int kept, int gates, int64_t H, int64_t HP, int64_t K, size_t from, size_t to) {
  chosen.steps->pack(kept, gates, H, HP, K, reinterpret_cast<const void*>(from), reinterpret_cast<void*>(to));
}

nb::dict build_info() {
  nb::dict info;
#if defined(__VERSION__)
  info["compiler"] = __VERSION__;
#else
  info["compiler"] = "unknown";
#endif
  nb::list sets;
  for (const InstructionSet& k : available()) sets.append(k.name);
  info["instruction_set"] = chosen.name;
  info["instruction_sets"] = sets;
  info["bfloat16"] = rounds();
  return info;
}

void use(const std::string& name) {
  for (const InstructionSet& k : available())
    if (name == k.name) {
      chosen = k;
      return;
    }
  throw std::invalid_argument("this machine has no instruction set '" + name + "'");
}

}  // namespace

NB_MODULE(_native, m) {
  find_torchs_team();
  m.def("build_info", &build_info, "How this module was built, and the instruction sets that this machine has.");
  m.def("use", &use, "Run the kernels of another instruction set.");
  m.def("rounds", &rounds, "Whether there are products with factors rounded to bfloat16.");
  m.def("lanes", [](bool wide) { return wide ? chosen.scans->f64.lanes : chosen.scans->f32.lanes; }, "Numbers in a vector.");
  m.def("pack_step", &pack_step, "Weights (gates H, K) as the operations read them.");
  nb::class_<Stepper>(m, "Stepper", "See stream/stepper.py.")
      .def(nb::init<>())
      .def("add", &Stepper::add)
      .def("views", &Stepper::views)
      .def("run", &Stepper::run);
  m.def("scan", &scan, "A pass over a batch, see ops/native.py.");
  m.def("algebra", &algebra, "A pass over a batch, see ops/native_linear.py.");
}
