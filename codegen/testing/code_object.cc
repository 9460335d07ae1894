#include "codegen/testing/code_object.h"

#include <algorithm>
#include <memory>
#include <mutex>

#include "llvm/BinaryFormat/MsgPackDocument.h"
#include "llvm/MC/MCAsmInfo.h"
#include "llvm/MC/MCContext.h"
#include "llvm/MC/MCDisassembler/MCDisassembler.h"
#include "llvm/MC/MCInst.h"
#include "llvm/MC/MCInstPrinter.h"
#include "llvm/MC/MCInstrInfo.h"
#include "llvm/MC/MCRegisterInfo.h"
#include "llvm/MC/MCSubtargetInfo.h"
#include "llvm/MC/MCTargetOptions.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Object/ELFObjectFile.h"
#include "llvm/Support/TargetSelect.h"

namespace tessera {
namespace {

using ElfFile = llvm::object::ELFObjectFile<llvm::object::ELF64LE>;

Status Broken(llvm::Error error) {
  return Error(ErrorCode::kInternal, "code object: ", llvm::toString(std::move(error)));
}

int64_t Number(llvm::msgpack::MapDocNode& fields, const char* key) {
  const auto at = fields.find(key);
  if (at == fields.end()) return 0;
  switch (at->second.getKind()) {
    case llvm::msgpack::Type::UInt: return static_cast<int64_t>(at->second.getUInt());
    case llvm::msgpack::Type::Int: return at->second.getInt();
    case llvm::msgpack::Type::Boolean: return at->second.getBool() ? 1 : 0;
    default: return 0;
  }
}

KernelCode KernelOf(llvm::msgpack::MapDocNode fields) {
  KernelCode kernel;
  kernel.name = fields[".name"].getString().str();
  kernel.scratch_bytes = Number(fields, ".private_segment_fixed_size");
  kernel.vgpr_spills = Number(fields, ".vgpr_spill_count");
  kernel.sgpr_spills = Number(fields, ".sgpr_spill_count");
  kernel.dynamic_stack = Number(fields, ".uses_dynamic_stack") != 0;
  kernel.static_shared_bytes = Number(fields, ".group_segment_fixed_size");
  kernel.args_bytes = Number(fields, ".kernarg_segment_size");
  kernel.vgprs = Number(fields, ".vgpr_count");
  kernel.agprs = Number(fields, ".agpr_count");
  kernel.sgprs = Number(fields, ".sgpr_count");
  kernel.wave = Number(fields, ".wavefront_size");
  kernel.max_threads = Number(fields, ".max_flat_workgroup_size");
  for (llvm::msgpack::DocNode& arg : fields[".args"].getArray()) {
    const std::string kind = arg.getMap()[".value_kind"].getString().str();
    if (kind.find("hidden") != std::string::npos) kernel.hidden_args.push_back(kind);
  }
  return kernel;
}

StatusOr<std::vector<KernelCode>> ReadNotes(const ElfFile& object) {
  std::vector<KernelCode> kernels;
  const auto& file = object.getELFFile();
  auto headers = file.program_headers();
  if (!headers) return Broken(headers.takeError());
  for (const auto& header : *headers) {
    if (header.p_type != llvm::ELF::PT_NOTE) continue;
    llvm::Error error = llvm::Error::success();
    for (const auto& note : file.notes(header, error)) {
      if (note.getName() != "AMDGPU" || note.getType() != llvm::ELF::NT_AMDGPU_METADATA) continue;
      llvm::msgpack::Document document;
      if (!document.readFromBlob(note.getDescAsStringRef(header.p_align), /*Multi=*/false)) {
        return Error(ErrorCode::kInternal, "code object: its metadata is no message pack");
      }
      for (llvm::msgpack::DocNode& kernel : document.getRoot().getMap()["amdhsa.kernels"].getArray()) {
        kernels.push_back(KernelOf(kernel.getMap()));
      }
    }
    if (error) return Broken(std::move(error));
  }
  return kernels;
}

// LLVM's parts that turn bytes into the text of instructions.
class Disassembler {
 public:
  static StatusOr<std::unique_ptr<Disassembler>> Make(const Target& target) {
    static std::once_flag once;
    std::call_once(once, [] {
      LLVMInitializeAMDGPUTargetInfo();
      LLVMInitializeAMDGPUTargetMC();
      LLVMInitializeAMDGPUDisassembler();
    });
    std::string message;
    const llvm::Target* found = llvm::TargetRegistry::lookupTarget(target.triple, message);
    if (found == nullptr) return Error(ErrorCode::kTargetUnknown, target.triple, ": ", message);
    auto self = std::unique_ptr<Disassembler>(new Disassembler());
    self->registers_.reset(found->createMCRegInfo(target.triple));
    self->assembly_.reset(found->createMCAsmInfo(*self->registers_, target.triple, llvm::MCTargetOptions()));
    self->subtarget_.reset(found->createMCSubtargetInfo(target.triple, target.cpu, target.features));
    self->instructions_.reset(found->createMCInstrInfo());
    self->context_ = std::make_unique<llvm::MCContext>(llvm::Triple(target.triple), self->assembly_.get(),
                                                       self->registers_.get(), self->subtarget_.get());
    self->decoder_.reset(found->createMCDisassembler(*self->subtarget_, *self->context_));
    self->printer_.reset(found->createMCInstPrinter(llvm::Triple(target.triple), 0, *self->assembly_,
                                                    *self->instructions_, *self->registers_));
    if (self->decoder_ == nullptr || self->printer_ == nullptr) {
      return Error(ErrorCode::kInternal, "LLVM has no disassembler for ", target.triple);
    }
    return self;
  }

