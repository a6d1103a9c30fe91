// Packed weights in files: their bytes as they are, checked block by block.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "runtime.hpp"

namespace vivace {

using Checksums = std::vector<std::uint64_t>;

// What a weight of so many bytes takes in a file: whole huge pages where it fills one, so that the
// file's cache keeps them as such and they can be mapped.
std::size_t file_bytes(std::size_t bytes);

// Writes the bytes to a file's start with all threads, zeros up to `file_bytes` after them, and
// returns the checksum of each block, or nothing where the system refused.
std::optional<Checksums> write_blocks(Runtime& runtime, int file, std::span<const char> bytes);

// Fills the bytes from a file's start with all threads. False where the file is too short or a
// block is not the one that was written.
bool read_blocks(Runtime& runtime, int file, std::span<char> bytes, const Checksums& checksums);

// Whether a file's first huge page is mapped as one: some file systems, as ext4 before Linux 6.16,
// keep small pages only, and reading weights through them is slower than a copy's huge pages.
bool maps_huge_pages(int file);

// A file's first bytes, mapped instead of copied. Null where `read_blocks` is false.
std::shared_ptr<char> map_blocks(Runtime& runtime, int file, std::size_t bytes,
                                 const Checksums& checksums);

}  // namespace vivace
