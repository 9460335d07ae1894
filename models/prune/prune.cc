#include "models/prune/prune.h"

#include <charconv>
#include <cstdlib>
#include <optional>
#include <set>

#include "base/hash.h"
#include "tesa/random.h"
#include "tesa/types.h"

namespace tessera {
namespace {

// Where a weight's numbers are stored: itself, or what is dequantised to it, if 0 stands for 0 there.
ValueId Stored(const Graph& graph, const std::vector<NodeId>& producer, ValueId id) {
  const NodeId maker = producer[Index(id)];
  if (maker == NodeId::kNone || graph[maker].op != Op::kDequantize) return id;
  const std::vector<ValueId>& inputs = graph[maker].inputs;
  if (inputs.size() > 2 && inputs[2] != ValueId::kNone) {
    if (!graph.IsConstant(inputs[2])) return id;
    const Tensor& zero_points = graph[inputs[2]].constant;
    for (int64_t k = 0; k < zero_points.num_elements(); ++k) {
      if (zero_points.Get(k) != 0) return id;
    }
  }
  return inputs[0];
}

// A constant that is multiplied with activations, and where its output channels lie.
struct Weight {
  ValueId id;
  bool channels_last;  // [in, out] instead of [out, in…]
};

std::optional<Weight> WeightOf(const Graph& graph, const std::vector<NodeId>& producer, const Node& node) {
  if (node.op != Op::kMatmul && node.op != Op::kConv) return std::nullopt;
  const ValueId id = Stored(graph, producer, node.inputs[1]);
  if (!graph.IsConstant(id)) return std::nullopt;
  const DType dtype = graph[id].type.dtype;
  if (!IsFloat(dtype) && dtype != DType::kI8) return std::nullopt;
  const Shape& shape = graph[id].type.shape;
  if (node.op == Op::kConv) {
    const bool depthwise = node.attrs.Int("groups", 1) > 1 && shape[1] == 1;
    return depthwise ? std::nullopt : std::optional<Weight>({id, false});
  }
  if (shape.rank() != 2) return std::nullopt;
  return Weight{id, node.attrs.Int("transpose_b", 0) == 0};
}

}  // namespace

StatusOr<PruneSpec> ParsePruneSpec(std::string_view text) {
  const auto fail = [&](const auto&... what) {
    return Error(ErrorCode::kUsageInvalid, "expected none, 90%:fine, 90%:channels, 90%:16x16 or 2:4; found '", text,
                 "'", what...);
  };
  PruneSpec spec;
  if (text == "none") return spec;
  spec.none = false;
  spec.text = std::string(text);
  std::string_view pattern = text;
  const size_t percent = text.find("%:");
  if (percent != std::string_view::npos) {
    const std::string number(text.substr(0, percent));
    char* end = nullptr;
    spec.dropped = std::strtod(number.c_str(), &end) / 100;
    if (number.empty() || *end != '\0' || !(spec.dropped >= 0 && spec.dropped <= 1))
      return fail(", whose share is not from 0% to 100%");
    pattern = text.substr(percent + 2);
  }
  if (pattern == "fine" || pattern == "scattered") {
    spec.pattern = Pattern::Scattered();
  } else if (pattern == "channels") {
    spec.pattern = Pattern::Slices(0);
  } else {
    // n:m of the command line names no axis: it is always the one summed over.
    const bool groups = pattern.find(':') != std::string_view::npos;
    StatusOr<Pattern> parsed = ParsePattern(groups ? std::string(pattern) + "[1]" : std::string(pattern));
    if (!parsed.ok() || (parsed->kind != PatternKind::kBlock && parsed->kind != PatternKind::kNm)) return fail("");
    spec.pattern = *parsed;
  }
  if (spec.pattern.kind == PatternKind::kNm) {
    const double dropped = 1 - static_cast<double>(spec.pattern.n) / spec.pattern.m;
    if (percent != std::string_view::npos && std::abs(spec.dropped - dropped) > 0.005)
      return fail(", whose share is not that of its groups");
    spec.dropped = dropped;
  } else if (percent == std::string_view::npos) {
    return fail(", which does not say how much to drop");
  }
  return spec;
}

int Prune(Graph& graph, const PruneSpec& spec, uint64_t seed) {
  if (spec.none) return 0;
  std::set<ValueId> done;
  const Uses uses(graph);
  for (const Node& node : graph.nodes) {
    const std::optional<Weight> weight = WeightOf(graph, uses.producer, node);
    if (!weight || !done.insert(weight->id).second) continue;
    Value& value = graph[weight->id];
    Random random(HashBytes64(value.name, seed));
    const int bits = TypeInfo(value.type.dtype).bits;
    const Shape& shape = value.type.shape;
    // The mask is drawn for the matrix [out, in] and turned to how the weight lies.
    const auto [rows, columns] = MatrixView(shape);
    const Shape matrix = weight->channels_last ? Shape({columns, rows}) : Shape({rows, columns});
    const Attribute drawn = RandomAttribute(random, matrix, spec.pattern, 1 - spec.dropped, bits);
    const std::vector<int> turn = {1, 0};
    const Attribute tesa = weight->channels_last ? drawn.Transposed(turn) : drawn.Reshaped(shape);
    value.constant = tesa.ApplyTo(value.constant);
    value.tesa = tesa;
  }
  return static_cast<int>(done.size());
}

}  // namespace tessera
