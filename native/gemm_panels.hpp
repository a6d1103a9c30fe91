// How weights lie in panels (kernels.hpp has the layouts).
#pragma once

#include "gemm_rows.hpp"

namespace vivace::VIVACE_ISA {

// int4: bytes of four codes of each column.
constexpr int kNibbleStep = 64;

struct NibblePanel {
  int groups;
  std::int64_t group_bytes;  // codes and scales
  bool zero_points;

  std::int64_t zeros_offset() const { return groups * group_bytes; }
  std::int64_t bytes() const {
    return zeros_offset() + (zero_points ? whole_lines(std::int64_t(groups) * kPanelColumns) : 0);
  }
  // Zero points of a group, or null.
  const std::uint8_t* zeros(const char* panel, int group) const {
    if (!zero_points) return nullptr;
    return (const std::uint8_t*)panel + zeros_offset() + std::int64_t(group) * kPanelColumns;
  }
};

VIVACE_INLINE NibblePanel nibble_panel(const WeightFormat& format, int k) {
  const std::int64_t codes = std::int64_t(format.group) / 4 * kNibbleStep;
  return {units(k, format.group), codes + 2 * kPanelColumns, format.zero_points};
}

// Depth of a panel in units of one word (4 bytes) per column, scales aside.
VIVACE_INLINE int panel_words(const WeightFormat& format, int k) {
  if (format.kind == WeightKind::float32) return k;
  if (format.kind == WeightKind::int8) return units(k, 64) * 16;
  const int depth = row_layout(format.rows, format.group, 1).depth;
  return units(k, depth) * depth / 2;
}

static std::size_t panel_bytes(const WeightFormat& format, int k) {
  if (format.kind == WeightKind::int4) return nibble_panel(format, k).bytes();
  const int scale_words = format.kind == WeightKind::int8 ? 1 : 0;
  return std::size_t(panel_words(format, k) + scale_words) * kPanelColumns * 4;
}

VIVACE_INLINE const char* panel_at(const PackedMatrix& weights, int index) {
  return (const char*)weights.panels + index * std::int64_t(panel_bytes(weights.format, weights.k));
}

}  // namespace vivace::VIVACE_ISA
