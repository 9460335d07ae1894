#include "codegen/emit/epilogue.h"

#include <algorithm>

#include "codegen/emit/body_emitter.h"
#include "graph/op.h"

namespace tessera {
namespace {

// How `shape`, broadcast to `output`, is walked by rows and columns, the last `column_dims` dimensions; *even becomes
// false where columns are not walked in equal steps.
EpilogueOperand WalkOperand(const TensorType& type, const Shape& output, int column_dims, bool* even) {
  EpilogueOperand operand;
  operand.dtype = type.dtype;
  operand.elementwise = type.shape.num_elements() == output.num_elements();
  const int rank = output.rank(), missing = rank - type.shape.rank();
  const std::vector<int64_t> strides = type.shape.Strides();
  // Elements to the next position along dimension `d` of the output; 0 where the operand repeats.
  const auto stride_of = [&](int d) {
    return d < missing || type.shape[d - missing] == 1 ? int64_t{0} : strides[d - missing];
  };
  int64_t columns = 1;
  for (int d = rank - 1; d >= std::max(0, rank - column_dims); --d) {
    if (output[d] == 1) continue;
    if (columns == 1) operand.along_columns = stride_of(d) != 0;
    if (stride_of(d) != (operand.along_columns ? columns : 0)) *even = false;
    columns *= output[d];
  }
  operand.pitch = columns;
  // Row dimensions from the innermost outwards; neighbours that the operand walks as one are one term.
  int64_t period = 1;
  for (int d = rank - column_dims - 1; d >= 0; --d) {
    const int64_t extent = output[d], stride = stride_of(d);
    if (extent == 1) continue;
    EpilogueOperand::RowTerm* inner = operand.rows.empty() ? nullptr : &operand.rows.back();
    if (inner != nullptr && inner->period * inner->extent == period && stride == inner->stride * inner->extent) {
      inner->extent *= extent;
    } else if (stride != 0) {
      operand.rows.push_back({period, extent, stride});
    }
    period *= extent;
  }
  if (!operand.rows.empty()) {
    EpilogueOperand::RowTerm& outermost = operand.rows.back();
    if (outermost.period * outermost.extent == period) outermost.extent = 0;
  }
  return operand;
}

std::vector<TensorType> OperandTypes(const Graph& graph, const Node& node) {
  std::vector<TensorType> types;
  if (!node.epilogue) return types;
  for (ValueId id : node.epilogue->inputs) types.push_back(graph[id].type);
  return types;
}

}  // namespace

TileEpilogue::TileEpilogue(const Graph& graph, const Node& node, int column_dims)
    : TileEpilogue(MakeContext(graph, node).outputs[0].dtype, graph[node.outputs[0]].type.shape,
                   node.epilogue ? &*node.epilogue : nullptr, OperandTypes(graph, node), column_dims) {}

TileEpilogue::TileEpilogue(DType raw, const Shape& output, const Epilogue* epilogue,
                           const std::vector<TensorType>& operands, int column_dims)
    : raw_(raw), dtype_(raw) {
  for (int d = std::max(0, output.rank() - column_dims); d < output.rank(); ++d) columns_ *= output[d];
  pitch_ = columns_;
  if (epilogue == nullptr) return;
  body_ = epilogue->body;
  dtype_ = epilogue->dtype;
  for (const TensorType& type : operands) operands_.push_back(WalkOperand(type, output, column_dims, &even_));
}

void TileEpilogue::UsePitches(const Node& node, const PlanBuilder& builder) {
  pitch_ = builder.PlanesOf(node.outputs[0]).pitch;
  for (size_t k = 0; k < operands_.size(); ++k) {
    const int64_t pitch = builder.PlanesOf(node.epilogue->inputs[k]).pitch;
    if (operands_[k].elementwise && pitch != 0) operands_[k].pitch = pitch;
  }
}

TileEpilogue TileEpilogue::WithStart() const {
  TileEpilogue result = *this;
  if (raw_ != DType::kI32) return result;
  // sum + operand, where neither is read by anything else.
  const std::vector<ScalarInst>& insts = body_.insts;
  std::vector<int> readers(insts.size(), 0);
  for (const ScalarInst& inst : insts) {
    for (int arg : inst.args) {
      if (arg >= 0) ++readers[arg];
    }
  }
  const auto input_at = [&](int n) {  // the input that instruction n is, if it is read once; otherwise -1
    return insts[n].op == ScalarOp::kInput && readers[n] == 1 && body_.result != n ? static_cast<int>(insts[n].imm_int)
                                                                                   : -1;
  };
  for (size_t n = 0; n < insts.size(); ++n) {
    if (insts[n].op != ScalarOp::kAdd || insts[n].type != DType::kI32) continue;
    int sum = insts[n].args[0], other = insts[n].args[1];
    if (input_at(sum) != 0) std::swap(sum, other);
    if (input_at(sum) != 0 || input_at(other) < 1) continue;
    const EpilogueOperand& operand = operands_[input_at(other) - 1];
    if (operand.dtype != DType::kI32 || !operand.rows.empty()) continue;
    result.start_ = input_at(other) - 1;
    // The addition becomes the input itself; the two that it read go.
    result.body_.insts.clear();
    std::vector<int> moved(insts.size(), -1);
    for (size_t k = 0; k < insts.size(); ++k) {
      if (static_cast<int>(k) == sum || static_cast<int>(k) == other) continue;
      ScalarInst inst = k == n ? insts[sum] : insts[k];
      for (int& arg : inst.args) arg = arg < 0 ? arg : moved[arg];
      moved[k] = static_cast<int>(result.body_.insts.size());
      result.body_.insts.push_back(inst);
    }
    result.body_.result = moved[body_.result];
    return result;
  }
  return result;
}

int TileEpilogue::cost() const {
  // Operands and constants come with the instructions that take them, and a register's f32 is narrow.
  const auto operations = std::count_if(body_.insts.begin(), body_.insts.end(), [](const ScalarInst& inst) {
    return ScalarInfo(inst.op).arity > 0 && inst.op != ScalarOp::kNarrow;
  });
  return static_cast<int>(operations + static_cast<int64_t>(operands_.size())) + 1;
}

bool TileEpilogue::by_column() const {
  return std::all_of(operands_.begin(), operands_.end(),
                     [](const EpilogueOperand& operand) { return operand.rows.empty() && !operand.elementwise; });
}

bool TileEpilogue::bytewise() const {
  return TypeInfo(dtype_).bits >= 8 && std::all_of(operands_.begin(), operands_.end(), [](const EpilogueOperand& o) {
           return TypeInfo(o.dtype).bits >= 8;
         });
}

int TileEpilogue::VectorWidth(std::span<const StepArg> args) const {
  constexpr int64_t kBytes = 16;
  const int narrow = TypeInfo(dtype_).bits <= 16 ? 8 : 4;
  for (const StepArg& arg : args) {
    if (arg.offset % kBytes != 0) return 1;
  }
  int width = narrow;
  while (width > 1 && (columns_ % width != 0 || pitch_ % width != 0)) width /= 2;
  return width;
}

std::string TileEpilogue::Key() const {
  std::string key = internal::Join("epilogue ", Name(raw_), " -> ", Name(dtype_), " columns ", columns_);
  if (pitch_ != columns_) key += internal::Join(" pitch ", pitch_);
  for (const EpilogueOperand& operand : operands_) {
    key += internal::Join("; ", Name(operand.dtype), operand.along_columns ? " columns" : "");
    if (operand.elementwise && operand.pitch != columns_) key += internal::Join(" pitch ", operand.pitch);
    for (const auto& term : operand.rows) {
      key += internal::Join(" rows/", term.period, "%", term.extent, "*", term.stride);
    }
  }
  if (start_ >= 0) key += internal::Join("; starts with ", start_);
  return body_.empty() ? key : key + " " + body_.ToString();
}

void TileEpilogue::AddArguments(const Node& node, PlanBuilder& builder, PlanStep& step) const {
  // An operand may give its memory to the result when each element is read just before the same one is written, and
  // the kernel reads the buffer nowhere else.
  const int out = static_cast<int>(step.args.size() + operands_.size());
  std::vector<int> read_elsewhere;
  for (const StepArg& arg : step.args) read_elsewhere.push_back(arg.buffer);
  for (size_t k = 0; k < operands_.size(); ++k) {
    step.args.push_back(builder.Read(node.epilogue->inputs[k]));
    const int buffer = step.args.back().buffer;
    const bool shared = std::find(read_elsewhere.begin(), read_elsewhere.end(), buffer) != read_elsewhere.end();
    if (operands_[k].elementwise && !shared && TypeInfo(operands_[k].dtype).bits == TypeInfo(dtype_).bits) {
      step.in_place.emplace_back(static_cast<int>(step.args.size()) - 1, out);
    }
  }
  step.args.push_back(builder.Write(node.outputs[0]));
  KernelSpec& kernel = step.kernel;
  kernel.num_args = static_cast<int>(step.args.size());
  kernel.may_alias.assign(kernel.num_args, false);
  for (const auto& [from, to] : step.in_place) kernel.may_alias[from] = kernel.may_alias[to] = true;
}

IrValue EpilogueEmitter::RowOffset(int operand, IrValue row) {
  IrValue& offset = row_offset_[{operand, row}];
  if (offset != nullptr) return offset;
  auto& ir = b_.ir();
  for (const EpilogueOperand::RowTerm& term : epilogue_.operands()[operand].rows) {
    IrValue at = row;
    if (term.period != 1) at = ir.CreateUDiv(at, b_.I64(term.period));
    if (term.extent != 0) at = ir.CreateURem(at, b_.I64(term.extent));
    at = ir.CreateMul(at, b_.I64(term.stride), "", /*HasNUW=*/true, /*HasNSW=*/true);
    offset = offset == nullptr ? at : ir.CreateAdd(offset, at, "", true, true);
  }
  if (offset == nullptr) offset = b_.I64(0);
  return offset;
}

IrValue EpilogueEmitter::LoadOperand(int k, int lanes, IrValue row, IrValue column, IrValue mask) {
  const EpilogueOperand& operand = epilogue_.operands()[k];
  IrValue& value = loaded_[{k, {operand.rows.empty() ? nullptr : row, operand.along_columns ? column : nullptr}}];
  if (value != nullptr) return value;
  // Without a row, which sums that start with the operand have none of, it is the same for all.
  const bool by_row = operand.elementwise && row != nullptr;
  IrValue at = by_row ? b_.ir().CreateMul(row, b_.I64(operand.pitch), "", true, true) : RowOffset(k, row);
  if (operand.along_columns || operand.elementwise) at = b_.ir().CreateAdd(at, column, "", true, true);
  const bool vector = operand.along_columns && lanes > 1;
  return value = b_.Load(b_.arg(first_arg_ + k), at, operand.dtype, vector ? lanes : 1, vector ? mask : nullptr);
}

IrValue EpilogueEmitter::Start(DType type, int lanes, IrValue column, IrValue mask) {
  if (!epilogue_.has_start()) return b_.Zero(type, lanes);
  return b_.Splat(LoadOperand(epilogue_.start(), lanes, nullptr, column, mask), lanes);
}

IrValue EpilogueEmitter::Apply(IrValue value, IrValue row, IrValue column, IrValue mask) {
  if (epilogue_.body().empty()) return value;
  const int lanes = KernelBuilder::LanesOf(value);
  IrValues inputs = {value};
  for (int k = 0; k < static_cast<int>(epilogue_.operands().size()); ++k) {
    inputs.push_back(k == epilogue_.start() ? nullptr : LoadOperand(k, lanes, row, column, mask));
  }
  return b_.Splat(EmitBody(b_, epilogue_.body(), inputs), lanes);
}

IrValue EpilogueEmitter::ApplyToColumn(IrValue value, IrValue column) {
  if (epilogue_.body().empty()) return value;
  IrValues inputs = {value};
  for (size_t k = 0; k < epilogue_.operands().size(); ++k) {
    inputs.push_back(LoadOperand(static_cast<int>(k), 1, nullptr, column, nullptr));
  }
  return b_.Splat(EmitBody(b_, epilogue_.body(), inputs), KernelBuilder::LanesOf(value));
}

void EpilogueEmitter::Fetch(int lanes, IrValue row, IrValue column) {
  for (int k = 0; k < static_cast<int>(epilogue_.operands().size()); ++k) {
    if (k != epilogue_.start()) LoadOperand(k, lanes, row, column, nullptr);
  }
}

void EpilogueEmitter::Store(IrValue value, IrValue row, IrValue column, IrValue mask) {
  IrValue result = Apply(value, row, column, mask);
  auto& ir = b_.ir();
  IrValue at = ir.CreateMul(row, b_.I64(epilogue_.pitch()), "", true, true);
  at = ir.CreateAdd(at, column, "", true, true);
  b_.Store(b_.arg(first_arg_ + static_cast<int>(epilogue_.operands().size())), at, epilogue_.dtype(), result, mask);
}

}  // namespace tessera
