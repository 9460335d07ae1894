// NVIDIA's cards, as gpu_card.h has them: OpenCudaCard(0) is the first. Here so that what a card takes from its driver
// is apart from what programs take from a card. Tested by gpu_device_test.cc and cuda_device_test.cc.
#ifndef TESSERA_RUNTIME_DRIVERS_CUDA_CARD_H_
#define TESSERA_RUNTIME_DRIVERS_CUDA_CARD_H_

#include <memory>

#include "base/status.h"
#include "runtime/drivers/gpu_card.h"

namespace tessera {

// The same one for all who have it open. All programs of a card share its primary context, as other libraries in the
// process do (PyTorch), so that memory of one is memory of all. Images are PTX, assembled by cuda_assembler.h.
StatusOr<std::shared_ptr<GpuCard>> OpenCudaCard(int ordinal);

}  // namespace tessera

#endif  // TESSERA_RUNTIME_DRIVERS_CUDA_CARD_H_