  Status Count(llvm::ArrayRef<uint8_t> code, uint64_t address, KernelCode& kernel) {
    for (uint64_t at = 0; at < code.size();) {
      llvm::MCInst instruction;
      uint64_t size = 0;
      if (decoder_->getInstruction(instruction, size, code.slice(at), address + at, llvm::nulls()) !=
          llvm::MCDisassembler::Success) {
        return Error(ErrorCode::kInternal, "kernel '", kernel.name, "', byte ", at, ": no instruction of the chip");
      }
      std::string text;
      llvm::raw_string_ostream stream(text);
      printer_->printInst(&instruction, address + at, "", *subtarget_, stream);
      ++kernel.instructions[Mnemonic(text)];
      at += size;
    }
    return OkStatus();
  }

 private:
  Disassembler() = default;

  static std::string Mnemonic(const std::string& text) {
    const size_t start = text.find_first_not_of(" \t");
    if (start == std::string::npos) return "";
    std::string name = text.substr(start, text.find_first_of(" \t\n", start) - start);
    for (const char* ending : {"_e32", "_e64", "_dpp", "_sdwa"}) {
      const size_t at = name.rfind(ending);
      if (at != std::string::npos && at + std::string_view(ending).size() == name.size()) name.resize(at);
    }
    return name;
  }

  std::unique_ptr<llvm::MCRegisterInfo> registers_;
  std::unique_ptr<llvm::MCAsmInfo> assembly_;
  std::unique_ptr<llvm::MCSubtargetInfo> subtarget_;
  std::unique_ptr<llvm::MCInstrInfo> instructions_;
  std::unique_ptr<llvm::MCContext> context_;
  std::unique_ptr<llvm::MCDisassembler> decoder_;
  std::unique_ptr<llvm::MCInstPrinter> printer_;
};

Status ReadCode(const ElfFile& object, const Target& target, CodeObject& result) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Disassembler> disassembler, Disassembler::Make(target));
  for (const llvm::object::ELFSymbolRef symbol : object.getDynamicSymbolIterators()) {
    llvm::Expected<llvm::StringRef> name = symbol.getName();
    llvm::Expected<uint32_t> flags = symbol.getFlags();
    llvm::Expected<uint64_t> address = symbol.getAddress();
    llvm::Expected<llvm::object::section_iterator> section = symbol.getSection();
    if (!name) return Broken(name.takeError());
    if (!flags) return Broken(flags.takeError());
    if (!address) return Broken(address.takeError());
    if (!section) return Broken(section.takeError());
    if ((*flags & llvm::object::SymbolRef::SF_Undefined) != 0) {
      if (!name->empty()) result.undefined.push_back(name->str());
      continue;
    }
    const auto kernel = std::find_if(result.kernels.begin(), result.kernels.end(),
                                     [&](const KernelCode& k) { return k.name == *name; });
    if (kernel == result.kernels.end() || *section == object.section_end()) continue;
    llvm::Expected<llvm::StringRef> bytes = (*section)->getContents();
    if (!bytes) return Broken(bytes.takeError());
    const uint64_t start = *address - (*section)->getAddress();
    if (start > bytes->size() || symbol.getSize() > bytes->size() - start) {
      return Error(ErrorCode::kInternal, "kernel '", kernel->name, "' lies outside its section");
    }
    kernel->code_bytes = static_cast<int64_t>(symbol.getSize());
    const llvm::ArrayRef<uint8_t> code(reinterpret_cast<const uint8_t*>(bytes->data()) + start, symbol.getSize());
    RETURN_IF_ERROR(disassembler->Count(code, *address, *kernel));
  }
  return OkStatus();
}

