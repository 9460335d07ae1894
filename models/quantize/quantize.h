// QuantizeGraph: post-training quantisation of an f32 network. The result says in its own ops what is an integer:
//
//   %h: f32[1,64] = relu(add(matmul(%x, %w), %b))
//     becomes
//   %x.q: u8 = quantize(%x, scale, zero_point)        %x.dq = dequantize(%x.q, scale, zero_point)
//   %w: f32  = dequantize(%w.i8, scales, axis)        %b: f32 = dequantize(%b.i32, scale(x) * scales)
//   %h: f32  = relu(add(matmul(%x.dq, %w), %b))
//
// so that it means the same wherever it runs, and whoever can computes in integers (graph/passes). All readers of an
// edge read the quantised one; graph inputs and outputs keep their types.
//
//   i8              u8 or i8 activations with a zero point, i8 weights per output channel, i32 bias
//   i8+outliers     matmul(%x.dq, %w) + matmul(%x, %w.outliers), the second an f32 weight of which few elements are
//                   kept: each element of the weight is in exactly one of the two, which their attributes declare
//   w8, w4g32, …    dequantize(%w.i4, scales, block_size) alone; spatial and depthwise convolutions get i8 per channel
//   bf16, f16       every f32 value is stored in 16 bits, but for graph inputs and outputs, which are cast
//   f32             dequantize(quantize(x)) becomes x, and constants that are dequantised become f32
//
// Pruned weights stay 0 and declared, at the widths of the integers. The graph is simplified first (SimplifyPipeline):
// BatchNorm goes into weights. Tested by quantize_test.cc.
#ifndef TESSERA_MODELS_QUANTIZE_QUANTIZE_H_
#define TESSERA_MODELS_QUANTIZE_QUANTIZE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "graph/graph.h"
#include "models/quantize/calibrate.h"
#include "models/quantize/spec.h"

namespace tessera {

// One line of the report.
struct QuantizedTensor {
  std::string name, role, node;  // role: "activation", "weight", "outliers", "bias"
  TensorType type;               // as it is stored now
  double low = 0, high = 0;      // of its values; of an activation what the integers span
  int64_t num_scales = 0;        // 0: it stays float
  double least_scale = 0, largest_scale = 0;
  std::optional<int64_t> zero_point;      // where it is the same for all
  double kept = 1;                        // share of elements that are not pruned
  std::optional<double> signal_to_noise;  // decibels, against f32; infinite: nothing is lost
};

struct QuantizeReport {
  std::vector<QuantizedTensor> tensors;
  std::vector<std::string> floats;  // nodes that stay in float, and why
};

// `samples` is read where the scheme needs calibration; `options` are of the runs for it. TES-1104 where the network
// holds quantised values already, TES-1109 where a weight or an activation is infinite or no number. On error the graph
// is unusable.
StatusOr<QuantizeReport> QuantizeGraph(Graph& graph, const QuantizeSpec& spec, const SampleSource& samples,
                                       const Options& options);

}  // namespace tessera

#endif  // TESSERA_MODELS_QUANTIZE_QUANTIZE_H_
