#include "tesa/known.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <sstream>

#include "base/status.h"
#include "tesa/describe.h"

namespace tessera {
namespace {

constexpr uint8_t kZeroKind = static_cast<uint8_t>(Certainty::kZero);
constexpr uint8_t kConstantKind = static_cast<uint8_t>(Certainty::kConstant);
constexpr uint8_t kUnknownKind = static_cast<uint8_t>(Certainty::kUnknown);
// A declared attribute of grids that keeps more elements than this is taken at its word: the data is not read.
constexpr int64_t kMostScanned = int64_t{32} << 20;
// Integers up to here are exact in double.
constexpr double kExact = 9007199254740992.0;

Interval RangeOf(DType type) {
  if (IsBool(type)) return {0, 1};
  if (!IsInteger(type)) return {};
  if (type == DType::kU64) return {0, 18446744073709551616.0};
  return {static_cast<double>(MinInt(type)), static_cast<double>(MaxInt(type))};
}

// Can the value of an element be kept as a double?
bool Certain(DType type, double value) { return IsFloat(type) ? !std::isnan(value) : std::abs(value) <= kExact; }

struct Scan {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  bool zero = false;       // any element is 0
  bool uncertain = false;  // any element is NaN or an integer beyond 2^53
};

// Sixteen lanes side by side, which the compiler makes vectors of.
template <typename T>
Scan ScanValues(std::span<const T> values) {
  constexpr size_t kLanes = 16;
  Scan scan;
  if (values.empty()) return scan;
  T low[kLanes], high[kLanes];
  uint32_t zero[kLanes] = {}, nan[kLanes] = {};
  std::fill(low, low + kLanes, values[0]);
  std::fill(high, high + kLanes, values[0]);
  size_t i = 0;
  for (; i + kLanes <= values.size(); i += kLanes) {
    const T* at = values.data() + i;
    for (size_t k = 0; k < kLanes; ++k) {
      low[k] = at[k] < low[k] ? at[k] : low[k];
      high[k] = high[k] < at[k] ? at[k] : high[k];
      zero[k] |= at[k] == T(0);
      nan[k] |= at[k] != at[k];
    }
  }
  for (; i < values.size(); ++i) {
    low[0] = values[i] < low[0] ? values[i] : low[0];
    high[0] = high[0] < values[i] ? values[i] : high[0];
    zero[0] |= values[i] == T(0);
    nan[0] |= values[i] != values[i];
  }
  for (size_t k = 0; k < kLanes; ++k) {
    scan.low = std::min(scan.low, static_cast<double>(low[k]));
    scan.high = std::max(scan.high, static_cast<double>(high[k]));
    scan.zero |= zero[k] != 0;
    scan.uncertain |= nan[k] != 0;
  }
  if (!std::is_floating_point_v<T>) scan.uncertain = scan.low < -kExact || scan.high > kExact;
  return scan;
}

Scan ScanTensor(const Tensor& tensor) {
  switch (tensor.dtype()) {
    case DType::kF32: return ScanValues(tensor.data<float>());
    case DType::kF64: return ScanValues(tensor.data<double>());
    case DType::kI8: return ScanValues(tensor.data<int8_t>());
    case DType::kU8: return ScanValues(tensor.data<uint8_t>());
    case DType::kI32: return ScanValues(tensor.data<int32_t>());
    case DType::kI64: return ScanValues(tensor.data<int64_t>());
    default: break;
  }
  Scan scan;
  for (int64_t i = 0; i < tensor.num_elements(); ++i) {
    const double value = tensor.Get(i);
    scan.low = value < scan.low ? value : scan.low;
    scan.high = value > scan.high ? value : scan.high;
    scan.zero |= value == 0;
    scan.uncertain |= !Certain(tensor.dtype(), value);
  }
  return scan;
}

int64_t Flat(const Shape& shape, std::span<const int64_t> index) {
  int64_t flat = 0;
  for (int d = 0; d < shape.rank(); ++d) flat = flat * shape[d] + index[static_cast<size_t>(d)];
  return flat;
}

Cells<double> ValueCells(const Known& known) {
  return known.values.empty() ? Cells<double>::Uniform(known.type.shape, 0) : Cells<double>(known.kind, known.values);
}

// The value of every element where it is constant, else 0.
std::vector<double> ElementValues(const Known& known, const std::vector<uint8_t>& kinds) {
  if (!known.data) return ValueCells(known).Elements();
  std::vector<double> values(kinds.size(), 0);
  for (size_t i = 0; i < kinds.size(); ++i) {
    if (kinds[i] == kConstantKind) values[i] = known.data->Get(static_cast<int64_t>(i));
  }
  return values;
}

bool SameData(const Known& a, const Known& b) {
  return a.data && b.data && a.data->dtype() == b.data->dtype() &&
         (a.data->bytes().data() == b.data->bytes().data() || *a.data == *b.data);
}

// The elements of one kind.
Cells<uint8_t> OfKind(const Cells<uint8_t>& kind, uint8_t which) {
  Cells<uint8_t> cells = kind;
  for (uint8_t& value : cells.values) value = value == which;
  return cells.Coarsest();
}

}  // namespace

Known Known::Unknown(const TensorType& type) {
  Known known;
  known.type = type;
  known.kind = Cells<uint8_t>::Uniform(type.shape, kUnknownKind);
  known.values.assign(known.kind.values.size(), 0);
  known.range = RangeOf(type.dtype);
  return known;
}

Known Known::OfConstant(const Tensor& tensor, const Attribute* declared) {
  static_assert(kZeroKind == 0 && kConstantKind == 1, "a bitmap of what is not zero is one of kinds");
  if (declared != nullptr) {
    TES_CHECK(declared->shape() == tensor.shape(), declared->shape(), " on ", tensor.shape());
    if (declared->keeps_all()) declared = nullptr;
  }
  Known known;
  known.type = tensor.type();
  known.data = tensor;
  known.range = RangeOf(tensor.dtype());
  if (declared != nullptr && declared->num_kept() > kMostScanned) {
    const auto is_grid = [](const TesaLayer& layer) { return layer.residual.kind == TesaResidual::Kind::kNone; };
    if (std::all_of(declared->layers().begin(), declared->layers().end(), is_grid)) {
      Cells<uint8_t> kept = BitCells(*declared);
      for (uint8_t& value : kept.values) value = value != 0;
      known.kind = kept.Coarsest();
      return known;
    }
  }
  const Scan scan = ScanTensor(tensor);
  if (tensor.num_elements() > 0 && !(scan.uncertain && IsFloat(tensor.dtype()))) {
    const bool zero = scan.zero || declared != nullptr;
    known.range = {zero ? std::min(scan.low, 0.0) : scan.low, zero ? std::max(scan.high, 0.0) : scan.high};
  }
  if (!scan.zero && !scan.uncertain && declared == nullptr) {
    known.kind = Cells<uint8_t>::Uniform(tensor.shape(), kConstantKind);
    return known;
  }
  Bitmap kept = scan.zero ? NonZeros(tensor) : Bitmap(tensor.num_elements(), true);
  if (declared != nullptr) kept &= declared->KeptBitmap();
  if (!scan.uncertain) {
    known.kind = CellsOf(tensor.shape(), kept);
    return known;
  }
  std::vector<uint8_t> kinds(static_cast<size_t>(tensor.num_elements()));
  for (int64_t i = 0; i < tensor.num_elements(); ++i) {
    if (kept[i]) kinds[static_cast<size_t>(i)] = Certain(tensor.dtype(), tensor.Get(i)) ? kConstantKind : kUnknownKind;
  }
  known.kind = Cells<uint8_t>::FromElements(tensor.shape(), kinds);
  return known;
}

Known Known::FromElements(const TensorType& type, std::span<const uint8_t> kinds, std::span<const double> values) {
  TES_CHECK(kinds.size() == values.size(), kinds.size(), " kinds and ", values.size(), " values");
  std::vector<uint8_t> kind(kinds.begin(), kinds.end());
  std::vector<double> constant(values.size(), 0);
  bool any_constant = false, any_unknown = false;
  Interval range = {std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity()};
  for (size_t i = 0; i < kind.size(); ++i) {
    TES_CHECK(kind[i] <= kUnknownKind, "kind ", static_cast<int>(kind[i]));
    if (kind[i] == kConstantKind) {
      if (values[i] == 0) {
        kind[i] = kZeroKind;
      } else if (!Certain(type.dtype, values[i])) {
        kind[i] = kUnknownKind;
      } else {
        constant[i] = values[i];
        any_constant = true;
      }
    }
    any_unknown |= kind[i] == kUnknownKind;
    range.low = std::min(range.low, constant[i]);
    range.high = std::max(range.high, constant[i]);
  }
  Known known;
  known.type = type;
  known.kind = Cells<uint8_t>::FromElements(type.shape, kind);
  known.range = any_unknown || kind.empty() ? RangeOf(type.dtype) : range;
  if (!any_constant) {
    known.values.assign(known.kind.values.size(), 0);
    return known;
  }
  const Cells<double> cells = Cells<double>::FromElements(type.shape, constant);
  const std::vector<Partition> axes = Refine(static_cast<const CellGrid&>(known.kind), cells).axes;
  known.kind = known.kind.Refined(axes);
  known.values = cells.Refined(axes).values;
  return known;
}

double Known::ValueAt(std::span<const int64_t> index) const {
  const size_t cell = static_cast<size_t>(kind.CellOf(index));
  TES_CHECK(kind.values[cell] != kUnknownKind, "the value of an unknown element");
  if (kind.values[cell] == kZeroKind) return 0;
  return data ? data->Get(Flat(type.shape, index)) : values[cell];
}

bool Known::all_known() const {
  return std::find(kind.values.begin(), kind.values.end(), kUnknownKind) == kind.values.end();
}

Cells<uint8_t> Known::EqualTo(double value) const {
  if (value == 0) return OfKind(kind, kZeroKind);
  if (value < range.low || value > range.high) return Cells<uint8_t>::Uniform(type.shape, 0);
  Cells<uint8_t> equal = OfKind(kind, kConstantKind);
  if (equal.IsUniform(0)) return equal;
  if (!data) {
    equal = kind;
    for (size_t c = 0; c < values.size(); ++c) equal.values[c] = kind.values[c] == kConstantKind && values[c] == value;
    return equal.Coarsest();
  }
  std::vector<uint8_t> elements = kind.Elements();
  for (size_t i = 0; i < elements.size(); ++i) {
    elements[i] = elements[i] == kConstantKind && data->Get(static_cast<int64_t>(i)) == value;
  }
  return Cells<uint8_t>::FromElements(type.shape, elements);
}

Known Known::WithValues() const {
  if (!data) return *this;
  const std::vector<uint8_t> kinds = kind.Elements();
  Known known = FromElements(type, kinds, ElementValues(*this, kinds));
  known.range = range;
  return known;
}

int64_t Known::byte_size() const {
  size_t bytes = sizeof(Known) + kind.values.size() + values.size() * sizeof(double);
  for (const Partition& axis : kind.axes) {
    bytes += sizeof(Partition);
    if (!axis.is_whole() && !axis.is_identity()) bytes += static_cast<size_t>(axis.extent()) * sizeof(int32_t);
  }
  return static_cast<int64_t>(bytes);
}

std::string Known::ToString() const {
  std::ostringstream out;
  const int64_t count = type.shape.num_elements();
  const int64_t zeros = CountOf(Certainty::kZero), constants = CountOf(Certainty::kConstant);
  const auto constant = [&] {
    if (constants == 0) return std::string();
    std::vector<double> found;
    if (!data) {
      for (size_t c = 0; c < values.size(); ++c) {
        if (kind.values[c] == kConstantKind && (found.empty() || found[0] != values[c])) found.push_back(values[c]);
      }
    }
    std::ostringstream text;
    text << (found.size() == 1 ? "constant " : "constants");
    if (found.size() == 1) text << found[0];
    return text.str();
  };
  if (zeros == count) {
    out << "zero";
  } else if (zeros + constants == count) {
    out << constant();
    if (zeros > 0) out << " with zero " << DescribeSet(OfKind(kind, kZeroKind));
  } else {
    out << "unknown";
    if (zeros > 0) out << " with zero " << DescribeSet(OfKind(kind, kZeroKind));
    if (constants > 0) {
      out << (zeros > 0 ? " and " : " with ") << constant() << " in " << DescribeSet(OfKind(kind, kConstantKind));
    }
    if (range != RangeOf(type.dtype)) out << ", within [" << range.low << ", " << range.high << "]";
  }
  return out.str();
}

bool operator==(const Known& a, const Known& b) {
  if (a.type != b.type || a.range != b.range || !(a.kind == b.kind)) return false;
  if (SameData(a, b)) return true;
  if (a.data || b.data) {
    const Known x = a.WithValues(), y = b.WithValues();
    return x.kind == y.kind && ValueCells(x) == ValueCells(y);
  }
  return ValueCells(a) == ValueCells(b);
}

std::optional<Known> Meet(const Known& a, const Known& b) {
  TES_CHECK(a.type == b.type, a.type, " and ", b.type);
  const Interval range = {std::max(a.range.low, b.range.low), std::min(a.range.high, b.range.high)};
  if (range.low > range.high) return std::nullopt;
  Known result;
  if (b.nothing_known() || (SameData(a, b) && a.kind == b.kind)) {
    result = a;
  } else if (a.nothing_known()) {
    result = b;
  } else if (!a.data && !b.data) {
    const std::vector<Partition> axes = Refine(static_cast<const CellGrid&>(a.kind), b.kind).axes;
    const Known fine_b = {b.type, b.kind.Refined(axes), ValueCells(b).Refined(axes).values, {}, {}};
    result = {a.type, a.kind.Refined(axes), ValueCells(a).Refined(axes).values, {}, {}};
    for (size_t c = 0; c < result.values.size(); ++c) {
      uint8_t& kind = result.kind.values[c];
      if (fine_b.kind.values[c] == kUnknownKind) continue;
      if (kind == kUnknownKind) {
        kind = fine_b.kind.values[c];
        result.values[c] = fine_b.values[c];
      } else if (kind != fine_b.kind.values[c] || result.values[c] != fine_b.values[c]) {
        return std::nullopt;
      }
    }
  } else {
    std::vector<uint8_t> kinds = a.kind.Elements();
    const std::vector<uint8_t> others = b.kind.Elements();
    std::vector<double> values = ElementValues(a, kinds);
    const std::vector<double> other_values = ElementValues(b, others);
    for (size_t i = 0; i < kinds.size(); ++i) {
      if (others[i] == kUnknownKind) continue;
      if (kinds[i] != kUnknownKind && (kinds[i] != others[i] || values[i] != other_values[i])) return std::nullopt;
      kinds[i] = others[i];
      values[i] = other_values[i];
    }
    result = Known::FromElements(a.type, kinds, values);
  }
  result.range = range;
  return result;
}

}  // namespace tessera
