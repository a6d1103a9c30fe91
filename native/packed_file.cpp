#include "packed_file.hpp"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstring>
#include <mutex>

namespace vivace {
namespace {

// Half a second-level cache: a block is summed while it is there.
constexpr std::size_t kBlockBytes = std::size_t{1} << 20;

std::size_t num_blocks(std::size_t bytes) { return (bytes + kBlockBytes - 1) / kBlockBytes; }

template <typename Byte>
std::span<Byte> block_of(std::span<Byte> bytes, std::size_t index) {
  const std::size_t begin = index * kBlockBytes;
  return bytes.subspan(begin, std::min(kBlockBytes, bytes.size() - begin));
}

// Any changed word changes the sum: each step is a bijection of its lane. Eight lanes hide the
// multiplication's latency, so that summing costs a fraction of reading.
std::uint64_t checksum(std::span<const char> bytes) {
  constexpr int kLanes = 8;
  constexpr std::uint64_t kPrime = 0x9E3779B185EBCA87;  // XXH64's first prime
  std::uint64_t lanes[kLanes] = {1, 2, 3, 4, 5, 6, 7, 8};
  for (std::size_t at = 0; at < bytes.size(); at += sizeof lanes) {
    std::uint64_t words[kLanes] = {};
    std::memcpy(words, bytes.data() + at, std::min(sizeof words, bytes.size() - at));
    for (int i = 0; i < kLanes; ++i) lanes[i] = std::rotl(lanes[i] ^ words[i], 29) * kPrime;
  }
  std::uint64_t sum = bytes.size();
  for (const std::uint64_t lane : lanes) sum = std::rotl(sum ^ lane, 29) * kPrime;
  return sum;
}

// Repeats a partial or interrupted read or write until all is done; false where it fails.
template <typename Byte, typename Transfer>
bool transfer_all(std::span<Byte> bytes, std::size_t offset, Transfer transfer) {
  while (!bytes.empty()) {
    const ssize_t done = transfer(bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return false;
    bytes = bytes.subspan(done);
    offset += done;
  }
  return true;
}

}  // namespace

std::optional<Checksums> write_blocks(Runtime& runtime, int file, std::span<const char> bytes) {
  Checksums sums(num_blocks(bytes.size()));
  std::atomic<bool> written{true};
  const auto held = runtime.hold();
  runtime.pool.parallel_for(sums.size(), [&](std::size_t index, unsigned) {
    const std::span<const char> block = block_of(bytes, index);
    sums[index] = checksum(block);
    const bool done = transfer_all(
        block, index * kBlockBytes,
        [&](const char* from, std::size_t size, off_t at) { return pwrite(file, from, size, at); });
    if (!done) written = false;
  });
  return written ? std::optional(sums) : std::nullopt;
}

bool read_blocks(Runtime& runtime, int file, std::span<char> bytes, const Checksums& checksums) {
  if (checksums.size() != num_blocks(bytes.size())) return false;
  std::atomic<bool> intact{true};
  const auto held = runtime.hold();
  runtime.pool.parallel_for(checksums.size(), [&](std::size_t index, unsigned) {
    const std::span<char> block = block_of(bytes, index);
    const bool done = transfer_all(
        block, index * kBlockBytes,
        [&](char* to, std::size_t size, off_t at) { return pread(file, to, size, at); });
    if (!done || checksum(block) != checksums[index]) intact = false;
  });
  return intact;
}

}  // namespace vivace
