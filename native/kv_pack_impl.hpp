// Full blocks of keys and values into packed pages: to the bit what formats/kv_rounding.py makes.
#pragma once

#include "kv_unpack.hpp"

namespace vivace::VIVACE_ISA {

// What the scale of a group depends on.
struct Extent {
  V16 low, high;
  V16 poison;  // zero, or NaN in lanes where a value is not finite

  VIVACE_INLINE Extent of(const Run& run) {
    return Extent{run.first, run.first, zero()}.with(run.first).with(run.second);
  }
  Extent with(V16 x) const { return {min(low, x), max(high, x), fma(x, zero(), poison)}; }
  float top() const { return reduce_max(high); }
  float bottom() const { return -reduce_max(negate(low)); }
  // Of the absolute values; NaN where one is not finite.
  float largest() const {
    if (reduce_add(poison) != 0.0f) return __builtin_nanf("");
    return top() > -bottom() ? top() : -bottom();
  }
};

// Stores a group's scale as it is kept, and returns that: zero or NaN where the group has no codes.
VIVACE_INLINE float keep_scale(char* to, float scale, float largest) {
  std::uint16_t bits;
  store_bf16_partial(&bits, broadcast(largest < kSilent ? 0.0f : scale), 1);
  std::memcpy(to, &bits, 2);
  return float_of_bf16(to);
}

VIVACE_INLINE V16 clip(V16 x, float low, float high) {
  return min(max(x, broadcast(low)), broadcast(high));
}

VIVACE_INLINE V16 steps_of(V16 x, float scale) {
  return scale > 0.0f ? round(x / broadcast(scale)) : zero();
}

// Codes of one run: whole numbers.
template <int Bits>
VIVACE_INLINE void store_run(char* codes, int run, V16 first, V16 second) {
  char* const to = codes + 4 * Bits * run;
  if constexpr (Bits == 8) {
    store_bytes(to, first);
    store_bytes(to + 16, second);
  } else {
    store_bytes(to, first + second * broadcast(16.0f));
  }
}

// --- from pages ---

// Sixteen columns of one row of a page: see put_two_rows.
VIVACE_INLINE V16 page_row(DType dtype, const char* page, int row, int width, int column) {
  if (dtype == DType::float32) return load((const float*)page + row * width + column);
  V16 even, odd;
  load_bf16_pairs((const std::uint16_t*)page + row / 2 * 2 * width + 2 * column, even, odd);
  return row % 2 == 0 ? even : odd;
}

VIVACE_INLINE Run load_key_run(const PackTask& task, int channel) {
  const std::size_t at = key_offset(task.near, task.head);
  const DType dtype = task.near.dtype;
  return {page_row(dtype, task.near_pages[0] + at, channel, kPageTokens, 0),
          page_row(dtype, task.near_pages[1] + at, channel, kPageTokens, 0)};
}

VIVACE_INLINE Run load_value_run(const PackTask& task, int token, int run) {
  const char* const page =
      task.near_pages[token / kPageTokens] + value_offset(task.near, task.head);
  const int row = token % kPageTokens, width = value_width(task.near), column = 32 * run;
  const V16 first = page_row(task.near.dtype, page, row, width, column);
  if (column + 16 >= width) return {first, zero()};
  return {first, page_row(task.near.dtype, page, row, width, column + 16)};
}

// --- keys: a group per channel ---

template <int Bits>
VIVACE_INLINE void pack_keys(const PackTask& task, char* head) {
  const PackedHead at = packed_head(task.far);
  for (int channel = 0; channel < task.far.head_dim; ++channel) {
    const Run keys = load_key_run(task, channel);
    const Extent extent = Extent::of(keys);
    const float largest = extent.largest();
    float wanted = largest / 127.0f;
    if (Bits == 4) {
      const float span = extent.top() / 15.0f - extent.bottom() / 15.0f;
      wanted = span > wanted ? span : wanted;
    }
    const float scale = keep_scale(head + at.key_scales + 2 * channel, wanted, largest);
    V16 first = steps_of(keys.first, scale), second = steps_of(keys.second, scale);
    if constexpr (Bits == 8) {
      const V16 middle = broadcast(middle_code(8));
      first = clip(first, -127.0f, 127.0f) + middle;
      second = clip(second, -127.0f, 127.0f) + middle;
    } else {
      const V16 zero_point = clip(steps_of(broadcast(extent.bottom()), scale), -127.0f, 127.0f);
      head[at.key_zeros + channel] = static_cast<char>(first_lane(zero_point));
      first = clip(first - zero_point, 0.0f, 15.0f);
      second = clip(second - zero_point, 0.0f, 15.0f);
    }
    store_run<Bits>(head, channel, first, second);
  }
}

// --- values: a group per token, or per run of it ---

template <int Bits>
VIVACE_INLINE void pack_value_group(const PackTask& task, char* head, int token, int group) {
  const PackedHead at = packed_head(task.far);
  const int runs = value_runs(task.far), groups = value_groups(task.far);
  const int begin = group, end = groups == 1 ? runs : group + 1;
  Extent extent = Extent::of(load_value_run(task, token, begin));
  for (int run = begin + 1; run < end; ++run) {
    const Run values = load_value_run(task, token, run);
    extent = extent.with(values.first).with(values.second);
  }
  constexpr float kSteps = Bits == 8 ? 127.0f : 7.5f, kMost = Bits == 8 ? 127.0f : 7.0f;
  constexpr float kLeast = Bits == 8 ? -127.0f : -8.0f;
  const float largest = extent.largest();
  char* const place = head + at.value_scales + 2 * (token * groups + group);
  const float scale = keep_scale(place, largest / kSteps, largest);
  const V16 middle = broadcast(middle_code(Bits));
  for (int run = begin; run < end; ++run) {
    const Run values = load_value_run(task, token, run);
    store_run<Bits>(head + at.value_codes, token * runs + run,
                    clip(steps_of(values.first, scale), kLeast, kMost) + middle,
                    clip(steps_of(values.second, scale), kLeast, kMost) + middle);
  }
}

template <int Bits>
VIVACE_INLINE void pack_head(const PackTask& task) {
  char* const head = task.far_page + task.head * packed_head(task.far).bytes;
  pack_keys<Bits>(task, head);
  for (int token = 0; token < kPackedTokens; ++token) {
    for (int group = 0; group < value_groups(task.far); ++group) {
      pack_value_group<Bits>(task, head, token, group);
    }
  }
}

static void pack_block(const PackTask& task) {
  task.far.packed_bits == 8 ? pack_head<8>(task) : pack_head<4>(task);
}

}  // namespace vivace::VIVACE_ISA
