// Runs tasks at once: on the OpenMP team that torch has loaded, where there is one, so that two teams never wait for
// work on the same cores; else on threads that live as long as the call.
#pragma once
#include <cstring>
#include <future>
#include <exception>
#include <string>
#include <thread>
#include <vector>
#if defined(__linux__)
#include <dlfcn.h>
#include <link.h>
#include <unistd.h>
#endif

namespace clew {

#if defined(__linux__)
// What GCC compiles parallel regions to: a stable interface of libgomp.
struct Gomp {
  void (*parallel)(void (*)(void*), void*, unsigned, unsigned) = nullptr;
  int (*number)() = nullptr;
  int (*count)() = nullptr;
  pid_t process = 0;

  static const Gomp& loaded() {
    static const Gomp gomp = find();
    return gomp;
  }

  // A team does not survive a fork: the child makes its own threads.
  bool usable() const { return parallel && number && count && process == getpid(); }

 private:
  static Gomp find() {
    Gomp gomp;
    const auto look = [](dl_phdr_info* info, size_t, void* found) {
      if (!info->dlpi_name || !std::strstr(info->dlpi_name, "libgomp")) return 0;
      *static_cast<std::string*>(found) = info->dlpi_name;
      return 1;
    };
    std::string name;  // opened only behind the walk, which holds the loader's lock
    dl_iterate_phdr(look, &name);
    void* library = name.empty() ? nullptr : dlopen(name.c_str(), RTLD_LAZY | RTLD_NOLOAD);
    if (!library) return gomp;
    gomp.parallel = reinterpret_cast<decltype(gomp.parallel)>(dlsym(library, "GOMP_parallel"));
    gomp.number = reinterpret_cast<decltype(gomp.number)>(dlsym(library, "omp_get_thread_num"));
    gomp.count = reinterpret_cast<decltype(gomp.count)>(dlsym(library, "omp_get_num_threads"));
    gomp.process = getpid();
    return gomp;
  }
};

// To be called where this module is loaded, so that a fork afterwards is known as one.
inline void find_torchs_team() { Gomp::loaded(); }

// False, and nothing was done, where the team is smaller than asked for: tasks may wait for one another.
template <class Task>
bool on_torchs_team(int tasks, const Task& task) {
  const Gomp& gomp = Gomp::loaded();
  if (!gomp.usable()) return false;
  struct Call {
    const Gomp& gomp;
    const Task& task;
    int tasks;
    bool all;
  } call = {gomp, task, tasks, true};
  gomp.parallel(
      [](void* data) {
        Call& call = *static_cast<Call*>(data);
        if (call.gomp.count() == call.tasks) call.task(call.gomp.number());
        else if (call.gomp.number() == 0) call.all = false;
      },
      &call, unsigned(tasks), 0);
  return call.all;
}
#else
inline void find_torchs_team() {}

template <class Task>
bool on_torchs_team(int, const Task&) {
  return false;
}
#endif

// False, and nothing was done, where there are no threads to be had.
template <class Task>
bool on_own_threads(int tasks, const Task& task) {
  std::promise<bool> all_there;
  const std::shared_future<bool> begin = all_there.get_future().share();
  std::vector<std::thread> others;
  bool there = true;
  try {
    for (int i = 1; i < tasks; ++i)
      others.emplace_back([&, i] {
        if (begin.get()) task(i);
      });
  } catch (const std::exception&) {
    there = false;
  }
  all_there.set_value(there);
  if (there) task(0);
  for (std::thread& other : others) other.join();
  return there;
}

template <class Task>
bool at_once(int tasks, const Task& task) {
  if (tasks > 1) return on_torchs_team(tasks, task) || on_own_threads(tasks, task);
  task(0);
  return true;
}

}  // namespace clew
