// The kernels compiled for the neon level.
#define VIVACE_ISA neon
#define VIVACE_SIMD_NEON
#include "kernels_impl.hpp"
