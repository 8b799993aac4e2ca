// Plain C entry points to the launchers of the inference kernels, for tests without torch.
#include "core/resample.h"
#include "cuda/conditional_channel_weighting.h"
#include "cuda/cross_resolution_weighting.h"
#include "cuda/depthwise_conv.h"
#include "cuda/spatial_weighting.h"

using namespace litehrnet;

extern "C" {

int cross_resolution_weighting(const CrossResolutionWeightingParams* params, int dtype) {
  return launch_cross_resolution_weighting_forward(*params, static_cast<DType>(dtype), nullptr);
}

void cross_resolution_weighting_tile_size(const CrossResolutionWeightingParams* params, int dtype, int* rows_columns) {
  const CrossResolutionWeightingGeometry g = cross_resolution_weighting_geometry(*params, static_cast<DType>(dtype));
  rows_columns[0] = g.rows;
  rows_columns[1] = g.columns;
}

int depthwise_conv(const DepthwiseConvParams* params, int dtype) {
  return launch_depthwise_conv_forward(*params, static_cast<DType>(dtype), nullptr);
}

int depthwise_conv_tile_count(int batch, int height, int width) { return depthwise_conv_tiles(batch, height, width); }

int spatial_weighting(const SpatialWeightingParams* params, int dtype) {
  return launch_spatial_weighting_forward(*params, static_cast<DType>(dtype), nullptr);
}

int conditional_channel_weighting(const ConditionalChannelWeightingParams* params, int dtype) {
  return launch_conditional_channel_weighting_forward(*params, static_cast<DType>(dtype), nullptr);
}

std::size_t conditional_channel_weighting_workspace(const ConditionalChannelWeightingParams* params, int dtype) {
  return conditional_channel_weighting_workspace_bytes(*params, static_cast<DType>(dtype));
}

void resampling_of(int positions, int size, int* nearest, int* pooled_begin, int* pooled_end, int* mapped_begin,
                   int* mapped_end) {
  for (int pixel = 0; pixel < size; ++pixel) nearest[pixel] = nearest_position(pixel, positions, size);
  for (int position = 0; position < positions; ++position) {
    const Span pooled = pooled_span(position, positions, size), mapped = nearest_span(position, positions, size);
    pooled_begin[position] = pooled.begin;
    pooled_end[position] = pooled.end;
    mapped_begin[position] = mapped.begin;
    mapped_end[position] = mapped.end;
  }
}

int coincide(int positions, int size) { return windows_coincide(positions, size); }

// quotients[i] = values[i] / divisor
void fast_divide(int divisor, int count, const int* values, int* quotients) {
  const FastDivisor fast = FastDivisor::of(divisor);
  for (int i = 0; i < count; ++i) quotients[i] = fast.divide(values[i]);
}

}  // extern "C"
