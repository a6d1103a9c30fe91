// The machine's limit for decode: how fast its threads can read memory.
#pragma once

#include <cstddef>

#include "runtime.hpp"

namespace vivace {

// Bytes per second at which all threads together stream once through `bytes` of memory, which
// should be many times the caches. The best of three passes.
double read_bandwidth(Runtime& runtime, std::size_t bytes);

}  // namespace vivace
