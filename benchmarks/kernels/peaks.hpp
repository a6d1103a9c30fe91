// What this core can do at most, measured in the process that measures the kernels.
#pragma once

#include <string_view>

#include "kernels.hpp"

namespace vivace::bench {

// Seconds on a monotonic clock.
double now();

// Bytes per second of a plain streaming read of `bytes` bytes at `data`.
double read_bandwidth(const char* data, std::size_t bytes);

// Operations (two per multiply-add) per second of a loop in registers, of what the level's matmul
// uses for the dtype.
double arithmetic_peak(Isa isa, DType dtype);

}  // namespace vivace::bench
