// Reads side files; what they say is put to tensors in tesa_declare.cc.
#include "models/import/tesa_file.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "base/file.h"
#include "models/import/npy.h"
#include "models/import/safetensors.h"

namespace tessera {
namespace {

using Json = nlohmann::json;
using Kind = TesaStatement::Kind;

constexpr uint64_t kMaxJsonBytes = uint64_t{64} << 20;
constexpr size_t kMaxDepth = 32;
constexpr int64_t kMaxIndex = int64_t{1} << 40;

template <typename... Pieces>
Status Bad(const Pieces&... pieces) {
  return Error(ErrorCode::kTesaFileInvalid, pieces...);
}

// Errors of other files in the terms of this one.
Status AsBad(const Status& status) { return Status(ErrorCode::kTesaFileInvalid, status.message()); }

// Reads JSON without keeping it: what is wrong with it and where. That includes an object that names a member twice, of
// which the parser that keeps would drop one without a word, and nesting that would exhaust the stack.
class Strict : public nlohmann::json_sax<Json> {
 public:
  const Status& status() const { return status_; }

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return Enter(); }
  bool end_object() override { return Leave(); }
  bool start_array(std::size_t) override { return Enter(); }
  bool end_array() override { return Leave(); }
  bool key(string_t& key) override {
    if (keys_.back().insert(key).second) return true;
    status_ = Bad("'", key, "' stands twice in one object; give each statement an entry of its own");
    return false;
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    status_ = Bad("expected JSON, found a mistake at byte ", position);
    return false;
  }

 private:
  bool Enter() {
    keys_.emplace_back();
    if (keys_.size() <= kMaxDepth) return true;
    status_ = Bad("expected JSON that nests at most ", kMaxDepth, " deep");
    return false;
  }
  bool Leave() {
    keys_.pop_back();
    return true;
  }

  Status status_;
  std::vector<std::set<std::string>> keys_;
};

StatusOr<Json> ParseStrictly(std::string_view text) {
  Strict strict;
  if (!Json::sax_parse(text.begin(), text.end(), &strict)) {
    return strict.status().ok() ? Bad("expected JSON, found none") : strict.status();
  }
  return Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
}

std::optional<int64_t> IndexOf(const Json& json) {
  if (json.is_number_unsigned() && json.get<uint64_t>() <= static_cast<uint64_t>(kMaxIndex)) return json.get<int64_t>();
  return std::nullopt;
}

StatusOr<int64_t> Number(const Json& object, const char* key) {
  const auto it = object.find(key);
  const std::optional<int64_t> number = it == object.end() ? std::nullopt : IndexOf(*it);
  if (!number) return Bad("expected \"", key, "\": a whole number from 0 on");
  return *number;
}

StatusOr<std::vector<int64_t>> Numbers(const Json& json, std::string_view what) {
  std::vector<int64_t> numbers;
  if (!json.is_array()) return Bad("expected ", what, ": a list of whole numbers, found ", json.type_name());
  for (const Json& entry : json) {
    const std::optional<int64_t> number = IndexOf(entry);
    if (!number) return Bad("expected ", what, ": whole numbers from 0 on, found ", entry.dump().substr(0, 40));
    numbers.push_back(*number);
  }
  return numbers;
}

// [3, "7-12"]
StatusOr<std::vector<TesaStatement::Run>> Runs(const Json& json) {
  if (!json.is_array()) return Bad("expected a list of indices such as [3, \"7-12\"], found ", json.type_name());
  std::vector<TesaStatement::Run> runs;
  for (const Json& entry : json) {
    if (const std::optional<int64_t> index = IndexOf(entry)) {
      runs.emplace_back(*index, *index);
      continue;
    }
    const std::string text = entry.is_string() ? entry.get<std::string>() : "";
    const size_t dash = text.find('-');
    const auto digits = [](const std::string& part) {
      return !part.empty() && part.size() < 13 && part.find_first_not_of("0123456789") == std::string::npos;
    };
    if (dash == std::string::npos || !digits(text.substr(0, dash)) || !digits(text.substr(dash + 1))) {
      return Bad("expected indices such as 3 or \"7-12\", found ", entry.dump().substr(0, 40));
    }
    runs.emplace_back(std::stoll(text.substr(0, dash)), std::stoll(text.substr(dash + 1)));
    if (runs.back().first > runs.back().second) return Bad("expected a range that ascends, found \"", text, "\"");
  }
  return runs;
}

// 0 and 1, nested as one likes.
Status FlatMask(const Json& json, std::vector<uint8_t>& mask) {
  if (json.is_array()) {
    for (const Json& entry : json) RETURN_IF_ERROR(FlatMask(entry, mask));
    return OkStatus();
  }
  if (json.is_boolean()) {
    mask.push_back(json.get<bool>() ? 1 : 0);
    return OkStatus();
  }
  const std::optional<int64_t> bit = IndexOf(json);
  if (!bit || *bit > 1) return Bad("expected a mask of 0 and 1, found ", json.dump().substr(0, 40));
  mask.push_back(static_cast<uint8_t>(*bit));
  return OkStatus();
}

class Reader {
 public:
  explicit Reader(TesaFile& file) : file_(file) {}

