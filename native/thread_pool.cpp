#include "thread_pool.hpp"

#include <chrono>

#include "affinity.hpp"

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

ThreadPool::ThreadPool(unsigned threads) : cpus_(allowed_cpus()) {
  if (cpus_.size() != threads) cpus_.clear();
  for (unsigned thread = 1; thread < threads; ++thread) {
    workers_.emplace_back([this, thread] { work(thread); });
  }
}

void ThreadPool::settle() const {
  if (!cpus_.empty() && current_cpu() != cpus_[0]) move_thread(cpus_[0]);
}

ThreadPool::~ThreadPool() {
  stop_.store(true);
  epoch_.fetch_add(1);
  epoch_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run(uint32_t count, Claims claims, Call call, void* context) {
  const uint32_t epoch = epoch_.load(std::memory_order_relaxed) + 1;
  // Closes the old loop's tickets before its fields change.
  ticket_.store((static_cast<uint64_t>(epoch) << 32) | UINT32_MAX);
  count_.store(count);
  least_.store(claims.least);
  most_.store(claims.most);
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
  if (!cpus_.empty()) pin_thread(cpus_[thread]);
  uint32_t seen = 0;
  while (true) {
    wait_for_news(seen);
    if (stop_.load()) return;
    seen = epoch_.load();
    drain(seen, thread);
  }
}

uint32_t ThreadPool::claim(uint32_t left) const {
  const uint32_t share = left / (2 * threads());
  return std::min(left, std::max(least_.load(), std::min(share, most_.load())));
}

void ThreadPool::drain(uint32_t epoch, unsigned thread) {
  uint64_t ticket = ticket_.load();
  while (epoch_of(ticket) == epoch) {
    const uint32_t item = item_of(ticket);
    const Call call = call_.load();
    void* const context = context_.load();
    const uint32_t count = count_.load();
    if (item >= count) return;
    const uint32_t items = claim(count - item);
    if (!ticket_.compare_exchange_weak(ticket, ticket + items)) continue;
    call(context, item, item + items, thread);
    completed_.fetch_add(items, std::memory_order_release);
    ticket = ticket_.load();
  }
}

void ThreadPool::wait_for_news(uint32_t seen) {
  if (spin_until([&] { return epoch_.load(std::memory_order_acquire) != seen; })) return;
  epoch_.wait(seen);
}

}  // namespace vivace
