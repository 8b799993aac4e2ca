// Reads a plan's program as the parameters of its steps.
//
// A program says of every operand which memory it is in and where, see the functions of PlanReader. Alignments in it are
// those that follow from the plan; the memories' own addresses may lower them.
#pragma once

#include "params/plan_fuse_downward.h"
#include "params/plan_fuse_upward.h"
#include "params/plan_gated_depthwise.h"
#include "params/plan_head_convolution.h"
#include "params/plan_pointwise_convolution.h"
#include "params/plan_program.h"
#include "params/plan_resolution_gates.h"
#include "params/plan_separable_convolution.h"
#include "params/plan_stem_convolution.h"

namespace litehrnet {

// The memories that an operand can be in; numbers from kOutput on are the outputs.
enum PlanOperandMemory { kNone = -1, kArena = 0, kImage = 1, kOutput = 2 };

// The numbers of one step as operands. After a number that cannot be, `ok` is false and what is returned means nothing.
class PlanReader {
 public:
  PlanReader(const std::int64_t* code, std::int64_t length, const PlanMemory& memory, DType dtype)
      : next_(code), end_(code + length), memory_(memory), size_(static_cast<int>(element_size(dtype))) {}

  bool at_end() const { return ok_ && next_ == end_; }

  int number(std::int64_t least = 0, std::int64_t most = kMaxGrid) {
    if (next_ == end_ || *next_ < least || *next_ > most) {
      ok_ = false;
      return static_cast<int>(least);
    }
    return static_cast<int>(*next_++);
  }

  // bytes from the constants' beginning, or -1 for what there is not
  const void* constant(bool optional = false) {
    const int offset = number(-1);
    ok_ = ok_ && (optional || offset >= 0);
    return constants(offset, 1);
  }

  // count, and where in the constants as many entries begin
  template <class Entry>
  const Entry* table(int* count) {
    *count = number(1);
    return static_cast<const Entry*>(constants(number(), *count * static_cast<std::int64_t>(sizeof(Entry))));
  }

  // memory, alignment; nothing follows kNone. The alignment is in elements, a power of two, and lowers `aligned`
  void* memory(int* aligned) {
    const int which = number(kNone, kOutput + memory_.outputs - 1);
    if (which == kNone) return nullptr;
    void* base = which == kArena ? memory_.arena
                                 : which == kImage ? const_cast<void*>(memory_.image) : memory_.output[which - kOutput];
    int elements = number(1, kVecBytes);
    while (elements > 1 && reinterpret_cast<std::uintptr_t>(base) % (elements * size_) != 0) elements /= 2;
    *aligned = smaller(*aligned, elements);
    return base;
  }

  // memory, alignment, table, height, width
  PlaneSources sources(int* aligned, bool optional = false) {
    PlaneSources result{};
    result.memory = memory(aligned);
    if (result.memory == nullptr) {
      ok_ = ok_ && optional;
      return result;
    }
    result.planes = table<PlaneSource>(&result.count);
    result.batch = memory_.batch;
    result.height = number(1);
    result.width = number(1);
    return result;
  }

  // memory, alignment, buffer in units of 256 bytes, first element, image stride, plane stride, count, height, width
  PlaneTarget target(int* aligned, bool optional = false) {
    PlaneTarget result{};
    void* base = memory(aligned);
    if (base == nullptr) {
      ok_ = ok_ && optional;
      return result;
    }
    Place place{};
    place.buffer = static_cast<std::uint32_t>(number());
    place.first = static_cast<std::uint32_t>(number());
    place.image_stride = static_cast<std::uint32_t>(number());
    result.data = size_ == 8 ? static_cast<void*>(place.in<std::uint64_t>(base, memory_.batch, 0))
                  : size_ == 4 ? static_cast<void*>(place.in<std::uint32_t>(base, memory_.batch, 0))
                               : static_cast<void*>(place.in<std::uint16_t>(base, memory_.batch, 0));
    result.image_stride = place.image_stride;
    result.plane_stride = number(1);
    result.count = number(1);
    result.height = number(1);
    result.width = number(1);
    return result;
  }

  // a whole buffer of the arena: in units of 256 bytes
  void* buffer() {
    const std::int64_t units = number();
    return static_cast<unsigned char*>(memory_.arena) + units * memory_.batch * 256;
  }

