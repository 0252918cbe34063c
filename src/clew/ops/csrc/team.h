// Threads that share the units of the same rows: each step they wait for one another once.
#pragma once
#include <cstdint>
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <sched.h>
#endif

namespace clew {

class Team {
 public:
  explicit Team(int members) : members_(members) {}

  // Returns when all members have called it; what they wrote before is then seen by all.
  inline __attribute__((always_inline)) void wait() {
    if (members_ == 1) return;
    const uint32_t round = __atomic_load_n(&round_, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&arrived_, 1, __ATOMIC_ACQ_REL) == members_) {
      __atomic_store_n(&arrived_, 0, __ATOMIC_RELAXED);
      __atomic_store_n(&round_, round + 1, __ATOMIC_RELEASE);
      return;
    }
    for (int spins = 0; __atomic_load_n(&round_, __ATOMIC_ACQUIRE) == round; ++spins) {
      if (spins < PATIENCE) {
#if defined(__x86_64__)
        _mm_pause();
#endif
      } else {  // the others may need this very core
#if defined(__unix__) || defined(__APPLE__)
        sched_yield();
#endif
      }
    }
  }

 private:
  static constexpr int PATIENCE = 1 << 12;
  const int members_;
  alignas(64) int arrived_ = 0;
  alignas(64) uint32_t round_ = 0;
};

}  // namespace clew
