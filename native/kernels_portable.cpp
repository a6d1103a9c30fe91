// The kernels compiled for the portable level.
#define VIVACE_ISA portable
#include "kernels_impl.hpp"
