// SeparableConvolution: y = relu(W dw(e) + b), e = relu(W_e x + b_e) or e = x: independent separable convolutions.
//
// Mapping  task = a path's band of rows of the result. Channel by channel, the band's pixels go into a bordered map
//          (cpu/kernels/depthwise.h) and are filtered into dense rows, which one matrix product turns into the result. With an
//          expansion all channels' maps are filled first, and multiplied row by row into maps of the expanded ones.
#include "cpu/kernels/depthwise.h"
#include "cpu/kernels/matrix_product.h"
#include "cpu/kernels/plan_targets.h"

namespace litehrnet::cpu::LITEHRNET_CPU_TARGET {
namespace {

constexpr int kPixels = 384;                // of a band, about
constexpr int kExpandedBytes = 400 * 1024;  // of a band's maps, where there is an expansion: within L2

template <class T>
struct Geometry {
  using A = acc_t<T>;
  MapShape<A> map;
  int inner, bands, pitch;  // channels of e; elements of a channel's filtered pixels

  explicit Geometry(const PlanSeparablePath& path) {
    const int height = path.output.height, width = path.output.width;
    inner = path.expanded > 0 ? path.expanded : path.input.count;
    map = {width, most(1, kPixels / width), path.stride};
    const int channels = path.input.count + path.expanded;
    while (path.expanded > 0 && map.rows > 1 && channels * map.elements() * int{sizeof(A)} > kExpandedBytes) --map.rows;
    map.rows = least(map.rows, height);
    bands = divide_up(height, map.rows);
    pitch = plane_pitch<A>(map.rows * width);
  }
};

template <class T>
struct Shared {
  acc_t<T>*expand[kMaxSeparablePaths], *weights[kMaxSeparablePaths];
  Shared(Cutter& cutter, const PlanSeparableParams& p) {
    for (int i = 0; i < p.paths; ++i) {
      const PlanSeparablePath& path = p.path[i];
      const Geometry<T> g(path);
      expand[i] = cutter.cut<acc_t<T>>(room_for_numbers<T>(panel_elements(path.expanded, path.input.count)));
      weights[i] = cutter.cut<acc_t<T>>(room_for_numbers<T>(panel_elements(path.output.count, g.inner)));
    }
  }
};

template <class T>
struct Own {
  acc_t<T>*maps, *expanded, *filtered;
  T** outputs;
  Own(Cutter& cutter, const PlanSeparableParams& p) {
    std::int64_t map_elements = 0, expanded_elements = 0, filtered_elements = 0;
    int rows = 0;
    for (int i = 0; i < p.paths; ++i) {
      const PlanSeparablePath& path = p.path[i];
      const Geometry<T> g(path);
      const auto map = static_cast<std::int64_t>(g.map.elements());
      const std::int64_t inputs = path.expanded > 0 ? map * path.input.count : map;
      const std::int64_t filtered_path = static_cast<std::int64_t>(g.inner) * g.pitch;
      map_elements = map_elements > inputs ? map_elements : inputs;
      expanded_elements = expanded_elements > map * path.expanded ? expanded_elements : map * path.expanded;
      filtered_elements = filtered_elements > filtered_path ? filtered_elements : filtered_path;
      rows = most(rows, path.output.count);
    }
    maps = cutter.cut<acc_t<T>>(map_elements);
    expanded = cutter.cut<acc_t<T>>(expanded_elements);
    filtered = cutter.cut<acc_t<T>>(filtered_elements);
    outputs = cutter.cut<T*>(rows);
  }
};

template <class T>
void fill(const PlanSeparablePath& path, const MapShape<acc_t<T>>& shape, int first, int channel, int image,
          acc_t<T>* map) {
  const Pixels<T> pixels = pixels_of<T>(path.input, channel, image);
  const int width = path.input.width;
  fill_map(map, shape, first, path.input.height, width,
           [&](int y, int x, int n) { return pixels.get(y * width + x, n); });
}

// The maps of e: every row within the image, of even and of odd columns where there is a stride, is a product.
template <class T>
void expand(const PlanSeparablePath& path, const Panels<acc_t<T>>& matrix, const MapShape<acc_t<T>>& shape, int first,
            int image, const Own<T>& own) {
  using A = acc_t<T>;
  clear(own.maps, path.input.count * shape.elements());
  clear(own.expanded, path.expanded * shape.elements());
  for (int c = 0; c < path.input.count; ++c)
    fill<T>(path, shape, first, c, image, own.maps + static_cast<std::int64_t>(c) * shape.elements());
  const int top = first * path.stride - 1, width = path.input.width;
  const int end = least(shape.map_rows(), path.input.height - top);
  for (int y = most(0, -top); y < end; ++y) {
    for (int part = 0; part < path.stride; ++part) {
      const int offset = part * shape.part() + y * shape.pitch() + kLanes<A>;
      const int pixels = (width + path.stride - 1 - part) / path.stride;
      A* to = own.expanded + offset;
      const std::int64_t pitch = shape.elements();
      matrix_product(matrix, static_cast<const A*>(path.expand_bias), RegularColumns<A>{own.maps + offset, pitch}, 0,
                     pixels,
                     StoreRegular<true, A>{to, pitch});
    }
  }
}

template <class T>
void run(const PlanSeparableParams& p, int image, const Team& team) {
  using A = acc_t<T>;
  Workplace<Shared<T>, Own<T>, PlanSeparableParams> place(p, team);
  Panels<A> matrix[kMaxSeparablePaths], expansion[kMaxSeparablePaths];
  int first_task[kMaxSeparablePaths + 1] = {};
  for (int i = 0; i < p.paths; ++i) {
    const PlanSeparablePath& path = p.path[i];
    const Geometry<T> g(path);
    const int rows = path.output.count;
    matrix[i] = {as_numbers(static_cast<const T*>(path.weight), panel_elements(rows, g.inner), place.shared.weights[i]),
                 g.inner, rows};
    if (path.expanded > 0)
      expansion[i] = {as_numbers(static_cast<const T*>(path.expand_weight),
                                 panel_elements(path.expanded, path.input.count), place.shared.expand[i]),
                      path.input.count, path.expanded};
    first_task[i + 1] = first_task[i] + g.bands;
  }
  place.for_each(first_task[p.paths], [&](int task, const Own<T>& own) {
    int i = 0;
    while (task >= first_task[i + 1]) ++i;
    const PlanSeparablePath& path = p.path[i];
    const Geometry<T> g(path);
    const int first = (task - first_task[i]) * g.map.rows, width = path.output.width;
    const int pixels = least(g.map.rows, path.output.height - first) * width;
    if (path.expanded > 0)
      expand<T>(path, expansion[i], g.map, first, image, own);
    else
      clear(own.maps, g.map.elements());
    for (int c = 0; c < g.inner; ++c) {
      const A* map = own.maps;
      if (path.expanded > 0)
        map = own.expanded + static_cast<std::int64_t>(c) * g.map.elements();
      else
        fill<T>(path, g.map, first, c, image, own.maps);
      filter_map(map, g.map, filter_weights<T>(path.depthwise_weight, path.depthwise_bias, c),
                 own.filtered + static_cast<std::int64_t>(c) * g.pitch);
    }
    for (int row = 0; row < path.output.count; ++row) own.outputs[row] = written_plane<T>(path.output, row, image);
    matrix_product(matrix[i], static_cast<const A*>(path.bias), RegularColumns<A>{own.filtered, g.pitch}, 0, pixels,
                   StoreScattered<true, T>{own.outputs, first * width});
  });
}

}  // namespace

std::size_t plan_separable_convolution_scratch(const PlanSeparableParams& p, DType dtype, int threads) {
  return visit_type(dtype, [&](auto type) {
    using T = decltype(type);
    return scratch_of<Shared<T>, Own<T>>(p, threads);
  });
}

void plan_separable_convolution(const PlanSeparableParams& p, DType dtype, int image, const Team& team) {
  visit_type(dtype, [&](auto type) { run<decltype(type)>(p, image, team); });
}

}  // namespace litehrnet::cpu::LITEHRNET_CPU_TARGET
