#include "models/quantize/spec.h"

#include <charconv>
#include <cstdlib>
#include <optional>

namespace tessera {
namespace {

constexpr int64_t kMaxGroup = 1 << 16;
constexpr double kMaxOutliers = 5;  // percent: with more of them, 16 bits for all would be cheaper

std::vector<std::string_view> Split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (true) {
    const size_t at = text.find(separator);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

std::optional<double> Number(std::string_view text) {
  const std::string copy(text);
  char* end = nullptr;
  const double value = std::strtod(copy.c_str(), &end);
  return copy.empty() || *end != '\0' ? std::nullopt : std::optional<double>(value);
}

Status Fail(std::string_view text, const auto&... pieces) {
  return Error(ErrorCode::kUsageInvalid, "quantisation '", text, "': ", pieces...);
}

// "i8", "w4g32", …: everything before the first `+`.
Status ParseScheme(std::string_view scheme, QuantizeSpec& spec) {
  const auto set = [&](QuantizeScheme kind, DType weights) {
    spec.scheme = kind;
    spec.weights = weights;
    return OkStatus();
  };
  if (scheme == "none") return OkStatus();
  if (scheme == "i8") return set(QuantizeScheme::kIntegers, DType::kI8);
  if (scheme == "bf16") return set(QuantizeScheme::kCast, DType::kBF16);
  if (scheme == "f16") return set(QuantizeScheme::kCast, DType::kF16);
  if (scheme == "f32") return set(QuantizeScheme::kFloats, DType::kF32);
  std::string_view rest = scheme;
  for (const auto& [prefix, type] : {std::pair{"w8", DType::kI8}, {"w4", DType::kI4}, {"u4", DType::kU4}}) {
    if (rest.substr(0, 2) != prefix) continue;
    rest.remove_prefix(2);
    static_cast<void>(set(QuantizeScheme::kWeightsOnly, type));
    if (rest.empty()) return OkStatus();
    const char* end = rest.data() + rest.size();
    int64_t group = 0;
    const auto parsed = std::from_chars(rest.data() + 1, end, group);
    if (rest[0] != 'g' || rest.size() == 1 || parsed.ec != std::errc() || parsed.ptr != end || group < 2 ||
        group > kMaxGroup) {
      return Fail(spec.text, "expected a group such as ", prefix, "g32, of 2 to ", kMaxGroup, " elements, found '",
                  scheme, "'");
    }
    spec.group = group;
    return OkStatus();
  }
  return Fail(spec.text, "expected i8, w8, w8g64, w4g32, u4g32, bf16, f16, f32 or none, found '", scheme, "'");
}

Status ParseRange(std::string_view value, QuantizeSpec& spec) {
  if (value == "minmax") {
    spec.range = RangeMethod::kMinMax;
  } else if (value == "mse") {
    spec.range = RangeMethod::kMse;
  } else if (value.substr(0, 10) == "percentile" && (value.size() == 10 || value[10] == ':')) {
    spec.range = RangeMethod::kPercentile;
    if (value.size() == 10) return OkStatus();
    const std::optional<double> percentile = Number(value.substr(11));
    if (!percentile || !(*percentile > 50 && *percentile <= 100)) {
      return Fail(spec.text, "expected a percentile above 50 and up to 100, found '", value.substr(11), "'");
    }
    spec.percentile = *percentile;
  } else {
    return Fail(spec.text, "expected range=minmax, percentile, percentile:99.9 or mse, found '", value, "'");
  }
  return OkStatus();
}

Status ParseOption(std::string_view option, QuantizeSpec& spec) {
  const size_t equals = option.find('=');
  const std::string_view name = option.substr(0, equals);
  const std::string_view value = equals == std::string_view::npos ? "" : option.substr(equals + 1);
  const bool integers = spec.scheme == QuantizeScheme::kIntegers;
  if (name == "float") {
    for (std::string_view part : Split(value, ',')) {
      if (part.empty()) return Fail(spec.text, "expected float=NAME,NAME, found '", option, "'");
      spec.floats.emplace_back(part);
    }
    return OkStatus();
  }
  if (name == "weights") {
    if (value != "minmax" && value != "mse")
      return Fail(spec.text, "expected weights=minmax or weights=mse, found '", option, "'");
    spec.weight_range = value == "mse" ? RangeMethod::kMse : RangeMethod::kMinMax;
    return OkStatus();
  }
  if (name != "range" && name != "act" && name != "outliers")
    return Fail(spec.text, "expected an option range, weights, act, outliers or float, found '", option, "'");
  if (!integers) return Fail(spec.text, "'", name, "' is an option of i8 only");
  if (name == "range") return ParseRange(value, spec);
  if (name == "act") {
    if (value != "u8" && value != "i8") return Fail(spec.text, "expected act=u8 or act=i8, found '", option, "'");
    spec.activations = value == "u8" ? DType::kU8 : DType::kI8;
    return OkStatus();
  }
  const std::optional<double> percent =
      value.empty() || value.back() != '%' ? std::nullopt : Number(value.substr(0, value.size() - 1));
  if (!percent || !(*percent >= 0 && *percent <= kMaxOutliers))
    return Fail(spec.text, "expected outliers=P% with P from 0 to ", kMaxOutliers, ", found '", option, "'");
  spec.outliers = *percent / 100;
  return OkStatus();
}

}  // namespace

bool MatchesGlob(std::string_view pattern, std::string_view text) {
  // Where the last `*` stood, and how much of the text it has taken: enough to go back to, as later stars take over.
  size_t p = 0, t = 0, star = std::string_view::npos, taken = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      taken = t;
    } else if (p < pattern.size() && pattern[p] == text[t]) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++taken;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

bool QuantizeSpec::KeepsFloat(std::string_view node, std::string_view weight) const {
  for (const std::string& pattern : floats) {
    if (MatchesGlob(pattern, node) || MatchesGlob(pattern, weight)) return true;
  }
  return false;
}

StatusOr<QuantizeSpec> ParseQuantizeSpec(std::string_view text) {
  QuantizeSpec spec;
  spec.text = std::string(text);
  const std::vector<std::string_view> parts = Split(text, '+');
  RETURN_IF_ERROR(ParseScheme(parts[0], spec));
  const bool weights = spec.scheme == QuantizeScheme::kIntegers || spec.scheme == QuantizeScheme::kWeightsOnly;
  if (parts.size() > 1 && !weights) return Fail(text, "'", parts[0], "' has no options");
  for (size_t k = 1; k < parts.size(); ++k) RETURN_IF_ERROR(ParseOption(parts[k], spec));
  return spec;
}

}  // namespace tessera
