// Low-rank adapters beside linear layers (Hu et al., LoRA, 2021). Each row of a batch may have one
// of its own: it is added to the layer's sums, and never merged into the layer's weights.
#pragma once

#include <optional>
#include <vector>

#include "op.hpp"

namespace vivace {

using LinearPtr = std::shared_ptr<const Linear>;

// What is added to outputs [first, first + b->n()) of a layer: scale * b a x.
//   inner: where its share of a's outputs begins.
struct LowRankPart {
  LinearPtr b;
  int first;
  int inner;
  float scale;
};

struct LowRankSource {
  WeightPart a;  // [rank, inputs]
  WeightPart b;  // [outputs, rank]
  int first;
  float scale;
};

// One adapter's share in one layer, in the numbers of a program of `dtype`. Its memory goes with it.
//   a: of all parts, stacked.
struct LowRank {
  LowRank(Runtime& runtime, DType dtype, int inputs, const std::vector<LowRankSource>& sources);

  LinearPtr a;
  std::vector<LowRankPart> parts;
};

// What an op with a linear layer needs to add adapters to its sums: nothing, where the layer has no
// room for any.
class AdapterSum {
 public:
  // norm: what stands between the op's rows and its layer.
  AdapterSum(const OpContext& context, ScratchLayout& layout, const LinearPtr& linear,
             const std::optional<Norm>& norm);

  bool has_room() const { return !linear_->adapters.empty(); }
  // Whether rows of this step have an adapter here, and whether one row has.
  bool applies(const Frame& frame) const;
  bool applies(const Frame& frame, int row) const;
  // sums.row(i) += multiplier * what row i's adapter makes of x.row(i), and then done(i), for each
  // row that has one.
  template <typename Done>
  void add(const Frame& frame, Rows x, Rows sums, float multiplier, Done done) const {
    if (!applies(frame)) return;
    frame.runtime.pool.parallel_for(frame.adapters.size(), [&](std::size_t i, unsigned thread) {
      const AdapterRows& some = frame.adapters[i];
      const LowRank* const adapter = linear_->adapter(some.slot);
      if (adapter == nullptr) return;
      add_some({frame, *adapter, some.rows, thread}, x, sums, multiplier);
      for (const std::int32_t row : some.rows) done(row);
    });
  }
  void narrow(BatchBounds& bounds) const;

 private:
  // One thread's work on some rows.
  struct Work {
    const Frame& frame;
    const LowRank& adapter;
    Ints rows;
    unsigned thread;

    int count() const { return static_cast<int>(rows.size()); }
    const KernelTable& kernels() const { return frame.runtime.kernels; }
  };

  void add_some(const Work& work, Rows x, Rows sums, float multiplier) const;
  // The rows' inner values: a x.
  Rows inner_of(const Work& work, Rows x) const;
  void add_part(const Work& work, const LowRankPart& part, Rows inner, Rows sums,
                float factor) const;
  PackedRows packed(const Work& work, Scratch<char> from, std::size_t bytes, int k) const;

  LinearPtr linear_;
  std::optional<Norm> norm_;
  WeightFormat format_;
  std::size_t row_bytes_ = 0, inner_bytes_ = 0;  // of packed rows
  std::size_t stride_ = 0;
  // Each thread has its own.
  Scratch<char> packed_rows_, packed_inner_;
  Scratch<float> normed_, inner_, product_;
};

}  // namespace vivace
