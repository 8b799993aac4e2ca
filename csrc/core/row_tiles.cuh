// Tiles of whole rows, which the depthwise convolutions for training cut their planes into, and the gates of a tile.
//
// A tile has at most kSmallTile pixels (kLargeTile for large batches), so that even batch 1 gives hundreds of them. A
// group of 8 to 128 lanes owns a tile, a block holds as many groups as fit: small planes share a block. A block's
// groups have the same tile of neighbouring units; a unit is a plane, or several.
#pragma once

#include "core/gates.cuh"
#include "core/resample.h"

namespace litehrnet {

constexpr int kSmallThreads = 64;   // sizes as in depthwise_conv.cu, where they were simulated
constexpr int kLargeThreads = 128;
constexpr int kSmallTile = 384;
constexpr int kLargeTile = 768;
constexpr int kLargeBatch = 8;      // images from which on the large sizes are used
constexpr int kVectorsPerLane = 2;  // aimed at when lanes are assigned to a tile
constexpr int kMinLogLanes = 3;     // groups of 8 lanes at least, so that a block is at most 16 groups

struct RowTiles {
  FastDivisor vectors_divisor;  // vectors of a row
  int first_block;              // numbered over all branches
  int tiles;                    // of a plane
  int rows;                     // of a tile
  int log_lanes;                // of a group
  int vec;
  int gates;  // room for those of a tile
};

inline int row_tile_threads(int batch) { return batch < kLargeBatch ? kSmallThreads : kLargeThreads; }

// Nearly equal for all tiles of a plane. Depends on sizes alone, as the layout of workspaces does.
inline int row_tile_rows(int batch, int height, int width) {
  const int rows = larger((batch < kLargeBatch ? kSmallTile : kLargeTile) / width, 1);
  return ceil_div(height, ceil_div(height, smaller(rows, height)));
}

inline int row_tile_count(int batch, int height, int width) {
  return ceil_div(height, row_tile_rows(batch, height, width));
}

// What the gates of the pixel rows from `first` on take in memory, from a row of positions on.
struct GateRows {
  int first, rows;
};

__host__ __device__ inline GateRows gate_rows(const PositionGates& gates, int first_row, int last_row, int height) {
  const int first = nearest_position(larger(first_row, 0), gates.height, height);
  return {first, nearest_position(smaller(last_row, height - 1), gates.height, height) - first + 1};
}

// For rows of `width` pixels in vectors of `vec`. `halo`: rows above and below a tile whose gates it needs.
// `group_bytes(tiles)`: shared memory of a group. Adds to `shared_bytes`' maximum what a block needs beside
// `block_bytes`.
template <class GroupBytes>
RowTiles make_row_tiles(int batch, int height, int width, int vec, const PositionGates& gates, int halo,
                        std::size_t block_bytes, GroupBytes group_bytes, std::size_t& shared_bytes) {
  RowTiles s{};
  s.vec = vec;
  s.rows = row_tile_rows(batch, height, width);
  s.tiles = ceil_div(height, s.rows);
  s.vectors_divisor = FastDivisor::of(width / vec);
  if (gates.logits != nullptr) {
    int rows = 0;
    for (int row = 0; row < height; row += s.rows)
      rows = larger(rows, gate_rows(gates, row - halo, row + s.rows - 1 + halo, height).rows);
    s.gates = rows * gates.width;
  }
  const int log_threads = ceil_log2(row_tile_threads(batch));
  const int log_lanes = ceil_log2(ceil_div(s.rows * (width / vec), kVectorsPerLane));
  s.log_lanes = larger(kMinLogLanes, smaller(log_lanes, log_threads));
  const std::size_t bytes = group_bytes(s);
  const auto all_bytes = [&] { return block_bytes + (bytes << (log_threads - s.log_lanes)); };
  while (s.log_lanes < log_threads && all_bytes() > kMaxSharedBytes) ++s.log_lanes;
  shared_bytes = larger(shared_bytes, all_bytes());
  return s;
}

// A thread's place, and the tile that its group owns.
struct RowTile {
  int lane, lanes, group;
  int unit, tile;
  int row0, rows;  // no rows past the last unit, whose place is taken then
};

__device__ __forceinline__ RowTile row_tile(const RowTiles& s, int block, int units, int height) {
  RowTile t;
  const int thread = static_cast<int>(threadIdx.x);
  t.lanes = 1 << s.log_lanes;
  t.lane = thread & (t.lanes - 1);
  t.group = thread >> s.log_lanes;
  const int unit_block = block / s.tiles, unit = unit_block * (static_cast<int>(blockDim.x) >> s.log_lanes) + t.group;
  t.unit = smaller(unit, units - 1);
  t.tile = block - unit_block * s.tiles;
  t.row0 = t.tile * s.rows;
  t.rows = unit < units ? smaller(s.rows, height - t.row0) : 0;
  return t;
}

// Computes the gates of whole rows of positions, which lie side by side in the logits.
template <class scalar_t>
__device__ __forceinline__ void stage_gates(const PositionGates& gates, const NormalisedChannel<acc_t<scalar_t>>& norm,
                                            int image, int channel, const GateRows& rows, const RowTile& t,
                                            acc_t<scalar_t>* staged) {
  const scalar_t* logits = gate_logits<scalar_t>(gates, image, channel) + rows.first * gates.width;
#pragma unroll 1
  for (int i = t.lane; i < rows.rows * gates.width; i += t.lanes) staged[i] = gate_at(norm, logits[i]);
}

// The block's work is that of one branch: the last one whose first block is not behind `block`.
template <class Section>
__device__ __forceinline__ int branch_of(const Section* sections, int branches, int block) {
  int branch = 0;
#pragma unroll
  for (int b = 1; b < kMaxBranches; ++b) branch += b < branches && block >= sections[b].first_block;
  return branch;
}

}  // namespace litehrnet
