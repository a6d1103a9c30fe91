// Attention over pages. Every run uses other pages, shuffled, of a cache larger than the
// processor's.
#include <cstring>
#include <random>

#include "bench.hpp"

namespace vivace::bench {
namespace {

constexpr std::size_t kCacheBytes = std::size_t(1) << 29;
const std::vector<int> kContexts = {64, 256, 1024, 4096};

struct Heads {
  const char* name;
  int queries, pairs, width;
};

constexpr Heads kHeads[] = {{"32 heads, 4 of 64", 32, 4, 64},
                            {"32 heads, 8 of 128", 32, 8, 128},
                            {"16 heads, 1 of 128", 16, 1, 128},
                            {"32 heads, 32 of 64", 32, 32, 64}};

// One layer's pages, and its attention for rows of a constant.
class Layer {
 public:
  Layer(const Machine& machine, const Heads& heads)
      : machine_(machine),
        heads_(heads),
        layout_{DType::bfloat16, heads.pairs, heads.width},
        width_(heads.queries * heads.width),
        queries_(2 * std::size_t(kMostRows) * width_, 0.3f),
        out_(queries_.size() / 2),
        pages_(kCacheBytes / page_bytes(layout_)) {
    const auto cache = std::make_shared<KVCache>(layout_, 1, int(pages_.size()));
    fill(*cache);
    std::iota(pages_.begin(), pages_.end(), 0);
    std::shuffle(pages_.begin(), pages_.end(), std::mt19937(1));
    const AttentionOp op{cache, 0, 0, heads.queries, 1.0f / float(heads.width), 0, 0.0f, nullptr};
    op_ = make_attention(machine.context(), {queries_.data(), width_}, op, {out_.data(), width_});
    scratch_ = Memory(op_->scratch_bytes());
  }

  double seconds(Step step) {
    return median_seconds([&](int) {
      for (std::int32_t& page : step.table) page = pages_[next_++ % pages_.size()];
      const Batch batch = step.batch();
      op_->run({machine_.runtime, batch, step.sequence_of.data(), scratch_.at()});
    });
  }

  // Of the pages and the products of one run.
  double bytes(const Step& step) const { return double(step.table.size()) * page_bytes(layout_); }
  double operations(const Step& step) const {
    double pairs = 0;
    for (const std::int32_t position : step.positions) pairs += position + 1;
    return 4.0 * width_ * pairs;
  }

 private:
  // Small values of both signs.
  void fill(const KVCache& cache) const {
    std::mt19937 random(2);
    std::vector<std::uint16_t> pattern(4096 + 7);
    for (std::uint16_t& value : pattern) value = std::uint16_t(0x3c00 | (random() & 0x80ff));
    const std::size_t bytes = pattern.size() * 2;
    for (std::size_t at = 0; at + bytes < cache.memory.bytes(); at += bytes) {
      std::memcpy(cache.memory.at(at), pattern.data(), bytes);
    }
  }

  const Machine& machine_;
  Heads heads_;
  KVLayout layout_;
  int width_;
  std::vector<float> queries_, out_;
  std::vector<std::int32_t> pages_;
  std::size_t next_ = 0;
  OpPtr op_;
  Memory scratch_;
};

Step step_of(int sequences, int context, int rows) {
  Step step(sequences, context, rows);
  step.table.resize(std::size_t(sequences) * ((context + kPageTokens - 1) / kPageTokens));
  return step;
}

}  // namespace

void bench_attention(const Machine& machine, Report& report) {
  const double peak = arithmetic_peak(machine.runtime.pool, machine.runtime.kernels.isa,
                                      RowKind::bfloat16);
  for (const Heads& heads : kHeads) {
    Layer layer(machine, heads);
    const double read = machine.read();
    const auto cell = [&](const Step& step, int context) {
      report.add(context, layer.seconds(step),
                 {{'r', read, layer.bytes(step)}, {'p', peak, layer.operations(step)}});
    };
    report.table("attention, " + std::string(heads.name), "context", kContexts);
    for (const int sequences : {1, 4, 16}) {
      report.line("decode " + std::to_string(sequences));
      for (const int context : kContexts) cell(step_of(sequences, context, 1), context);
    }
    report.line("prefill");
    for (const int context : kContexts) cell(step_of(1, context, context), context);
  }
}

}  // namespace vivace::bench
