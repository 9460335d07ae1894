#include "propagate/bits/bits.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <span>
#include <sstream>

#include "graph/op.h"
#include "propagate/bits/bit_flow.h"
#include "propagate/bits/bit_math.h"

namespace tessera {
namespace {

using namespace bit_math;

int LengthOf(double x) { return x <= 0 ? 0 : static_cast<int>(std::bit_width(static_cast<uint64_t>(x))); }

// What a declared width says of integers; nullopt when it says nothing beyond the type.
std::optional<int> DeclaredWidth(const Value& value) {
  if (!value.tesa || IsBool(value.type.dtype)) return std::nullopt;
  const std::vector<int> widths = value.tesa->Widths();
  const int width = widths.empty() ? 0 : widths.back();
  return width < TypeInfo(value.type.dtype).bits ? std::optional<int>(width) : std::nullopt;
}

Interval RangeOfWidth(DType type, int width) {
  if (width == 0) return {0, 0};
  if (IsUnsigned(type)) return {0, std::exp2(width) - 1};
  return {-std::exp2(width - 1), std::exp2(width - 1) - 1};
}

// A value that grids pass through: result elements are operand elements, or the largest of some, or bounded ones.
bool PassesKnownGrid(const Node& node) {
  if (node.epilogue) return false;
  switch (node.op) {
    case Op::kReshape:
    case Op::kTranspose:
    case Op::kSlice:
    case Op::kExpand:
    case Op::kTile:
    case Op::kConcat:
    case Op::kMaxPool:
    case Op::kRelu: return true;
    default: return false;
  }
}
bool PassesReadGrid(const Node& node) { return PassesKnownGrid(node) || (node.op == Op::kClip && !node.epilogue); }

// The one grid of a quantize or dequantize node; nullopt where scales are many or computed.
std::optional<BitGrid> GridOf(const Graph& graph, const Node& node) {
  if (node.epilogue || !graph.IsConstant(node.inputs[1])) return std::nullopt;
  const Tensor& scale = graph[node.inputs[1]].constant;
  if (scale.num_elements() != 1 || !(scale.Get(0) > 0) || !std::isfinite(scale.Get(0))) return std::nullopt;
  BitGrid grid = {.scale = scale.Get(0)};
  if (node.inputs.size() > 2 && node.inputs[2] != ValueId::kNone) {
    if (!graph.IsConstant(node.inputs[2])) return std::nullopt;
    grid.zero_point = graph[node.inputs[2]].constant.GetInt(0);
  }
  return grid;
}

struct OnGrid {
  BitGrid grid;
  Interval numbers;
  Interval first;  // before anything was saturated
};

class Propagation {
 public:
  explicit Propagation(const Graph& graph) : graph_(graph), values_(graph.values.size()) {
    for (const Node& node : graph.nodes) computes_.push_back(NodeCompute(graph, node));
    for (size_t n = 0; n < graph.nodes.size(); ++n) {
      std::vector<const Tensor*> constants;
      for (ValueId id : Operands(graph.nodes[n])) {
        constants.push_back(graph.IsConstant(id) ? &graph[id].constant : nullptr);
      }
      flows_.emplace_back(computes_[n], std::move(constants));
    }
  }

  StatusOr<BitReport> Run() {
    BitReport report;
    RETURN_IF_ERROR(Start());
    for (bool changed = true; changed; ++report.passes) {
      Forward();
      if (report.passes == 0) first_ = facts_;
      Backward();
      changed = Saturate();
    }
    NeedBits();
    for (size_t v = 0; v < graph_.values.size(); ++v) values_[v] = IntegerBits(v);
    FloatBits();
    report.values = std::move(values_);
    return report;
  }

 private:
  // Types, declared widths and constants.
  Status Start() {
    for (const Value& value : graph_.values) {
      ValueFact fact = {TypeRange(value.type.dtype), 0};
      if (value.kind == ValueKind::kConstant) fact = FactOf(value.constant);
      if (const std::optional<int> width = DeclaredWidth(value); width && IsInteger(value.type.dtype)) {
        const Interval declared = RangeOfWidth(value.type.dtype, *width);
        if (value.kind == ValueKind::kConstant && !Within(fact.range, declared)) {
          const double worst = fact.range.low < declared.low ? fact.range.low : fact.range.high;
          return Error(ErrorCode::kTesaInvalid, "value '", value.name, "': declared at ", *width, " bits, which hold ",
                       declared.low, " to ", declared.high, ", found ", worst, "; declare more bits or clip the data");
        }
        fact.range = {std::max(fact.range.low, declared.low), std::min(fact.range.high, declared.high)};
      }
      start_.push_back(fact);
    }
    saturated_.resize(graph_.values.size());
    return OkStatus();
  }

