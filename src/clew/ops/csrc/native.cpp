// The compiled part of clew.ops, seen from Python: which kernels there are, and a pass over a batch, shared out over
// threads. Plain addresses and no torch headers, so that one build serves every torch; ops/native.py knows what they
// must point at.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <memory>
#include <new>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "scan.h"
#include "step.h"
#include "threads.h"

namespace nb = nanobind;
using namespace clew;

namespace {

struct Kernels {
  const char* name;
  const ScanKernels* scans;
  const StepKernels* steps;
};

std::vector<Kernels> available() {  // the best first
  std::vector<Kernels> found;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw"))
    found.push_back({"avx512", &scans_avx512, &steps_avx512});
  if (avx2) found.push_back({"avx2", &scans_avx2, &steps_avx2});
#endif
  found.push_back({"baseline", &scans_baseline, &steps_baseline});
  return found;
}

Kernels chosen = available().front();

template <class S>
class Buffer {  // on a cache line's boundary, which is also a vector's
 public:
  explicit Buffer(int64_t n) : data_(static_cast<S*>(::operator new(n * sizeof(S), std::align_val_t(64)))) {}
  S* get() const { return data_.get(); }

 private:
  struct Free {
    void operator()(S* data) const { ::operator delete(data, std::align_val_t(64)); }
  };
  std::unique_ptr<S, Free> data_;
};

struct Share {  // of one team
  std::vector<int64_t> row, length, start;
};

// Deals the rows out, the longest first, so that every team has as many long ones as the others.
std::vector<Share> share_out(int64_t B, int64_t T, const int64_t* lengths, int teams) {
  std::vector<int64_t> start(B), order(B);
  for (int64_t b = 0, n = 0; b < B; ++b) {
    start[b] = n;
    n += lengths ? lengths[b] : T;
  }
  std::iota(order.begin(), order.end(), 0);
  if (lengths)
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return lengths[a] > lengths[b]; });
  std::vector<Share> shares(teams);
  for (int64_t i = 0; i < B; ++i) {
    Share& share = shares[i % teams];
    share.row.push_back(order[i]);
    share.length.push_back(lengths ? lengths[order[i]] : T);
    share.start.push_back(start[order[i]]);
  }
  return shares;
}

constexpr double WORTH_A_THREAD = 2e6;     // multiplications: below, starting a thread costs more than it saves
constexpr int64_t CACHE = 3 << 18;         // bytes of weights that a core's own cache holds beside the rest
constexpr int64_t WORTH_A_WAIT = 1 << 18;  // bytes of weights a step: below, waiting for one another costs more
constexpr int64_t FEW_ROWS = 4;            // for a thread: a tile of fewer leaves the arithmetic idle

// How many threads work on the same rows, each on some of their units: where weights do not fit into one core's cache,
// or there are too few rows to deal out.
int members_of(int threads, int64_t B, int64_t panels, int64_t bytes) {
  const bool few = B < FEW_ROWS * threads && bytes > WORTH_A_WAIT, large = bytes > CACHE;
  return few || large ? int(std::min<int64_t>(threads, panels)) : 1;
}

int blocks_of(int gates, int64_t blocks, int members) {
  if (gates > 1) return 1;
  for (int n : {4, 2})
    if (blocks % n == 0 && blocks / n >= members) return n;
  return 1;
}

template <class S>
void run(int cell, bool gradient, int threads, int64_t B, const int64_t* lengths, const S* hh, Pass<S> pass) {
  const int G = GATES[cell];
  const int64_t H = pass.H, HP = pass.HP;
  const ScanKernels& k = *chosen.scans;
  const int64_t V = k.lanes[sizeof(S) == 8], blocks = HP / V;
  const int64_t steps = lengths ? std::accumulate(lengths, lengths + B, int64_t(0)) : B * pass.T;
  const double work = double(steps) * G * H * HP;
  threads = int(std::max<int64_t>(1, std::min<int64_t>(threads, int64_t(work / WORTH_A_THREAD))));
  const int members = members_of(threads, B, blocks, G * HP * HP * int64_t(sizeof(S)));
  const int teams = int(std::max<int64_t>(1, std::min<int64_t>(threads / members, B)));
  pass.blocks = blocks_of(gradient ? 1 : G, blocks, members);
  Buffer<S> packed(int64_t(G) * HP * HP), x_packed(pass.x ? G * HP * pass.I : 1);
  void (*pass_of)(const Part&, const Pass<S>&);
  const auto pack = [&](auto product, auto transposed) {
    if (gradient) return transposed(G, pass.blocks, H, HP, hh, packed.get());
    product(G, pass.blocks, H, HP, H, hh, packed.get());
    if (pass.x) product(G, pass.blocks, H, HP, pass.I, pass.x_weight, x_packed.get());
  };
  if constexpr (sizeof(S) == 4) {
    pack(k.pack32, k.pack_gradient32);
    pass_of = (gradient ? k.backward32 : k.forward32)[cell];
  } else {
    pack(k.pack64, k.pack_gradient64);
    pass_of = (gradient ? k.backward64 : k.forward64)[cell];
  }
  const S* x_weight = pass.x_weight;
  pass.weight = packed.get(), pass.x_weight = x_packed.get();
  const std::vector<Share> shares = share_out(B, pass.T, lengths, teams);
  std::vector<std::unique_ptr<Team>> barriers;
  std::vector<Buffer<S>> rooms;
  for (const Share& share : shares) {
    barriers.push_back(std::make_unique<Team>(members));
    rooms.emplace_back(work_size(int64_t(share.row.size()), HP));
  }
  const int64_t panels = blocks / pass.blocks;
  const bool done = at_once(teams * members, [&](int i) {
    const int team = i / members, member = i % members;
    const Share& share = shares[team];
    const int64_t wide = pass.blocks * V;
    Pass<S> mine = pass;
    mine.work = rooms[team].get();
    pass_of({int64_t(share.row.size()), share.row.data(), share.length.data(), share.start.data(),
             panels * member / members * wide, panels * (member + 1) / members * wide, barriers[team].get()},
            mine);
  });
  pass.x_weight = x_weight;
  if (!done) run<S>(cell, gradient, 1, B, lengths, hh, pass);
}

