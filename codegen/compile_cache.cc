#include "codegen/compile_cache.h"

#include <dlfcn.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/file.h"
#include "codegen/on_threads.h"
#include "graph/text.h"
#include "runtime/program_file.h"

namespace tessera {
namespace {

constexpr size_t kHashDigits = 32;  // an object file begins with the hash of the rest

Hash128 HashAttribute(const Attribute& attribute) {
  Hasher hasher;
  const auto add_list = [&](const std::vector<int64_t>& list) {
    hasher.AddValue(list.size());
    for (int64_t item : list) hasher.AddValue(item);
  };
  const auto add_bits = [&](const Bitmap& bits) { hasher.AddValue(bits.size()).AddBytes(std::as_bytes(bits.words())); };
  for (const TesaLayer& layer : attribute.layers()) {
    hasher.AddValue(layer.bits).AddValue(layer.grids.size());
    add_list(layer.view.dims());
    for (const TesaGrid& grid : layer.grids) {
      add_list(grid.block);
      add_bits(grid.cells);
    }
    const TesaResidual& residual = layer.residual;
    hasher.AddValue(residual.kind).AddValue(residual.axis).AddValue(residual.n).AddValue(residual.m);
    add_bits(residual.data);
  }
  return hasher.Finish();
}

Hash128 HashValue(const Value& value) {
  Hasher hasher;
  hasher.AddValue(value.tesa.has_value());
  const Hash128 bytes = value.kind == ValueKind::kConstant ? HashBytes(value.constant.bytes()) : Hash128();
  const Hash128 attribute = value.tesa ? HashAttribute(*value.tesa) : Hash128();
  for (const Hash128& part : {bytes, attribute}) hasher.AddValue(part.high).AddValue(part.low);
  return hasher.Finish();
}

}  // namespace

std::string GeneratorIdentity() {
  Dl_info info;
  struct stat file;
  if (dladdr(reinterpret_cast<void*>(&GeneratorIdentity), &info) == 0) return "unknown";
  // The main program may have been started under a relative name; the kernel knows it better.
  if (stat(info.dli_fname, &file) != 0 && stat("/proc/self/exe", &file) != 0) return "unknown";
  return internal::Join(file.st_size, ".", file.st_mtim.tv_sec, ".", file.st_mtim.tv_nsec, ".", file.st_ino);
}

Hash128 HashGraph(const Graph& graph, int threads) {
  std::vector<Hash128> hashes(graph.values.size());
  // The constants are what takes time: each thread takes the next one.
  OnThreads(threads, hashes.size(), [&](size_t v) { hashes[v] = HashValue(graph.values[v]); });
  Graph rest = graph;
  rest.metadata.clear();
  for (Value& value : rest.values) {
    value.tesa.reset();
    value.constant = Tensor();
    if (value.kind == ValueKind::kConstant) value.kind = ValueKind::kInput;
  }
  Hasher hasher;
  for (size_t v = 0; v < hashes.size(); ++v) {
    hasher.AddValue(graph.values[v].kind).AddValue(hashes[v].high).AddValue(hashes[v].low);
  }
  return hasher.AddString(PrintGraph(rest)).Finish();
}

std::optional<ProgramImage> CompileCache::FindObject(const std::string& key) const {
  if (!keeps()) return std::nullopt;
  StatusOr<MappedFile> opened = MappedFile::Open(PathOf(key, ".o"));
  if (!opened.ok() || opened->bytes().size() < kHashDigits) return std::nullopt;
  const auto file = std::make_shared<const MappedFile>(*std::move(opened));
  const std::span<const std::byte> object = file->bytes().subspan(kHashDigits);
  if (HashBytes(object).ToHex() != file->text().substr(0, kHashDigits)) return std::nullopt;
  return ProgramImage{object, file};
}

void CompileCache::StoreObject(const std::string& key, const ProgramImage& object) const {
  if (!keeps()) return;
  StatusOr<AtomicFile> file = AtomicFile::Create(PathOf(key, ".o"));
  if (!file.ok() || !file->Append(HashBytes(object.bytes).ToHex()).ok() || !file->Append(object.bytes).ok()) return;
  (void)file->Commit();
}

std::optional<Program> CompileCache::FindProgram(const std::string& key) const {
  if (!keeps()) return std::nullopt;
  StatusOr<Program> program = ReadProgram(PathOf(key, ".program"));
  // A file of another name is another program.
  if (!program.ok() || program->key != key) return std::nullopt;
  return *std::move(program);
}

void CompileCache::StoreProgram(const Program& program) const {
  if (!keeps()) return;
  Program without = program;
  without.images.clear();
  (void)WriteProgram(without, PathOf(program.key, ".program"));
}

}  // namespace tessera
