// Attrs: the static parameters of a node (axes, strides, modes), by name.
//
//   Attrs attrs; attrs.Set("strides", std::vector<int64_t>{2, 2});
//   attrs.Ints("strides")[0] == 2;
//
// Each op states its parameters once as AttrDef rows; the verifier checks presence and kind, so an op's own code reads
// them without checking again. Order of insertion does not matter: entries are kept sorted by name. Values only.
// Tested by graph_test.cc.
#ifndef TESSERA_GRAPH_ATTRS_H_
#define TESSERA_GRAPH_ATTRS_H_

#include <cstdint>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/status.h"
#include "tesa/types.h"

namespace tessera {

using AttrValue = std::variant<int64_t, double, std::string, std::vector<int64_t>, std::vector<double>, DType>;

// The alternative of AttrValue that a parameter has, in its order.
enum class AttrKind : uint8_t { kInt, kFloat, kString, kInts, kFloats, kDType };

class Attrs {
 public:
  void Set(std::string_view name, AttrValue value) { values_[std::string(name)] = std::move(value); }
  bool Has(std::string_view name) const { return values_.find(name) != values_.end(); }
  void Erase(std::string_view name) {
    if (auto it = values_.find(name); it != values_.end()) values_.erase(it);
  }
  // Reading an absent parameter, or one of another kind, is a fault; the overloads with a default allow absence.
  int64_t Int(std::string_view name) const { return Get<int64_t>(name); }
  double Float(std::string_view name) const { return Get<double>(name); }
  const std::string& String(std::string_view name) const { return Get<std::string>(name); }
  const std::vector<int64_t>& Ints(std::string_view name) const { return Get<std::vector<int64_t>>(name); }
  const std::vector<double>& Floats(std::string_view name) const { return Get<std::vector<double>>(name); }
  DType Type(std::string_view name) const { return Get<DType>(name); }
  int64_t Int(std::string_view name, int64_t otherwise) const { return Has(name) ? Int(name) : otherwise; }
  double Float(std::string_view name, double otherwise) const { return Has(name) ? Float(name) : otherwise; }
  std::string String(std::string_view name, std::string otherwise) const {
    return Has(name) ? String(name) : otherwise;
  }

  auto begin() const { return values_.begin(); }
  auto end() const { return values_.end(); }
  bool empty() const { return values_.empty(); }
  friend bool operator==(const Attrs&, const Attrs&) = default;

 private:
  template <typename T>
  const T& Get(std::string_view name) const {
    auto it = values_.find(name);
    TES_CHECK(it != values_.end() && std::holds_alternative<T>(it->second), "parameter ", name);
    return std::get<T>(it->second);
  }
  std::map<std::string, AttrValue, std::less<>> values_;
};

// Attrs in one expression: MakeAttrs({{"axis", int64_t{1}}, {"mode", "linear"}}).
inline Attrs MakeAttrs(std::initializer_list<std::pair<std::string_view, AttrValue>> entries) {
  Attrs attrs;
  for (const auto& [name, value] : entries) attrs.Set(name, value);
  return attrs;
}

}  // namespace tessera

#endif  // TESSERA_GRAPH_ATTRS_H_
