// Tile products of one row block, past which panels stream once.
//
// Memory is to be read all the time, so nothing but the products of int4 panels has a time of its
// own: a group is unpacked while the one before it is multiplied, and the sums of the one before
// that are scaled and added meanwhile, a part after each pair of products.
#pragma once

#include "gemm_epilogue.hpp"
#include "gemm_tiles_int4.hpp"
#include "gemm_tiles_whole.hpp"

namespace vivace::VIVACE_ISA {

// How far ahead a panel is read.
constexpr std::int64_t kTileStreamAhead = 3072;

template <class Tiles>
struct LoneWhole {
  template <bool Two>
  static void multiply(const GemmTask& task, int begin, int end) {
    using Block = TileBlock<Tiles, Two, false>;
    alignas(kAlignment) TileSums sums;
    const TileRows rows{(const char*)task.rows.data, task.rows.m};
    const int steps = WholeTiles<Tiles>::shape(task).units;
    for (int p = begin; p < end; ++p) {
      const char* const panel = panel_at(task.weights, p);
      const char* columns = panel;
      Block::clear();
      for (int s = 0; s < steps; ++s, columns += kTileStepBytes) {
        Block::step(rows.at(s * kTileRowBytes), columns);
        for (int line = 0; line < kTileStepBytes; line += 64) {
          prefetch(columns + kTileStreamAhead + line);
        }
      }
      Block::store(sums);
      WholeTiles<Tiles>::finish(task, panel, 0, rows.count, sums);
      write_sums(task, p, 0, rows.count, sums);
    }
  }
};

// The groups of consecutive panels, one after the other; behind the last stands the last.
class NibbleStream {
 public:
  NibbleStream(const PackedMatrix& weights, int begin, int end)
      : layout_(nibble_panel(weights.format, weights.k)),
        panel_(panel_at(weights, begin)),
        left_((end - begin) * layout_.groups) {
    find();
  }

  const char* codes() const { return codes_; }
  const NibbleZeros& zeros() const { return zeros_; }

  void next() {
    if (--left_ <= 0) return;
    if (++group_ == layout_.groups) {
      group_ = 0;
      panel_ += layout_.bytes();
    }
    find();
  }

 private:
  void find() {
    codes_ = panel_ + group_ * layout_.group_bytes;
    zeros_ = nibble_zeros(layout_.zeros(panel_, group_));
  }

  NibblePanel layout_;
  const char* panel_;
  const char* codes_;
  NibbleZeros zeros_;
  int group_ = 0;
  int left_;
};

template <class Code, int Group>
class LoneGroups {
 public:
  template <bool Two>
  static void multiply(const GemmTask& task, int begin, int end) {
    LoneGroups(task, begin, end).template run<Two>(begin, end);
  }

 private:
  static constexpr int kStepBytes = Group * Code::kBytes < 64 ? Group * Code::kBytes : 64;
  static constexpr int kSteps = Group * Code::kBytes / kStepBytes;
  static constexpr int kParts = 2 * kSteps;
  static constexpr int kPartDepth = Group / kParts;

  LoneGroups(const GemmTask& task, int begin, int end)
      : task_(task),
        rows_{(const char*)task.rows.data, task.rows.m},
        share_((task.rows.m + kParts - 1) / kParts),
        coming_(task.weights, begin, end) {}

  template <bool Two>
  void run(int begin, int end) {
    const int groups = nibble_panel(task_.weights.format, task_.weights.k).groups;
    for (int part = 0; part < kParts; ++part) unpack_part(part, columns_[0]);
    for (int p = begin; p < end; ++p) {
      clear(totals_, rows_.count);
      pending_ = nullptr;
      for (int g = 0; g < groups; ++g) multiply_group<Two>(g * kSteps * kStepBytes);
      add_rows(0, rows_.count);
      write_sums(task_, p, 0, rows_.count, totals_);
    }
  }

  template <bool Two>
  inline __attribute__((always_inline)) void multiply_group(int depth) {
    using Block = TileBlock<typename Code::Tiles, Two, false>;
    const char* const scales = coming_.codes() + Group / 4 * kNibbleStep;
    coming_.next();
    const char* const columns = columns_[turn_];
    tile_fence();
    Block::clear();
#pragma GCC unroll 4
    for (int s = 0; s < kSteps; ++s) {
      int part = 2 * s;
      Block::step(rows_.at(depth + s * kStepBytes), columns + s * kStepBytes * kPanelColumns, [&] {
        unpack_part(part, columns_[1 - turn_]);
        add_rows(part * share_, (part + 1) * share_);
        tile_fence();
        ++part;
      });
    }
    Block::store(sums_[turn_]);
    pending_ = scales;
    turn_ = 1 - turn_;
  }

  inline __attribute__((always_inline)) void unpack_part(int part, char* columns) {
    const char* const codes = coming_.codes() + part * kPartDepth / 4 * kNibbleStep;
    for (int line = 0; line < kPartDepth / 4 * kNibbleStep; line += 64) {
      prefetch_second_level(codes + kTileStreamAhead + line);
    }
    if (part == 0) prefetch_second_level(codes + kTileStreamAhead - 64);  // scales
    unpack<Code>(codes, kPartDepth, coming_.zeros(),
                 columns + part * kPartDepth * Code::kBytes * kPanelColumns);
  }

  // Adds rows [begin, end) of the group before, where there are any.
  inline __attribute__((always_inline)) void add_rows(int begin, int end) {
    if (pending_ == nullptr) return;
    const float(*const sums)[kPanelColumns] = sums_[1 - turn_];
    const V16 low = load_f16((const std::uint16_t*)pending_);
    const V16 high = load_f16((const std::uint16_t*)pending_ + 16);
    for (int r = begin; r < end && r < rows_.count; ++r) {
      store(totals_[r], fma(Code::sums(sums[r]), low, load(totals_[r])));
      store(totals_[r] + 16, fma(Code::sums(sums[r] + 16), high, load(totals_[r] + 16)));
    }
  }

  const GemmTask& task_;
  TileRows rows_;
  int share_;  // rows added at a time
  NibbleStream coming_;
  const char* pending_ = nullptr;  // scales of the group before
  int turn_ = 0;
  alignas(kAlignment) char columns_[2][Group * Code::kBytes * kPanelColumns];
  alignas(kAlignment) TileSums sums_[2];
  alignas(kAlignment) TileSums totals_;
};

}  // namespace vivace::VIVACE_ISA