// Tensors by the names that scan.h has for them; one that is not named is not there.
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
  p.T = sizes[1], p.I = sizes[2], p.H = sizes[3], p.HP = sizes[4], p.before_stride = sizes[5];
  p.backwards = backwards, p.relu = relu;
  p.x = a.at<S>("x"), p.x_weight = a.at<S>("ih"), p.x_bias = a.at<S>("x_bias");
  p.bias = a.at<S>("bias"), p.gates = a.at<S>("gates"), p.kept = a.at<S>("kept"), p.reset = a.at<uint8_t>("reset");
  p.h0 = a.at<S>("h0"), p.c0 = a.at<S>("c0"), p.hr = a.at<S>("hr"), p.cr = a.at<S>("cr");
  p.y = a.at<S>("y"), p.h = a.at<S>("h"), p.c = a.at<S>("c");
  p.dy = a.at<S>("dy"), p.dh = a.at<S>("dh"), p.dc = a.at<S>("dc"), p.before = a.at<S>("before");
  p.dh0 = a.at<S>("dh0"), p.dc0 = a.at<S>("dc0"), p.dhr = a.at<S>("dhr"), p.dcr = a.at<S>("dcr");
  const int64_t* lengths = a.at<int64_t>("lengths");
  const S* hh = a.at<S>("hh");
  nb::gil_scoped_release release;
  run<S>(cell, gradient, threads, B, lengths, hh, p);
}

void scan(int cell, bool wide, bool gradient, int threads, const std::vector<int64_t>& sizes, bool backwards,
          bool relu, const nb::dict& addresses) {
  if (cell < 0 || cell >= CELLS || sizes.size() != 6) throw std::invalid_argument("no such pass");
  (wide ? scan_of<double> : scan_of<float>)(cell, gradient, threads, sizes, backwards, relu, Addresses(addresses));
}

// A list of operations that is bound once and run at every step. Whoever adds to it keeps the buffers alive.
class Stepper {
 public:
  void add(int operation, int kept, int64_t B, int64_t in, int64_t out, int64_t x_stride, int64_t y_stride,
           float epsilon, const nb::dict& addresses) {
    if (operation < 0 || operation >= OPERATIONS || kept < 0 || kept >= KEPT)
      throw std::invalid_argument("no such operation");
    const Addresses a(addresses);
    Step op = {};
    op.operation = operation, op.kept = kept, op.B = B, op.in = in, op.out = out;
    op.x_stride = x_stride, op.y_stride = y_stride, op.epsilon = epsilon;
    op.x = a.at<float>("x"), op.units = a.at<int64_t>("units"), op.y = a.at<float>("y");
    op.state = a.at<float>("state"), op.next = a.at<float>("next"), op.scale = a.at<float>("scale");
    op.weight = a.at<void>("weight"), op.recurrent = a.at<void>("recurrent");
    op.bias = a.at<float>("bias"), op.bias_n = a.at<float>("bias_n");
    operations_.push_back(op);
  }

  void run() const {
    for (const Step& op : operations_)
      for (int64_t b = 0; op.operation == LOOKUP && b < op.B; ++b)
        if (op.units[b] < 0 || op.units[b] >= op.in)
          throw std::out_of_range("no unit " + std::to_string(op.units[b]) + ": the model knows 0 to " +
                                  std::to_string(op.in - 1));
    kernels_.step(operations_.data(), int64_t(operations_.size()));
  }

 private:
  const StepKernels& kernels_ = *chosen.steps;  // for which the weights are packed
  std::vector<Step> operations_;
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
  for (const Kernels& k : available()) sets.append(k.name);
  info["instruction_set"] = chosen.name;
  info["instruction_sets"] = sets;
  return info;
}

void use(const std::string& name) {
  for (const Kernels& k : available())
    if (name == k.name) {
      chosen = k;
      return;
    }
  throw std::invalid_argument("this machine has no instruction set '" + name + "'");
}

}  // namespace

NB_MODULE(_native, m) {
  m.def("build_info", &build_info, "How this module was built, and the instruction sets that this machine has.");
  m.def("use", &use, "Run the kernels of another instruction set.");
  m.def("lanes", [](bool wide) { return chosen.scans->lanes[wide]; }, "Numbers in a vector.");
  m.def("pack_step", &pack_step, "Weights (gates H, K) as the operations read them.");
  nb::class_<Stepper>(m, "Stepper", "See stream/stepper.py.")
      .def(nb::init<>())
      .def("add", &Stepper::add)
      .def("run", &Stepper::run);
  m.def("scan", &scan, "A pass over a batch, see ops/native.py.");
}
