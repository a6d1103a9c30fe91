// The kernels compiled for the avx2 level.
#define VIVACE_ISA avx2
#define VIVACE_SIMD_AVX2
#include "kernels_impl.hpp"
