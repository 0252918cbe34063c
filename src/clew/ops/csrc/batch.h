// A pass over a batch: its weights packed, its rows and units shared out over threads.
#pragma once
#include <algorithm>
#include <memory>
#include <numeric>
#include <vector>

#include "scan.h"
#include "store.h"
#include "threads.h"

namespace clew {

constexpr double WORTH_A_THREAD = 2e6;     // multiplications: below, starting a thread costs more than it saves
constexpr int64_t CACHE = 3 << 18;         // bytes of weights that a core's own cache holds beside the rest
constexpr int64_t WORTH_A_WAIT = 1 << 18;  // bytes of weights a step: below, waiting for one another costs more
constexpr int64_t FEW_ROWS = 4;            // for a thread: a tile of fewer leaves the arithmetic idle
constexpr int64_t CHUNK = 128;             // real steps: what belongs to them stays in a core's cache beside the weights

struct Share {  // of one team
  std::vector<int64_t> row, length, start;
};

// Deals the rows out, the longest first, so that every team has as many long ones as the others.
inline std::vector<Share> share_out(int64_t B, int64_t T, const int64_t* lengths, int teams) {
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

// How many threads work on the same rows, each on some of their units: where weights do not fit into one core's cache,
// or there are too few rows to deal out.
inline int members_of(int threads, int64_t B, int64_t panels, int64_t bytes) {
  const bool few = B < FEW_ROWS * threads && bytes >= WORTH_A_WAIT, large = bytes > CACHE;
  return few || large ? int(std::min<int64_t>(threads, panels)) : 1;
}

template <class S>
struct Weights {  // as torch has them: (G H, I), (G H, H), (G H); of the gradients those that are asked for
  S *ih, *hh, *b_ih, *b_hh;
};

// What stands beside the weights, as scan.h has it: both biases' sum, but a GRU's n has the reset gate between the two.
template <class S>
void spread_bias(int cell, int64_t H, int64_t HP, int64_t V, const Weights<const S>& w, S* x_bias, S* bias_n) {
  const int G = GATES[cell];
  for (int64_t unit = 0; unit < HP; ++unit)
    for (int gate = 0; gate < G; ++gate) {
      const int64_t row = gate * H + unit;
      const bool none = !w.b_ih || unit >= H, is_n = cell == GRU && gate == 2;
      x_bias[(unit / V * G + gate) * V + unit % V] = none ? S(0) : is_n ? w.b_ih[row] : w.b_ih[row] + w.b_hh[row];
      if (is_n) bias_n[unit] = none ? S(0) : w.b_hh[row];
    }
}

// A team's sums of the weights' gradients, as scan.h has them, and their way to torch's order.
template <class S>
class Sums {
 public:
  Sums(int cell, const Pass<S>& p, const Weights<S>& to)
      : hh_(to.hh ? GATES[cell] * p.HP * p.HP : 0), ih_(to.ih ? GATES[cell] * p.HP * p.IP : 0),
        bias_(to.b_ih ? GRADIENTS[cell] * p.HP : 0) {}

  void give(Pass<S>& p) {
    for (Buffer<S>* sum : {&hh_, &ih_, &bias_}) sum->clear();
    p.dhh = hh_.get(), p.dih = ih_.get(), p.dbias = bias_.get();
  }

  void add_to(const Weights<S>& to, int cell, int64_t V, const Pass<S>& p) const {
    const int64_t G = GATES[cell], D = GRADIENTS[cell], most = p.blocks * V;
    for (int64_t gate = 0; gate < G; ++gate)
      for (int64_t unit = 0; unit < p.H; ++unit) {
        const int64_t row = gate * p.H + unit, of_h = cell == GRU ? (gate + 1) % G : gate, of_x = gate + D - G;
        const int64_t panel = unit / most * most, wide = std::min(most, p.HP - panel);
        const auto add = [&](S* into, int64_t columns, const S* from, int64_t padded) {
          from += panel * padded + unit - panel;
          for (int64_t j = 0; into && j < columns; ++j) into[row * columns + j] += from[j * wide];
        };
        add(to.hh, p.H, hh_.get() + of_h * p.HP * p.HP, p.HP);
        add(to.ih, p.I, ih_.get() + gate * p.HP * p.IP, p.IP);
        add(to.b_hh, 1, bias_.get() + of_h * p.HP, 1);
        add(to.b_ih, 1, bias_.get() + of_x * p.HP, 1);
      }
  }

 private:
  Buffer<S> hh_, ih_, bias_;
};

// W_hh (G H, H) for products that are rounded. Forward its columns are gates, in blocks of V units, and what they read is
// the state; in the gradient's pass the other way round, the gates one after the other from `first` on.
inline Buffer<uint16_t> rounded_weights(const Rounded& tiles, bool gradient, int cell, int64_t H, int64_t HP, int64_t V,
                                        const float* hh) {
  const int64_t G = GATES[cell], first = cell == GRU ? 2 : 0, N = gradient ? HP : G * HP, K = gradient ? G * HP : H;
  std::vector<const float*> column(N, nullptr);
  std::vector<int64_t> place(K);
  for (int64_t n = 0; n < N; ++n) {
    const int64_t unit = gradient ? n : n / (G * V) * V + n % V, gate = n / V % G;
    if (unit < H) column[n] = hh + (gradient ? unit : (gate * H + unit) * H);
  }
  for (int64_t k = 0; k < K; ++k) {
    const int64_t unit = k % HP, gate = (k / HP + first) % G;
    place[k] = !gradient ? k : unit < H ? (gate * H + unit) * H : -1;
  }
  Buffer<uint16_t> packed(tiled(N, TILE) * tiled(K, DEEP));
  tiles.pack(N, K, column.data(), place.data(), packed.get());
  return packed;
}

// dw: null for those that nobody asks for, b_ih and b_hh together; else to be added to.
template <class S>
void run(const ScanKernels& scans, int cell, bool gradient, int threads, int64_t B, const int64_t* lengths,
         const Weights<const S>& w, const Weights<S>& dw, Pass<S> p) {
  const Kernels<S>& k = scans.of(S());
  const int G = GATES[cell];
  const int64_t V = k.lanes, blocks = p.HP / V;
  p.IP = (p.I + V - 1) / V * V;
  const int64_t steps = lengths ? std::accumulate(lengths, lengths + B, int64_t(0)) : B * p.T;
  const double work = double(steps) * G * p.HP * (p.H + p.I) * (gradient ? 2 : 1);
  threads = int(std::max<int64_t>(1, std::min<int64_t>(threads, int64_t(work / WORTH_A_THREAD))));
  const int64_t size = p.tiles ? sizeof(uint16_t) : sizeof(S);
  const int members = members_of(threads, B, blocks, G * p.HP * p.HP * size);
  const int teams = int(std::max<int64_t>(1, std::min<int64_t>(threads / members, B)));
  p.blocks = G > 1 && !gradient ? 1 : int(std::min<int64_t>(WIDEST, (blocks + members - 1) / members));

  Buffer<S> ih(p.outside ? 0 : G * p.HP * p.IP), hh(p.tiles ? 0 : G * p.HP * p.HP), x_bias(G * p.HP), bias_n(p.HP);
  Buffer<uint16_t> rounded_hh(0);
  if constexpr (sizeof(S) == sizeof(float))
    if (p.tiles) rounded_hh = rounded_weights(*p.tiles, gradient, cell, p.H, p.HP, V, w.hh);
  if (gradient) {
    if (!p.tiles) k.pack_transposed(G, cell == GRU ? 2 : 0, p.blocks, p.H, p.HP, p.H, w.hh, hh.get());
    if (p.dx) k.pack_transposed(G, 0, WIDEST, p.H, p.HP, p.I, w.ih, ih.get());
  } else {
    if (!p.tiles) k.pack(G, p.blocks, p.H, p.HP, p.H, w.hh, hh.get());
    if (!p.outside) k.pack(G, p.blocks, p.H, p.HP, p.I, w.ih, ih.get());
    spread_bias(cell, p.H, p.HP, V, w, x_bias.get(), bias_n.get());
  }
  p.hh = hh.get(), p.rounded_hh = rounded_hh.get(), p.ih = ih.get(), p.x_bias = x_bias.get(), p.bias_n = bias_n.get();

  const std::vector<Share> shares = share_out(B, p.T, lengths, teams);
  p.chunk = std::max<int64_t>(CHUNK, int64_t(shares[0].row.size()));
  std::vector<std::unique_ptr<Team>> barriers;
  std::vector<Buffer<S>> rooms;
  std::vector<Sums<S>> sums;
  std::vector<Pass<S>> passes(teams, p);
  for (int team = 0; team < teams; ++team) {
    barriers.push_back(std::make_unique<Team>(members));
    rooms.emplace_back(room_for(cell, gradient, int64_t(shares[team].row.size()), p, V));
    passes[team].work = rooms[team].get();
    if (gradient) sums.emplace_back(cell, p, dw), sums[team].give(passes[team]);
  }
  std::vector<const S*> from(teams * members * p.chunk);
  std::vector<S*> to(from.size());
  // Of each thread, where products are rounded: a step's rows and its units' sums.
  const int64_t most = tiled(int64_t(shares[0].row.size()), TILE);
  const int64_t rows_room = most * tiled(gradient ? G * p.HP : p.H, DEEP), sums_room = most * (gradient ? 1 : G) * p.HP;
  const int64_t crew = p.tiles ? teams * members : 0;
  Buffer<uint16_t> rows(crew * rows_room);
  Buffer<S> products(crew * sums_room);
  const int64_t panels = (blocks + p.blocks - 1) / p.blocks;
  const auto edge = [&](int member) { return std::min(panels * member / members * p.blocks * V, p.HP); };
  const bool done = at_once(teams * members, [&](int i) {
    const int team = i / members, member = i % members;
    const Share& share = shares[team];
    Pass<S> mine = passes[team];
    mine.from = &from[i * p.chunk], mine.to = &to[i * p.chunk];
    if (p.tiles) mine.rounded_rows = rows.get() + i * rows_room, mine.sums = products.get() + i * sums_room;
    const Part part = {int64_t(share.row.size()), share.row.data(), share.length.data(), share.start.data(),
                       edge(member), edge(member + 1), member, members, barriers[team].get()};
    (gradient ? k.backward : k.forward)[cell](part, mine);
  });
  if (!done) return run<S>(scans, cell, gradient, 1, B, lengths, w, dw, p);
  for (const Sums<S>& of_team : sums) of_team.add_to(dw, cell, V, p);
}

}  // namespace clew