  Status Read(const Json& json) {
    if (!json.is_object() || !json.contains("tensors") || !json["tensors"].is_array()) {
      return Bad("expected an object with a list \"tensors\"");
    }
    for (const auto& [key, unused] : json.items()) {
      if (key != "tensors") return Bad("expected nothing but \"tensors\", found \"", key, "\"");
    }
    int64_t number = 0;
    for (const Json& entry : json["tensors"]) {
      const std::string where = "entry " + std::to_string(++number);
      if (!entry.is_object() || !entry.contains("name") || !entry["name"].is_string()) {
        return Bad(where, ": expected an object with the \"name\" of a tensor");
      }
      const std::string name = entry["name"].get<std::string>();
      StatusOr<std::vector<TesaStatement>> statements = Statements(entry, name);
      if (!statements.ok()) return statements.status().WithContext(where + ", tensor '" + name + "'");
      for (TesaStatement& statement : *statements) {
        statement.where = where;
        file_.tensors[name].push_back(std::move(statement));
      }
    }
    return OkStatus();
  }

 private:
  StatusOr<std::vector<TesaStatement>> Statements(const Json& entry, const std::string& name) {
    std::vector<TesaStatement> statements;
    for (const auto& [key, value] : entry.items()) {
      TesaStatement s;
      if (key == "name" || (key == "key" && entry.contains("mask"))) continue;
      if (key == "axis" && entry.contains("indices")) continue;
      if (key == "rows" || key == "channels" || key == "columns") {
        s.kind = Kind::kSlices;
        s.axis = key == "columns" ? 1 : 0;
        ASSIGN_OR_RETURN(s.runs, Runs(value));
      } else if (key == "indices") {
        s.kind = Kind::kSlices;
        ASSIGN_OR_RETURN(s.axis, Number(entry, "axis"));
        ASSIGN_OR_RETURN(s.runs, Runs(value));
      } else if (key == "blocks") {
        RETURN_IF_ERROR(Blocks(value, s));
      } else if (key == "nm") {
        s.kind = Kind::kNm;
        if (!value.is_object()) return Bad("expected \"nm\": {\"n\": 2, \"m\": 4, \"axis\": 1}");
        ASSIGN_OR_RETURN(s.n, Number(value, "n"));
        ASSIGN_OR_RETURN(s.m, Number(value, "m"));
        ASSIGN_OR_RETURN(s.axis, Number(value, "axis"));
      } else if (key == "bits") {
        RETURN_IF_ERROR(Bits(value, s));
      } else if (key == "mask") {
        s.kind = Kind::kMask;
        ASSIGN_OR_RETURN(s.mask, Mask(entry, name));
      } else {
        return Bad("unknown member \"", key,
                   "\"; expected rows, columns, channels, axis and indices, blocks, nm, bits, or mask and key");
      }
      statements.push_back(std::move(s));
    }
    if (statements.empty()) return Bad("expected something that is said of it, found only its name");
    return statements;
  }

