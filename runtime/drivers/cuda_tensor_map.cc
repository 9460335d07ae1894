#include "runtime/drivers/cuda_tensor_map.h"

#include <string>
#include <vector>

namespace tessera {
namespace {

// cuda.h's CUtensorMapDataType. Only its size matters to copies of boxes, and zeros around them are zeros of any type;
// but values of TFLOAT32 are rounded on the way.
int DataType(DType type, bool rounds_to_tf32) {
  if (type == DType::kF32 && rounds_to_tf32) return 11;
  switch (type) {
    case DType::kF16: return 6;
    case DType::kF32: return 7;
    case DType::kF64: return 8;
    case DType::kBF16: return 9;
    default: break;
  }
  switch (TypeInfo(type).bits) {
    case 8: return 0;
    case 16: return 1;
    case 32: return 2;
    default: return 4;
  }
}

}  // namespace

Status EncodeTensorMap(const CudaApi& cuda, const TensorMap& map, GpuAddress address, std::string_view what,
                       bool rounds_to_tf32, CudaTensorMap* encoded) {
  if (!cuda.cuTensorMapEncodeTiled.is_bound()) {
    return Error(
        ErrorCode::kTargetUnsupported, what,
        " copies through tensor maps, and the NVIDIA driver lacks cuTensorMapEncodeTiled; expected a driver of "
        "CUDA 12.0 (525) or newer; update it, or compile for cuda:sm_90");
  }
  constexpr int kL2Promotion256 = 3;
  const int swizzle = map.swizzle == 128 ? 3 : map.swizzle == 64 ? 2 : map.swizzle == 32 ? 1 : 0;
  const std::vector<uint64_t> dims(map.dims.begin(), map.dims.end()), strides(map.strides.begin(), map.strides.end());
  const std::vector<unsigned> box(map.box.begin(), map.box.end()), ones(map.box.size(), 1);
  const GpuResult r =
      cuda.cuTensorMapEncodeTiled(encoded, DataType(map.type, rounds_to_tf32), static_cast<unsigned>(map.dims.size()),
                                  reinterpret_cast<void*>(address), dims.data(), strides.data(), box.data(),
                                  ones.data(), /*interleave=*/0, swizzle, kL2Promotion256, /*fill=*/0);
  if (r == 0) return OkStatus();
  return cuda.Check(r, cuda.cuTensorMapEncodeTiled, internal::Join(what, ", tensor map ", ToString(map)));
}

}  // namespace tessera
