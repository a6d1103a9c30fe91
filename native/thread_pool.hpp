// A persistent pool whose parallel loops cost well under a microsecond when its threads are awake.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <vector>

#include "read_ahead.hpp"

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
// Threads that wait fetch what they read first of a loop that is expected.
// Which thread runs an item never changes the item's result: bodies must not depend on it but for
// scratch.
//
// A pool of as many threads as the process has CPUs stands one on each: left to themselves, some
// systems keep two that spin on the same CPU for seconds. A smaller pool goes where the system
// puts it, beside others.
//
// One loop at a time: loops are not nested, and only one thread starts them.
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
    run(static_cast<uint32_t>(count), claims, call_of(body), context_of(body));
  }

  // The same, where items read memory: each thread begins with its own share (`share_of`), in few
  // ranges, and then takes from the ends of others' shares. `next`: of the loop of this kind that
  // comes after this one.
  template <typename Body>
  void parallel_shares(size_t count, const Reads& next, Body&& body) {
    if (count <= 1 || count > kMostShared || workers_.empty()) {
      return parallel_ranges(count, {1, static_cast<uint32_t>(count / threads() + 1)}, body);
    }
    run_shares(static_cast<uint32_t>(count), next, call_of(body), context_of(body));
  }

 private:
  using Call = void (*)(void* context, size_t begin, size_t end, unsigned thread);

  static constexpr size_t kMostShared = UINT16_MAX;  // so that a share fits 32 bits

  template <typename Body>
  static Call call_of(Body&) {
    return [](void* context, size_t begin, size_t end, unsigned thread) {
      (*static_cast<Body*>(context))(begin, end, thread);
    };
  }
  template <typename Body>
  static void* context_of(Body& body) {
    return const_cast<void*>(static_cast<const void*>(&body));
  }

  template <typename Body>
  static void run_here(size_t count, Claims claims, Body& body) {
    for (size_t begin = 0; begin < count; begin += claims.most) {
      body(begin, std::min<size_t>(begin + claims.most, count), 0u);
    }
  }

  void run(uint32_t count, Claims claims, Call call, void* context);
  void run_shares(uint32_t count, const Reads& next, Call call, void* context);
  // The next loop's epoch; nothing can be claimed in it yet.
  uint32_t prepare(uint32_t count, Call call, void* context);
  // Works on the loop that was prepared, and waits for its end.
  void finish(uint32_t epoch);
  uint32_t claim(uint32_t left) const;
  void work(unsigned thread);
  // Runs items of loop `epoch` until none is left to claim.
  void drain(uint32_t epoch, unsigned thread);
  void drain_share(uint32_t epoch, unsigned owner, unsigned thread);
  void drain_all(uint32_t epoch, unsigned thread);
  // Turns to what `thread` reads first after loop `epoch`, unless a newer loop has begun.
  void aim(ReadAhead& ahead, uint32_t epoch, unsigned thread) const;
  void wait_for_news(uint32_t seen, ReadAhead& ahead);

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
  std::atomic<const char*> next_data_{nullptr};
  std::atomic<size_t> next_item_bytes_{0};
  std::atomic<size_t> next_items_{0};
  std::atomic<bool> stop_{false};
  // By thread: the epoch in the high half, then the unclaimed part of the share, 16 bits each.
  std::vector<std::atomic<uint64_t>> shares_;
  alignas(64) ReadAhead ahead_;  // of the calling thread, which writes it while others poll
  std::vector<int> cpus_;  // one for each thread, or none
  std::vector<std::thread> workers_;
};

}  // namespace vivace
