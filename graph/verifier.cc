#include "graph/verifier.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <string>
#include <unordered_map>
#include <vector>

#include "graph/op.h"
#include "graph/op_names.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace tessera {
namespace {

#if defined(__SSE2__)
// Bit l: is the 4-byte element l of 16 other than zero bytes?
uint32_t NotZero16(const std::byte* bytes) {
  const auto* from = reinterpret_cast<const __m128i*>(bytes);
  const __m128i zero = _mm_setzero_si128();
  __m128i equal[4];
  for (int k = 0; k < 4; ++k) equal[k] = _mm_cmpeq_epi32(_mm_loadu_si128(from + k), zero);
  const __m128i packed = _mm_packs_epi16(_mm_packs_epi32(equal[0], equal[1]), _mm_packs_epi32(equal[2], equal[3]));
  return ~static_cast<uint32_t>(_mm_movemask_epi8(packed)) & 0xffff;
}
#endif

// Bit l: has element start + l, l < count <= 64, other bytes than zeros? -0 has.
uint64_t NotZero(const Tensor& data, int64_t start, int64_t count) {
  const int bytes = TypeInfo(data.dtype()).bits / 8;
  uint64_t word = 0;
  if (bytes == 0) {
    for (int64_t l = 0; l < count; ++l) word |= static_cast<uint64_t>(data.GetInt(start + l) != 0) << l;
    return word;
  }
  const std::byte* from = data.bytes().data() + start * bytes;
#if defined(__SSE2__)
  if (bytes == 4 && count == 64) {
    for (int k = 0; k < 4; ++k) word |= static_cast<uint64_t>(NotZero16(from + 64 * k)) << (16 * k);
    return word;
  }
  if (bytes == 1 && count == 64) {
    for (int k = 0; k < 4; ++k) {
      const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 16 * k));
      const int equal = _mm_movemask_epi8(_mm_cmpeq_epi8(x, _mm_setzero_si128()));
      word |= static_cast<uint64_t>(~static_cast<uint32_t>(equal) & 0xffff) << (16 * k);
    }
    return word;
  }
#endif
  for (int64_t l = 0; l < count; ++l) {
    bool zero = true;
    for (int b = 0; b < bytes; ++b) zero = zero && from[l * bytes + b] == std::byte{0};
    word |= static_cast<uint64_t>(!zero) << l;
  }
  return word;
}

// One method for each paragraph of the header; the numbers in comments are its lines.
class Verifier {
 public:
  Verifier(const Graph& graph, const VerifyOptions& options)
      : graph_(graph), options_(options), count_(static_cast<int>(graph.values.size())) {}

  Status Check() {
    for (const Value& value : graph_.values) RETURN_IF_ERROR(CheckValue(value));
    RETURN_IF_ERROR(CheckInputs());
    for (ValueId id : graph_.outputs) {
      if (!InRange(id)) return Fail("graph outputs: expected values below %", count_, ", found ", Index(id));  // 8
    }
    // What may be read so far; nodes add their outputs.
    for (const Value& value : graph_.values) ready_.push_back(value.kind != ValueKind::kComputed);
    for (const Node& node : graph_.nodes) RETURN_IF_ERROR(CheckNode(node));
    for (int id = 0; id < count_; ++id) {
      if (!ready_[static_cast<size_t>(id)]) {
        return Fail(Name(static_cast<ValueId>(id)), ": expected a node that computes it, found none");  // 5
      }
    }
    return OkStatus();
  }

 private:
  template <typename... Pieces>
  static Status Fail(const Pieces&... pieces) {
    return Error(ErrorCode::kGraphInvalid, pieces...);
  }
  bool InRange(ValueId id) const { return Index(id) >= 0 && Index(id) < count_; }
  std::string Name(ValueId id) const { return "value '" + graph_[id].name + "'"; }
  static std::string Name(const Node& node) {
    return "node '" + node.name + "' (" + std::string(OpName(node.op)) + ")";
  }

