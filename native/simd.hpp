// V16: sixteen floats, with the same operations at every ISA level.
//
// A kernel is written once on V16 and compiled once per level, each time in the namespace
// vivace::VIVACE_ISA, so that code for one instruction set is never linked into another. For the
// same reason kernel sources use no function templates or containers of the standard library.
//
//   zero broadcast load load_partial store store_partial first_lanes
//   + - * / fma(a, b, c) = a * b + c, min max sqrt abs round less select negate scale_exponent
//   lane_bits: bit i for lane i of a mask
//   compress: stores the lanes of some bits, one after another, and says how many they are; what
//     follows them up to p + 16 is overwritten
//   load_bf16 store_bf16 load_f16 (and _partial), load_bf16_pairs store_bf16_pairs
//   to_f16 (one value)
//   reduce_add reduce_max exp sigmoid tanh erfc silu gelu gelu_tanh
//
// I16: sixteen 32-bit integers.
//
//   broadcast_int, load_bytes (unsigned), *, to_float
//   split_nibbles: the low and the high four bits of bytes
//   store_bytes: the low bytes of whole numbers from -128 to 255
//
// Codes: sixteen columns of four unsigned bytes.
//
//   load_codes, load_nibbles: of 64 bytes; the low nibbles and the high ones are columns apart
//   put_codes(row, k, whole): stores codes k to k + 15 of a row whose steps are contiguous; a step
//     is four codes in kCodeRowBytes bytes
//   dot(sum, row, codes): adds a row's step times each column, exactly
//
// WideCodes: four-bit codes less their zero points, exactly, for rows of bfloat16.
//
//   wide_zeros(low, high): zero points of the columns in low and high nibbles, for load_wide
//   load_wide: of 64 bytes, as load_nibbles
//   put_wide(row, k, values): rounds and stores values k to k + 15; a step is four of them in
//     kWideRowBytes bytes
//   dot(sum, row, codes): adds a row's step times each column
//
// _partial takes the first n lanes (0 to 16): a load fills the rest with zeros, a store leaves the
// rest of memory alone. bfloat16 is rounded to nearest even. Lane order of reductions is fixed.
#pragma once

#if defined(VIVACE_SIMD_AVX512)
#include "simd_avx512.hpp"
#elif defined(VIVACE_SIMD_AVX2)
#include "simd_avx2.hpp"
#elif defined(VIVACE_SIMD_NEON)
#include "simd_neon.hpp"
#else
#include "simd_portable.hpp"
#endif

namespace vivace::VIVACE_ISA {

VIVACE_INLINE void prefetch(const void* p) { __builtin_prefetch(p, 0, 3); }
VIVACE_INLINE void prefetch_second_level(const void* p) { __builtin_prefetch(p, 0, 2); }

}  // namespace vivace::VIVACE_ISA
