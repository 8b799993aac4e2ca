// How steps of a plan that multiply all channels of a pixel with a matrix cut their work into blocks, and how a block
// reads its planes and stores what it makes.
//
// A block has a rectangle ("tile") of the pixels of one image, and a part of the matrix's rows: at batch 1 and low
// resolutions, pixels alone are too few to fill a device. Every part reads the tile's pixels again.
#pragma once

#include "core/planes.cuh"
#include "core/tile_product.cuh"

namespace litehrnet {

constexpr int kGoodTileBlocks = 192;  // one or two a multiprocessor, and all of them at the same time
constexpr int kFewTileBlocks = 96;    // below, multiprocessors idle, and tiles are cut smaller than is good for them
constexpr int kMaxTilePixels = 64;    // more than that saves little: 64 pixels share every weight that is fetched
constexpr int kGoodTilePixels = 8;    // smaller tiles read a vector of a row at most, and weights for few pixels
constexpr int kGoodPartRows = 16;     // parts of fewer rows spend most of their time on the tile's pixels
constexpr int kMaxTileColumns = 16;   // rows of narrow maps stay whole, for fewer halo pixels
constexpr int kWideTileColumns = 8;   // of tiles of wide maps: sectors of 32 bytes of fp32

struct TileSize {
  int rows, columns;
};

// The rectangle of at most `pixels` pixels that a map is cut into.
inline TileSize tile_size(int height, int width, int pixels) {
  TileSize size;
  const int wanted = height == 1 || width <= kMaxTileColumns ? pixels : kWideTileColumns;
  size.columns = smaller(smaller(wanted, pixels), width);
  if (width % size.columns != 0) {  // whole vectors if they fit, else nearly equal columns
    int whole = size.columns / kMaxProductPixels * kMaxProductPixels;
    while (whole > 0 && width % whole != 0) whole -= kMaxProductPixels;
    size.columns = whole > 0 && height > 1 ? whole : ceil_div(width, ceil_div(width, size.columns));
    if (height == 1 && width > kMaxProductPixels) size.columns = round_up(size.columns, kMaxProductPixels);
  }
  const int rows = smaller(height, larger(pixels / size.columns, 1));
  size.rows = ceil_div(height, ceil_div(height, rows));
  return size;
}

// One product of a launch, and how it is cut.
struct ProductCut {
  int height, width, rows;            // of the map and of the matrix
  std::int64_t pixel_work, row_work;  // multiplications for a pixel that every part does, and for a row of a pixel
  int tile_pixels;                    // at first the most that shared memory takes
  int parts;                          // 1 at first

  int part_rows() const { return round_up(ceil_div(rows, parts), kPanelRows); }
  std::int64_t blocks(int batch) const {
    const TileSize tile = tile_size(height, width, tile_pixels);
    return static_cast<std::int64_t>(ceil_div(height, tile.rows)) * ceil_div(width, tile.columns) * batch *
           ceil_div(rows, part_rows());
  }
  std::int64_t work() const { return tile_pixels * (pixel_work + part_rows() * row_work); }

  // Tiles first, then parts, down to good sizes; beyond those, tiles if blocks are few.
  bool split(bool few) {
    if (tile_pixels > kGoodTilePixels) {
      tile_pixels = ceil_div(tile_pixels, 2);
    } else if (part_rows() > kGoodPartRows) {
      parts = ceil_div(rows, part_rows() - kPanelRows);
    } else if (few && tile_pixels > kMaxProductPixels) {
      tile_pixels = ceil_div(tile_pixels, 2);
    } else {
      return false;
    }
    return true;
  }
};

// Splits what is most work for a block until there are blocks enough. From sizes alone.
inline void cut_products(ProductCut* cuts, int count, int batch) {
  for (std::uint32_t whole = 0;;) {
    std::int64_t blocks = 0;
    int most = -1;
    for (int i = 0; i < count; ++i) {
      blocks += cuts[i].blocks(batch);
      if ((whole >> i & 1) == 0 && (most < 0 || cuts[i].work() > cuts[most].work())) most = i;
    }
    if (blocks >= kGoodTileBlocks || most < 0) return;
    if (!cuts[most].split(blocks < kFewTileBlocks)) whole |= std::uint32_t{1} << most;
  }
}

// Tiles of a map, row by row, and the blocks that own them.
struct PixelTiles {
  FastDivisor columns_divisor;
  int rows, columns;        // of a tile
  int down, across;         // tiles
  int height, width;        // of the map
  int parts, part_rows;     // of the matrix
  int vec;                  // pixels that may be stored at once
  int first_block, blocks;  // numbered over all products of a launch
};

// `aligned`: elements that stores to the map may have, as far as its planes' starts are concerned.
inline PixelTiles make_pixel_tiles(const ProductCut& cut, int aligned) {
  PixelTiles t{};
  const TileSize size = tile_size(cut.height, cut.width, cut.tile_pixels);
  t.height = cut.height;
  t.width = cut.width;
  t.rows = size.rows;
  t.columns = size.columns;
  t.columns_divisor = FastDivisor::of(t.columns);
  t.down = ceil_div(cut.height, t.rows);
  t.across = ceil_div(cut.width, t.columns);
  t.part_rows = cut.part_rows();
  t.parts = ceil_div(cut.rows, t.part_rows);
  t.vec = smaller(aligned, kMaxProductPixels);
  while (t.vec > 1 && (t.columns % t.vec != 0 || cut.width % t.vec != 0)) t.vec /= 2;
  return t;
}

// What a block owns.
struct PixelTile {
  int image, row0, column0;
  int first_row, rows;  // of the matrix
};

__device__ __forceinline__ PixelTile pixel_tile(const PixelTiles& t, int block, int matrix_rows) {
  PixelTile tile;
  const int place = block / t.parts, part = block - place * t.parts;
  const int tile_row = place / t.across, column = place - tile_row * t.across;
  tile.image = tile_row / t.down;
  tile.row0 = (tile_row - tile.image * t.down) * t.rows;
  tile.column0 = column * t.columns;
  tile.first_row = part * t.part_rows;
  tile.rows = smaller(t.part_rows, matrix_rows - tile.first_row);
  return tile;
}

// The product that a block belongs to: the last one whose first block is not behind it.
template <int kMost, class Sections>
__device__ __forceinline__ int product_of_block(const Sections& sections, int count, int block) {
  int product = 0;
#pragma unroll
  for (int i = 1; i < kMost; ++i) product += i < count && block >= sections[i].tiles.first_block;
  return product;
}

// A plane that is read, of one image, its factor fetched.
template <class scalar_t>
struct alignas(16) StagedPlane {
  const scalar_t* data;
  acc_t<scalar_t> factor;
  int relu;

