#include "propagate/testing/random_rule.h"

#include <algorithm>

namespace tessera {
namespace {

Shape AnyShape(Random& random) {
  std::vector<int64_t> dims(random.Int(0, 3));
  for (int64_t& dim : dims) dim = random.Chance(0.03) ? 0 : random.Int(1, 6);
  return Shape(std::move(dims));
}

// Neighbours merged or axes split, or as it is.
Shape AnyView(Random& random, const Shape& shape) {
  std::vector<int64_t> dims(shape.begin(), shape.end());
  if (random.Chance(0.7)) return shape;
  if (dims.size() >= 2 && random.Chance(0.5)) {
    const size_t d = random.Int(0, static_cast<int64_t>(dims.size()) - 2);
    dims[d] *= dims[d + 1];
    dims.erase(dims.begin() + d + 1);
  }
  for (size_t d = 0; d < dims.size(); ++d) {
    const int64_t factor = random.Int(2, 3);
    if (dims[d] > 0 && dims[d] % factor == 0 && random.Chance(0.5)) {
      dims[d] /= factor;
      dims.insert(dims.begin() + d, factor);
      break;
    }
  }
  if (random.Chance(0.2)) dims.insert(dims.begin() + random.Int(0, static_cast<int64_t>(dims.size())), 1);
  return Shape(std::move(dims));
}

class RuleMaker {
 public:
  explicit RuleMaker(Random& random) : random_(random) {}

  Rule Make() {
    rule_.name = "random";
    const int64_t inputs = random_.Int(1, 3), outputs = random_.Chance(0.2) ? 2 : 1;
    for (int64_t k = 0; k < inputs; ++k) {
      const DType dtype = random_.Chance(0.6) ? DType::kF32 : random_.Chance(0.6) ? DType::kI32 : DType::kBool;
      rule_.inputs.push_back({dtype, AnyShape(random_)});
    }
    for (int64_t k = 0; k < outputs; ++k) rule_.outputs.push_back({DType::kF32, AnyShape(random_)});
    const int64_t clauses = random_.Int(0, random_.Chance(0.8) ? 3 : 5);
    for (int64_t k = 0; k < clauses; ++k) rule_.clauses.push_back(MakeClause());
    return rule_;
  }

 private:
  Clause MakeClause() {
    Clause clause;
    clause.output = static_cast<int>(random_.Int(0, static_cast<int64_t>(rule_.outputs.size()) - 1));
    clause.input = AnyInput();
    for (int64_t k = random_.Int(1, 4); k > 0; --k) clause.extents.push_back(random_.Int(1, 6));
    if (random_.Chance(0.02)) clause.extents[0] = 0;
    for (int k = 0; k < static_cast<int>(rule_.inputs.size()); ++k) {
      const TensorType& type = rule_.inputs[k];
      if (!IsInteger(type.dtype) || random_.Chance(0.5)) continue;
      clause.lookups.push_back({k, MakeAccess(type.shape, clause.extents, 0)});
    }
    const int lookups = static_cast<int>(clause.lookups.size());
    clause.out = MakeAccess(rule_.outputs[clause.output].shape, clause.extents, lookups);
    clause.in = MakeAccess(rule_.inputs[clause.input].shape, clause.extents, lookups);
    for (int64_t k = random_.Chance(0.4) ? 0 : random_.Int(1, 2); k > 0; --k) {
      Annihilator unless;
      unless.input = AnyInput();
      unless.value = IsBool(rule_.inputs[unless.input].dtype) && random_.Chance(0.5) ? 1 : 0;
      if (random_.Chance(0.4)) {
        unless.any = random_.Chance(0.5);
        for (int64_t v = random_.Int(1, 2); v > 0; --v) unless.extents.push_back(random_.Int(1, 5));
      }
      std::vector<int64_t> extents = clause.extents;
      extents.insert(extents.end(), unless.extents.begin(), unless.extents.end());
      unless.at = MakeAccess(rule_.inputs[unless.input].shape, extents, lookups);
      clause.unless.push_back(std::move(unless));
    }
    DropUnusedLookups(clause);
    const int variables = static_cast<int>(clause.extents.size());
    while (variables >= 2 && random_.Chance(0.25)) {
      Link link;
      link.from = static_cast<int>(random_.Int(0, variables - 1));
      link.to = (link.from + static_cast<int>(random_.Int(1, variables - 1))) % variables;
      const bool repeats = random_.Chance(0.5);
      for (int64_t x = 0; x < clause.extents[link.from]; ++x) {
        auto& row = link.runs.emplace_back();
        if (repeats && x > 0 && random_.Chance(0.5)) {
          row = link.runs[x - 1];
          continue;
        }
        for (int64_t y = 0; y < clause.extents[link.to]; ++y) {
          if (random_.Chance(0.5)) continue;
          if (!row.empty() && row.back().second == y) {
            ++row.back().second;
          } else {
            row.emplace_back(y, y + 1);
          }
        }
      }
      clause.links.push_back(std::move(link));
    }
    return clause;
  }

