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

// Spins until `done()` or until `kSpin` has passed; says which. Reads ahead meanwhile.
template <typename Done>
bool spin_until(Done done, ReadAhead& ahead) {
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    for (unsigned i = 0; i < kSpinsPerClockRead; ++i) {
      if (done()) return true;
      if (!ahead.fetch()) relax();
    }
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

uint32_t epoch_of(uint64_t ticket) { return static_cast<uint32_t>(ticket >> 32); }
uint32_t item_of(uint64_t ticket) { return static_cast<uint32_t>(ticket); }
uint64_t ticket_of(uint32_t epoch, uint32_t item) {
  return (static_cast<uint64_t>(epoch) << 32) | item;
}

uint32_t begin_of(uint64_t share) { return static_cast<uint32_t>(share) >> 16; }
uint32_t end_of(uint64_t share) { return static_cast<uint16_t>(share); }
uint64_t packed(uint32_t epoch, uint32_t begin, uint32_t end) {
  return ticket_of(epoch, (begin << 16) | end);
}

}  // namespace

ThreadPool::ThreadPool(unsigned threads) : shares_(threads), cpus_(allowed_cpus()) {
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

uint32_t ThreadPool::prepare(uint32_t count, Call call, void* context) {
  const uint32_t epoch = epoch_.load(std::memory_order_relaxed) + 1;
  // Closes the old loop's tickets before its fields change.
  ticket_.store(ticket_of(epoch, UINT32_MAX));
  count_.store(count);
  call_.store(call);
  context_.store(context);
  completed_.store(0);
  return epoch;
}

void ThreadPool::run(uint32_t count, Claims claims, Call call, void* context) {
  const uint32_t epoch = prepare(count, call, context);
  least_.store(claims.least);
  most_.store(claims.most);
  ticket_.store(ticket_of(epoch, 0));
  finish(epoch);
}

void ThreadPool::run_shares(uint32_t count, const Reads& next, Call call, void* context) {
  const uint32_t epoch = prepare(count, call, context);
  next_data_.store(next.data);
  next_item_bytes_.store(next.item_bytes);
  next_items_.store(next.items);
  for (unsigned thread = 0; thread < threads(); ++thread) {
    const Share share = share_of(count, thread, threads());
    shares_[thread].store(packed(epoch, uint32_t(share.begin), uint32_t(share.end)));
  }
  finish(epoch);
}

void ThreadPool::finish(uint32_t epoch) {
  epoch_.store(epoch);
  epoch_.notify_all();
  drain_all(epoch, 0);
  aim(ahead_, epoch, 0);
  const uint32_t count = count_.load();
  const auto finished = [&] { return completed_.load(std::memory_order_acquire) == count; };
  while (!spin_until(finished, ahead_)) std::this_thread::yield();
}

void ThreadPool::work(unsigned thread) {
  if (!cpus_.empty()) pin_thread(cpus_[thread]);
  uint32_t seen = 0;
  ReadAhead ahead;
  while (true) {
    wait_for_news(seen, ahead);
    if (stop_.load()) return;
    seen = epoch_.load();
    drain_all(seen, thread);
    aim(ahead, seen, thread);
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

// A share that can be claimed belongs to a loop that has not ended, so its fields are this loop's.
void ThreadPool::drain_share(uint32_t epoch, unsigned owner, unsigned thread) {
  std::atomic<uint64_t>& share = shares_[owner];
  uint64_t seen = share.load();
  while (epoch_of(seen) == epoch && begin_of(seen) < end_of(seen)) {
    const Call call = call_.load();
    void* const context = context_.load();
    const uint32_t begin = begin_of(seen), end = end_of(seen), left = end - begin;
    // Most of one's own, since every claim breaks the stream; half of another's.
    const uint32_t items = std::max(1u, owner == thread ? left - left / 4 : left / 2);
    const uint32_t first = owner == thread ? begin : end - items;
    const uint64_t rest =
        owner == thread ? packed(epoch, begin + items, end) : packed(epoch, begin, end - items);
    if (!share.compare_exchange_weak(seen, rest)) continue;
    call(context, first, first + items, thread);
    completed_.fetch_add(items, std::memory_order_release);
    seen = share.load();
  }
}

void ThreadPool::drain_all(uint32_t epoch, unsigned thread) {
  drain(epoch, thread);
  for (unsigned i = 0; i < threads(); ++i) drain_share(epoch, (thread + i) % threads(), thread);
}

void ThreadPool::aim(ReadAhead& ahead, uint32_t epoch, unsigned thread) const {
  const Reads next{next_data_.load(), next_item_bytes_.load(), next_items_.load()};
  if (epoch_of(ticket_.load()) != epoch) return;
  ahead.aim(first_reads(next, thread, threads()));
}

void ThreadPool::wait_for_news(uint32_t seen, ReadAhead& ahead) {
  const auto news = [&] { return epoch_.load(std::memory_order_acquire) != seen; };
  if (!spin_until(news, ahead)) epoch_.wait(seen);
}

}  // namespace vivace
