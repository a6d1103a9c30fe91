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
      for (int r = 0; r < Rows; ++r) {
        for (I16& sum : tile[r]) sum = broadcast_int(starts[r]);
      }
      const auto at = tile_operands<CodeStep, Rows, kVectors>(block.rows, block.panel, vector);
      accumulate_tile<CodeStep>(tile, at, steps, Prefetch<Lines>{block.ahead, block.ahead_step});
      for (int v = 0; v < kVectors; ++v) {
        const V16 scale = load(scales + 16 * (vector + v));
        for (int r = 0; r < Rows; ++r) {
          store(sums[r] + 16 * (vector + v), to_float(tile[r][v]) * scale);
        }
      }
    }
  }
};

// Where a group of an int4 panel stands.
//   ahead: what to bring into cache at its first step.
struct NibbleGroup {
  const char* codes;
  const char* rows;
  const std::int32_t* starts;
  const std::uint8_t* zeros;  // or null
  const char* ahead;
  int steps;
};

template <int Rows>
static void add_total(float (*sums)[kPanelColumns], const I16 (&tile)[Rows][2],
                      const std::uint16_t* scales) {
  const V16 low = load_f16(scales), high = load_f16(scales + 16);
  for (int r = 0; r < Rows; ++r) {
    store(sums[r], fma(to_float(tile[r][0]), low, load(sums[r])));
    store(sums[r] + 16, fma(to_float(tile[r][1]), high, load(sums[r] + 16)));
  }
}

// int8 rows times int4 panels: an exact sum for each group, scaled and added up in order.
struct Int4Product {
  static constexpr int kMaxRows = kInt4Rows;
  static constexpr int kStepBytes = kNibbleStep;

  template <int Rows, int Lines>
  VIVACE_INLINE void multiply(const Block& block, float (*sums)[kPanelColumns]) {
    const PackedMatrix& weights = block.task->weights;
    const NibblePanel panel = nibble_panel(weights.format, weights.k);
    const int steps = weights.format.group / CodeStep::kDepth;
    NibbleGroup group{.codes = block.panel,
                      .rows = block.rows,
                      .starts = row_sums(block.task->rows).of_block(block.first_row),
                      .zeros = panel.zeros(block.panel, 0),
                      .ahead = block.ahead,
                      .steps = steps};
    clear<Rows>(sums);
    for (int g = 0; g < panel.groups; ++g) {
      add_group<Rows>(group, block.ahead_step, sums);
      group.codes += panel.group_bytes;
      group.rows += std::int64_t(steps) * Rows * CodeStep::kRowBytes;
      group.starts += Rows;
      if (group.zeros != nullptr) group.zeros += kPanelColumns;
      group.ahead += (steps + 1) * block.ahead_step;
    }
  }

 private:
  template <int Rows>
  VIVACE_INLINE void add_group(const NibbleGroup& group, std::int64_t ahead_step,
                               float (*sums)[kPanelColumns]) {
    I16 tile[Rows][2];
    start<Rows>(group, tile);
#pragma GCC unroll 4
    for (int s = 0; s < group.steps; ++s) {
      prefetch(group.ahead + s * ahead_step);
      Codes low, high;
      load_nibbles(group.codes + s * kNibbleStep, low, high);
      const char* rows = group.rows + std::int64_t(s) * Rows * CodeStep::kRowBytes;
#pragma GCC unroll 16
      for (int r = 0; r < Rows; ++r) {
        tile[r][0] = dot(tile[r][0], rows + r * CodeStep::kRowBytes, low);
        tile[r][1] = dot(tile[r][1], rows + r * CodeStep::kRowBytes, high);
      }
    }
    prefetch(group.ahead + group.steps * ahead_step);
    add_total<Rows>(sums, tile, (const std::uint16_t*)(group.codes + group.steps * kNibbleStep));
  }

  template <int Rows>
  VIVACE_INLINE void start(const NibbleGroup& group, I16 (&tile)[Rows][2]) {
    for (int r = 0; r < Rows; ++r) {
      tile[r][0] = tile[r][1] = broadcast_int(group.starts[r]);
    }
    if (group.zeros == nullptr) return;
    const I16 low = load_bytes(group.zeros), high = load_bytes(group.zeros + 16);
    for (int r = 0; r < Rows; ++r) {
      const I16 sum = broadcast_int(group.starts[r] / 8);
      tile[r][0] = sum * low;
      tile[r][1] = sum * high;
    }
  }
};

