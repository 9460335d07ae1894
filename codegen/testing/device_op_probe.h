// A kernel around one device op, for tests of the table: its operands come from memory and its results go there.
//
//   for (const DeviceOpRow& row : AllDeviceOps()) Assemble(DeviceOpProbe(row));
#ifndef TESSERA_CODEGEN_TESTING_DEVICE_OP_PROBE_H_
#define TESSERA_CODEGEN_TESTING_DEVICE_OP_PROBE_H_

#include "codegen/plan.h"
#include "codegen/targets/device_ops.h"

namespace tessera {

// Of one block of 128 threads, and one argument. Products that go on by themselves are committed and waited for.
KernelSpec DeviceOpProbe(const DeviceOpRow& row);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_TESTING_DEVICE_OP_PROBE_H_
