#include "packed_file.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <mutex>
#include <string>

namespace vivace {
namespace {

// Written at once, so that a file system with large folios keeps a block in one.
constexpr std::size_t kBlockBytes = kHugePage;

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

bool write_all(int file, std::span<const char> bytes, std::size_t offset) {
  return transfer_all(bytes, offset, [&](const char* from, std::size_t size, off_t at) {
    return pwrite(file, from, size, at);
  });
}

// A file's last block, zeros after its bytes.
bool write_padded(int file, std::span<const char> bytes, std::size_t offset) {
  std::vector<char> padded(kBlockBytes);
  std::copy(bytes.begin(), bytes.end(), padded.begin());
  return write_all(file, padded, offset);
}

bool has_bytes(int file, std::size_t bytes) {
  struct stat state;
  return fstat(file, &state) == 0 && static_cast<std::size_t>(state.st_size) >= bytes;
}

// KiB of files that this process has mapped in huge pages; 0 where the system does not tell.
unsigned long mapped_huge() {
  constexpr std::string_view kField = "FilePmdMapped:";
  std::ifstream rollup("/proc/self/smaps_rollup");
  for (std::string line; std::getline(rollup, line);) {
    if (line.starts_with(kField)) return std::stoul(line.substr(kField.size()));
  }
  return 0;
}

}  // namespace

std::size_t file_bytes(std::size_t bytes) {
  return bytes < kBlockBytes ? bytes : num_blocks(bytes) * kBlockBytes;
}

std::optional<Checksums> write_blocks(Runtime& runtime, int file, std::span<const char> bytes) {
  Checksums sums(num_blocks(bytes.size()));
  std::atomic<bool> written{true};
  const auto held = runtime.hold();
  runtime.pool.parallel_for(sums.size(), [&](std::size_t index, unsigned) {
    const std::span<const char> block = block_of(bytes, index);
    sums[index] = checksum(block);
    const bool padded = block.size() < kBlockBytes && sums.size() > 1;
    const auto write = padded ? write_padded : write_all;
    if (!write(file, block, index * kBlockBytes)) written = false;
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

bool maps_huge_pages(int file) {
  if (!has_bytes(file, kHugePage)) return false;
  const unsigned long before = mapped_huge();
  const Memory memory = Memory::of_file(file, kHugePage);
  static_cast<void>(*memory.at<volatile const char>());  // touched, so mapped
  return mapped_huge() > before;
}

std::shared_ptr<char> map_blocks(Runtime& runtime, int file, std::size_t bytes,
                                 const Checksums& checksums) {
  // Reading a mapping past its file's end would be a signal.
  if (checksums.size() != num_blocks(bytes) || !has_bytes(file, bytes)) return nullptr;
  const auto memory = std::make_shared<Memory>(Memory::of_file(file, bytes));
  const std::span<const char> mapped{memory->at(), bytes};
  std::atomic<bool> intact{true};
  const auto held = runtime.hold();
  runtime.pool.parallel_for(checksums.size(), [&](std::size_t index, unsigned) {
    if (checksum(block_of(mapped, index)) != checksums[index]) intact = false;
  });
  return intact ? std::shared_ptr<char>(memory, memory->at()) : nullptr;
}

}  // namespace vivace
