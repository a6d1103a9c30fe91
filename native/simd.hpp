// V16: sixteen floats, with the same operations at every ISA level.
//
// A kernel is written once on V16 and compiled once per level, each time in the namespace
// vivace::VIVACE_ISA, so that code for one instruction set is never linked into another. For the
// same reason kernel sources use no function templates or containers of the standard library.
//
//   zero broadcast load load_partial store store_partial first_lanes
//   + - * / fma(a, b, c) = a * b + c, min max sqrt abs round less select negate scale_exponent
//   load_bf16 store_bf16 load_f16 (and _partial), load_bf16_pairs
//   reduce_add reduce_max exp sigmoid tanh erfc silu gelu gelu_tanh
//
// _partial takes the first n lanes (0 to 16): a load fills the rest with zeros, a store leaves the
// rest of memory alone. bfloat16 is rounded to nearest even. Lane order of reductions is fixed.
#pragma once

#if defined(VIVACE_SIMD_AVX512)
#include "simd_avx512.hpp"
#elif defined(VIVACE_SIMD_AVX2)
#include "simd_avx2.hpp"
#else
#include "simd_portable.hpp"
#endif