  __device__ __forceinline__ acc_t<scalar_t> apply(scalar_t element) const {
    const acc_t<scalar_t> value = to_acc(element);
    return (relu != 0 && value < 0 ? 0 : value) * factor;
  }
};

// Fills staged[count] by all threads of the block. A barrier must follow.
template <class scalar_t>
__device__ __forceinline__ void stage_planes(const PlaneSources& sources, int image, StagedPlane<scalar_t>* staged) {
  for (int c = thread_index(); c < sources.count; c += static_cast<int>(blockDim.x)) {
    const SourcePlane<scalar_t> plane = source_plane<scalar_t>(sources, c, image);
    StagedPlane<scalar_t> result;
    result.data = plane.data;
    result.factor = plane.factor;
    result.relu = plane.relu;
    staged[c] = result;
  }
}

// A plane that is written, of one image, and the bias of its row of the matrix: fetched long before they are needed.
template <class scalar_t>
struct alignas(16) StagedTarget {
  scalar_t* data;
  acc_t<scalar_t> bias;
};
constexpr std::size_t kStagedTargetBytes = 16;
static_assert(sizeof(StagedTarget<float>) == kStagedTargetBytes && sizeof(StagedTarget<double>) == kStagedTargetBytes,
              "one size for all types");

// Fills staged[tile.rows] by all threads of the block, from a table of planes that are written: relu and factor are not
// used. A barrier must follow.
template <class scalar_t>
__device__ __forceinline__ void stage_targets(const PlaneSources& targets, const void* bias, const PixelTile& tile,
                                              StagedTarget<scalar_t>* staged) {
  for (int i = thread_index(); i < tile.rows; i += static_cast<int>(blockDim.x)) {
    const Place place = targets.planes[tile.first_row + i].data;
    staged[i].data = place.in<scalar_t>(targets.memory, targets.batch, tile.image);
    staged[i].bias = static_cast<const acc_t<scalar_t>*>(bias)[tile.first_row + i];
  }
}

// Stores pixels `pixel` to `pixel` + kPixels - 1 of a tile to a plane, as far as they are in the map.
template <int kPixels, class scalar_t>
__device__ __forceinline__ void store_pixels(const PixelTiles& t, const PixelTile& tile, scalar_t* data, int pixel,
                                             const acc_t<scalar_t> (&values)[kPixels]) {
  constexpr int kStep = smaller(kPixels, kVecElems<scalar_t>);
  if (t.vec >= kPixels) {
    const int row = t.columns_divisor.divide(pixel), y = tile.row0 + row;
    const int x = tile.column0 + pixel - row * t.columns;
    if (row >= t.rows || y >= t.height || x >= t.width) return;
#pragma unroll
    for (int i = 0; i < kPixels; i += kStep) {
      Vec<scalar_t, kStep> piece;
#pragma unroll
      for (int e = 0; e < kStep; ++e) piece.v[e] = from_acc<scalar_t>(values[i + e]);
      store_vec(data + y * t.width + x + i, piece);
    }
  } else {
#pragma unroll
    for (int i = 0; i < kPixels; ++i) {
      const int row = t.columns_divisor.divide(pixel + i), y = tile.row0 + row;
      const int x = tile.column0 + pixel + i - row * t.columns;
      if (row < t.rows && y < t.height && x < t.width) data[y * t.width + x] = from_acc<scalar_t>(values[i]);
    }
  }
}

}  // namespace litehrnet
