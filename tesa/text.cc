#include "tesa/text.h"

#include <charconv>
#include <cmath>
#include <cstring>
#include <optional>

#include "tesa/random.h"

namespace tessera {
namespace {

constexpr size_t kMaxLayersInText = 256;
constexpr size_t kMaxGridsInText = 32;

template <typename T, typename Parse>
StatusOr<T> ParseAll(std::string_view text, Parse parse) {
  Scanner in(text);
  StatusOr<T> value = parse(in);
  if (value.ok() && !in.AtEnd()) return in.Fail("the end");
  return value;
}

std::string BitsText(const Bitmap& bits) {
  const size_t bytes = static_cast<size_t>((bits.size() + 7) / 8);
  const std::string_view raw(reinterpret_cast<const char*>(bits.words().data()), bytes);
  return std::to_string(bits.size()) + "x" + FormatHex(raw);
}

StatusOr<Bitmap> ParseBits(Scanner& in) {
  if (in.AtEnd()) return in.Fail("bits such as 8x5a");
  Scanner before = in;
  const std::string_view token = in.Digits();
  int64_t size = -1;
  const auto [end, error] = std::from_chars(token.data(), token.data() + token.size(), size);
  const size_t digits = static_cast<size_t>(end - token.data());
  if (error != std::errc() || size < 0 || digits == token.size() || token[digits] != 'x') {
    return before.Fail("bits such as 8x5a");
  }
  const std::string_view hex = token.substr(digits + 1);
  // Compared without arithmetic on a size that may be absurd.
  if (hex.size() % 2 != 0 || static_cast<uint64_t>(size) > hex.size() * 4 ||
      static_cast<uint64_t>(size) + 8 <= hex.size() * 4) {
    return before.Fail("as many hexadecimal digits as the bits need");
  }
  StatusOr<std::string> bytes = ParseHex(hex);
  if (!bytes.ok()) return before.At(bytes.status());
  std::vector<uint64_t> words(static_cast<size_t>(Bitmap::WordsFor(size)), 0);
  if (!bytes->empty()) std::memcpy(words.data(), bytes->data(), bytes->size());
  return Bitmap::FromWords(size, std::move(words));
}

std::string LayerText(const TesaLayer& layer, const Shape& shape) {
  std::string text = " " + std::to_string(layer.bits) + ":";
  if (layer.view != shape) text += " view" + layer.view.ToString();
  for (const TesaGrid& grid : layer.grids) {
    text += " grid" + Shape(grid.block).ToString();
    text += " " + BitsText(grid.cells);
  }
  const TesaResidual& residual = layer.residual;
  if (residual.kind == TesaResidual::Kind::kBitmap) text += " mask " + BitsText(residual.data);
  if (residual.kind == TesaResidual::Kind::kNm) {
    text += " nm" + Shape({residual.axis, residual.n, residual.m}).ToString();
    text += " " + BitsText(residual.data);
  }
  return text;
}

StatusOr<TesaLayer> ParseLayer(Scanner& in, const Shape& shape) {
  TesaLayer layer;
  ASSIGN_OR_RETURN(layer.bits, in.IntIn(1, Attribute::kMaxBits, "a bit width"));
  RETURN_IF_ERROR(in.Expect(":"));
  layer.view = shape;
  if (in.Accept("view")) {
    ASSIGN_OR_RETURN(std::vector<int64_t> dims, in.Ints());
    layer.view = Shape(std::move(dims));
  }
  while (in.Accept("grid")) {
    if (layer.grids.size() == kMaxGridsInText) return in.Fail("fewer grids");
    TesaGrid grid;
    ASSIGN_OR_RETURN(grid.block, in.Ints());
    ASSIGN_OR_RETURN(grid.cells, ParseBits(in));
    layer.grids.push_back(std::move(grid));
  }
  if (in.Accept("mask")) {
    layer.residual.kind = TesaResidual::Kind::kBitmap;
    ASSIGN_OR_RETURN(layer.residual.data, ParseBits(in));
  } else if (in.Accept("nm")) {
    layer.residual.kind = TesaResidual::Kind::kNm;
    ASSIGN_OR_RETURN(std::vector<int64_t> numbers, in.Ints());
    bool small = numbers.size() == 3;
    for (int64_t number : numbers) small = small && number >= 0 && number <= kMaxNmGroup;
    if (!small) return in.Fail("[axis, n, m] before this");
    layer.residual.axis = static_cast<int>(numbers[0]);
    layer.residual.n = static_cast<int>(numbers[1]);
    layer.residual.m = static_cast<int>(numbers[2]);
    ASSIGN_OR_RETURN(layer.residual.data, ParseBits(in));
  }
  return layer;
}

StatusOr<Attribute> ParseLayers(Scanner& in, const TensorType& type) {
  const Scanner start = in;
  std::vector<TesaLayer> layers;
  if (!in.Sees(")")) {
    do {
      if (layers.size() == kMaxLayersInText) return in.Fail("fewer layers");
      ASSIGN_OR_RETURN(TesaLayer layer, ParseLayer(in, type.shape));
      layers.push_back(std::move(layer));
    } while (in.Accept("|"));
  }
  RETURN_IF_ERROR(in.Expect(")"));
  StatusOr<Attribute> attribute = Attribute::FromLayers(type.shape, std::move(layers));
  if (!attribute.ok()) return Scanner(start).At(attribute.status());
  return attribute;
}

// `pattern kept P% [, N bits])`
StatusOr<Attribute> ParseSummary(Scanner& in, const TensorType& type, uint64_t seed) {
  constexpr int64_t kMaxDrawn = int64_t{1} << 28;
  if (in.AtEnd()) return in.Fail("a pattern");
  const size_t length = in.rest().substr(0, 80).find(" kept");
  if (length == std::string_view::npos) return in.Fail("'PATTERN kept P%' or 'layers'");
  StatusOr<Pattern> parsed = ParsePattern(in.rest().substr(0, length));
  if (!parsed.ok()) return in.At(parsed.status());
  const Pattern& pattern = *parsed;
  if (std::max(pattern.axis, pattern.other_axis) >= type.shape.rank()) {
    return in.Fail("a pattern along an axis of " + type.shape.ToString());
  }
  in.Advance(length);
  RETURN_IF_ERROR(in.Expect("kept"));
  ASSIGN_OR_RETURN(const double percent, in.Number());
  if (!(percent >= 0 && percent <= 100)) return in.Fail("a share of 0…100 % before this");
  RETURN_IF_ERROR(in.Expect("%"));
  int64_t bits = TypeInfo(type.dtype).bits;
  if (in.Accept(",")) {
    ASSIGN_OR_RETURN(bits, in.IntIn(1, Attribute::kMaxBits, "a bit width"));
    RETURN_IF_ERROR(in.Expect("bits"));
  }
  RETURN_IF_ERROR(in.Expect(")"));
  if (type.shape.num_elements() > kMaxDrawn) return in.Fail("a smaller tensor for a random attribute before this");
  Random random(seed);
  return RandomAttribute(random, type.shape, pattern, percent / 100, static_cast<int>(bits));
}

std::string NumberList(const std::vector<double>& values) {
  std::string text = "[";
  for (size_t k = 0; k < values.size(); ++k) {
    if (k > 0) text += ",";
    text += FormatNumber(values[k]);
  }
  return text + "]";
}

}  // namespace

StatusOr<TensorType> ParseTensorType(Scanner& in) {
  const Scanner start = in;
  ASSIGN_OR_RETURN(const std::string name, in.Word("an element type"));
  const std::optional<DType> dtype = ParseDType(name);
  if (!dtype) return Scanner(start).Fail("an element type");
  ASSIGN_OR_RETURN(std::vector<int64_t> dims, in.Ints());
  TensorType type = {*dtype, Shape(std::move(dims))};
  if (Status status = CheckShape(type.dtype, type.shape); !status.ok()) return Scanner(start).At(status);
  return type;
}

StatusOr<TensorType> ParseTensorType(std::string_view text) {
  return ParseAll<TensorType>(text, [](Scanner& in) { return ParseTensorType(in); });
}

std::string FormatPercent(double share) {
  const double rounded = std::round(share * 1e4) / 1e2;
  return FormatNumber(rounded) + "%";
}

std::string Summary(const Attribute& attribute, DType dtype) {
  const PatternFit fit = FitPattern(attribute);
  std::string text = "tesa(" + fit.pattern.ToString() + " kept " + FormatPercent(attribute.density());
  if (fit.slack > 0) text += ", slack " + FormatPercent(fit.slack);
  const std::vector<int> widths = attribute.Widths();
  if (!widths.empty() && (widths.size() > 1 || widths[0] != TypeInfo(dtype).bits)) {
    text += ", ";
    for (size_t k = 0; k < widths.size(); ++k) text += (k > 0 ? "/" : "") + std::to_string(widths[k]);
    text += " bits";
  }
  return text + ")";
}

std::string Summary(const TensorType& type, const Attribute* attribute) {
  std::string text = type.ToString();
  if (attribute != nullptr) text += " " + Summary(*attribute, type.dtype);
  return text;
}

std::string ToText(const Attribute& attribute) {
  std::string text = "tesa(layers";
  bool first = true;
  for (const TesaLayer& layer : attribute.layers()) {
    if (!first) text += " |";
    first = false;
    text += LayerText(layer, attribute.shape());
  }
  return text + ")";
}

StatusOr<Attribute> ParseAttribute(Scanner& in, const TensorType& type, uint64_t seed) {
  RETURN_IF_ERROR(in.Expect("tesa"));
  RETURN_IF_ERROR(in.Expect("("));
  if (in.Accept("layers")) return ParseLayers(in, type);
  return ParseSummary(in, type, seed);
}

StatusOr<Attribute> ParseAttribute(std::string_view text, const TensorType& type, uint64_t seed) {
  return ParseAll<Attribute>(text, [&](Scanner& in) { return ParseAttribute(in, type, seed); });
}

std::string ToText(const QuantParams& params) {
  std::string text = "quant(scales=" + NumberList(params.scales);
  if (!params.zero_points.empty()) text += ", zero_points=" + Shape(params.zero_points).ToString();
  if (params.axis != -1) text += ", axis=" + std::to_string(params.axis);
  if (params.block_size != 0) text += ", block_size=" + std::to_string(params.block_size);
  return text + ")";
}

StatusOr<QuantParams> ParseQuantParams(Scanner& in) {
  QuantParams params;
  RETURN_IF_ERROR(in.Expect("quant"));
  RETURN_IF_ERROR(in.Expect("("));
  RETURN_IF_ERROR(in.Expect("scales"));
  RETURN_IF_ERROR(in.Expect("="));
  ASSIGN_OR_RETURN(params.scales, in.Numbers());
  while (in.Accept(",")) {
    if (in.Accept("zero_points")) {
      RETURN_IF_ERROR(in.Expect("="));
      ASSIGN_OR_RETURN(params.zero_points, in.Ints());
    } else if (in.Accept("axis")) {
      RETURN_IF_ERROR(in.Expect("="));
      ASSIGN_OR_RETURN(const int64_t axis, in.IntIn(-1, 15, "an axis"));
      params.axis = static_cast<int>(axis);
    } else if (in.Accept("block_size")) {
      RETURN_IF_ERROR(in.Expect("="));
      ASSIGN_OR_RETURN(params.block_size, in.Int());
    } else {
      return in.Fail("zero_points, axis or block_size");
    }
  }
  RETURN_IF_ERROR(in.Expect(")"));
  return params;
}

StatusOr<QuantParams> ParseQuantParams(std::string_view text) {
  return ParseAll<QuantParams>(text, [](Scanner& in) { return ParseQuantParams(in); });
}

}  // namespace tessera
