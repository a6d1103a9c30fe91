// The kernels compiled for the avx512 level.
#define VIVACE_ISA avx512
#define VIVACE_SIMD_AVX512
#include "kernels_impl.hpp"