  void Forward() {
    facts_ = start_;
    for (size_t v = 0; v < facts_.size(); ++v) Clamp(v);
    for (size_t n = 0; n < graph_.nodes.size(); ++n) {
      const Node& node = graph_.nodes[n];
      std::vector<ValueFact> inputs;
      for (ValueId id : Operands(node)) inputs.push_back(id == ValueId::kNone ? ValueFact() : facts_[Index(id)]);
      const std::vector<ValueFact> outputs = flows_[n].Forward(inputs);
      for (size_t k = 0; k < node.outputs.size(); ++k) {
        const size_t v = Index(node.outputs[k]);
        const Interval promised = start_[v].range;  // the type, or less where that is declared
        facts_[v] = outputs[k];
        facts_[v].range = {std::max(promised.low, outputs[k].range.low),
                           std::min(promised.high, outputs[k].range.high)};
        if (IsEmpty(facts_[v].range)) facts_[v].range = promised;
        Clamp(v);
      }
    }
  }

  void Clamp(size_t v) {
    if (!saturated_[v]) return;
    Interval& r = facts_[v].range;
    r = {std::clamp(r.low, saturated_[v]->low, saturated_[v]->high),
         std::clamp(r.high, saturated_[v]->low, saturated_[v]->high)};
  }

  void Backward() {
    needs_.assign(graph_.values.size(), kEmptyInterval);
    for (ValueId id : graph_.outputs) needs_[Index(id)] = {};
    for (size_t n = graph_.nodes.size(); n-- > 0;) {
      const Node& node = graph_.nodes[n];
      std::vector<Interval> outputs;
      for (ValueId id : node.outputs) outputs.push_back(needs_[Index(id)]);
      const std::vector<ValueId> operands = Operands(node);
      const std::vector<Interval> inputs = flows_[n].NeededRanges(outputs);
      for (size_t k = 0; k < operands.size(); ++k) {
        if (operands[k] == ValueId::kNone) continue;
        Interval& need = needs_[Index(operands[k])];
        need = Hull(need, inputs[k]);
      }
    }
  }

  // Values whose readers would not notice that they were clipped, where clipping saves a bit. Constants stay: the bit
  // rules rely on what they hold.
  bool Saturate() {
    bool changed = false;
    for (size_t v = 0; v < graph_.values.size(); ++v) {
      const Value& value = graph_.values[v];
      if (!IsInteger(value.type.dtype) || value.kind == ValueKind::kConstant || IsEmpty(needs_[v])) continue;
      const Interval known = facts_[v].range, need = needs_[v];
      Interval r = {std::max(known.low, need.low), std::min(known.high, need.high)};
      if (need.low > known.high) r = {known.high, known.high};
      if (need.high < known.low) r = {known.low, known.low};
      // Bounds keep the low bits that are known to be 0.
      const double unit = std::exp2(std::min(facts_[v].zeros, 52));
      r.low = std::max(known.low, std::floor(r.low / unit) * unit);
      r.high = std::min(known.high, std::ceil(r.high / unit) * unit);
      if (WidthOf(r) >= WidthOf(known)) continue;
      saturated_[v] = r;
      changed = true;
    }
    return changed;
  }

  void NeedBits() {
    masks_.assign(graph_.values.size(), 0);
    for (ValueId id : graph_.outputs) masks_[Index(id)] = kAll;
    for (size_t n = graph_.nodes.size(); n-- > 0;) {
      const Node& node = graph_.nodes[n];
      std::vector<uint64_t> outputs;
      for (ValueId id : node.outputs) {
        // What saturates compares all bits.
        outputs.push_back(masks_[Index(id)] != 0 && saturated_[Index(id)] ? kAll : masks_[Index(id)]);
      }
      const std::vector<ValueId> operands = Operands(node);
      const std::vector<uint64_t> inputs = flows_[n].NeededBits(outputs);
      for (size_t k = 0; k < operands.size(); ++k) {
        if (operands[k] != ValueId::kNone) masks_[Index(operands[k])] |= inputs[k];
      }
    }
  }

