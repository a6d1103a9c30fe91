// Drawing a token from a row of logits, on one thread; its limit is a plain read of the row, which
// the head has just written.
#include <limits>
#include <random>

#include "bench.hpp"
#include "row_sampler.hpp"

namespace vivace::bench {
namespace {

const std::vector<int> kSizes = {32000, 128256, 262144};

struct Kind {
  const char* name;
  int count;  // top-k
  double top_p;
};

constexpr Kind kKinds[] = {
    {"any token", 0, 1.0}, {"top-k 50", 50, 1.0}, {"top-p 0.95", 0, 0.95}, {"both", 50, 0.95}};

// As wide as the logits of a trained model.
std::vector<float> logits(int size) {
  std::mt19937 random(4);
  std::normal_distribution<float> normal(0.0f, 3.0f);
  std::vector<float> values(size);
  for (float& value : values) value = normal(random);
  return values;
}

double draw_seconds(RowSampler& sampler, const std::vector<float>& row, const Kind& kind) {
  DrawTask task{.logits = row.data(), .size = int(row.size())};
  task.best = *std::max_element(row.begin(), row.end());
  task.least = -std::numeric_limits<float>::infinity();
  task.count = kind.count == 0 ? task.size : kind.count;
  task.top_p = kind.top_p;
  int drawn = 0;
  return median_seconds([&](int i) {
    task.uniform = double(i % 101) / 101;
    drawn += sampler.draw(task);
    __asm__ volatile("" ::"r"(drawn));
  });
}

}  // namespace

void bench_draws(const Machine& machine, Report& report) {
  RowSampler sampler(machine.runtime.kernels.isa);
  report.table("draw", "vocabulary", kSizes);
  for (const Kind& kind : kKinds) {
    report.line(kind.name);
    for (const int size : kSizes) {
      const std::vector<float> row = logits(size);
      const std::size_t bytes = row.size() * sizeof(float);
      report.add(size, draw_seconds(sampler, row, kind),
                 {{'r', cached_read(machine.runtime.pool, row.data(), bytes), double(bytes)}});
    }
  }
}

}  // namespace vivace::bench
