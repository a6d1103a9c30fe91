// Low-rank adapters beside linear layers (Hu et al., LoRA, 2021). Each row of a batch may have one
// of its own: it is added to the layer's sums, and never merged into the layer's weights.
#pragma once

#include <optional>
#include <vector>

#include "matmul.hpp"

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
  // Whether rows of this step have an adapter here.
  bool applies(const Frame& frame) const;
  // sums.row(i) += multiplier * what row i's adapter makes of x.row(i), if it has one.
  void add(const Frame& frame, Rows x, Rows sums, float multiplier) const;
  void narrow(BatchBounds& bounds) const;

 private:
  void add_one(const Frame& frame, const LowRank& adapter, Ints rows, Rows x, Rows sums,
               float multiplier) const;
  // Its rows' products with b, from their inner values.
  Rows product_of(const Frame& frame, const LowRankPart& part, Rows inner, int count) const;

  LinearPtr linear_;
  WeightFormat format_;
  RowPacker packer_;
  Scratch<float> inner_, product_;
  Scratch<char> packed_;
};

}  // namespace vivace