  // Integers and bool; of floats only type and declared width.
  ValueBits IntegerBits(size_t v) const {
    const Value& value = graph_.values[v];
    ValueBits b;
    b.type_bits = TypeInfo(value.type.dtype).bits;
    if (IsFloat(value.type.dtype)) {
      b.known = DeclaredWidth(value).value_or(b.type_bits);
      b.read = masks_[v] == 0 ? 0 : b.type_bits;
      b.bits = std::min(b.known, b.read);
      return b;
    }
    const int top =
        IsBool(value.type.dtype) ? (masks_[v] != 0 ? 1 : 0) : std::min(b.type_bits, 64 - std::countl_zero(masks_[v]));
    b.known = std::min(b.type_bits, std::max(0, WidthOf(first_[v].range) - std::min(first_[v].zeros, 63)));
    b.range = facts_[v].range;
    b.saturates = saturated_[v].has_value();
    const int width = std::min(b.type_bits, WidthOf(b.range));
    const Interval type = TypeRange(value.type.dtype);
    const Interval need = IsEmpty(needs_[v])
                              ? Interval{0, 0}
                              : Interval{std::max(needs_[v].low, type.low), std::min(needs_[v].high, type.high)};
    const int unread = masks_[v] == 0 ? 0 : std::countr_zero(masks_[v]);
    b.read = std::min({b.type_bits, std::max(0, top - unread), IsEmpty(need) ? 0 : WidthOf(need)});
    b.low = std::max(std::min(facts_[v].zeros, 63), unread);
    b.bits = std::max(0, std::min(width, top) - b.low);
    b.is_signed = width <= top && b.range.low < 0;
    if (b.bits == 0) b.low = 0;
    b.read = std::max(b.read, b.bits);
    b.known = std::max(b.known, b.bits);
    return b;
  }

  // Floats that lie on a grid, or of which only a grid is read.
  void FloatBits() {
    std::vector<std::optional<OnGrid>> known(graph_.values.size()), read(graph_.values.size());
    std::vector<bool> read_whole(graph_.values.size(), false);
    for (const Node& node : graph_.nodes) {
      std::optional<OnGrid>& result = known[Index(node.outputs[0])];
      if (node.op == Op::kDequantize) {
        if (const std::optional<BitGrid> grid = GridOf(graph_, node)) {
          const size_t from = Index(node.inputs[0]);
          result = OnGrid{*grid, facts_[from].range, first_[from].range};
        }
      } else if (PassesKnownGrid(node)) {
        result = known[Index(node.inputs[0])];
        for (size_t k = 1; node.op == Op::kConcat && k < node.inputs.size() && result; ++k) {
          const std::optional<OnGrid>& other = known[Index(node.inputs[k])];
          if (!other || other->grid != result->grid) {
            result.reset();
          } else {
            result->numbers = Hull(result->numbers, other->numbers);
            result->first = Hull(result->first, other->first);
          }
        }
        if (node.op == Op::kRelu && result) {
          const double zero = static_cast<double>(result->grid.zero_point);
          for (Interval* r : {&result->numbers, &result->first}) *r = {std::max(zero, r->low), std::max(zero, r->high)};
        }
      }
    }
    for (ValueId id : graph_.outputs) read_whole[Index(id)] = true;
    for (size_t n = graph_.nodes.size(); n-- > 0;) {
      const Node& node = graph_.nodes[n];
      const size_t out = Index(node.outputs[0]);
      std::optional<OnGrid> reads;
      bool whole = false;
      if (node.op == Op::kQuantize && GridOf(graph_, node)) {
        reads = OnGrid{*GridOf(graph_, node), facts_[out].range, facts_[out].range};
      } else if (PassesReadGrid(node)) {
        reads = read[out];
        whole = read_whole[out];
      } else {
        whole = true;
      }
      const std::vector<ValueId> operands = Operands(node);
      for (size_t k = 0; k < operands.size(); ++k) {
        if (operands[k] == ValueId::kNone) continue;
        const size_t v = Index(operands[k]);
        if (whole || (node.op == Op::kQuantize && k > 0)) {
          read_whole[v] = true;
        } else if (reads && !read[v]) {
          read[v] = reads;
        } else if (reads && read[v]->grid == reads->grid) {
          read[v]->numbers = Hull(read[v]->numbers, reads->numbers);
        } else if (reads) {
          read_whole[v] = true;
        }
      }
    }
    for (size_t v = 0; v < graph_.values.size(); ++v) {
      const Value& value = graph_.values[v];
      if (!IsFloat(value.type.dtype) || value.kind == ValueKind::kConstant) continue;
      ValueBits& b = values_[v];
      const auto take = [&](const OnGrid& on, int& width) {
        const int bits = WidthOf(on.numbers);
        width = std::min(width, WidthOf(on.first));
        if (bits >= b.bits) return;
        b.bits = bits;
        b.grid = on.grid;
        b.range = on.numbers;
        b.saturates = true;
        b.is_signed = on.numbers.low < 0;
      };
      if (known[v]) take(*known[v], b.known);
      if (read[v] && !read_whole[v]) take(*read[v], b.read);
    }
  }

