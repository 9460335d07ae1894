#include "graph/op.h"

#include <algorithm>

namespace tessera {

// One maker per row of ops.def, defined in ops/<family>.cc.
#define TES_OP(name, text, family) OpDef Make##name##Op();
#include "graph/ops/ops.def"
#undef TES_OP

namespace {

std::vector<OpDef> MakeAllOps() {
  std::vector<OpDef> ops;
#define TES_OP(row_name, text, family) \
  ops.push_back(Make##row_name##Op()); \
  ops.back().op = Op::k##row_name;     \
  ops.back().name = text;              \
  TES_CHECK(ops.back().infer != nullptr && ops.back().reference != nullptr && ops.back().compute != nullptr, text);
#include "graph/ops/ops.def"
#undef TES_OP
  return ops;
}

std::string_view KindName(AttrKind kind) {
  static constexpr std::string_view kNames[] = {"an integer", "a float",          "a string",
                                                "integers",   "a list of floats", "an element type"};
  return kNames[static_cast<int>(kind)];
}

Status CheckAttrs(const OpDef& def, const Attrs& attrs) {
  for (const AttrDef& row : def.attrs) {
    if (row.required && !attrs.Has(row.name)) {
      return Error(ErrorCode::kAttributeInvalid, "expected the parameter '", row.name, "', found none");
    }
  }
  for (const auto& [name, value] : attrs) {
    auto row = std::find_if(def.attrs.begin(), def.attrs.end(), [&](const AttrDef& r) { return r.name == name; });
    if (row == def.attrs.end()) {
      return Error(ErrorCode::kAttributeInvalid, "op '", def.name, "' has no parameter '", name, "'");
    }
    if (static_cast<AttrKind>(value.index()) != row->kind) {
      return Error(ErrorCode::kAttributeInvalid, "expected the parameter '", name, "' to be ", KindName(row->kind),
                   ", found ", KindName(static_cast<AttrKind>(value.index())));
    }
  }
  return OkStatus();
}

// The read of an epilogue's operand, of `shape` that broadcasts to the result's, at the element that `write` writes.
// `write` may view the result with dimensions split in several (the groups of a conv): then so is the operand's view.
// Nothing where the view is not such a split.
std::optional<Access> OperandWhere(BufferRef buffer, const Shape& shape, const Shape& result, const Access& write) {
  Access access = {.buffer = buffer};
  const int missing = result.rank() - shape.rank();
  std::vector<int64_t> dims;
  int v = 0;  // the next dimension of the view
  for (int r = 0; r < result.rank(); ++r) {
    const int begin = v;
    if (write.view == result) {
      ++v;
    } else {
      for (int64_t extent = 1; extent != result[r]; extent *= write.view[v++]) {
        if (v == write.view.rank() || extent > result[r]) return std::nullopt;
      }
    }
    if (r < missing) continue;
    if (shape[r - missing] == 1 && (result[r] != 1 || v == begin)) {
      dims.push_back(1);
      access.index.push_back(FixedIndex(0));
      continue;
    }
    dims.insert(dims.end(), write.view.begin() + begin, write.view.begin() + v);
    access.index.insert(access.index.end(), write.index.begin() + begin, write.index.begin() + v);
  }
  access.view = Shape(std::move(dims));
  return access;
}

// Appends `body` to what a stage does with its result, which would have been stored as `stored`; `operands` are the
// body's further inputs.
void FuseEpilogue(const Compute& compute, const Body& body, DType stored, const std::vector<Access>& operands,
                  Stage& stage) {
  BodyBuilder b;
  Scalar value = b.InputAt(0, stage.body.result_type());
  if (!stage.finish.empty()) {
    std::vector<Scalar> inputs = {value};
    for (int k = 1; k < stage.finish.num_inputs; ++k) inputs.push_back(b.InputAt(k, stage.finish.input_type(k)));
    value = b.Inline(stage.finish, inputs);
  }
  // What the op would have stored is what the epilogue sees: narrow integers wrap as they would in memory.
  if (!IsFloat(stored)) value = b.Cast(value, stored);
  std::vector<Scalar> inputs = {value};
  const int base = static_cast<int>(stage.finish_reads.size()) + 1;
  for (size_t k = 0; k < operands.size(); ++k) {
    inputs.push_back(b.InputAt(base + static_cast<int>(k), compute.BufferType(operands[k].buffer).dtype));
  }
  stage.finish = b.Finish(b.Inline(body, inputs));
  stage.finish_reads.insert(stage.finish_reads.end(), operands.begin(), operands.end());
}

}  // namespace

std::span<const OpDef> AllOps() {
  static const std::vector<OpDef>& ops = *new std::vector<OpDef>(MakeAllOps());
  return ops;
}

const OpDef& GetOp(Op op) { return AllOps()[static_cast<size_t>(op)]; }

std::optional<Op> FindOp(std::string_view name) {
  for (const OpDef& def : AllOps()) {
    if (def.name == name) return def.op;
  }
  return std::nullopt;
}

OpContext MakeContext(const Graph& graph, const Node& node) {
  OpContext context = {.attrs = node.attrs, .inputs = {}, .outputs = {}};
  for (ValueId id : node.inputs) {
    if (id == ValueId::kNone) {
      context.inputs.push_back(std::nullopt);
    } else {
      context.inputs.push_back(graph[id].type);
    }
  }
  // The graph's own types are those after the epilogue; the op's are inferred.
  StatusOr<std::vector<TensorType>> types = GetOp(node.op).infer(context);
  TES_CHECK(types.ok(), node.name, ": ", types.status());
  context.outputs = *std::move(types);
  return context;
}

StatusOr<std::vector<TensorType>> InferTypes(const Graph& graph, const Node& node) {
  const OpDef& def = GetOp(node.op);
  const std::string where = "node '" + node.name + "' (" + std::string(def.name) + ")";
  const int count = static_cast<int>(node.inputs.size());
  if (count < def.min_inputs || (def.max_inputs >= 0 && count > def.max_inputs)) {
    return Error(ErrorCode::kGraphInvalid, where, ": expected ", def.min_inputs, "…",
                 def.max_inputs < 0 ? std::string("any") : std::to_string(def.max_inputs), " operands, found ", count);
  }
  for (int k = 0; k < def.min_inputs; ++k) {
    if (node.inputs[k] == ValueId::kNone) {
      return Error(ErrorCode::kGraphInvalid, where, ": operand ", k, " is required, found none");
    }
  }
  RETURN_IF_ERROR(CheckAttrs(def, node.attrs).WithContext(where));
  OpContext context = {.attrs = node.attrs, .inputs = {}, .outputs = {}};
  for (ValueId id : node.inputs) {
    if (id == ValueId::kNone) {
      context.inputs.push_back(std::nullopt);
    } else {
      context.inputs.push_back(graph[id].type);
    }
  }
  StatusOr<std::vector<TensorType>> types = def.infer(context);
  if (!types.ok()) return types.status().WithContext(where);
  for (const TensorType& type : *types) RETURN_IF_ERROR(CheckShape(type.dtype, type.shape).WithContext(where));
  return types;
}

Compute NodeCompute(const Graph& graph, const Node& node) {
  Compute compute = GetOp(node.op).compute(MakeContext(graph, node));
  if (!node.epilogue) return compute;
  const Epilogue& epilogue = *node.epilogue;
  const TensorType raw = compute.outputs[0];
  const int first = static_cast<int>(compute.inputs.size());
  for (ValueId id : epilogue.inputs) compute.inputs.push_back(graph[id].type);
  compute.outputs[0].dtype = epilogue.dtype;
  const BufferRef out = {BufferKind::kOutput, 0};
  // Usual case: nothing reads the result again, and each stage that writes it says where; the body joins its finish.
  bool direct = true;
  std::vector<Stage*> writers;
  std::vector<std::vector<Access>> operands;  // of each writer
  for (Stage& stage : compute.stages) {
    for (const Access& read : stage.reads) direct &= read.buffer != out;
    for (const Access& read : stage.finish_reads) direct &= read.buffer != out;
    if (stage.write.buffer != out) continue;
    if (epilogue.body.uses_index()) direct &= stage.write == Elementwise(out, raw.shape);
    writers.push_back(&stage);
    operands.emplace_back();
    for (int k = first; k < static_cast<int>(compute.inputs.size()); ++k) {
      std::optional<Access> operand =
          OperandWhere({BufferKind::kInput, k}, compute.inputs[k].shape, raw.shape, stage.write);
      direct &= operand.has_value();
      if (operand) operands.back().push_back(*std::move(operand));
    }
  }
  if (direct) {
    for (size_t n = 0; n < writers.size(); ++n)
      FuseEpilogue(compute, epilogue.body, raw.dtype, operands[n], *writers[n]);
    return compute;
  }
  // Otherwise the op writes a temporary and one more stage applies the body.
  const BufferRef temp = {BufferKind::kTemp, static_cast<int>(compute.temps.size())};
  compute.temps.push_back(raw);
  const auto redirect = [&](Access& access) {
    if (access.buffer == out) access.buffer = temp;
  };
  for (Stage& stage : compute.stages) {
    redirect(stage.write);
    for (Access& read : stage.reads) redirect(read);
    for (Access& read : stage.finish_reads) redirect(read);
  }
  std::vector<Access> reads = {Elementwise(temp, raw.shape)};
  for (int k = first; k < static_cast<int>(compute.inputs.size()); ++k) {
    reads.push_back(Broadcast({BufferKind::kInput, k}, compute.inputs[k].shape, raw.shape));
  }
  compute.stages.push_back(MapStage("epilogue", raw.shape, std::move(reads), epilogue.body, out));
  return compute;
}

}  // namespace tessera
