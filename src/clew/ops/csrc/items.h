// Independent items of work, shared out over threads as they finish. (batch.h is for rows that share weights.)
#pragma once
#include <algorithm>
#include <atomic>

#include "store.h"
#include "threads.h"

namespace clew {

// `task(item, room)` for every item, each with `room` numbers of memory.
template <class S, class Task>
void over_items(int threads, int64_t items, int64_t room, const Task& task) {
  threads = int(std::max<int64_t>(1, std::min<int64_t>(threads, items)));
  std::vector<Buffer<S>> rooms;
  for (int i = 0; i < threads; ++i) rooms.emplace_back(room);
  std::atomic<int64_t> next{0};
  const auto work = [&](int thread) {
    for (int64_t item; (item = next.fetch_add(1, std::memory_order_relaxed)) < items;) task(item, rooms[thread].get());
  };
  if (!at_once(threads, work)) work(0);
}

}  // namespace clew