int64_t RoundUp(int64_t value, int64_t to) { return (value + to - 1) / to * to; }

// How a chip gives registers to waves: of each lane, and how many waves a SIMD unit knows at most.
struct Registers {
  int64_t per_lane, granule, max_waves, simds;
};

Registers RegistersOf(const Target& target) {
  if (target.cpu == "gfx1100") return {1536, 24, 16, 2};
  if (target.cpu == "gfx90a" || target.cpu == "gfx942") return {512, 8, 8, 4};
  return {256, 4, 10, 4};
}

}  // namespace

int KernelCode::Count(std::string_view prefix) const {
  int count = 0;
  for (const auto& [name, times] : instructions) {
    if (std::string_view(name).substr(0, prefix.size()) == prefix) count += times;
  }
  return count;
}

StatusOr<CodeObject> ReadCodeObject(std::span<const std::byte> bytes, const Target& target) {
  const llvm::StringRef text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  auto object = ElfFile::create(llvm::MemoryBufferRef(text, "code object"));
  if (!object) return Broken(object.takeError());
  CodeObject result;
  ASSIGN_OR_RETURN(result.kernels, ReadNotes(*object));
  std::sort(result.kernels.begin(), result.kernels.end(),
            [](const KernelCode& a, const KernelCode& b) { return a.name < b.name; });
  RETURN_IF_ERROR(ReadCode(*object, target, result));
  for (const KernelCode& kernel : result.kernels) {
    if (kernel.instructions.empty()) {
      return Error(ErrorCode::kInternal, "kernel '", kernel.name, "' has metadata and no code");
    }
  }
  return result;
}

int64_t WavesPerSimd(const KernelCode& kernel, const Target& target) {
  const Registers chip = RegistersOf(target);
  // gfx908 has a second file of the same size for accumulators; from gfx90a on both kinds come out of one, and the note
  // counts both as vgprs.
  const int64_t taken = std::max<int64_t>({kernel.vgprs, target.cpu == "gfx908" ? kernel.agprs : 0, 1});
  return std::min(chip.max_waves, chip.per_lane / RoundUp(taken, chip.granule));
}

int64_t BlocksPerUnit(const KernelCode& kernel, int64_t threads, int64_t shared_bytes, const Target& target) {
  constexpr int64_t kSharedBytes = 64 << 10, kSharedGranule = 512;
  const int64_t waves = std::max<int64_t>(1, (threads + target.wave - 1) / target.wave);
  const int64_t by_registers = WavesPerSimd(kernel, target) * RegistersOf(target).simds / waves;
  const int64_t shared = RoundUp(shared_bytes + kernel.static_shared_bytes, kSharedGranule);
  return shared == 0 ? by_registers : std::min(by_registers, kSharedBytes / shared);
}

std::vector<std::string> FaultsOf(const KernelCode& kernel, int64_t args, const Target& target) {
  std::vector<std::string> faults;
  const auto expect = [&](int64_t found, int64_t expected, std::string_view what) {
    if (found != expected) faults.push_back(internal::Join(what, ": expected ", expected, ", found ", found));
  };
  expect(kernel.scratch_bytes, 0, "bytes of scratch memory");
  expect(kernel.vgpr_spills, 0, "spilled vector registers");
  expect(kernel.sgpr_spills, 0, "spilled scalar registers");
  expect(kernel.dynamic_stack ? 1 : 0, 0, "stack of unknown size");
  expect(kernel.static_shared_bytes, 0, "shared memory beside the launch's");
  expect(kernel.args_bytes, 8 * args, "bytes of arguments");
  expect(kernel.wave, target.wave, "lanes of a wave");
  expect(kernel.Count("scratch_"), 0, "accesses to scratch memory");
  for (const std::string& hidden : kernel.hidden_args) faults.push_back("argument " + hidden);
  return faults;
}

}  // namespace tessera
