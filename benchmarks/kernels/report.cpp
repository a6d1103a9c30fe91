#include <cstdio>
#include <cstdlib>

#include "bench.hpp"

namespace vivace::bench {

void Report::table(const std::string& op, const std::string& what,
                   const std::vector<int>& columns) {
  op_ = op;
  std::printf("\n\n%s\n  %-18s", op.c_str(), what.c_str());
  for (const int column : columns) std::printf(" %7d", column);
}

void Report::line(const std::string& shape) {
  shape_ = shape;
  std::printf("\n  %-18s", shape.c_str());
}

void Report::add(int size, double seconds, std::vector<Limit> limits) {
  results_.push_back({op_, shape_, size, seconds, std::move(limits)});
  const Result& result = results_.back();
  std::printf(" %5.0f%c%c", result.share() * 100, result.nearest().letter,
              result.share() < kSlow ? '!' : ' ');
  std::fflush(stdout);
}

void Report::slowest() const {
  constexpr std::size_t kShown = 12;
  std::vector<const Result*> order;
  for (const Result& result : results_) order.push_back(&result);
  const std::size_t shown = std::min(kShown, order.size());
  std::partial_sort(order.begin(), order.begin() + shown, order.end(),
                    [](const Result* a, const Result* b) { return a->share() < b->share(); });
  std::printf("\n\nFurthest from their limits:\n");
  for (std::size_t i = 0; i < shown; ++i) {
    const Result& result = *order[i];
    std::printf("  %3.0f%c  %9.1f us  %s, %s, %d\n", result.share() * 100,
                result.nearest().letter, result.seconds * 1e6, result.op.c_str(),
                result.shape.c_str(), result.size);
  }
}

void Report::write_json(const std::string& path, const Machine& machine) const {
  std::FILE* const file = std::fopen(path.c_str(), "w");
  if (file == nullptr) {
    std::perror(path.c_str());
    std::exit(1);
  }
  std::fprintf(file, "{\"isa\": \"%s\", \"threads\": %u, \"results\": [",
               isa_name(machine.runtime.kernels.isa).data(), machine.runtime.pool.threads());
  const char* separator = "\n";
  for (const Result& result : results_) {
    std::fprintf(file,
                 "%s  {\"op\": \"%s\", \"shape\": \"%s\", \"size\": %d, \"microseconds\": %.2f, "
                 "\"limit\": \"%c\", \"share\": %.3f, \"limits\": {",
                 separator, result.op.c_str(), result.shape.c_str(), result.size,
                 result.seconds * 1e6, result.nearest().letter, result.share());
    const char* comma = "";
    for (const Limit& limit : result.limits) {
      std::fprintf(file, "%s\"%c\": {\"per_second\": %.4g, \"work\": %.0f}", comma, limit.letter,
                   limit.rate, limit.work);
      comma = ", ";
    }
    std::fprintf(file, "}}");
    separator = ",\n";
  }
  std::fprintf(file, "\n]}\n");
  std::fclose(file);
}

}  // namespace vivace::bench