  // sums (a buffer), W1, b1, W2, b2 (constants), factors (a buffer), channels, hidden, tiles, pixels
  PendingGate gate() {
    PendingGate result{};
    result.sums = buffer();
    result.w1 = constant();
    result.b1 = constant();
    result.w2 = constant();
    result.b2 = constant();
    result.factors = buffer();
    result.channels = number(1);
    result.hidden = number(1);
    result.tiles = number(1);
    result.pixels = number(1);
    return result;
  }

  // count, and as many items, which `read` stores one by one
  template <class Read>
  int items(int most, Read read) {
    const int count = number(0, most);
    for (int i = 0; i < count && ok_; ++i) read(i);
    return count;
  }

  int batch() const { return memory_.batch; }

 private:
  const void* constants(int offset, std::int64_t bytes) {
    if (offset < 0) return nullptr;
    if (offset % kVecBytes != 0 || offset + bytes > memory_.constants_bytes) ok_ = false;
    return static_cast<const unsigned char*>(memory_.constants) + offset;
  }

  const std::int64_t* next_;
  const std::int64_t* end_;
  const PlanMemory& memory_;
  int size_;
  bool ok_ = true;
};

constexpr int kAnyAlignment = kVecBytes;

inline void read(PlanReader& code, PlanStemParams& params) {
  int ignored = kAnyAlignment;
  params.batch = code.batch();
  params.input = code.sources(&ignored);
  params.output_aligned = kAnyAlignment;
  params.output = code.sources(&params.output_aligned);
  params.weight = code.constant();
  params.bias = code.constant();
}

inline void read(PlanReader& code, PlanSeparableParams& params) {
  int ignored = kAnyAlignment;
  params.batch = code.batch();
  params.paths = code.items(kMaxSeparablePaths, [&](int i) {
    PlanSeparablePath& path = params.path[i];
    path.input = code.sources(&ignored);
    path.output_aligned = kAnyAlignment;
    path.output = code.sources(&path.output_aligned);
    path.expanded = code.number();
    path.expand_weight = code.constant(path.expanded == 0);
    path.expand_bias = code.constant(path.expanded == 0);
    path.depthwise_weight = code.constant();
    path.depthwise_bias = code.constant();
    path.weight = code.constant();
    path.bias = code.constant();
    path.stride = code.number(1, 2);
  });
}

inline void read(PlanReader& code, PlanPointwiseParams& params) {
  params.batch = code.batch();
  params.paths = code.items(kMaxPointwisePaths, [&](int i) {
    PlanPointwisePath& path = params.path[i];
    path.input_aligned = path.output_aligned = kAnyAlignment;
    path.input = code.sources(&path.input_aligned);
    path.output = code.sources(&path.output_aligned);
    path.weight = code.constant();
    path.bias = code.constant();
    path.relu = code.number(0, 1);
  });
}

inline void read(PlanReader& code, PlanResolutionGatesParams& params) {
  int ignored = kAnyAlignment;
  params.batch = code.batch();
  params.vec = kAnyAlignment;
  params.branches = code.items(kMaxBranches, [&](int i) { params.branch[i] = code.sources(&params.vec); });
  params.gates = code.items(kMaxBranches, [&](int i) { params.gate[i] = code.gate(); });
  params.gated = static_cast<const int*>(code.constant(true));
  params.needed = code.number();
  params.w1 = code.constant();
  params.b1 = code.constant();
  params.w2 = code.constant();
  params.b2 = code.constant();
  params.hidden = code.number(1);
  params.output = code.target(&ignored);
}

inline void read(PlanReader& code, PlanGatedDepthwiseParams& params) {
  int ignored = kAnyAlignment;
  params.batch = code.batch();
  params.branches = code.items(kMaxBranches, [&](int i) {
    PlanGatedDepthwiseBranch& branch = params.branch[i];
    branch.vec = kAnyAlignment;
    branch.memory = code.memory(&branch.vec);
    branch.planes = code.table<GatedDepthwisePlane>(&branch.channels);
    branch.height = code.number(1);
    branch.width = code.number(1);
    const PlaneTarget gates = code.target(&ignored);
    branch.gates = gates.data;
    branch.gates_image_stride = gates.image_stride;
    branch.gate_height = gates.height;
    branch.gate_width = gates.width;
    branch.weight = code.constant();
    branch.bias = code.constant();
    branch.sums = code.buffer();
    branch.rows_per_sum = code.number(1);
    branch.sums_image_stride =
        static_cast<std::int64_t>(branch.channels) * ceil_div(branch.height, larger(branch.rows_per_sum, 1));
  });
}

// count, and for each: sources, where their factors are among the step's own (a constant or -1), matrix
inline int read(PlanReader& code, PlanLowerProduct (&products)[kMaxLowerProducts]) {
  int ignored = kAnyAlignment;
  return code.items(kMaxLowerProducts, [&](int i) {
    products[i].input = code.sources(&ignored);
    products[i].gated = static_cast<const int*>(code.constant(true));
    products[i].panels = code.constant();
  });
}

inline void read(PlanReader& code, PlanFuseUpwardParams& params) {
  params.batch = code.batch();
  params.vec = kAnyAlignment;
  params.gates = code.items(kMaxBranches, [&](int i) { params.gate[i] = code.gate(); });
  params.top = code.sources(&params.vec);
  params.top_gated = static_cast<const int*>(code.constant(true));
  params.lowers = read(code, params.lower);
  params.bias = code.constant();
  params.relu = code.number(0, 1);
  params.output = code.target(&params.vec);
  params.also = code.target(&params.vec, true);
}

inline void read(PlanReader& code, PlanFuseDownwardParams& params) {
  int ignored = kAnyAlignment;
  params.batch = code.batch();
  params.vec = kAnyAlignment;
  params.products = code.items(kMaxStackedProducts, [&](int i) {
    PlanStackedProduct& product = params.product[i];
    product.input = code.sources(&ignored);
    product.filter = code.constant();
    product.filter_bias = code.constant();
    product.panels = code.constant();
    product.bias = code.constant();
    product.output = code.target(&params.vec);
  });
  params.kept = code.sources(&params.vec);
  params.lowers = read(code, params.lower);
}

inline void read(PlanReader& code, PlanHeadConvolutionParams& params) {
  int ignored = kAnyAlignment;
  params.batch = code.batch();
  params.vec = kAnyAlignment;
  params.input = code.sources(&ignored);
  params.below = code.sources(&ignored, true);
  params.filter = code.constant();
  params.filter_bias = code.constant();
  params.rows = code.number(1);
  params.panels = code.constant();
  params.bias = code.constant();
  params.final_panels = code.constant(true);
  params.final_bias = code.constant(params.final_panels == nullptr);
  params.output = code.target(&params.vec);
}

// Reads one step and hands its parameters over.
template <class Params, class Visit>
bool visit_step(PlanReader code, Visit& visit) {
  Params params{};
  read(code, params);
  return code.at_end() && visit(params);
}

template <class Visit>
bool visit_step(PlanStepKind kind, const PlanReader& code, Visit& visit) {
  switch (kind) {
    case PlanStepKind::kStemConvolution: return visit_step<PlanStemParams>(code, visit);
    case PlanStepKind::kSeparableConvolution: return visit_step<PlanSeparableParams>(code, visit);
    case PlanStepKind::kPointwiseConvolution: return visit_step<PlanPointwiseParams>(code, visit);
    case PlanStepKind::kResolutionGates: return visit_step<PlanResolutionGatesParams>(code, visit);
    case PlanStepKind::kGatedDepthwise: return visit_step<PlanGatedDepthwiseParams>(code, visit);
    case PlanStepKind::kFuseUpward: return visit_step<PlanFuseUpwardParams>(code, visit);
    case PlanStepKind::kFuseDownward: return visit_step<PlanFuseDownwardParams>(code, visit);
    case PlanStepKind::kHeadConvolution: return visit_step<PlanHeadConvolutionParams>(code, visit);
  }
  return false;
}

// Calls visit(params) for one step after the other, which returns whether to go on. Returns whether all went well:
// false for a program that is no such list, or that says of its operands what cannot be. What tables say, how far weights
// reach, and places in the arena and the outputs, are believed.
template <class Visit>
bool visit_steps(const PlanProgram& program, const PlanMemory& memory, DType dtype, PlanSteps& steps, Visit visit) {
  steps.failed = 0;
  for (std::int64_t at = 0; at < program.length; ++steps.failed) {
    if (steps.end >= 0 && steps.failed >= steps.end) break;
    const std::int64_t length = program.length - at < 2 ? -1 : program.code[at + 1];
    if (length < 0 || length > program.length - at - 2) return false;
    if (steps.failed >= steps.first) {
      const PlanReader code(program.code + at + 2, length, memory, dtype);
      if (!visit_step(static_cast<PlanStepKind>(program.code[at]), code, visit)) return false;
    }
    at += 2 + length;
  }
  return true;
}

}  // namespace litehrnet
