// Memory for one pass.
#pragma once
#include <algorithm>
#include <cstdint>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

namespace clew {

// Memory that one pass leaves to the next: fresh from the system each page costs a fault.
class Store {
 public:
  static void* take(size_t& bytes) {
    {
      const std::unique_lock<std::mutex> held(lock_, std::try_to_lock);  // after a fork it may be held for ever
      for (size_t i = held ? ready_.size() : 0; i-- > 0;)
        if (const auto [data, size] = ready_[i]; size >= bytes && size <= 2 * bytes) {
          ready_.erase(ready_.begin() + i);
          ready_bytes_ -= bytes = size;
          return data;
        }
    }
    return ::operator new(bytes, LINE);
  }

  static void give(void* data, size_t bytes) {
    const std::unique_lock<std::mutex> held(lock_, std::try_to_lock);
    if (!held || bytes < SMALL || bytes > MOST) return ::operator delete(data, LINE);
    ready_.push_back({data, bytes});
    for (ready_bytes_ += bytes; ready_bytes_ > MOST; ready_.erase(ready_.begin())) {  // the oldest first
      ready_bytes_ -= ready_[0].second;
      ::operator delete(ready_[0].first, LINE);
    }
  }

 private:
  static constexpr std::align_val_t LINE{64};  // a cache's, which is also a vector's
  static constexpr size_t SMALL = 1 << 16;     // bytes: below, the allocator's own store does
  static constexpr size_t MOST = 32 << 20;
  static inline std::mutex lock_;
  static inline std::vector<std::pair<void*, size_t>> ready_ = [] {
    std::vector<std::pair<void*, size_t>> room;
    room.reserve(MOST / SMALL + 2);  // giving back may not fail
    return room;
  }();
  static inline size_t ready_bytes_ = 0;
};

template <class S>
class Buffer {
 public:
  explicit Buffer(int64_t n) : n_(n), bytes_(n * sizeof(S)), data_(n ? static_cast<S*>(Store::take(bytes_)) : nullptr) {}
  Buffer(Buffer&& other) : n_(other.n_), bytes_(other.bytes_), data_(std::exchange(other.data_, nullptr)) {}
  Buffer& operator=(Buffer&& other) {
    std::swap(n_, other.n_), std::swap(bytes_, other.bytes_), std::swap(data_, other.data_);
    return *this;
  }
  ~Buffer() {
    if (data_) Store::give(data_, bytes_);
  }
  S* get() const { return data_; }
  void clear() { std::fill_n(data_, n_, S(0)); }

 private:
  int64_t n_;
  size_t bytes_;
  S* data_;
};

}  // namespace clew
