#include "codegen/emit/host/planes.h"

#include <algorithm>
#include <set>

namespace tessera {
namespace {

constexpr int64_t kLine = 16;  // elements of 32 bits in 64 bytes
// Filters compute tiles of up to this many rows, which bands consist of.
constexpr int64_t kLeastTileRows = 4, kMostTileRows = 8;
constexpr int64_t kMaxBandedElements = 1 << 28;  // well within the reach of displacements

bool IsImage(const TensorType& type) { return type.dtype == DType::kF32 && type.shape.rank() == 4; }

// Rows of the bands that an image of this shape may fall into; 0 for one that stays whole. A band is whole vectors and
// whole tiles, so that no task computes pixels of two. Not where few registers make tiles of two rows, which were not
// measured.
int64_t BandRows(const Shape& shape, const Target& target) {
  if (shape[0] != 1 || shape.num_elements() > kMaxBandedElements || target.vector_registers < 32) return 0;
  for (int64_t bands = target.threads; bands > 1; bands /= 2) {
    if (shape[2] % bands != 0) continue;
    const int64_t rows = shape[2] / bands;
    if (rows * shape[3] % kLine != 0) continue;
    for (int64_t tile = kLeastTileRows; tile <= kMostTileRows; ++tile) {
      if (rows % tile == 0) return rows;
    }
  }
  return 0;
}

// Of the images in `padded`, those that everything which makes or reads them can take in bands.
std::set<ValueId> Banded(std::span<const Choice> choices, const PlanBuilder& builder, const std::set<ValueId>& padded) {
  const Graph& graph = builder.graph();
  const auto rows_of = [&](ValueId id) { return BandRows(graph[id].type.shape, builder.target()); };
  std::set<ValueId> banded;
  for (ValueId id : padded) {
    if (rows_of(id) > 0) banded.insert(id);
  }
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    const Node& node = graph.nodes[n];
    if (node.inputs.empty() || banded.count(node.inputs[0]) == 0) continue;
    const int64_t halo = choices[n].way.band_halo;
    if (halo < 0 || halo > rows_of(node.inputs[0])) banded.erase(node.inputs[0]);
  }
  // Most epilogues walk their result and operands of the same shape alike, and others by channel only.
  for (bool changed = true; changed;) {
    changed = false;
    for (size_t n = 0; n < graph.nodes.size(); ++n) {
      const Node& node = graph.nodes[n];
      if (!node.epilogue || node.outputs.size() != 1 || choices[n].way.bands_apart) continue;
      const Shape& result = graph[node.outputs[0]].type.shape;
      std::vector<ValueId> alike = {node.outputs[0]};
      bool all = true;
      for (ValueId id : node.epilogue->inputs) {
        const Shape& shape = graph[id].type.shape;
        if (shape == result) {
          alike.push_back(id);
        } else if (shape.rank() > 0 &&
                   (shape[shape.rank() - 1] != 1 || (shape.rank() > 1 && shape[shape.rank() - 2] != 1))) {
          all = false;
        }
      }
      for (ValueId id : alike) all = all && banded.count(id) > 0;
      if (all) continue;
      for (ValueId id : alike) changed = banded.erase(id) > 0 || changed;
    }
  }
  return banded;
}

}  // namespace

int64_t PaddedPitch(int64_t elements) {
  const int64_t lines = (elements + kLine - 1) / kLine;
  return (lines | 1) * kLine;
}

void ChoosePlaneLayouts(std::span<const Choice> choices, PlanBuilder& builder) {
  const Graph& graph = builder.graph();
  std::set<ValueId> padded;
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    const Node& node = graph.nodes[n];
    if (!choices[n].way.padded_planes || node.outputs.size() != 1) continue;
    const ValueId id = node.outputs[0];
    if (IsImage(graph[id].type) && graph[id].type.shape.num_elements() > 0 && !builder.IsOutput(id)) padded.insert(id);
  }
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    const Node& node = graph.nodes[n];
    const bool knows = choices[n].way.padded_planes;
    for (size_t k = 0; k < node.inputs.size(); ++k) {
      if (!knows || k > 0) padded.erase(node.inputs[k]);
    }
    if (!node.epilogue) continue;
    // An operand that is repeated, such as [N, C, 1, 1], is addressed by its shape alone.
    const Shape& result = graph[node.outputs[0]].type.shape;
    for (ValueId id : node.epilogue->inputs) {
      if (!knows || graph[id].type.shape != result) padded.erase(id);
    }
  }
  const std::set<ValueId> banded = Banded(choices, builder, padded);
  for (ValueId id : padded) {
    const Shape& shape = graph[id].type.shape;
    const int64_t plane = shape[2] * shape[3];
    PlaneLayout layout = {.pitch = PaddedPitch(plane)};
    if (banded.count(id) > 0) {
      layout.band_pixels = BandRows(shape, builder.target()) * shape[3];
      layout.pitch = PaddedPitch(layout.band_pixels);
      layout.band_gap = shape[1] * layout.pitch - layout.band_pixels;
    }
    if (layout.pitch != plane) builder.SetPlanes(id, layout);
  }
}

IrValue EmitBandOffset(KernelBuilder& b, const PlaneLayout& layout, IrValue pixel) {
  if (!layout.banded()) return nullptr;
  IrValue band = b.ir().CreateUDiv(pixel, b.I64(layout.band_pixels));
  return b.ir().CreateMul(band, b.I64(layout.band_gap), "", true, true);
}

}  // namespace tessera