  const Graph& graph_;
  std::vector<ValueBits> values_;
  std::vector<Compute> computes_;
  std::vector<BitFlow> flows_;
  std::vector<ValueFact> start_, first_, facts_;
  std::vector<Interval> needs_;
  std::vector<std::optional<Interval>> saturated_;
  std::vector<uint64_t> masks_;
};

}  // namespace

int WidthOf(const Interval& range) {
  if (IsEmpty(range)) return 0;
  if (!IsFinite(range) || std::max(std::fabs(range.low), std::fabs(range.high)) > kExact) return 64;
  if (range.low >= 0) return LengthOf(range.high);
  return std::max(LengthOf(-range.low - 1), LengthOf(range.high)) + 1;
}

StatusOr<BitReport> PropagateBits(const Graph& graph) { return Propagation(graph).Run(); }

double BitReport::MeanBits(const Graph& graph, bool by_elements) const {
  double sum = 0, weight = 0;
  for (size_t v = 0; v < values.size(); ++v) {
    const double w = by_elements ? static_cast<double>(graph.values[v].type.shape.num_elements()) : 1;
    sum += w * values[v].bits;
    weight += w;
  }
  return weight > 0 ? sum / weight : 0;
}

std::string ValueBits::ToString() const {
  std::ostringstream out;
  out << type_bits;
  if (bits < type_bits) out << " -> " << bits;
  out << " bits";
  if (grid) out << ", on the grid of " << grid->scale;
  if (saturates) out << ", saturated to [" << range.low << ", " << range.high << "]";
  if (low > 0) out << ", from bit " << low;
  return out.str();
}

RefTensor Stored(const ValueBits& bits, const RefTensor& value) {
  RefTensor result = value;
  if (value.is_float()) {
    if (!bits.grid) return result;
    const double zero = static_cast<double>(bits.grid->zero_point);
    for (double& x : result.f) {
      double q = std::isnan(x) ? 0 : std::nearbyint(x / bits.grid->scale) + zero;
      q = std::clamp(q, bits.range.low, bits.range.high);
      x = (q - zero) * bits.grid->scale;
    }
    return result;
  }
  const bool is_unsigned = IsUnsigned(value.type.dtype);
  for (int64_t& x : result.i) {
    if (bits.saturates) {
      const double low = bits.range.low, high = bits.range.high;
      const bool beyond = is_unsigned && x < 0;  // u64 from 2^63 on
      if (std::isfinite(high) && (beyond || x > static_cast<int64_t>(high))) x = static_cast<int64_t>(high);
      if (std::isfinite(low) && !(is_unsigned && x < 0) && x < static_cast<int64_t>(low)) x = static_cast<int64_t>(low);
    }
    uint64_t field = (static_cast<uint64_t>(x) >> bits.low) & LowBits(bits.bits);
    if (bits.is_signed && bits.bits > 0 && bits.bits < 64 && ((field >> (bits.bits - 1)) & 1) != 0) {
      field |= ~LowBits(bits.bits);
    }
    x = static_cast<int64_t>(field << bits.low);
  }
  for (int64_t k = 0; k < result.size(); ++k) result.Set(k, result.Get(k));  // wraps to the type
  return result;
}

}  // namespace tessera
