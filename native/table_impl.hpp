// Rows of token and position tables: see elementwise.hpp for how they are kept.
#pragma once

#include <cstring>

#include "elementwise.hpp"
#include "lanes.hpp"

namespace vivace::VIVACE_ISA {

VIVACE_INLINE V16 load_floats(const void* p, SourceType type, int i, int lanes) {
  if (type == SourceType::float32) return load_lanes(static_cast<const float*>(p) + i, lanes);
  const std::uint16_t* half = static_cast<const std::uint16_t*>(p) + i;
  if (type == SourceType::bfloat16) return load_bf16_partial(half, lanes);
  return load_f16_partial(half, lanes);
}

static float absolute_maximum(const SourceRow& row, int width) {
  V16 most = zero();
  for_lanes(width, [&](int i, int lanes) {
    most = max(most, abs(load_floats(row.values, row.type, i, lanes)));
  });
  return reduce_max(most);
}

VIVACE_INLINE void put_scale(float scale, int width, void* out) {
  std::memcpy(static_cast<char*>(out) + table_scale_offset(width), &scale, sizeof scale);
}

static void round_to_int8(const SourceRow& row, int width, void* out) {
  const float scale = absolute_maximum(row, width) / 127.0f;
  const V16 divisor = broadcast(scale > 0.0f ? scale : __builtin_inff());
  for_lanes(width, [&](int i, int lanes) {
    const V16 code = round(load_floats(row.values, row.type, i, lanes) / divisor);
    const V16 within = min(max(code, broadcast(-127.0f)), broadcast(127.0f));
    store_bytes(static_cast<std::uint8_t*>(out) + i, within + broadcast(128.0f));
  });
  put_scale(scale, width, out);
}

static void copy_int8(const SourceRow& row, int width, void* out) {
  const std::uint8_t* const codes = static_cast<const std::uint8_t*>(row.values);
  for (int i = 0; i < width; ++i) static_cast<std::uint8_t*>(out)[i] = codes[i] ^ 0x80;
  put_scale(row.scale, width, out);
}

static void to_table(const SourceRow& row, int width, SourceType type, void* out) {
  if (row.type == SourceType::int8) return copy_int8(row, width, out);
  if (type == SourceType::int8) return round_to_int8(row, width, out);
  for_lanes(width, [&](int i, int lanes) {
    const V16 a = load_floats(row.values, row.type, i, lanes);
    if (type == SourceType::float32) return store_lanes(static_cast<float*>(out) + i, a, lanes);
    store_bf16_partial(static_cast<std::uint16_t*>(out) + i, a, lanes);
  });
}

// 1 where rows have none.
VIVACE_INLINE float scale_of(const TableRow& row, int width) {
  float scale = 1.0f;
  if (row.type == SourceType::int8 && row.data != nullptr) {
    std::memcpy(&scale, static_cast<const char*>(row.data) + table_scale_offset(width),
                sizeof scale);
  }
  return scale;
}

VIVACE_INLINE V16 load_row(const TableRow& row, float scale, int i, int lanes) {
  if (row.type != SourceType::int8) return load_floats(row.data, row.type, i, lanes);
  const I16 bytes = load_bytes(static_cast<const std::uint8_t*>(row.data) + i);
  return (to_float(bytes) - broadcast(128.0f)) * broadcast(scale);
}

static void embed(const TableRow& token, const TableRow& position, float multiplier, int width,
                  float* out) {
  const float token_scale = scale_of(token, width), position_scale = scale_of(position, width);
  for_lanes(width, [&](int i, int lanes) {
    V16 a = load_row(token, token_scale, i, lanes) * broadcast(multiplier);
    if (position.data != nullptr) a = a + load_row(position, position_scale, i, lanes);
    store_lanes(out + i, a, lanes);
  });
}

}  // namespace vivace::VIVACE_ISA
