// The second and third launch of spatial_weighting_backward.cu, which alone includes this, and the plan of all four.
#pragma once

#include "core/batch_norm.cuh"
#include "core/reduce.cuh"
#include "core/sigmoid.cuh"
#include "cuda/spatial_weighting_backward.h"

namespace litehrnet {
namespace {

constexpr int kThreads = 256;                // of 2 and 3
constexpr int kWarps = kThreads / kWarpSize;
constexpr int kLanes = 8;                    // of an output of W1 or W2
constexpr int kOutputs = kThreads / kLanes;  // at a time
constexpr int kSteps1 = 5;                   // pieces of a row of W1 per lane: 160 channels
constexpr int kSteps2 = 2;                   // pieces of a row of W2 per lane: 64 hidden values
constexpr int kColumns = 4;                  // columns per lane of the transposed products
constexpr int kSpan = kColumns * kWarpSize;
constexpr int kWeights = 3;                  // sums over images of 3 for a hidden value: grad w1, b1, w2
constexpr int kSums = 3;                     // of do, of do n, of n

// What the second launch leaves of a plane for the third.
template <class acc>
struct alignas(8 * sizeof(acc)) GatedPlane {  // a sector of fp32
  acc grad_sum, product_sum;        // of do, of do n
  acc mean, normalised_mean;        // of z, of n
  acc gate, grad_logit, grad_mean;  // q, dl, dm
};

struct Section {
  FastDivisor chunks_divisor, channels_divisor;
  int first_block, first_gate_block, first_channel;  // numbered over all branches
  int items, chunks, chunk_size;                     // chunks of all planes; of a plane; pixels of one
  int log_lanes, vec;                                // of a chunk; elements
  int grad_step, grad_first;                         // planes of grad_output from one y to the next; before the first
  int wide1, wide2;                                  // rows of W1, W2 may be read in vectors
  void* sums;                                        // [N, c, chunks, kSums]
  void* planes;                                      // [N, c] GatedPlane
  void* hidden;                                      // [N, R]
  void* grad_hidden;                                 // [N, R]
};

struct Plan {
  SpatialWeightingBackwardParams params;
  Section section[kMaxBranches];
  int gates;
};

// A plane's sums over its chunks, in their order.
template <class acc>
__device__ __forceinline__ void plane_sums(const Section& s, std::int64_t plane, acc (&total)[kSums]) {
  const acc* part = static_cast<const acc*>(s.sums) + plane * s.chunks * kSums;
  for (int k = 0; k < kSums; ++k) total[k] = 0;
#pragma unroll 4
  for (int chunk = 0; chunk < s.chunks; ++chunk) {
#pragma unroll
    for (int k = 0; k < kSums; ++k) total[k] += part[chunk * kSums + k];
  }
}

// store(output, W vector) for every row of a matrix [outputs, columns]; `row` holds the beginning of this
// thread's first one.
template <class acc, int kSteps, class Store>
__device__ __forceinline__ void multiply(MatrixRow<acc, kLanes, kSteps>& row, const acc* matrix, int outputs,
                                         int columns, bool wide, const acc* vector, Store store) {
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kLanes, slot = thread / kLanes;
#pragma unroll 1
  for (int output0 = 0; output0 < outputs; output0 += kOutputs) {
    const int output = output0 + slot;
    acc sum = 0;
    if (output < outputs) {
#pragma unroll 1
      for (int first = 0; first < columns; first += row.kSpan) {
        if (output0 > 0 || first > 0) row.load(matrix + output * columns, first, columns, wide, lane);
        sum += row.dot(vector, first, columns, lane);
      }
    }
    sum = lanes_sum<kLanes>(sum);
    if (lane == 0 && output < outputs) store(output, sum);
  }
}

// store(column, W^T vector) for every column of a matrix [rows, columns]. `shares` has room for kWarps kSpan values.
template <class acc, class Store>
__device__ __forceinline__ void multiply_transposed(const acc* matrix, int rows, int columns, const acc* vector,
                                                    acc* shares, Store store) {
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kWarpSize, warp = thread / kWarpSize;
#pragma unroll 1
  for (int column0 = 0; column0 < columns; column0 += kSpan) {
    acc sum[kColumns] = {};
#pragma unroll 4
    for (int row = warp; row < rows; row += kWarps) {
#pragma unroll
      for (int k = 0; k < kColumns; ++k) {
        const int column = column0 + k * kWarpSize + lane;
        if (column < columns) sum[k] += matrix[row * columns + column] * vector[row];
      }
    }
#pragma unroll
    for (int k = 0; k < kColumns; ++k) shares[warp * kSpan + k * kWarpSize + lane] = sum[k];
    __syncthreads();  // shares are complete
    for (int k = thread; k < kSpan && column0 + k < columns; k += kThreads) {
      acc total = 0;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) total += shares[w * kSpan + k];
      store(column0 + k, total);
    }
    __syncthreads();  // shares are read, and results stored
  }
}

// Second launch. `shared` holds means [c], padded with zeros, d logits [c], hidden values [R], padded, their gradients
// [R], and the warps' shares.
template <class acc>
__device__ __forceinline__ void differentiate_gates(const Plan& p, int branch, int image, acc* shared) {
  const Section& s = p.section[branch];
  const SpatialWeightingBackwardBranch& r = p.params.branch[branch];
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kLanes, slot = thread / kLanes;
  acc* mean = shared;
  acc* slope = mean + round_up(r.channels, kVectorPad);  // first sum(do z), then dl
  acc* hidden = slope + round_up(r.channels, kVectorPad);
  acc* grad_hidden = hidden + round_up(r.hidden, kVectorPad);
  acc* shares = grad_hidden + round_up(r.hidden, kVectorPad);
  const acc* w1 = static_cast<const acc*>(r.w1);
  const acc* w2 = static_cast<const acc*>(r.w2);
  MatrixRow<acc, kLanes, kSteps1> row1;
  MatrixRow<acc, kLanes, kSteps2> row2;
  if (slot < r.hidden) row1.load(w1 + slot * r.channels, 0, r.channels, s.wide1, lane);
  if (slot < r.channels) row2.load(w2 + slot * r.hidden, 0, r.hidden, s.wide2, lane);

  const std::int64_t plane0 = static_cast<std::int64_t>(image) * r.channels;
  GatedPlane<acc>* planes = static_cast<GatedPlane<acc>*>(s.planes) + plane0;
#pragma unroll 1
  for (int channel = thread; channel < r.channels; channel += kThreads) {
    acc total[kSums];
    plane_sums(s, plane0 + channel, total);
    const acc normalised_mean = total[2] / static_cast<acc>(r.height * r.width);
    acc mean_of_z = normalised_mean, product = total[1];
    if (r.norm.weight != nullptr) {
      const acc weight = static_cast<const acc*>(r.norm.weight)[channel];
      const acc bias = static_cast<const acc*>(r.norm.bias)[channel];
      mean_of_z = weight * normalised_mean + bias;
      product = weight * total[1] + bias * total[0];
    }
    mean[channel] = mean_of_z;
    slope[channel] = product;
    planes[channel].grad_sum = total[0];
    planes[channel].product_sum = total[1];
    planes[channel].mean = mean_of_z;
    planes[channel].normalised_mean = normalised_mean;
  }
  for (int i = r.channels + thread; i < round_up(r.channels, kVectorPad); i += kThreads) mean[i] = 0;
  for (int i = r.hidden + thread; i < round_up(r.hidden, kVectorPad); i += kThreads) hidden[i] = 0;
  __syncthreads();  // means are complete

  acc* stored_hidden = static_cast<acc*>(s.hidden) + static_cast<std::int64_t>(image) * r.hidden;
  multiply(row1, w1, r.hidden, r.channels, s.wide1, mean, [&](int output, acc sum) {
    sum += static_cast<const acc*>(r.b1)[output];
    stored_hidden[output] = hidden[output] = sum < 0 ? 0 : sum;
  });
  __syncthreads();  // hidden values are complete
  multiply(row2, w2, r.channels, r.hidden, s.wide2, hidden, [&](int output, acc sum) {
    const acc gate = sigmoid(sum + static_cast<const acc*>(r.b2)[output]);
    planes[output].gate = gate;
    planes[output].grad_logit = slope[output] *= gate * (1 - gate);
  });
  __syncthreads();  // gradients of logits are complete
  acc* stored_grad = static_cast<acc*>(s.grad_hidden) + static_cast<std::int64_t>(image) * r.hidden;
  multiply_transposed(w2, r.channels, r.hidden, slope, shares, [&](int column, acc sum) {
    stored_grad[column] = grad_hidden[column] = hidden[column] <= 0 ? 0 : sum;
  });
  multiply_transposed(w1, r.hidden, r.channels, grad_hidden, shares,
                      [&](int column, acc sum) { planes[column].grad_mean = sum; });
}

// Third launch: one channel. `shares` has room for kWeights kThreads values.
template <class acc>
__device__ __forceinline__ void differentiate_channel(const Plan& p, int branch, int channel, acc* shares) {
  const Section& s = p.section[branch];
  const SpatialWeightingBackwardBranch& r = p.params.branch[branch];
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kWarpSize, warp = thread / kWarpSize;
  const int images = p.params.batch;
  const bool normalised = r.norm.weight != nullptr;
  const GatedPlane<acc>* planes = static_cast<const GatedPlane<acc>*>(s.planes) + channel;

  acc grad_bias = 0, grad_weight = 0, grad_b2 = 0;  // of the norm, of the norm, of the gate
  const bool needed = warp * kWarpSize < images;  // by a thread of this warp, which has an image
#pragma unroll 2
  for (int image = lane; needed && image < images; image += kWarpSize) {
    if (p.gates) {
      const GatedPlane<acc>& plane = planes[static_cast<std::int64_t>(image) * r.channels];
      grad_bias += plane.gate * plane.grad_sum + plane.grad_mean;
      grad_weight += plane.gate * plane.product_sum + plane.grad_mean * plane.normalised_mean;
      grad_b2 += plane.grad_logit;
    } else {
      acc total[kSums];
      plane_sums(s, static_cast<std::int64_t>(image) * r.channels + channel, total);
      grad_bias += total[0];
      grad_weight += total[1];
    }
  }
  grad_bias = lanes_sum<kWarpSize>(grad_bias);
  grad_weight = lanes_sum<kWarpSize>(grad_weight);
  grad_b2 = lanes_sum<kWarpSize>(grad_b2);
  if (thread == 0) {
    if (p.gates) static_cast<acc*>(r.grad_b2)[channel] = grad_b2;
    if (normalised) {
      static_cast<acc*>(r.grad_norm_bias)[channel] = grad_bias;
      static_cast<acc*>(r.grad_norm_weight)[channel] = grad_weight;
    }
  }

  const acc pixels = static_cast<acc>(r.height) * static_cast<acc>(r.width), values = pixels * static_cast<acc>(images);
  acc scale = 1, k1 = 0, k2 = 0, rest = 0;
  if (normalised) {
    const NormalisedChannel<acc> norm = normalised_channel(r.norm, channel, static_cast<acc>(p.params.eps));
    scale = norm.scale;
    k2 = norm.mean;
    if (p.params.batch_statistics) {
      k1 = -scale * norm.inverse_deviation * (grad_weight / values);
      rest = -scale * (grad_bias / values);
    }
  }
  for (int image = thread; image < images; image += kThreads) {
    const std::int64_t plane = static_cast<std::int64_t>(image) * r.channels;
    acc gate = 1, grad_mean = 0;
    if (p.gates) {
      gate = planes[plane].gate;
      grad_mean = planes[plane].grad_mean;
    }
    const acc k[kCoefficients] = {scale * gate, k1, k2, scale * (grad_mean / pixels) + rest};
    acc* coefficients = static_cast<acc*>(r.coefficients) + (plane + channel) * kCoefficients;
#pragma unroll
    for (int i = 0; i < kCoefficients; i += kVecElems<acc>) {
      Vec<acc, kVecElems<acc>> part;
#pragma unroll
      for (int e = 0; e < kVecElems<acc>; ++e) part.v[e] = k[i + e];
      store_vec(coefficients + i, part);
    }
  }

  if (!p.gates) return;
#pragma unroll 1
  for (int first = 0; first < r.hidden; first += kWarpSize) {
    const int i = first + lane;
    acc sum[kWeights] = {};
    if (i < r.hidden) {
      const acc* hidden = static_cast<const acc*>(s.hidden) + i;
      const acc* grad_hidden = static_cast<const acc*>(s.grad_hidden) + i;
#pragma unroll 4
      for (int image = warp; image < images; image += kWarps) {
        const GatedPlane<acc>& plane = planes[static_cast<std::int64_t>(image) * r.channels];
        const std::int64_t row = static_cast<std::int64_t>(image) * r.hidden;
        sum[0] += grad_hidden[row] * plane.mean;
        sum[1] += grad_hidden[row];
        sum[2] += plane.grad_logit * hidden[row];
      }
    }
#pragma unroll
    for (int k = 0; k < kWeights; ++k) shares[k * kThreads + thread] = sum[k];
    __syncthreads();  // the warps' shares are complete
    if (warp < kWeights && i < r.hidden) {
      acc total = 0;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) total += shares[warp * kThreads + w * kWarpSize + lane];
      if (warp == 0) static_cast<acc*>(r.grad_w1)[i * r.channels + channel] = total;
      if (warp == 1 && channel == 0) static_cast<acc*>(r.grad_b1)[i] = total;
      if (warp == 2) static_cast<acc*>(r.grad_w2)[channel * r.hidden + i] = total;
    }
    __syncthreads();  // the warps' shares are read
  }
}

}  // namespace
}  // namespace litehrnet
