// The kernels compiled for the avx512bf16 level.
#define VIVACE_ISA avx512bf16
#define VIVACE_SIMD_AVX512
#define VIVACE_BF16_DOT
#include "kernels_impl.hpp"
