// Linear layers within an op: rows are normed and packed, then multiplied panel by panel.
#pragma once

#include <optional>

#include "op.hpp"

namespace vivace {

// Rows of activations as weights of `format` take them.
PackedRows packed_rows(const WeightFormat& format, int m, int k, void* data);

// Packs up to `max_rows` rows of one width, normed on the way where there is a norm.
class RowPacker {
 public:
  RowPacker() = default;
  // Rows for `linear`.
  RowPacker(const OpContext& context, ScratchLayout& layout, const Linear& linear,
            std::optional<Norm> norm, int max_rows);

  // row(i) is the i-th row's values.
  template <typename Row>
  PackedRows pack(const Frame& frame, int rows, Row row) const {
    const PackedRows packed = rows_of(frame, rows);
    const KernelTable& kernels = frame.runtime.kernels;
    for_rows(frame.runtime, rows, width_, [&](int i, unsigned thread) {
      const float* values = row(i);
      if (norm_) {
        float* const normed = normed_.in(frame.scratch) + thread * stride_;
        kernels.rows.normalize(values, norm_->task(), normed);
        values = normed;
      }
      kernels.pack_row(values, packed, i);
    });
    return packed;
  }

 private:
  PackedRows rows_of(const Frame& frame, int rows) const {
    return packed_rows(format_, rows, width_, packed_.in(frame.scratch));
  }

  WeightFormat format_;
  int width_ = 0;
  std::size_t stride_ = 0;
  std::optional<Norm> norm_;
  Scratch<char> packed_;
  Scratch<float> normed_;  // a row per thread
};

// How many panels of a matmul a thread claims at once.
Claims panel_claims(const Runtime& runtime, const GemmTask& task);

// Runs one matmul, its panels shared among the threads.
void multiply(Runtime& runtime, const GemmTask& task);

}  // namespace vivace
