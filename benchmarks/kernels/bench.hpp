// What the benchmarks of kernels share: the machine, steps to run ops on, results and their table.
#pragma once

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "ops.hpp"
#include "peaks.hpp"

namespace vivace::bench {

constexpr int kMostRows = 4096;
constexpr double kSecondsPerCase = 0.12;

struct Machine {
  Runtime& runtime;
  const Memory& arena;  // larger than the caches, filled with one small value

  double read() const {
    return read_bandwidth(runtime.pool, arena.at(), arena.bytes() / 2);
  }
  OpContext context(DType dtype = DType::bfloat16) const {
    return {runtime, dtype, kMostRows, kMostRows};
  }
};

// A limit: bytes or operations per second.
//   letter: r a streaming read, c a plain copy, p the arithmetic peak.
struct Limit {
  char letter;
  double rate;
  double work;  // bytes or operations of one run

  double share(double seconds) const { return work / seconds / rate; }
};

// One op's time beside its limits; the nearest one is what it could be at best.
struct Result {
  std::string op;
  std::string shape;
  int size;  // of the table's column
  double seconds;
  std::vector<Limit> limits;

  const Limit& nearest() const {
    return *std::max_element(limits.begin(), limits.end(), [&](const Limit& a, const Limit& b) {
      return a.share(seconds) < b.share(seconds);
    });
  }
  double share() const { return nearest().share(seconds); }
};

// Prints results as tables, and keeps them. A share below `kSlow` is marked.
class Report {
 public:
  static constexpr double kSlow = 0.5;

  // columns: what they stand for and their sizes.
  void table(const std::string& op, const std::string& what, const std::vector<int>& columns);
  void line(const std::string& shape);
  // The next cell of the line.
  void add(int size, double seconds, std::vector<Limit> limits);
  void slowest() const;
  void write_json(const std::string& path, const Machine& machine) const;

 private:
  std::string op_, shape_;
  std::vector<Result> results_;
};

// What a batch points to: sequences of `context` positions, of which the last `rows` are computed.
struct Step {
  std::vector<std::int32_t> tokens, positions, starts, lengths, table, sequence_of, logit_rows;

  Step(int sequences, int context, int rows) {
    for (int s = 0; s < sequences; ++s) {
      starts.push_back(s * rows);
      lengths.push_back(context);
      for (int row = 0; row < rows; ++row) {
        positions.push_back(context - rows + row);
        sequence_of.push_back(s);
      }
    }
    starts.push_back(sequences * rows);
    tokens.assign(positions.size(), 0);
    logit_rows.resize(tokens.size());
    std::iota(logit_rows.begin(), logit_rows.end(), 0);
  }
  explicit Step(int rows) : Step(1, rows, rows) {}

  Batch batch() const {
    const int sequences = int(lengths.size());
    const int width = int(table.size()) / sequences;
    return {tokens, positions, starts, lengths, {{table.data(), sequences, width}}, logit_rows};
  }
};

// The median time of run(i) over about `kSecondsPerCase`.
template <class Run>
double median_seconds(Run run) {
  std::vector<double> times;
  const double stop = now() + kSecondsPerCase;
  for (int i = 0; times.size() < 5 || now() < stop; ++i) {
    const double start = now();
    run(i);
    times.push_back(now() - start);
  }
  std::nth_element(times.begin(), times.begin() + times.size() / 2, times.end());
  return times[times.size() / 2];
}

// Ops that are run in turn, so that each finds what it reads in memory and not in a cache.
class Turns {
 public:
  void add(OpPtr op) {
    if (op->scratch_bytes() > scratch_.bytes()) scratch_ = Memory(op->scratch_bytes());
    ops_.push_back(std::move(op));
  }
  double seconds(Runtime& runtime, const Step& step) const {
    const Batch batch = step.batch();
    const Frame frame{runtime, batch, step.sequence_of.data(), scratch_.at()};
    return median_seconds([&](int i) { ops_[i % ops_.size()]->run(frame); });
  }

 private:
  std::vector<OpPtr> ops_;
  Memory scratch_;
};

void bench_linears(const Machine& machine, const std::string& format, Report& report);
void bench_experts(const Machine& machine, Report& report);
void bench_attention(const Machine& machine, Report& report);
void bench_rows(const Machine& machine, Report& report);
void bench_draws(const Machine& machine, Report& report);

}  // namespace vivace::bench
