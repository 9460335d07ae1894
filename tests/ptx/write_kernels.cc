// Writes every distinct kernel of networks for an NVIDIA chip as PTX, with how each is launched: what assembled_test.py
// hands to NVIDIA's assembler. No card is needed.
//
//   write_kernels sm_90a FOLDER mlp:1 mlp:32 mobilenet_v1:1 bert_base:1:layers=2 ops:3
//
// Networks are named as tests/ladder/distinct_kernels.h says. Many kernels go into one file, as in a program; the file
// FOLDER/kernels.jsonl has a line for each: symbol, file, the networks' first node that uses it, its largest launch.
// FOLDER/emitters.json says how many nodes each emitter for GPUs planned. CHIP may end in +tf32.
#include <cstdio>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "codegen/target.h"
#include "tests/ladder/distinct_kernels.h"

namespace tessera {
namespace {

Status Write(const std::string& chip, const std::string& folder, const std::vector<std::string>& networks) {
  ASSIGN_OR_RETURN(const Target target, MakeTarget("cuda:" + chip));
  KernelCollection kernels(target);
  for (const std::string& network : networks) RETURN_IF_ERROR(kernels.Add(network).WithContext(network));
  ASSIGN_OR_RETURN(const auto files, kernels.Compile(/*per_file=*/16));
  for (size_t file = 0; file < files.size(); ++file) {
    RETURN_IF_ERROR(WriteFileAtomically(folder + "/" + std::to_string(file) + ".ptx",
                                        {reinterpret_cast<const char*>(files[file].data()), files[file].size()}));
  }
  std::string list;
  for (const DistinctKernel* kernel : kernels.kernels()) {
    JsonWriter json;
    json.BeginObject().Key("symbol").String(kernel->symbol);
    json.Key("file").String(std::to_string(kernel->file) + ".ptx");
    json.Key("node").String(kernel->node).Key("blocks").BeginArray();
    for (int64_t blocks : kernel->blocks) json.Number(blocks);
    json.EndArray().Key("threads").Number(kernel->threads).Key("shared_bytes").Number(kernel->shared_bytes);
    json.Key("blocks_per_unit").Number(kernel->spec.blocks_per_unit);
    json.Key("overlaps").Number(kernel->spec.overlaps ? 1 : 0).EndObject();
    list += json.text() + "\n";
  }
  RETURN_IF_ERROR(WriteFileAtomically(folder + "/kernels.jsonl", list));
  JsonWriter emitters;
  emitters.BeginObject();
  for (const auto& [emitter, nodes] : kernels.emitters()) emitters.Key(emitter).Number(nodes);
  return WriteFileAtomically(folder + "/emitters.json", emitters.EndObject().text());
}

}  // namespace
}  // namespace tessera

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: write_kernels CHIP FOLDER NETWORK…\n");
    return 2;
  }
  const tessera::Status status = tessera::Write(argv[1], argv[2], {argv + 3, argv + argc});
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return 1;
}