  // One that nothing uses would only say where points are.
  static void DropUnusedLookups(Clause& clause) {
    std::vector<RuleAccess*> accesses = {&clause.out, &clause.in};
    for (Annihilator& unless : clause.unless) accesses.push_back(&unless.at);
    std::vector<bool> used(clause.lookups.size());
    for (RuleAccess* access : accesses) {
      for (const RuleIndex& index : access->index) {
        if (index.lookup >= 0) used[index.lookup] = true;
      }
    }
    if (std::find(used.begin(), used.end(), false) == used.end()) return;
    for (RuleAccess* access : accesses) {
      for (RuleIndex& index : access->index) index.lookup = -1;
    }
    clause.lookups.clear();
  }

  int AnyInput() { return static_cast<int>(random_.Int(0, static_cast<int64_t>(rule_.inputs.size()) - 1)); }

  RuleAccess MakeAccess(const Shape& shape, const std::vector<int64_t>& extents, int lookups) {
    RuleAccess access{.view = AnyView(random_, shape), .index = {}};
    for (const int64_t extent : access.view) {
      RuleIndex& index = access.index.emplace_back();
      const int variables = static_cast<int>(extents.size());
      const int v = static_cast<int>(random_.Int(0, variables - 1));
      const double form = random_.Uniform();
      if (form < 0.55) {  // alone, one of the axis' extent if there is one
        index = Variable(v);
        for (int w = 0; w < variables; ++w) {
          if (extents[w] == extent && random_.Chance(0.7)) index = Variable(w);
        }
      } else if (form < 0.7) {
        index = Variable(v, random_.Int(0, 1) ? random_.Int(1, 3) : -random_.Int(1, 2), random_.Int(-2, 4));
      } else if (form < 0.85) {
        index.offset = random_.Int(-2, 2);
        for (int w = 0; w < variables; ++w) {
          const int64_t coefficient = random_.Int(-1, 2);
          if (coefficient != 0 && (w == v || random_.Chance(0.5))) index.terms.push_back({w, coefficient});
        }
      } else if (form < 0.92) {
        index.offset = random_.Int(random_.Chance(0.1) ? -1 : 0, std::max<int64_t>(extent - 1, 0));
      } else if (lookups > 0) {
        index.lookup = static_cast<int>(random_.Int(0, lookups - 1));
        if (random_.Chance(0.3)) index.terms.push_back({v, random_.Int(1, 2)});
        index.offset = random_.Chance(0.3) ? random_.Int(-1, 1) : 0;
      } else {
        index = Variable(v);
      }
    }
    return access;
  }

  Random& random_;
  Rule rule_;
};

// 1 where something holds: nowhere, everywhere, scattered, on slices of one axis, on a block.
std::vector<uint8_t> AnyMask(Random& random, const Shape& shape) {
  const int64_t form = random.Int(0, 5), axis = shape.rank() == 0 ? -1 : random.Int(0, shape.rank() - 1);
  std::vector<uint8_t> slices(axis < 0 ? 0 : shape[static_cast<int>(axis)]);
  for (uint8_t& slice : slices) slice = random.Chance(0.5);
  std::vector<int64_t> low, high;
  for (const int64_t extent : shape) {
    low.push_back(random.Int(0, std::max<int64_t>(extent - 1, 0)));
    high.push_back(random.Int(low.back() + 1, std::max<int64_t>(extent, low.back() + 1)));
  }
  const double density = random.Uniform();
  std::vector<uint8_t> mask;
  ForEachIndex(shape, [&](const std::vector<int64_t>& index) {
    bool inside = true;
    for (size_t d = 0; d < index.size(); ++d) inside = inside && index[d] >= low[d] && index[d] < high[d];
    const bool scattered = random.Chance(density);
    mask.push_back(form == 0   ? 0
                   : form == 1 ? 1
                   : form == 2 ? scattered
                   : form == 3 ? inside
                   : axis >= 0 ? slices[index[axis]]
                               : scattered);
  });
  return mask;
}

}  // namespace

Rule RandomRule(Random& random) {
  Rule rule = RuleMaker(random).Make();
  const Status status = rule.Verify();
  TES_CHECK(status.ok(), status);
  return rule;
}

Known RandomKnown(Random& random, const TensorType& type) {
  const std::vector<uint8_t> unknown = AnyMask(random, type.shape), zero = AnyMask(random, type.shape);
  std::vector<uint8_t> kinds(unknown.size());
  std::vector<double> values(unknown.size(), 0);
  const bool uniform = random.Chance(0.5);
  for (size_t k = 0; k < kinds.size(); ++k) {
    kinds[k] = static_cast<uint8_t>(unknown[k] ? Certainty::kUnknown
                                    : zero[k]  ? Certainty::kZero
                                               : Certainty::kConstant);
    if (kinds[k] != static_cast<uint8_t>(Certainty::kConstant)) continue;
    values[k] = IsBool(type.dtype) || uniform ? 1 : static_cast<double>(random.Int(1, 4));
    if (IsInteger(type.dtype) && random.Chance(0.3)) values[k] = -values[k];
  }
  return Known::FromElements(type, kinds, values);
}

Needed RandomNeeded(Random& random, const Shape& shape) { return Needed::FromElements(shape, AnyMask(random, shape)); }

}  // namespace tessera