  Status CheckValue(const Value& value) {
    const std::string name = "value '" + value.name + "'";
    if (value.name.empty()) return Fail("a value of type ", value.type, ": expected a name, found none");  // 1
    if (!names_.emplace(value.name, true).second) return Fail(name, ": expected names that stand once");   // 1
    if (value.type.dtype > DType::kBool) return Fail(name, ": expected an element type, found none of them");
    RETURN_IF_ERROR(CheckShape(value.type.dtype, value.type.shape).WithContext(name));  // 2
    switch (value.kind) {
      case ValueKind::kInput:
      case ValueKind::kComputed: break;
      case ValueKind::kConstant:
        if (value.constant.type() != value.type) {  // 4
          return Fail(name, ": expected data of type ", value.type, ", found ", value.constant.type());
        }
        break;
      default: return Fail(name, ": expected an input, a constant or a computed value, found neither");
    }
    if (value.tesa) RETURN_IF_ERROR(CheckTesa(value).WithContext(name));
    if (value.quant) {
      RETURN_IF_ERROR(CheckQuantParams(*value.quant, value.type.dtype, value.type.shape).WithContext(name));  // 7
    }
    return OkStatus();
  }

  // 6
  Status CheckTesa(const Value& value) {
    const Attribute& tesa = *value.tesa;
    if (tesa.shape() != value.type.shape) {
      return Error(ErrorCode::kTesaInvalid, "expected an attribute of ", value.type.shape, ", found ", tesa.shape());
    }
    const int width = TypeInfo(value.type.dtype).bits;
    for (const TesaLayer& layer : tesa.layers()) {
      if (layer.bits <= width) continue;
      return Error(ErrorCode::kTesaInvalid, "expected at most the ", width, " bits of ", value.type.dtype, ", found ",
                   layer.bits);
    }
    if (value.kind != ValueKind::kConstant || tesa.keeps_all() || !options_.data) return OkStatus();
    // Zero bytes: a -0 would be a value where there is none.
    const Bitmap kept = tesa.KeptBitmap();
    const Tensor& data = value.constant;
    for (int64_t start = 0; start < kept.size(); start += 64) {
      const uint64_t word = kept.words()[static_cast<size_t>(start / 64)];
      const int64_t count = std::min<int64_t>(64, kept.size() - start);
      // Large networks have most of their elements here: whole words at once.
      const uint64_t wrong = NotZero(data, start, count) & ~word;
      if (wrong == 0) continue;
      const int64_t i = start + std::countr_zero(wrong);
      return Error(ErrorCode::kTesaInvalid, "expected 0 where the attribute prunes, found ", data.Get(i),
                   " at element ", i, "; apply the attribute to the data");
    }
    return OkStatus();
  }

  // 3
  Status CheckInputs() {
    std::vector<bool> listed(graph_.values.size(), false);
    for (ValueId id : graph_.inputs) {
      if (!InRange(id)) return Fail("graph inputs: expected values below %", count_, ", found ", Index(id));
      if (graph_[id].kind != ValueKind::kInput) return Fail("graph inputs: ", Name(id), " is not of the kind input");
      if (listed[static_cast<size_t>(Index(id))]) return Fail("graph inputs: ", Name(id), " stands twice");
      listed[static_cast<size_t>(Index(id))] = true;
    }
    for (int id = 0; id < count_; ++id) {
      if (graph_.values[static_cast<size_t>(id)].kind == ValueKind::kInput && !listed[static_cast<size_t>(id)]) {
        return Fail(Name(static_cast<ValueId>(id)), ": expected each input among the graph's inputs");
      }
    }
    return OkStatus();
  }

  Status CheckOperands(const Node& node, const std::vector<ValueId>& ids, bool may_be_absent) {
    for (ValueId id : ids) {
      if (id == ValueId::kNone && may_be_absent) continue;
      if (!InRange(id)) {
        return Fail(Name(node), ": expected operands below %", count_, ", found ", Index(id));  // 9
      }
      if (!ready_[static_cast<size_t>(Index(id))]) {  // 10
        return Error(ErrorCode::kGraphCyclic, Name(node), ": expected operands that are computed before it, found ",
                     Name(id));
      }
    }
    return OkStatus();
  }

