// A persistent pool whose parallel loops cost well under a microsecond when its threads are awake.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <vector>

namespace vivace {

// Runs loops over items on the calling thread and `threads - 1` workers. Items are claimed one by
// one, so a worker that the machine holds up delays nothing but the item it is in. Which thread
// runs an item never changes the item's result: bodies must not depend on it but for scratch.
//
// One loop at a time: loops are not nested, and only one thread calls `parallel_for`.
class ThreadPool {
 public:
  explicit ThreadPool(unsigned threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  unsigned threads() const { return static_cast<unsigned>(workers_.size()) + 1; }

  // body(item, thread) for each item below `count`, thread < threads(). The body must not throw.
  template <typename Body>
  void parallel_for(size_t count, Body&& body) {
    if (count <= 1 || workers_.empty()) {
      for (size_t item = 0; item < count; ++item) body(item, 0u);
      return;
    }
    using Callable = std::remove_reference_t<Body>;
    const Call call = [](void* context, size_t item, unsigned thread) {
      (*static_cast<Callable*>(context))(item, thread);
    };
    run(static_cast<uint32_t>(count), call, const_cast<void*>(static_cast<const void*>(&body)));
  }

 private:
  using Call = void (*)(void* context, size_t item, unsigned thread);

  void run(uint32_t count, Call call, void* context);
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
  std::atomic<Call> call_{nullptr};
  std::atomic<void*> context_{nullptr};
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

}  // namespace vivace
