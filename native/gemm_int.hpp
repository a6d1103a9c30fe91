// Matmuls with int8 and int4 panels (kernels.hpp has their layouts).
#pragma once

#include "gemm_block.hpp"
#include "gemm_panels.hpp"

namespace vivace::VIVACE_ISA {

// int8 rows times int8 panels: one sum over the whole depth.
struct Int8Product {
  static constexpr int kMaxRows = kInt8Rows;
  static constexpr int kStepBytes = kPanelColumns * 4;

  template <int Rows, int Lines>
  VIVACE_INLINE void multiply(const Block& block, float (*sums)[kPanelColumns]) {
    constexpr int kVectors = tile_vectors(Rows);
    const int steps = row_depth(block.task->rows) / CodeStep::kDepth;
    const std::int32_t* starts = row_sums(block.task->rows).of_block(block.first_row);
    const float* scales = (const float*)(block.panel + std::int64_t(steps) * kStepBytes);
    for (int vector = 0; vector < kPanelColumns / 16; vector += kVectors) {
      I16 tile[Rows][kVectors];
#pragma GCC unroll 16
      for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) tile[r][v] = broadcast_int(starts[r]);
      }
      const auto at = tile_operands<CodeStep, Rows, kVectors>(block.rows, block.panel, vector);
      accumulate_tile<CodeStep>(tile, at, steps, Prefetch<Lines>{block.ahead, block.ahead_step});
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        const V16 scale = load(scales + 16 * (vector + v));
#pragma GCC unroll 16
        for (int r = 0; r < Rows; ++r) {
          store(sums[r] + 16 * (vector + v), to_float(tile[r][v]) * scale);
        }
      }
    }
  }
};

// int8 rows times four-bit codes: sums are exact, and begin at minus the zero points times the sum
// of the row's codes.
template <bool ZeroPoints>
struct ExactNibbles {
  static constexpr int kMaxRows = kInt4Rows;
  static constexpr int kRowBytes = CodeStep::kRowBytes;
  using Sum = I16;
  using Columns = Codes;

  ExactNibbles(const Block& block, const NibblePanel& panel)
      : zeros(panel.zeros(block.panel, 0)),
        starts(row_sums(block.task->rows).of_block(block.first_row)) {}

  template <int Rows>
  __attribute__((always_inline)) void begin_group(int group, I16 (&tile)[Rows][2]) {
    const std::int32_t* const start = starts + std::int64_t(group) * Rows;
    if constexpr (ZeroPoints) {
      const I16 low = load_bytes(zeros + group * kPanelColumns);
      const I16 high = load_bytes(zeros + group * kPanelColumns + 16);
#pragma GCC unroll 16
      for (int r = 0; r < Rows; ++r) {
        const I16 sum = broadcast_int(start[r] / 8);
        tile[r][0] = sum * low;
        tile[r][1] = sum * high;
      }
    } else {
#pragma GCC unroll 16
      for (int r = 0; r < Rows; ++r) tile[r][0] = tile[r][1] = broadcast_int(start[r]);
    }
  }
  __attribute__((always_inline)) void load(const char* codes, Codes& low, Codes& high) const {
    load_nibbles(codes, low, high);
  }
  VIVACE_INLINE V16 sum_of(I16 sum) { return to_float(sum); }

  const std::uint8_t* zeros;
  const std::int32_t* starts;
};

// bfloat16 rows times four-bit codes, which are widened, less their zero points: exactly.
struct WideNibbles {
  static constexpr int kMaxRows = kWideRows;
  static constexpr int kRowBytes = WideStep::kRowBytes;
  using Sum = V16;
  using Columns = WideCodes;

  WideNibbles(const Block& block, const NibblePanel& panel)
      : stored(panel.zeros(block.panel, 0)),
        zeros(wide_zeros(broadcast_int(8), broadcast_int(8))) {}

  template <int Rows>
  __attribute__((always_inline)) void begin_group(int group, V16 (&tile)[Rows][2]) {
    if (stored != nullptr) {
      const std::uint8_t* const at = stored + group * kPanelColumns;
      zeros = wide_zeros(load_bytes(at), load_bytes(at + 16));
    }
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r) tile[r][0] = tile[r][1] = zero();
  }
  __attribute__((always_inline)) void load(const char* codes, WideCodes& low,
                                           WideCodes& high) const {
    load_wide(codes, zeros, low, high);
  }
  VIVACE_INLINE V16 sum_of(V16 sum) { return sum; }

  const std::uint8_t* stored;
  WideZeros zeros;
};

// Rows times int4 panels: each group's sums are scaled and added up in order.
template <class Nibbles>
struct Int4Product {
  static constexpr int kMaxRows = Nibbles::kMaxRows;
  static constexpr int kStepBytes = kNibbleStep;
  static constexpr int kUnroll = 4;  // divides the steps of every group

  template <int Rows, int Lines>
  VIVACE_INLINE void multiply(const Block& block, float (*sums)[kPanelColumns]) {
    const PackedMatrix& weights = block.task->weights;
    const NibblePanel panel = nibble_panel(weights.format, weights.k);
    const int steps = weights.format.group / 4;
    const char *codes = block.panel, *rows = block.rows, *ahead = block.ahead;
    Nibbles nibbles(block, panel);
    clear<Rows>(sums);
    for (int group = 0; group < panel.groups; ++group) {
      typename Nibbles::Sum tile[Rows][2];
      nibbles.template begin_group<Rows>(group, tile);
      for (int s = 0; s < steps; s += kUnroll) {
#pragma GCC unroll 4
        for (int i = 0; i < kUnroll; ++i) {
          prefetch_second_level(ahead);
          add_step<Rows>(nibbles, rows, codes, tile);
          ahead += block.ahead_step;
          rows += Rows * Nibbles::kRowBytes;
          codes += kNibbleStep;
        }
      }
      prefetch_second_level(ahead);  // scales take a step of the stream
      ahead += block.ahead_step;
      add_total<Rows>(sums, tile, (const std::uint16_t*)codes);
      codes += 2 * kPanelColumns;
    }
  }

 private:
  template <int Rows>
  VIVACE_INLINE void add_step(const Nibbles& nibbles, const char* rows, const char* codes,
                              typename Nibbles::Sum (&tile)[Rows][2]) {
    typename Nibbles::Columns low, high;
    nibbles.load(codes, low, high);
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r) {
      tile[r][0] = dot(tile[r][0], rows + r * Nibbles::kRowBytes, low);
      tile[r][1] = dot(tile[r][1], rows + r * Nibbles::kRowBytes, high);
    }
  }

  template <int Rows>
  VIVACE_INLINE void add_total(float (*sums)[kPanelColumns],
                               const typename Nibbles::Sum (&tile)[Rows][2],
                               const std::uint16_t* scales) {
    const V16 low = load_f16(scales), high = load_f16(scales + 16);
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r) {
      store(sums[r], fma(Nibbles::sum_of(tile[r][0]), low, load(sums[r])));
      store(sums[r] + 16, fma(Nibbles::sum_of(tile[r][1]), high, load(sums[r] + 16)));
    }
  }
};

}  // namespace vivace::VIVACE_ISA
