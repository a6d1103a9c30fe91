// Packed weights in files: their bytes as they are, checked block by block.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "runtime.hpp"

namespace vivace {

using Checksums = std::vector<std::uint64_t>;

// Writes the bytes to a file's start with all threads and returns the checksum of each block, or
// nothing where the system refused.
std::optional<Checksums> write_blocks(Runtime& runtime, int file, std::span<const char> bytes);

// Fills the bytes from a file's start with all threads. False where the file is too short or a
// block is not the one that was written.
bool read_blocks(Runtime& runtime, int file, std::span<char> bytes, const Checksums& checksums);

}  // namespace vivace
