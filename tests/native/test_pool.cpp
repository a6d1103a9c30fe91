// Loops of the thread pool: every item once, whatever loops come before and after; and what
// threads read ahead.
#include <atomic>

#include "support.hpp"
#include "thread_pool.hpp"
#include "weights.hpp"

namespace vivace::tests {
namespace {

class Visits {
 public:
  explicit Visits(std::size_t count) : times_(count) {}

  void add(std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) ++times_[i];
  }
  bool once() const {
    return std::all_of(times_.begin(), times_.end(), [](const auto& times) { return times == 1; });
  }

 private:
  std::vector<std::atomic<int>> times_;
};

// Loops of both kinds by turns: a worker that comes late to one must take nothing from the next.
void test_loops(unsigned threads, Checks& checks) {
  constexpr int kRounds = 3000;
  const std::vector<char> data(1 << 16);
  ThreadPool pool(threads);
  for (int round = 0; round < kRounds; ++round) {
    const std::size_t count = round % 97;
    Visits shared(count), claimed(count);
    const auto visit = [](Visits& visits) {
      return [&](std::size_t begin, std::size_t end, unsigned) { visits.add(begin, end); };
    };
    pool.parallel_shares(count, {data.data(), 64, count}, visit(shared));
    pool.parallel_ranges(count, {1, 4}, visit(claimed));
    checks.that(shared.once(), "%u threads: %zu shared items, not each once", threads, count);
    checks.that(claimed.once(), "%u threads: %zu claimed items, not each once", threads, count);
  }
}

// More items than a share's halves can count.
void test_many_items(Checks& checks) {
  constexpr std::size_t kItems = 70000;
  ThreadPool pool(3);
  Visits visits(kItems);
  pool.parallel_shares(kItems, {}, [&](std::size_t begin, std::size_t end, unsigned) {
    visits.add(begin, end);
  });
  checks.that(visits.once(), "%zu shared items, not each once", kItems);
}

void test_first_reads(const Linear& linear, unsigned threads, Checks& checks) {
  const Reads reads = linear.reads();
  const char* const data = linear.panels.get();
  const char* from = data;
  for (unsigned thread = 0; thread < threads; ++thread) {
    const Bytes first = first_reads(reads, thread, threads);
    const bool inside = from <= first.begin && first.begin <= first.end &&
                        first.end <= data + linear.nbytes();
    checks.that(inside, "%d x %d, thread %u of %u: reads outside its share", linear.n(),
                linear.k(), thread, threads);
    from = data + share_of(reads.items, thread, threads).end * linear.panel_bytes;
    checks.that(first.end <= from, "%d x %d, thread %u of %u: reads into the next share",
                linear.n(), linear.k(), thread, threads);
  }
  checks.that(from == data + linear.nbytes(), "%d x %d: shares end before the weights", linear.n(),
              linear.k());
}

}  // namespace

void test_pool(Checks& checks) {
  for (unsigned threads = 1; threads <= 4; ++threads) test_loops(threads, checks);
  test_many_items(checks);
}

void test_reads(Isa isa, Checks& checks) {
  Runtime runtime(1, isa);
  const int shapes[][2] = {{1, 64}, {33, 72}, {90, 520}, {4100, 256}};
  for (const WeightFormat format : {WeightFormat{WeightKind::float32, RowKind::float32},
                                    WeightFormat{WeightKind::bfloat16, RowKind::bfloat16},
                                    WeightFormat{WeightKind::int8, RowKind::int8},
                                    WeightFormat{WeightKind::int4, RowKind::int8, 32, true}}) {
    for (const auto& [n, k] : shapes) {
      Linear linear(runtime, {.format = format, .n = n, .k = k}, {});
      linear.take_memory(runtime);
      for (unsigned threads = 1; threads <= 4; ++threads) {
        test_first_reads(linear, threads, checks);
      }
    }
  }
}

}  // namespace vivace::tests
