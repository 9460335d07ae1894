#include "runtime/program.h"

#include <sstream>

namespace tessera {
namespace {

constexpr const char* kClassNames[] = {"input", "output", "constant", "temp"};

// What is wrong with a launch, or empty.
std::string LaunchError(const Launch& launch) {
  const auto outside = [](std::string_view what, int64_t value, int64_t low, int64_t high) {
    return value >= low && value <= high ? std::string()
                                         : internal::Join("expected ", low, " to ", high, " ", what, ", found ", value);
  };
  if (!launch.by_blocks()) return launch.threads == 0 ? "" : "it has threads of a block, but no blocks";
  for (const std::string& error :
       {outside("blocks along x", launch.x, 1, kMaxBlocksX), outside("blocks along y", launch.y, 1, kMaxBlocksYZ),
        outside("blocks along z", launch.z, 1, kMaxBlocksYZ),
        outside("threads in a block", launch.threads, 1, kMaxBlockThreads),
        outside("bytes of shared memory", launch.shared_bytes, 0, kMaxSharedBytes)}) {
    if (!error.empty()) return error;
  }
  return "";
}

}  // namespace

Status Program::Verify() const {
  const auto fail = [&](const auto&... what) {
    return Error(ErrorCode::kProgramInvalid, "program '", name, "': ", what...);
  };
  const auto fits = [](int64_t offset, int64_t bytes, int64_t limit) {
    return offset >= 0 && bytes >= 0 && bytes <= limit && offset <= limit - bytes;
  };
  constexpr int64_t kMostBytes = int64_t{1} << 46;  // an address space has 2^47
  for (const int64_t bytes : {memory.arena_bytes, memory.constant_bytes, memory.scratch_bytes}) {
    if (bytes < 0 || bytes > kMostBytes) return fail("expected memory of 0 to ", kMostBytes, " bytes, found ", bytes);
  }
  for (size_t b = 0; b < buffers.size(); ++b) {
    const ProgramBuffer& buffer = buffers[b];
    bool ok = buffer.bytes >= 0;
    switch (buffer.kind) {
      case BufferClass::kTemp: ok = fits(buffer.offset, buffer.bytes, memory.arena_bytes); break;
      case BufferClass::kConstant:
        ok = fits(buffer.offset, buffer.bytes, static_cast<int64_t>(constants.size()));
        break;
      case BufferClass::kInput: ok &= buffer.offset >= 0 && buffer.offset < static_cast<int64_t>(inputs.size()); break;
      case BufferClass::kOutput:
        ok &= buffer.offset >= 0 && buffer.offset < static_cast<int64_t>(outputs.size());
        break;
    }
    if (!ok) return fail("buffer ", b, " ('", buffer.name, "') lies outside its section");
  }
  const auto check_ports = [&](const std::vector<ProgramPort>& ports, BufferClass kind) {
    for (size_t p = 0; p < ports.size(); ++p) {
      const ProgramPort& port = ports[p];
      if (port.buffer < 0 || port.buffer >= static_cast<int>(buffers.size()) || buffers[port.buffer].kind != kind ||
          buffers[port.buffer].offset != static_cast<int64_t>(p)) {
        return fail(kClassNames[static_cast<int>(kind)], " '", port.name, "' has no buffer of its own");
      }
      RETURN_IF_ERROR(CheckShape(port.type.dtype, port.type.shape));
      if (buffers[port.buffer].bytes != ByteSize(port.type.dtype, port.type.shape.num_elements())) {
        return fail("port '", port.name, "': expected a buffer of the size of ", port.type);
      }
    }
    return OkStatus();
  };
  RETURN_IF_ERROR(check_ports(inputs, BufferClass::kInput));
  RETURN_IF_ERROR(check_ports(outputs, BufferClass::kOutput));
  for (size_t s = 0; s < steps.size(); ++s) {
    const Step& step = steps[s];
    if (step.kernel < 0 || step.kernel >= static_cast<int>(kernels.size())) return fail("step ", s, ": no such kernel");
    if (step.tasks < 0) return fail("step ", s, ": expected tasks >= 0, found ", step.tasks);
    if (const std::string error = LaunchError(step.launch); !error.empty()) return fail("step ", s, ": ", error);
    for (const StepArg& arg : step.args) {
      if (arg.buffer < 0 || arg.buffer >= static_cast<int>(buffers.size())) return fail("step ", s, ": no such buffer");
      const ProgramBuffer& buffer = buffers[arg.buffer];
      if (arg.offset < 0 || arg.offset > buffer.bytes) return fail("step ", s, ": offset outside '", buffer.name, "'");
      if (arg.writes && (buffer.kind == BufferClass::kInput || buffer.kind == BufferClass::kConstant)) {
        return fail("step ", s, " writes the ", kClassNames[static_cast<int>(buffer.kind)], " '", buffer.name, "'");
      }
    }
    for (size_t m = 0; m < step.tensor_maps.size(); ++m) {
      const TensorMap& map = step.tensor_maps[m];
      if (!step.launch.by_blocks()) return fail("step ", s, " has tensor maps, but no blocks");
      if (map.arg < 0 || map.arg >= static_cast<int>(step.args.size())) {
        return fail("step ", s, ", tensor map ", m, ": no such argument");
      }
      const StepArg& arg = step.args[static_cast<size_t>(map.arg)];
      const ProgramBuffer& buffer = buffers[arg.buffer];
      // Inputs and outputs have memory of their own, which starts where any copy may.
      const bool placed = buffer.kind == BufferClass::kTemp || buffer.kind == BufferClass::kConstant;
      const int64_t start = (placed ? buffer.offset : 0) + arg.offset;
      const std::string error = TensorMapError(map, buffer.bytes - arg.offset, start);
      if (!error.empty()) return fail("step ", s, ", tensor map ", m, " of '", buffer.name, "': ", error);
    }
  }
  return OkStatus();
}

std::string Program::ToString() const {
  std::ostringstream out;
  out << "program \"" << name << "\" for " << target << "\n";
  out << "arena " << memory.arena_bytes << " B, max live " << memory.max_live_bytes << " B, constants "
      << memory.constant_bytes << " B, scratch " << memory.scratch_bytes << " B per thread\n";
  for (const ProgramPort& port : inputs)
    out << "input " << port.buffer << " " << port.type << " \"" << port.name << "\"\n";
  for (const ProgramPort& port : outputs)
    out << "output " << port.buffer << " " << port.type << " \"" << port.name << "\"\n";
  for (size_t b = 0; b < buffers.size(); ++b) {
    out << "buffer " << b << " " << kClassNames[static_cast<int>(buffers[b].kind)] << " " << buffers[b].bytes
        << " B at " << buffers[b].offset << " \"" << buffers[b].name << "\"\n";
  }
  for (size_t s = 0; s < steps.size(); ++s) {
    out << "step " << s << " kernel " << kernels[steps[s].kernel];
    if (const Launch& launch = steps[s].launch; launch.by_blocks()) {
      out << " blocks " << launch.x << "x" << launch.y << "x" << launch.z << " threads " << launch.threads << " shared "
          << launch.shared_bytes << " B" << (launch.overlap ? " overlap" : "");
    } else {
      out << " tasks " << steps[s].tasks;
    }
    out << " args";
    for (const StepArg& arg : steps[s].args) {
      out << " " << arg.buffer << (arg.writes ? "w" : "r");
      if (arg.offset != 0) out << "+" << arg.offset;
    }
    for (const TensorMap& map : steps[s].tensor_maps) out << " map " << tessera::ToString(map);
    out << " \"" << steps[s].label << "\"\n";
  }
  return out.str();
}

}  // namespace tessera
