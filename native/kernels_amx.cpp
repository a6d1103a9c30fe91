// The kernels compiled for the amx level.
#define VIVACE_ISA amx
#define VIVACE_SIMD_AVX512
#define VIVACE_BF16_DOT
#define VIVACE_TILES
#include "kernels_impl.hpp"
