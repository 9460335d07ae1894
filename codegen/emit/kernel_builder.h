// KernelBuilder: the function under construction and the few structures that every emitter writes with: counted loops
// with carried values, element loads and stores of any type, vectors of any width.
//
//   Value sum = b.For("k", 0, K, 1, {b.Zero(f32x16)}, [&](Value k, Values carried) {      // acc += a[k] * w[k, :]
//     return Values{b.Fma(b.Splat(b.Load(a, k, DType::kF32, 1), 16), b.Load(w, row + k, DType::kF32, 16), carried[0])};
//   })[0];
//
// Loops and blocks carry their names into the IR, so that it reads back. A kernel is
//
//   void kernel(void* const* args, int64_t begin, int64_t end, void* scratch)
//
// which does tasks [begin, end) of its step; `scratch` is the calling thread's. Inside, the buffers arrive as noalias
// pointers of an inner function, so that LLVM may keep loads in registers across stores. On a GPU the outer function is
// an entry point instead,
//
//   kernel(void* arg0, …, i64 tasks, i64 tasks_per_thread)
//
// whose thread t does the tasks [t * tasks_per_thread, …) of that many; there is no scratch. A kernel written for
// blocks of threads is kernel(void* arg0, …) and knows its place by ThreadId and BlockId; it has neither tasks nor
// scratch, but perhaps tensor maps after its arguments, 128 bytes each by value. One KernelBuilder writes one function;
// single-threaded. Tested by body_emitter_test.cc (loads, stores and conversions of every type) and through the
// emitters.
#ifndef TESSERA_CODEGEN_EMIT_KERNEL_BUILDER_H_
#define TESSERA_CODEGEN_EMIT_KERNEL_BUILDER_H_

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "codegen/target.h"
#include "llvm/IR/IRBuilder.h"
#include "tesa/types.h"

namespace tessera {

using IrValue = llvm::Value*;
using IrValues = std::vector<llvm::Value*>;

// Of a kernel that is written for a GPU's blocks; the fields are KernelSpec's.
struct KernelBlocks {
  int threads = 0, per_unit = 0, tensor_maps = 0;
  bool waits = false, overlaps = false;
};

class KernelBuilder {
 public:
  // Starts `name` in `module` with `num_args` buffers. `may_alias[k]`: argument k may share memory with another one
  // (in-place steps); the others are noalias.
  KernelBuilder(llvm::Module& module, const Target& target, const std::string& name, int num_args,
                const std::vector<bool>& may_alias = {}, const KernelBlocks& blocks = {});
  // Ends the function. Call once, after the last instruction.
  void Finish();

  const Target& target() const { return target_; }
  llvm::IRBuilder<>& ir() { return ir_; }
  llvm::LLVMContext& context() { return ir_.getContext(); }
  llvm::Module& module() { return module_; }
  IrValue arg(int k) const { return args_[k]; }
  IrValue begin() const { return begin_; }
  IrValue end() const { return end_; }
  IrValue scratch() const { return scratch_; }

  // ---- Kernels for a GPU's blocks: i32 numbers of this thread in its block and of the block along x, y, z (0, 1, 2).
  IrValue ThreadId();
  IrValue BlockId(int axis);
  // From here on, what the steps before wrote may be read, and memory be written; constants and the program's inputs
  // may be read before. All threads do this, once; a kernel does it at its start unless KernelSpec::waits. From then on
  // blocks of the next step may start. Nothing where the step starts when those before have ended.
  void AwaitSteps();
  bool overlaps() const { return overlaps_; }
  // All threads of the block arrive, and see what any of them wrote to shared memory before.
  void Barrier();
  // `bytes` of the block's shared memory, as a pointer of address space 3: the same to all its threads, undefined
  // before the first write. `align` is a power of two up to 1024. A kernel's pieces lie one after the other in the
  // order of these calls; a step's Launch asks for at least shared_bytes().
  IrValue Shared(int64_t bytes, int64_t align = 16);
  int64_t shared_bytes() const { return shared_bytes_; }
  // The step's k-th tensor map, as nv.tma.load takes it: nothing else may look at what it points to.
  IrValue TensorMap(int k) const { return tensor_maps_[static_cast<size_t>(k)]; }

  // ---- Types and constants. `lanes` 1 is a scalar, otherwise a fixed vector.
  llvm::Type* ElementType(DType type);  // of a compute type: f64 f32 i64 i32 (u alike), bool as i1
  llvm::Type* VectorType(DType type, int lanes);
  IrValue I64(int64_t value) { return ir_.getInt64(value); }
  IrValue Constant(DType type, double value, int lanes = 1);
  IrValue ConstantInt(DType type, int64_t value, int lanes = 1);
  IrValue Zero(DType type, int lanes) { return ConstantInt(type, 0, lanes); }
  // <0, 1, …, lanes-1> of i64.
  IrValue LaneIds(int lanes);
  static int LanesOf(IrValue value);
  // A scalar as a vector of equal lanes; lanes 1 and vectors of `lanes` pass through.
  IrValue Splat(IrValue value, int lanes);

