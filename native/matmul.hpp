// Linear layers within an op: rows are normed and packed, then multiplied panel by panel.
#pragma once

#include <algorithm>
#include <optional>

#include "op.hpp"

namespace vivace {

// Rows of activations as weights of `format` take them.
PackedRows packed_rows(const WeightFormat& format, int m, int k, void* data);

// Packs up to `max_rows` rows of one width, normed on the way where there is a norm, and repeated
// for weights of several planes.
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
      kernels.pack_row(prepared(frame, row(i), thread), packed, i);
    });
    return packed;
  }

 private:
  PackedRows rows_of(const Frame& frame, int rows) const {
    return packed_rows(format_, rows, width_ * planes_, packed_.in(frame.scratch));
  }

  const float* prepared(const Frame& frame, const float* values, unsigned thread) const {
    if (!norm_ && planes_ == 1) return values;
    float* const row = prepared_.in(frame.scratch) + thread * stride_;
    if (norm_) {
      frame.runtime.kernels.rows.normalize(values, norm_->task(), row);
    } else {
      std::copy_n(values, width_, row);
    }
    for (int plane = 1; plane < planes_; ++plane) std::copy_n(row, width_, row + plane * width_);
    return row;
  }

  WeightFormat format_;
  int width_ = 0;
  int planes_ = 1;
  std::size_t stride_ = 0;
  std::optional<Norm> norm_;
  Scratch<char> packed_;
  Scratch<float> prepared_;  // a row per thread
};

// Whether a matmul waits for memory rather than for products.
bool reads_weights_once(const GemmTask& task);

// body(begin, end) for ranges of `panels` of matmuls like `task`, shared among the threads. Few
// rows wait for memory, which is read in a stream for each thread; many rows take panels that stay
// in cache from one group of rows to the next.
//   next: what the matmul after these reads.
template <typename Body>
void for_panels(Runtime& runtime, const GemmTask& task, int panels, const Reads& next, Body body) {
  constexpr double kSmall = 1 << 15;  // products that take less time than a second thread's start
  constexpr std::uint32_t kMostPanels = 8;
  const auto range = [&](std::size_t begin, std::size_t end, unsigned) {
    body(static_cast<int>(begin), static_cast<int>(end));
  };
  ThreadPool& pool = runtime.pool;
  if (!reads_weights_once(task)) return pool.parallel_ranges(panels, {1, kMostPanels}, range);
  const double products = double(panels) * kPanelColumns * task.rows.k * task.rows.m;
  if (products < kSmall) return body(0, panels);
  pool.parallel_shares(panels, next, range);
}

// Runs one matmul, its panels shared among the threads.
void multiply(Runtime& runtime, const GemmTask& task, const Reads& next = {});

}  // namespace vivace
