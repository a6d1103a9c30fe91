// Four-bit codes times bfloat16 rows where there are no bfloat16 instructions: codes become floats,
// and rows are floats rounded to bfloat16. Included by levels that have load_nibbles_at.
#pragma once

namespace vivace::VIVACE_ISA {

constexpr int kWideRowBytes = 16;
struct WideCodes {
  V16 values[4];
};
struct WideZeros {
  V16 low, high;
};
VIVACE_INLINE WideZeros wide_zeros(I16 low, I16 high) { return {to_float(low), to_float(high)}; }
VIVACE_INLINE void put_wide(char* row, int k, V16 values) {
  std::uint16_t rounded[16];
  store_bf16(rounded, values);
  store((float*)row + k, load_bf16(rounded));
}
VIVACE_INLINE void load_wide(const char* p, const WideZeros& zeros, WideCodes& low,
                             WideCodes& high) {
  for (int j = 0; j < 4; ++j) {
    low.values[j] = to_float(load_nibbles_at(p, 8 * j)) - zeros.low;
    high.values[j] = to_float(load_nibbles_at(p, 8 * j + 4)) - zeros.high;
  }
}
VIVACE_INLINE V16 dot(V16 sum, const char* row, const WideCodes& codes) {
  const float* const values = (const float*)row;
  for (int j = 0; j < 4; ++j) sum = fma(broadcast(values[j]), codes.values[j], sum);
  return sum;
}

}  // namespace vivace::VIVACE_ISA