  static Status Blocks(const Json& json, TesaStatement& s) {
    s.kind = Kind::kBlocks;
    const int said = json.is_object() ? json.contains("kept") + json.contains("pruned") + json.contains("mask") : 0;
    if (said != 1 || json.size() != 2 || !json.contains("shape")) {
      return Bad("expected \"blocks\": {\"shape\": [32, 32], and one of \"pruned\", \"kept\", \"mask\"}");
    }
    ASSIGN_OR_RETURN(s.block, Numbers(json["shape"], "the shape of blocks"));
    if (json.contains("mask")) {
      s.block_mask.emplace();
      return FlatMask(json["mask"], *s.block_mask);
    }
    s.blocks_kept = json.contains("kept");
    const Json& list = json[s.blocks_kept ? "kept" : "pruned"];
    if (!list.is_array()) return Bad("expected a list of blocks such as [[0, 1], [4, 4]]");
    for (const Json& block : list) {
      ASSIGN_OR_RETURN(std::vector<int64_t> at, Numbers(block, "the place of a block"));
      s.blocks.push_back(std::move(at));
    }
    return OkStatus();
  }

  static Status Bits(const Json& json, TesaStatement& s) {
    if (const std::optional<int64_t> bits = IndexOf(json)) {
      s.kind = Kind::kBits;
      s.bits = {*bits};
      return OkStatus();
    }
    s.kind = Kind::kBitsPerIndex;
    if (!json.is_object() || !json.contains("values")) {
      return Bad("expected \"bits\": 8, or {\"axis\": 0, \"values\": [8, 4, …]}");
    }
    ASSIGN_OR_RETURN(s.axis, Number(json, "axis"));
    ASSIGN_OR_RETURN(s.bits, Numbers(json["values"], "bits"));
    return OkStatus();
  }

  // The file of a mask, read once.
  StatusOr<Tensor> Mask(const Json& entry, const std::string& name) {
    if (!entry["mask"].is_string()) return Bad("expected \"mask\": the name of a .npy or .safetensors file");
    const std::filesystem::path given = entry["mask"].get<std::string>();
    const std::string path =
        given.is_absolute() ? given.string() : (std::filesystem::path(file_.path).parent_path() / given).string();
    if (given.extension() == ".npy") {
      StatusOr<Tensor> mask = ReadNpy(path);
      if (!mask.ok()) return AsBad(mask.status());
      return mask;
    }
    if (given.extension() != ".safetensors") {
      return Bad("expected a mask in a .npy or .safetensors file, found '", given.string(), "'");
    }
    auto it = safetensors_.find(path);
    if (it == safetensors_.end()) {
      StatusOr<Safetensors> read = ReadSafetensors(path);
      if (!read.ok()) return AsBad(read.status());
      it = safetensors_.emplace(path, *std::move(read)).first;
    }
    if (entry.contains("key") && !entry["key"].is_string()) return Bad("expected \"key\": the name of a tensor in it");
    const std::string key = entry.contains("key") ? entry["key"].get<std::string>() : name;
    const Tensor* mask = it->second.Find(key);
    if (mask == nullptr) return Bad(path, " has no tensor '", key, "'");
    return *mask;
  }

  TesaFile& file_;
  std::map<std::string, Safetensors> safetensors_;  // by path
};

TesaStatement MaskStatement(Tensor mask) {
  TesaStatement s;
  s.kind = Kind::kMask;
  s.where = "mask";
  s.mask = std::move(mask);
  return s;
}

}  // namespace

StatusOr<TesaFile> ParseTesaFile(std::string_view text, const std::string& path) {
  TesaFile file;
  file.path = path;
  StatusOr<Json> json = ParseStrictly(text);
  if (!json.ok()) return json.status().WithContext(path);
  RETURN_IF_ERROR(Reader(file).Read(*json).WithContext(path));
  return file;
}

StatusOr<TesaFile> ReadTesaFile(const std::string& path) {
  TesaFile file;
  file.path = path;
  const std::filesystem::path name(path);
  if (name.extension() == ".npy") {
    StatusOr<Tensor> mask = ReadNpy(path);
    if (!mask.ok()) return AsBad(mask.status());
    file.tensors[name.stem().string()].push_back(MaskStatement(*std::move(mask)));
    return file;
  }
  if (name.extension() == ".safetensors") {
    StatusOr<Safetensors> masks = ReadSafetensors(path);
    if (!masks.ok()) return AsBad(masks.status());
    for (auto& [tensor, mask] : masks->tensors) file.tensors[tensor].push_back(MaskStatement(mask));
    return file;
  }
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxJsonBytes));
  return ParseTesaFile(text, path);
}

}  // namespace tessera