  // ---- Control.
  // for (iv = low; iv < high; iv += step) carried = body(iv, carried); returns what is carried out. step > 0.
  IrValues For(const std::string& name, IrValue low, IrValue high, int64_t step, IrValues initial,
               const std::function<IrValues(IrValue iv, const IrValues& carried)>& body);
  // Without carried values.
  void For(const std::string& name, IrValue low, IrValue high, int64_t step,
           const std::function<void(IrValue iv)>& body);
  void If(const std::string& name, IrValue condition, const std::function<void()>& then);
  // Both arms give as many values of the same types.
  IrValues IfElse(const std::string& name, IrValue condition, const std::function<IrValues()>& then,
                  const std::function<IrValues()>& otherwise);

  // Writes `body` as a function of its own and calls it here. For code whose constants must not take registers from the
  // loops around it: LLVM moves them in front of the outermost loop, and a register-tiled loop then spills. Inside,
  // arg() and scratch() are the function's own and `values` arrive as its parameters; nothing else may be used.
  void Outline(const std::string& name, const IrValues& values,
               const std::function<void(const IrValues& values)>& body);

  // `bytes` as a function of this module, 64-byte aligned: its address. They are machine code that needs no relocation,
  // returns by itself and keeps what the System V ABI asks functions to keep; whoever calls it, at any offset, passes
  // what it expects. `bytes` are not copied into the module as instructions, so that LLVM takes as long for them as for
  // a constant of that size.
  IrValue MachineCode(const std::string& name, const std::string& bytes);
  // Calls machine code that takes `args` and gives nothing.
  void Call(IrValue function, const IrValues& args);
  // An array of constants in the kernel's object; its address, to be loaded from as `type` (i32 or i64).
  IrValue ConstantArray(const std::string& name, DType type, const std::vector<int64_t>& values);

  // ---- Memory. From here on, vectors that Load and Store take without a mask start at multiples of their size, or of
  // 16 bytes where they are longer; or they need not.
  void AssumeAligned(bool aligned) { aligned_ = aligned; }
  // Elements of storage type `type` at pointer + index (in elements); values are in its compute type.
  IrValue ElementPointer(IrValue pointer, IrValue index, DType type);  // types of whole bytes
  // `lanes` consecutive elements. `mask` (a vector of i1, or nullptr for all) reads only where set; elsewhere
  // `otherwise`.
  IrValue Load(IrValue pointer, IrValue index, DType type, int lanes, IrValue mask = nullptr,
               IrValue otherwise = nullptr);
  void Store(IrValue pointer, IrValue index, DType type, IrValue value, IrValue mask = nullptr);
  // Lane l is element `indices[l]` (a vector of i64); with mask as above.
  IrValue Gather(IrValue pointer, IrValue indices, DType type, IrValue mask = nullptr, IrValue otherwise = nullptr);
  void Scatter(IrValue pointer, IrValue indices, DType type, IrValue value, IrValue mask = nullptr);
  // Bits in memory of storage type `type` <-> values of its compute type, for scalars and vectors.
  IrValue Widen(IrValue stored, DType type);
  IrValue NarrowToStorage(IrValue value, DType type);

  // ---- Arithmetic that every emitter needs; works on scalars and vectors.
  IrValue Fma(IrValue a, IrValue b, IrValue c);  // a * b + c, fused where the machine can
  // Lanes [0, count) set, count an i64 value.
  IrValue MaskBelow(IrValue count, int lanes);

 private:
  void SetMachine(llvm::Function& function);
  void WriteHostEntry(const std::string& name, int num_args);
  void WriteGpuEntry(const std::string& name, int num_args);
  void WriteBlockEntry(const std::string& name, int num_args, const KernelBlocks& blocks);
  // An entry with buffers and parameters of `others`, as the chip's kind of kernel; and its buffers as pointers to
  // anywhere, as which bodies take them.
  llvm::Function* CreateGpuKernel(const std::string& name, int num_args, const std::vector<llvm::Type*>& others,
                                  int threads);
  void PassByValue(llvm::Function* entry, int first);
  IrValues GpuBuffers(llvm::Function* entry, int num_args);
  void Annotate(llvm::Function* entry, const char* property, int value);
  llvm::Type* StorageElementType(DType type);
  llvm::Align AlignOf(DType type, int lanes) const;
  IrValue HalfToFloat(IrValue bits);
  IrValue FloatToHalf(IrValue value);
  IrValue SmallFloatToFloat(IrValue bits, DType type);
  IrValue FloatToSmallFloat(IrValue value, DType type);

  llvm::Module& module_;
  const Target& target_;
  llvm::IRBuilder<> ir_;
  llvm::Function* inner_ = nullptr;
  std::vector<IrValue> args_, tensor_maps_;
  IrValue begin_ = nullptr, end_ = nullptr, scratch_ = nullptr;  // none in a kernel for blocks
  int block_threads_ = 0;
  bool overlaps_ = false;
  bool aligned_ = false;
  int64_t shared_bytes_ = 0;
};

// On GPUs: what is more than plain IR, a row of targets/device_ops.def. Its result; several are a struct's members.
IrValue DeviceOp(KernelBuilder& b, std::string_view name, const IrValues& operands);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_KERNEL_BUILDER_H_
