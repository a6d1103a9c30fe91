// What this machine's cores can do at most, measured in the process that measures the kernels.
#pragma once

#include "kernels.hpp"
#include "thread_pool.hpp"

namespace vivace::bench {

// Seconds on a monotonic clock.
double now();

// Bytes per second of a plain streaming read of `bytes` bytes at `data` by all threads.
double read_bandwidth(ThreadPool& pool, const char* data, std::size_t bytes);

// Bytes per second of the calling thread, which reads the same bytes, a multiple of 128, again and
// again.
double cached_read(const ThreadPool& pool, const void* data, std::size_t bytes);

// Operations (two per multiply-add) per second of a loop in registers on all threads, of what the
// level's matmul uses for these rows.
double arithmetic_peak(ThreadPool& pool, Isa isa, RowKind rows);

}  // namespace vivace::bench