  Status CheckNode(const Node& node) {
    if (static_cast<size_t>(node.op) >= std::size(kOpNames)) {  // 9
      return Fail("node '", node.name, "': expected an op, found number ", static_cast<int>(node.op));
    }
    RETURN_IF_ERROR(CheckOperands(node, node.inputs, /*may_be_absent=*/true));
    for (const auto& [name, value] : node.attrs) {  // 11; the rest of it is InferTypes'
      bool has_nan = false;
      if (const auto* number = std::get_if<double>(&value)) has_nan = std::isnan(*number);
      if (const auto* numbers = std::get_if<std::vector<double>>(&value)) {
        for (double number : *numbers) has_nan = has_nan || std::isnan(number);
      }
      if (has_nan) {
        return Error(ErrorCode::kAttributeInvalid, Name(node), ": parameter '", name, "' is NaN; expected a number");
      }
    }
    ASSIGN_OR_RETURN(std::vector<TensorType> types, InferTypes(graph_, node));  // 9, 11
    if (types.size() != node.outputs.size()) {
      return Fail(Name(node), ": expected ", types.size(), " outputs, found ", node.outputs.size());
    }
    if (node.epilogue) {
      if (types.size() != 1) return Fail(Name(node), ": expected one output beside an epilogue");  // 13
      RETURN_IF_ERROR(CheckEpilogue(node, types[0]));
      types[0].dtype = node.epilogue->dtype;
    }
    for (size_t k = 0; k < types.size(); ++k) {
      const ValueId id = node.outputs[k];
      if (!InRange(id)) return Fail(Name(node), ": expected outputs below %", count_, ", found ", Index(id));  // 9
      if (graph_[id].kind != ValueKind::kComputed) {
        return Fail(Name(node), ": expected a computed value as output, found ", Name(id));  // 5
      }
      if (ready_[static_cast<size_t>(Index(id))]) {
        return Fail(Name(node), ": ", Name(id), " already is the output of a node");  // 5
      }
      if (graph_[id].type != types[k]) {  // 12
        const bool shapes_differ = graph_[id].type.shape != types[k].shape;
        return Error(shapes_differ ? ErrorCode::kShapeMismatch : ErrorCode::kTypeMismatch, Name(node), ": output ", k,
                     " '", graph_[id].name, "': expected the type ", types[k], ", found ", graph_[id].type);
      }
      ready_[static_cast<size_t>(Index(id))] = true;
    }
    return OkStatus();
  }

  // `raw` is the type of the op's own result.
  Status CheckEpilogue(const Node& node, const TensorType& raw) {
    const Epilogue& epilogue = *node.epilogue;
    const std::string name = Name(node) + ": epilogue";
    RETURN_IF_ERROR(CheckOperands(node, epilogue.inputs, /*may_be_absent=*/false));
    RETURN_IF_ERROR(epilogue.body.Verify(raw.shape.rank()).WithContext(name));  // 13
    const int operands = static_cast<int>(epilogue.inputs.size()) + 1;
    if (epilogue.body.num_inputs != operands) {
      return Fail(name, ": expected a body of ", operands, " operands, found ", epilogue.body.num_inputs);
    }
    for (const ScalarInst& inst : epilogue.body.insts) {
      if (inst.op != ScalarOp::kInput) continue;
      const int64_t k = inst.imm_int;
      const DType storage = k == 0 ? raw.dtype : graph_[epilogue.inputs[static_cast<size_t>(k - 1)]].type.dtype;
      if (inst.type == ComputeType(storage)) continue;
      return Error(ErrorCode::kTypeMismatch, name, ": expected operand ", k, " to be read as ", ComputeType(storage),
                   ", found ", inst.type);
    }
    if (epilogue.dtype > DType::kBool || epilogue.body.result_type() != ComputeType(epilogue.dtype)) {
      return Error(ErrorCode::kTypeMismatch, name, ": expected a result of ", ComputeType(epilogue.dtype), ", found ",
                   epilogue.body.result_type());
    }
    for (ValueId id : epilogue.inputs) {  // 14
      const std::optional<Shape> both = BroadcastShapes(graph_[id].type.shape, raw.shape);
      if (both && *both == raw.shape) continue;
      return Error(ErrorCode::kShapeMismatch, name, ": expected operands that broadcast to ", raw.shape, ", found ",
                   Name(id), " of ", graph_[id].type.shape);
    }
    return OkStatus();
  }

  const Graph& graph_;
  const VerifyOptions options_;
  const int count_;
  std::unordered_map<std::string_view, bool> names_;
  std::vector<bool> ready_;  // by value: given, or an output of a node that was checked
};

}  // namespace

Status Verify(const Graph& graph, const VerifyOptions& options) { return Verifier(graph, options).Check(); }

StatusOr<Graph> ParseAndVerify(std::string_view text, const ParseOptions& options) {
  ASSIGN_OR_RETURN(Graph graph, ParseGraph(text, options));
  RETURN_IF_ERROR(Verify(graph));
  return graph;
}

}  // namespace tessera
