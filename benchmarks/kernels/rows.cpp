// Ops that work row by row. They move more than they compute: their limit is a plain copy of rows
// in cache by the same threads, and for tables, which lie in memory, the streaming read too.
#include <cstring>
#include <random>

#include "bench.hpp"

namespace vivace::bench {
namespace {

constexpr int kWidth = 2048, kVocabulary = 32000, kQueryHeads = 32, kHeads = 4, kHeadWidth = 64;
constexpr int kQkvWidth = (kQueryHeads + 2 * kHeads) * kHeadWidth;
const std::vector<int> kRows = {1, 4, 16, 128, 512};

class RowOps {
 public:
  explicit RowOps(const Machine& machine)
      : machine_(machine),
        x_(std::size_t(kRows.back()) * kQkvWidth, 0.5f),
        out_(x_.size()),
        gain_(std::make_shared<Vector>(kWidth, 1.0f)) {}

  OpPtr norm(NormKind kind) {
    return make_norm({x_.data(), kWidth}, {kind, gain_, nullptr, 1e-5f}, {out_.data(), kWidth});
  }

  OpPtr embed(SourceType type) {
    const auto table = std::make_shared<Embedding>(type, kVocabulary, kWidth);
    table->take_memory(machine_.runtime);
    std::memset(table->data.get(), 0x3c, table->nbytes());
    return make_embed({table, nullptr, 1.0f}, {out_.data(), kWidth});
  }

  // Queries turned, keys turned and written, values written.
  OpPtr rotary_write() {
    const int half = kHeadWidth / 2, pages = kRows.back() / kPageTokens;
    const KVLayout layout{DType::bfloat16, kHeads, kHeadWidth};
    const Vector turns(std::size_t(kRows.back()) * half, 0.7f);
    const auto cache = std::make_shared<KVCache>(layout, 1, pages);
    const auto table = std::make_shared<RotaryTable>(RotaryTable{kRows.back(), half, turns, turns});
    const AttentionOp attention{cache, 0, 0, kQueryHeads, 1.0f, 0, 0.0f, nullptr};
    return make_rotary_write(machine_.context(), {x_.data(), kQkvWidth}, attention,
                             {table, {}, {}}, {out_.data(), kQueryHeads * kHeadWidth});
  }

  // Bytes per second, each read and written once.
  double copy_rate(int rows, int width) {
    const double seconds = median_seconds([&](int) {
      for_rows(machine_.runtime, rows, width, [&](int row, unsigned) {
        std::memcpy(out_.data() + std::size_t(row) * width,
                    x_.data() + std::size_t(row) * width, width * sizeof(float));
      });
    });
    return 2.0 * rows * width * sizeof(float) / seconds;
  }

 private:
  const Machine& machine_;
  std::vector<float> x_, out_;
  std::shared_ptr<const Vector> gain_;
};

// Tokens all over the vocabulary; pages in order.
Step step_of(int rows) {
  Step step(rows);
  std::mt19937 random(3);
  for (std::int32_t& token : step.tokens) token = std::int32_t(random() % kVocabulary);
  step.table.resize((rows + kPageTokens - 1) / kPageTokens);
  std::iota(step.table.begin(), step.table.end(), 0);
  return step;
}

// What a run moves, in bytes per row.
struct Traffic {
  int width;             // of the rows that a copy of as much would have
  double moved;          // read and written
  double from_memory = 0;
};

void bench_op(const Machine& machine, RowOps& ops, OpPtr op, const Traffic& traffic,
              Report& report) {
  Turns turns;
  turns.add(std::move(op));
  const double read = machine.read();
  for (const int m : kRows) {
    report.add(m, turns.seconds(machine.runtime, step_of(m)),
               {{'c', ops.copy_rate(m, traffic.width), m * traffic.moved},
                {'r', read, m * traffic.from_memory}});
  }
}

}  // namespace

void bench_rows(const Machine& machine, Report& report) {
  RowOps ops(machine);
  report.table("rows of 2048", "rows", kRows);
  constexpr double kOut = kWidth * sizeof(float);
  for (const auto& [name, kind] : {std::pair{"rms norm", NormKind::rms},
                                   std::pair{"layer norm", NormKind::layer}}) {
    report.line(name);
    bench_op(machine, ops, ops.norm(kind), {kWidth, 2 * kOut}, report);
  }
  for (const auto& [name, type] : {std::pair{"embed bfloat16", SourceType::bfloat16},
                                   std::pair{"embed int8", SourceType::int8}}) {
    const double row = double(table_row_bytes(type, kWidth));
    report.line(name);
    bench_op(machine, ops, ops.embed(type), {kWidth, row + kOut, row}, report);
  }
  constexpr double kQueries = 2.0 * kQueryHeads * kHeadWidth * sizeof(float);
  constexpr double kPages = 2.0 * kHeads * kHeadWidth * (sizeof(float) + sizeof(std::uint16_t));
  report.line("rotary and write");
  bench_op(machine, ops, ops.rotary_write(), {kQkvWidth, kQueries + kPages}, report);
}

}  // namespace vivace::bench