// bfloat16 rows times int4 panels: codes are widened, less their zero points, which is exact.
struct WideInt4Product {
  using Step = BFloat16Step;
  static constexpr int kMaxRows = kBFloat16Rows;
  static constexpr int kStepBytes = kNibbleStep;
  static constexpr int kChunk = 32;  // depth that is widened at a time; divides every group

  template <int Rows, int Lines>
  VIVACE_INLINE void multiply(const Block& block, float (*sums)[kPanelColumns]) {
    constexpr int kChunkBytes = kChunk / 4 * kNibbleStep;
    constexpr int kRowStep = kChunk / Step::kDepth * Rows * Step::kRowBytes;
    const PackedMatrix& weights = block.task->weights;
    const NibblePanel panel = nibble_panel(weights.format, weights.k);
    const char* rows = block.rows;
    clear<Rows>(sums);
    for (int g = 0; g < panel.groups; ++g) {
      const char* const codes = block.panel + g * panel.group_bytes;
      const std::uint8_t* zeros = panel.zeros(block.panel, g);
      alignas(kAlignment) float group[Rows][kPanelColumns];
      clear<Rows>(group);
      for (int k = 0; k < weights.format.group; k += kChunk, rows += kRowStep) {
        alignas(kAlignment) std::uint16_t wide[kChunk * kPanelColumns];
        widen(codes + k / kChunk * kChunkBytes, zeros, wide);
        add_chunk<Rows>(rows, (const char*)wide, group);
      }
      add_total<Rows>(sums, group, (const std::uint16_t*)(codes + panel.group_bytes) - 32);
    }
  }

 private:
  // As a bfloat16 panel: [kChunk / 2][32][2].
  static void widen(const char* codes, const std::uint8_t* zeros, std::uint16_t* wide) {
    for (int k = 0; k < kChunk; ++k) {
      for (int c = 0; c < kPanelColumns; ++c) {
        const int byte = (unsigned char)codes[k / 4 * kNibbleStep + c % 16 * 4 + k % 4];
        const int code = c < 16 ? byte & 15 : byte >> 4;
        const float value = static_cast<float>(code - (zeros != nullptr ? zeros[c] : 8));
        std::uint32_t bits;
        std::memcpy(&bits, &value, 4);
        wide[(k / 2 * kPanelColumns + c) * 2 + k % 2] = static_cast<std::uint16_t>(bits >> 16);
      }
    }
  }

  template <int Rows>
  VIVACE_INLINE void add_chunk(const char* rows, const char* wide, float (*sums)[kPanelColumns]) {
    constexpr int kVectors = tile_vectors(Rows);
    for (int vector = 0; vector < kPanelColumns / 16; vector += kVectors) {
      V16 tile[Rows][kVectors];
      for (int r = 0; r < Rows; ++r) {
        for (int v = 0; v < kVectors; ++v) tile[r][v] = load(sums[r] + 16 * (vector + v));
      }
      const auto at = tile_operands<Step, Rows, kVectors>(rows, wide, vector);
      accumulate_tile<Step>(tile, at, kChunk / Step::kDepth, Prefetch<0>{});
      for (int r = 0; r < Rows; ++r) {
        for (int v = 0; v < kVectors; ++v) store(sums[r] + 16 * (vector + v), tile[r][v]);
      }
    }
  }

  template <int Rows>
  VIVACE_INLINE void add_total(float (*sums)[kPanelColumns], const float (*group)[kPanelColumns],
                               const std::uint16_t* scales) {
    const V16 low = load_f16(scales), high = load_f16(scales + 16);
    for (int r = 0; r < Rows; ++r) {
      store(sums[r], fma(load(group[r]), low, load(sums[r])));
      store(sums[r] + 16, fma(load(group[r] + 16), high, load(sums[r] + 16)));
    }
  }
};

}  // namespace vivace::VIVACE_ISA
