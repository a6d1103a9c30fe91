#include "thread_pool.hpp"

#include <chrono>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace vivace {
namespace {

// Longer than the serial gaps within a step, far shorter than a scheduler's time slice.
constexpr std::chrono::microseconds kSpin{100};
constexpr unsigned kSpinsPerClockRead = 64;

void relax() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
}

// Spins until `done()` or until `kSpin` has passed; says which.
template <typename Done>
bool spin_until(Done done) {
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    for (unsigned i = 0; i < kSpinsPerClockRead; ++i) {
      if (done()) return true;
      relax();
    }
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

uint32_t epoch_of(uint64_t ticket) { return static_cast<uint32_t>(ticket >> 32); }
uint32_t item_of(uint64_t ticket) { return static_cast<uint32_t>(ticket); }

}  // namespace

ThreadPool::ThreadPool(unsigned threads) {
  for (unsigned thread = 1; thread < threads; ++thread) {
    workers_.emplace_back([this, thread] { work(thread); });
  }
}

ThreadPool::~ThreadPool() {
  stop_.store(true);
  epoch_.fetch_add(1);
  epoch_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run(uint32_t count, Call call, void* context) {
  const uint32_t epoch = epoch_.load(std::memory_order_relaxed) + 1;
  // Closes the old loop's tickets before its fields change.
  ticket_.store((static_cast<uint64_t>(epoch) << 32) | UINT32_MAX);
  count_.store(count);
  call_.store(call);
  context_.store(context);
  completed_.store(0);
  ticket_.store(static_cast<uint64_t>(epoch) << 32);
  epoch_.store(epoch);
  epoch_.notify_all();

  drain(epoch, 0);
  const auto finished = [&] { return completed_.load(std::memory_order_acquire) == count; };
  while (!spin_until(finished)) std::this_thread::yield();
}

void ThreadPool::work(unsigned thread) {
  uint32_t seen = 0;
  while (true) {
    wait_for_news(seen);
    if (stop_.load()) return;
    seen = epoch_.load();
    drain(seen, thread);
  }
}

void ThreadPool::drain(uint32_t epoch, unsigned thread) {
  uint64_t ticket = ticket_.load();
  while (epoch_of(ticket) == epoch) {
    const uint32_t item = item_of(ticket);
    const Call call = call_.load();
    void* const context = context_.load();
    if (item >= count_.load()) return;
    if (!ticket_.compare_exchange_weak(ticket, ticket + 1)) continue;
    call(context, item, thread);
    completed_.fetch_add(1, std::memory_order_release);
    ticket = ticket_.load();
  }
}

void ThreadPool::wait_for_news(uint32_t seen) {
  if (spin_until([&] { return epoch_.load(std::memory_order_acquire) != seen; })) return;
  epoch_.wait(seen);
}

}  // namespace vivace
