#include "graph/testing/random_node.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "graph/op.h"
#include "graph/testing/random_body.h"

namespace tessera {
namespace {

using Draw = void (*)(CaseBuilder&);

constexpr Draw kDraws[] = {
#define TES_OP(name, text, family) &Random##name,
#include "graph/ops/ops.def"
#undef TES_OP
};

}  // namespace

RandomCase RandomNode(Op op, std::mt19937_64& rng) {
  CaseBuilder builder(op, rng);
  kDraws[static_cast<size_t>(op)](builder);
  return builder.Finish();
}

void AddRandomEpilogue(RandomCase& random_case, std::mt19937_64& rng) {
  Graph& graph = random_case.graph;
  Node& node = graph.nodes[0];
  TES_CHECK(node.outputs.size() == 1 && !node.epilogue, node.name);
  const TensorType result = graph[node.outputs[0]].type;  // a copy: adding values moves them
  CaseBuilder draw(node.op, rng);
  Epilogue epilogue;
  std::vector<DType> types = {result.dtype};
  const int extra = static_cast<int>(draw.Int(0, 2));
  for (int k = 0; k < extra; ++k) {
    const DType dtype =
        draw.Chance(0.7) ? DType::kF32 : draw.Pick({DType::kF16, DType::kI32, DType::kI8, DType::kBool});
    Tensor tensor = draw.RandomTensor(dtype, draw.RandomBroadcast(result.shape));
    types.push_back(dtype);
    Value value;
    value.name = "epilogue" + std::to_string(k);
    value.type = tensor.type();
    value.kind = ValueKind::kInput;
    const ValueId id = graph.AddValue(std::move(value));
    graph.inputs.push_back(id);
    epilogue.inputs.push_back(id);
    random_case.inputs.push_back(std::move(tensor));
  }
  epilogue.body = RandomBody(types, {.continuous = true}, rng);
  epilogue.dtype = RandomStorage(epilogue.body.result_type(), rng);
  graph[node.outputs[0]].type.dtype = epilogue.dtype;
  node.epilogue = std::move(epilogue);
}

int64_t CaseBuilder::Int(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(rng_); }

double CaseBuilder::Real(double low, double high) { return std::uniform_real_distribution<double>(low, high)(rng_); }

bool CaseBuilder::Chance(double probability) { return Real(0, 1) < probability; }

DType CaseBuilder::FloatType() {
  return Chance(0.6) ? DType::kF32 : Pick({DType::kF64, DType::kF16, DType::kBF16, DType::kF16});
}

DType CaseBuilder::IntegerType() {
  return Pick({DType::kI8, DType::kU8, DType::kI16, DType::kU16, DType::kI32, DType::kI32, DType::kU32, DType::kI64,
               DType::kU64, DType::kI4, DType::kU4});
}

Shape CaseBuilder::RandomShape(int min_rank, int max_rank) {
  constexpr int64_t kMaxElements = 400;
  std::vector<int64_t> dims(Int(min_rank, max_rank));
  int64_t count = 1;
  for (int64_t& dim : dims) {
    dim = Chance(0.1) ? Int(10, 37) : Int(1, 9);
    dim = std::max<int64_t>(1, std::min(dim, kMaxElements / count));
    count *= dim;
  }
  // The clamp above favours large leading extents.
  std::shuffle(dims.begin(), dims.end(), rng_);
  return Shape(std::move(dims));
}

Shape CaseBuilder::RandomBroadcast(const Shape& target) {
  const int kept = Chance(0.5) ? target.rank() : static_cast<int>(Int(0, target.rank()));
  std::vector<int64_t> dims(target.dims().end() - kept, target.dims().end());
  for (int64_t& dim : dims) {
    if (Chance(0.3)) dim = 1;
  }
  return Shape(std::move(dims));
}

Tensor CaseBuilder::RandomTensor(DType dtype, const Shape& shape, double low, double high) {
  Tensor tensor(dtype, shape);
  if (IsInteger(dtype)) {
    low = std::max(low, static_cast<double>(MinInt(dtype)));
    high = std::min(high, static_cast<double>(MaxInt(dtype)));
  }
  for (int64_t k = 0; k < tensor.num_elements(); ++k) {
    if (IsBool(dtype)) {
      tensor.SetInt(k, Int(0, 1));
    } else if (IsInteger(dtype)) {
      tensor.SetInt(k, Int(static_cast<int64_t>(std::ceil(low)), static_cast<int64_t>(std::floor(high))));
    } else {
      double value = Real(low, high);
      if (const double half = std::nearbyint(value * 2) / 2; Chance(0.25) && half >= low && half <= high) value = half;
      tensor.Set(k, value);
    }
  }
  return tensor;
}

void CaseBuilder::Input(Tensor tensor) { operands_.push_back({true, std::move(tensor)}); }

void CaseBuilder::NoInput() { operands_.push_back({false, Tensor()}); }

RandomCase CaseBuilder::Finish() {
  RandomCase result;
  Graph& graph = result.graph;
  graph.name = "random";
  Node node = {.op = op_, .name = "node"};
  node.attrs = attrs;
  for (size_t k = 0; k < operands_.size(); ++k) {
    auto& [present, tensor] = operands_[k];
    if (!present) {
      node.inputs.push_back(ValueId::kNone);
      continue;
    }
    Value value;
    value.name = "x" + std::to_string(k);
    value.type = tensor.type();
    value.kind = ValueKind::kInput;
    const ValueId id = graph.AddValue(std::move(value));
    graph.inputs.push_back(id);
    node.inputs.push_back(id);
    result.inputs.push_back(std::move(tensor));
  }
  const StatusOr<std::vector<TensorType>> types = InferTypes(graph, node);
  TES_CHECK(types.ok(), "the random case of '", Name(op_), "' is not valid: ", types.status());
  for (const TensorType& type : *types) {
    Value value;
    value.name = "y" + std::to_string(node.outputs.size());
    value.type = type;
    const ValueId id = graph.AddValue(std::move(value));
    node.outputs.push_back(id);
    graph.outputs.push_back(id);
  }
  graph.nodes.push_back(std::move(node));
  return result;
}

}  // namespace tessera
