// Rows taken sixteen values at a time.
#pragma once

#include "simd.hpp"

namespace vivace::VIVACE_ISA {

// Calls body(begin, lanes) for each 16 values of a row; lanes is less than 16 at the end alone.
template <typename Body>
VIVACE_INLINE void for_lanes(int width, Body body) {
  int i = 0;
  for (; i + 16 <= width; i += 16) body(i, 16);
  if (i < width) body(i, width - i);
}

VIVACE_INLINE V16 load_lanes(const float* p, int lanes) {
  return lanes == 16 ? load(p) : load_partial(p, lanes);
}

VIVACE_INLINE void store_lanes(float* p, V16 a, int lanes) {
  if (lanes == 16) return store(p, a);
  store_partial(p, a, lanes);
}

}  // namespace vivace::VIVACE_ISA
