// Where the rows of one team stand in a pass.
#pragma once
#include "products.h"
#include "scan.h"

namespace clew::CLEW_ISA {
namespace {

// A thread's tiles for as long as this lives; nothing for null.
class Tiles {
 public:
  explicit Tiles(const Rounded* how) : how_(how) {
    if (how_) how_->begin();
  }
  ~Tiles() {
    if (how_) how_->end();
  }
  Tiles(const Tiles&) = delete;

 private:
  const Rounded* how_;
};

// h lies twice, for this step and the next. The gradient's pass has dh and dc in those places.
template <class S>
struct Place {
  const Part& part;
  const Pass<S>& pass;
  S *h, *next, *c;

  Place(const Part& part, const Pass<S>& pass)
      : part(part), pass(pass), h(pass.work), next(h + part.count * pass.HP), c(next + part.count * pass.HP) {}

  int64_t time(int64_t i, int64_t s) const { return pass.backwards ? part.length[i] - 1 - s : s; }
  int64_t step(int64_t i, int64_t s) const { return part.start[i] + time(i, s); }           // among all real ones
  int64_t cell(int64_t i, int64_t s) const { return part.row[i] * pass.T + time(i, s); }    // of (B, T)
  bool anew(int64_t i, int64_t s) const { return pass.reset && pass.reset[cell(i, s)]; }
  S* rest() const { return c + part.count * pass.HP; }
  int64_t gates_apart(int64_t gates) const { return apart(gates * pass.HP, Simd<S>::V); }

  // The rows at pass.from times this thread's columns of W_hh, rounded: `gates` columns for each of its units.
  void rounded_product(int64_t active, int64_t K, int64_t gates) const {
    if constexpr (sizeof(S) == sizeof(float)) {
      pass.tiles->round(active, K, pass.from, pass.rounded_rows);
      pass.tiles->product(active, (part.to - part.from) * gates, K, pass.rounded_rows,
                          pass.rounded_hh + part.from * gates * tiled(K, DEEP), pass.sums);
    }
  }

  // This thread's units of a row, between a padded buffer and a tensor that is not.
  void read(S* buffer, const S* tensor, int64_t i) const {
    for (int64_t j = part.from; j < part.to; ++j)
      buffer[i * pass.HP + j] = j < pass.H ? tensor[part.row[i] * pass.H + j] : S(0);
  }
  void write(S* tensor, const S* buffer, int64_t i) const {
    for (int64_t j = part.from; j < part.to && j < pass.H; ++j)
      tensor[part.row[i] * pass.H + j] = buffer[i * pass.HP + j];
  }
  // 0 in the place of steps that there are not, of a tensor (B, T, width).
  void clear_padding(S* tensor, int64_t width) const {
    for (int64_t i = part.member; i < part.count; i += part.members) {
      S* row = tensor + part.row[i] * pass.T * width;
      for (int64_t j = part.length[i] * width; j < pass.T * width; ++j) row[j] = 0;
    }
  }
};

}  // namespace
}  // namespace clew::CLEW_ISA
