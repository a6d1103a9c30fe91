// A persistent pool whose parallel loops cost well under a microsecond when its threads are awake.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <vector>

namespace vivace {

// How many items a thread claims at once: a share of those left, within these bounds, so that
// claims are few at first and threads end together (guided self-scheduling, Polychronopoulos and
// Kuck 1987).
struct Claims {
  uint32_t least = 1;
  uint32_t most = 1;
};

// Runs loops over items on the calling thread and `threads - 1` workers. Items are claimed as
// threads come by, so a worker that the machine holds up delays nothing but the items it is in.
// Which thread runs an item never changes the item's result: bodies must not depend on it but for
// scratch.
//
// A pool of as many threads as the process has CPUs stands one on each: left to themselves, some
// systems keep two that spin on the same CPU for seconds. A smaller pool goes where the system
// puts it, beside others.
//
// One loop at a time: loops are not nested, and only one thread calls `parallel_for`.
class ThreadPool {
 public:
  explicit ThreadPool(unsigned threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  unsigned threads() const { return static_cast<unsigned>(workers_.size()) + 1; }

  // Puts the calling thread, which is not pinned, on the CPU that the workers leave to it: before
  // loops that matter.
  void settle() const;

  // body(item, thread) for each item below `count`, thread < threads(). The body must not throw.
  template <typename Body>
  void parallel_for(size_t count, Body&& body) {
    parallel_ranges(count, {}, [&](size_t begin, size_t, unsigned thread) { body(begin, thread); });
  }

  // body(begin, end, thread) for ranges that make up all items below `count`.
  template <typename Body>
  void parallel_ranges(size_t count, Claims claims, Body&& body) {
    if (count <= claims.least || workers_.empty()) return run_here(count, claims, body);
    using Callable = std::remove_reference_t<Body>;
    const Call call = [](void* context, size_t begin, size_t end, unsigned thread) {
      (*static_cast<Callable*>(context))(begin, end, thread);
    };
    run(static_cast<uint32_t>(count), claims, call,
        const_cast<void*>(static_cast<const void*>(&body)));
  }

 private:
  using Call = void (*)(void* context, size_t begin, size_t end, unsigned thread);

  template <typename Body>
  static void run_here(size_t count, Claims claims, Body& body) {
    for (size_t begin = 0; begin < count; begin += claims.most) {
      body(begin, std::min<size_t>(begin + claims.most, count), 0u);
    }
  }

  void run(uint32_t count, Claims claims, Call call, void* context);
  uint32_t claim(uint32_t left) const;
  void work(unsigned thread);
  // Runs items of loop `epoch` until none is left to claim.
  void drain(uint32_t epoch, unsigned thread);
  void wait_for_news(uint32_t seen);

  // The loop's epoch in the high half, its next unclaimed item in the low half: claiming is one
  // compare-exchange that fails once another loop has begun, so that what a late worker read of
  // the old loop is never used.
  alignas(64) std::atomic<uint64_t> ticket_{0};
  alignas(64) std::atomic<uint32_t> completed_{0};
  alignas(64) std::atomic<uint32_t> epoch_{0};  // workers sleep on it
  std::atomic<uint32_t> count_{0};
  std::atomic<uint32_t> least_{1};
  std::atomic<uint32_t> most_{1};
  std::atomic<Call> call_{nullptr};
  std::atomic<void*> context_{nullptr};
  std::atomic<bool> stop_{false};
  std::vector<int> cpus_;  // one for each thread, or none
  std::vector<std::thread> workers_;
};

}  // namespace vivace
