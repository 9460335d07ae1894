#include "codegen/llvm_module.h"

#include <memory>
#include <mutex>
#include <string>

#include "codegen/emit/kernel_builder.h"
#include "codegen/targets/amdgpu_link.h"
#include "codegen/targets/device_ops.h"
#include "codegen/targets/emulate.h"
#include "llvm/Analysis/TargetLibraryInfo.h"
#include "llvm/CodeGen/TargetPassConfig.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Object/ELFObjectFile.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Support/raw_ostream.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/Transforms/IPO/AlwaysInliner.h"
#include "llvm/Transforms/InstCombine/InstCombine.h"
#include "llvm/Transforms/Scalar/EarlyCSE.h"
#include "llvm/Transforms/Scalar/LICM.h"
#include "llvm/Transforms/Scalar/LoopPassManager.h"
#include "llvm/Transforms/Scalar/SimplifyCFG.h"
#include "llvm/Transforms/Utils/LCSSA.h"

namespace tessera {
namespace {

void InitializeLlvm() {
  static std::once_flag once;
  std::call_once(once, [] {
    LLVMInitializeX86TargetInfo();
    LLVMInitializeX86Target();
    LLVMInitializeX86TargetMC();
    LLVMInitializeX86AsmPrinter();
    LLVMInitializeX86AsmParser();
    LLVMInitializeAArch64TargetInfo();
    LLVMInitializeAArch64Target();
    LLVMInitializeAArch64TargetMC();
    LLVMInitializeAArch64AsmPrinter();
    LLVMInitializeNVPTXTargetInfo();
    LLVMInitializeNVPTXTarget();
    LLVMInitializeNVPTXTargetMC();
    LLVMInitializeNVPTXAsmPrinter();
    LLVMInitializeAMDGPUTargetInfo();
    LLVMInitializeAMDGPUTarget();
    LLVMInitializeAMDGPUTargetMC();
    LLVMInitializeAMDGPUAsmPrinter();
  });
}

StatusOr<std::unique_ptr<llvm::TargetMachine>> MakeMachine(const Target& target) {
  InitializeLlvm();
  std::string message;
  const llvm::Target* found = llvm::TargetRegistry::lookupTarget(target.triple, message);
  if (found == nullptr) return Error(ErrorCode::kTargetUnknown, "target '", target.name, "': ", message);
  llvm::TargetOptions options;
  options.AllowFPOpFusion = llvm::FPOpFusion::Standard;
  std::unique_ptr<llvm::TargetMachine> machine(
      found->createTargetMachine(target.triple, target.cpu, target.features, options, llvm::Reloc::PIC_,
                                 llvm::CodeModel::Small, llvm::CodeGenOptLevel::Default));
  if (machine == nullptr) return Error(ErrorCode::kInternal, "LLVM made no machine for ", target.triple);
  return machine;
}

// Loop-invariant loads out of loops, common addresses once, dead branches away.
void CleanUp(llvm::Module& module, llvm::TargetMachine& machine, bool inlines) {
  llvm::LoopAnalysisManager loops;
  llvm::FunctionAnalysisManager functions;
  llvm::CGSCCAnalysisManager sccs;
  llvm::ModuleAnalysisManager modules;
  llvm::PassBuilder builder(&machine);
  // No library: no loop may become a call to memset or memcpy.
  llvm::TargetLibraryInfoImpl library(machine.getTargetTriple());
  library.disableAllFunctions();
  functions.registerPass([&] { return llvm::TargetLibraryAnalysis(library); });
  builder.registerModuleAnalyses(modules);
  builder.registerCGSCCAnalyses(sccs);
  builder.registerFunctionAnalyses(functions);
  builder.registerLoopAnalyses(loops);
  builder.crossRegisterProxies(loops, functions, sccs, modules);
  llvm::FunctionPassManager passes;
  passes.addPass(llvm::SimplifyCFGPass());
  passes.addPass(llvm::EarlyCSEPass(/*UseMemorySSA=*/true));
  passes.addPass(llvm::InstCombinePass());
  passes.addPass(llvm::createFunctionToLoopPassAdaptor(llvm::LICMPass(llvm::LICMOptions()), /*UseMemorySSA=*/true));
  passes.addPass(llvm::EarlyCSEPass(/*UseMemorySSA=*/true));
  llvm::ModulePassManager pipeline;
  if (inlines) pipeline.addPass(llvm::AlwaysInlinerPass());
  pipeline.addPass(llvm::createModuleToFunctionPassAdaptor(std::move(passes)));
  pipeline.run(module, modules);
}

std::vector<std::byte> ToBytes(llvm::StringRef text) {
  const auto* data = reinterpret_cast<const std::byte*>(text.data());
  return std::vector<std::byte>(data, data + text.size());
}

Status CheckImportFree(llvm::StringRef bytes) {
  llvm::Expected<std::unique_ptr<llvm::object::ObjectFile>> object =
      llvm::object::ObjectFile::createObjectFile(llvm::MemoryBufferRef(bytes, "kernels"));
  if (!object) return Error(ErrorCode::kInternal, "LLVM wrote no object: ", llvm::toString(object.takeError()));
  for (const llvm::object::SymbolRef& symbol : (*object)->symbols()) {
    llvm::Expected<uint32_t> flags = symbol.getFlags();
    llvm::Expected<llvm::StringRef> name = symbol.getName();
    if (!flags || !name || name->empty()) continue;
    if (*flags & llvm::object::SymbolRef::SF_Undefined) {
      return Error(ErrorCode::kInternal, "a kernel calls '", name->str(),
                   "', which no runtime provides; an emitter used an operation that this target lacks");
    }
  }
  return OkStatus();
}

// What LLVM has no instruction for becomes a call that only the driver's assembler would reject.
Status CheckPtx(llvm::StringRef text) {
  const size_t at = text.find(".extern .func");
  if (at == llvm::StringRef::npos) return OkStatus();
  return Error(ErrorCode::kInternal, "a kernel declares '", text.substr(at, text.find(';', at) - at).str(),
               "', which no chip provides; an emitter used an operation that this target lacks");
}

}  // namespace

StatusOr<std::vector<std::byte>> CompileKernels(std::span<const KernelSpec* const> specs,
                                                std::span<const std::string> symbols, const Target& target,
                                                CodeForm form) {
  ASSIGN_OR_RETURN(std::unique_ptr<llvm::TargetMachine> machine, MakeMachine(target));
  llvm::LLVMContext context;
  llvm::Module module("tessera", context);
  module.setTargetTriple(target.triple);
  module.setDataLayout(machine->createDataLayout());
  module.setPICLevel(llvm::PICLevel::SmallPIC);
  // Without hidden arguments, all that versions of code objects differ in is this number: HIP 5 takes no 5, 6 takes 4.
  if (target.kind == TargetKind::kAmdgpu && !target.IsEmulated()) {
    module.addModuleFlag(llvm::Module::Error, "amdhsa_code_object_version", 400);
  }
  for (size_t k = 0; k < specs.size(); ++k) {
    KernelBuilder builder(module, target, symbols[k], specs[k]->num_args, specs[k]->may_alias,
                          {.threads = specs[k]->block_threads,
                           .per_unit = specs[k]->blocks_per_unit,
                           .tensor_maps = specs[k]->tensor_maps,
                           .waits = specs[k]->waits,
                           .overlaps = specs[k]->overlaps});
    specs[k]->emit(builder);
    builder.Finish();
  }
  llvm::SmallString<0> buffer;
  llvm::raw_svector_ostream stream(buffer);
  if (form == CodeForm::kIr) {
    module.print(stream, nullptr);
    return ToBytes(buffer);
  }
  CleanUp(module, *machine, target.IsGpu());
  if (target.IsGpu() && !target.IsEmulated()) RETURN_IF_ERROR(LowerDeviceOps(module, target));
  if (form == CodeForm::kOptimizedIr) {
    module.print(stream, nullptr);
    return ToBytes(buffer);
  }
  if (target.IsEmulated()) {
    ASSIGN_OR_RETURN(const Target host, MakeTarget("host"));
    ASSIGN_OR_RETURN(machine, MakeMachine(host));
    RETURN_IF_ERROR(Emulate(module, target, host, machine->createDataLayout()));
  }
  llvm::legacy::PassManager passes;
  llvm::TargetLibraryInfoImpl library(machine->getTargetTriple());
  library.disableAllFunctions();
  passes.add(new llvm::TargetLibraryInfoWrapperPass(library));
  // What a device's loader takes: an object for the host, PTX for an NVIDIA driver, a linked object for HIP.
  const bool as_object = form == CodeForm::kObject && !machine->getTargetTriple().isNVPTX();
  const auto type = as_object ? llvm::CodeGenFileType::ObjectFile : llvm::CodeGenFileType::AssemblyFile;
  if (machine->addPassesToEmitFile(passes, stream, nullptr, type)) {
    return Error(ErrorCode::kInternal, "LLVM cannot write code for ", target.triple);
  }
  passes.run(module);
  if (as_object) RETURN_IF_ERROR(CheckImportFree(buffer));
  if (machine->getTargetTriple().isNVPTX()) RETURN_IF_ERROR(CheckPtx(buffer));
  if (as_object && machine->getTargetTriple().isAMDGPU()) return LinkCodeObject({buffer.data(), buffer.size()});
  return ToBytes(buffer);
}

}  // namespace tessera
