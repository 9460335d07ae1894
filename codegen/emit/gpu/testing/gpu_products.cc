#include "codegen/emit/gpu/testing/gpu_products.h"

#include <utility>

#include "graph/builder.h"
#include "graph/passes/pipeline.h"

namespace tessera {

Tensor RandomOperand(Random& random, DType type, const Shape& shape, double least) {
  return IsFloat(type) ? RandomTensorIn(random, {type, shape}, least, least + 2)
                       : RandomTensorIn(random, {type, shape}, type == DType::kU8 ? 0 : -128, 127);
}

Graph ProductGraph(const Product& p, std::vector<Tensor>& inputs, uint64_t seed) {
  Random random(seed);
  const auto make = [&](DType type, const Shape& shape) { return RandomOperand(random, type, shape, p.least); };
  GraphBuilder builder("product");
  inputs = {make(p.a_type, p.a)};
  const ValueId a = builder.Input("a", p.a_type, p.a);
  Tensor b_data = make(p.b_type, p.b);
  ValueId b;
  if (p.constant_b) {
    b = builder.Constant("b", std::move(b_data));
  } else {
    inputs.push_back(std::move(b_data));
    b = builder.Input("b", p.b_type, p.b);
  }
  ValueId c = builder.Matmul(a, b, p.transpose_a, p.transpose_b);
  if (p.epilogue) {
    const TensorType type = builder.TypeOf(c);
    const auto operand = [&](const char* name, const Shape& shape) {
      inputs.push_back(make(type.dtype, shape));
      return builder.Input(name, type.dtype, shape);
    };
    c = builder.Add(c, operand("bias", {type.shape[type.shape.rank() - 1]}));
    c = builder.Add(c, operand("residual", type.shape));
    c = builder.Relu(c);
  }
  builder.Output(c);
  StatusOr<Graph> graph = std::move(builder).Build();
  TES_CHECK(graph.ok(), graph.status());
  if (p.epilogue) {
    const Status status = OptimizeForHost(*graph);
    TES_CHECK(status.ok(), status);
  }
  return *std::move(graph);
}

double ProductBound(DType type) {
  switch (type) {
    case DType::kF16: return 2e-3;
    case DType::kBF16: return 2e-2;
    case DType::kF32: return 1e-5;
    default: return 0;
  }
}

}  // namespace tessera
