#include "propagate/learn/probe.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>

namespace tessera {
namespace {

constexpr double kTieValues[] = {-1, 0, 1, 2};
// 80^(k/64).
const std::array<double, 64> kPowers = [] {
  std::array<double, 64> powers;
  for (int k = 0; k < 64; ++k) powers[k] = std::pow(80.0, k / 64.0);
  return powers;
}();
constexpr int64_t kSmallInteger = 9;  // integers that are no indices lie within ± this

bool HasRange(const BlackBox& box, int input) {
  return static_cast<size_t>(input) < box.integer_ranges.size() && box.integer_ranges[input].has_value();
}

double Uniform(std::mt19937_64& rng) { return static_cast<double>(rng() >> 11) * 0x1p-53; }

// Scrambles an element's number, so that neighbours walk through the indices out of step.
uint64_t Mixed(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

}  // namespace

int Trials(int64_t tests, double shows, double max_error) {
  if (shows >= 1) return 1;
  const double each = std::log(max_error / static_cast<double>(std::max<int64_t>(tests, 1)));
  return std::max(1, static_cast<int>(std::ceil(each / std::log1p(-shows))));
}

void Held::Set(const BlackBox& box, int input, int64_t element, double to) {
  if (is_held[input].empty()) {
    const size_t count = box.inputs[input]->shape.num_elements();
    is_held[input].assign(count, 0);
    value[input].assign(count, 0);
  }
  is_held[input][element] = 1;
  value[input][element] = to;
}

Prober::Prober(const BlackBox& box, uint64_t seed) : box_(box), rng_(seed * 0x9e3779b97f4a7c15u + 1) {
  for (const std::optional<TensorType>& type : box.inputs) {
    point_.push_back(type ? RefTensor(*type) : RefTensor());
    if (!type) continue;
    for (int64_t extent : type->shape) largest_extent_ = std::max(largest_extent_, extent);
  }
  for (size_t k = 0; k < point_.size(); ++k) arguments_.push_back(box.inputs[k] ? &point_[k] : nullptr);
  first_.push_back(0);
  for (const TensorType& type : box.outputs) first_.push_back(first_.back() + type.shape.num_elements());
}

double Prober::Draw(ProbeKind kind) {
  if (kind == ProbeKind::kTies) return kTieValues[rng_() % 4];
  // 0.05 * 80^u: a power of two, and a mantissa whose logarithm is near enough to uniform.
  const uint64_t bits = rng_();
  const double magnitude =
      std::min(4.0, 0.05 * kPowers[bits % 64] * (1 + 0.0708 * static_cast<double>(bits >> 40) * 0x1p-24));
  return kind == ProbeKind::kPositive || (rng_() & 1) != 0 ? magnitude : -magnitude;
}

int64_t Prober::DrawInt(ProbeKind kind, int input, int64_t element, int trial) {
  const DType type = box_.inputs[input]->dtype;
  if (IsBool(type)) {
    if (kind == ProbeKind::kPositive) return 1;
    return kind == ProbeKind::kTies ? 0 : static_cast<int64_t>(rng_() & 1);
  }
  if ((trial + trial / 4) % 2 == 1 && !HasRange(box_, input) && kind != ProbeKind::kPositive) {
    const int64_t low = std::max<int64_t>(MinInt(type), -kSmallInteger), high = std::min(MaxInt(type), kSmallInteger);
    return low + static_cast<int64_t>(rng_() % static_cast<uint64_t>(high - low + 1));
  }
  auto [low, high] = IndexRange(input);
  if (kind == ProbeKind::kPositive && low == 0 && high > 2) low = 1;
  const uint64_t start = Mixed(static_cast<uint64_t>(element) * 64 + static_cast<uint64_t>(input) + 1);
  // Trials of the four kinds take turns: an index stays for eight, in four of which it counts, once for each kind.
  const uint64_t step = static_cast<uint64_t>(trial / 8);
  return low + static_cast<int64_t>((start + step) % static_cast<uint64_t>(high - low));
}

std::pair<int64_t, int64_t> Prober::IndexRange(int input) const {
  const DType type = box_.inputs[input]->dtype;
  int64_t low = 0, high = std::max<int64_t>(largest_extent_, 4);
  if (HasRange(box_, input)) std::tie(low, high) = *box_.integer_ranges[input];
  if (MaxInt(type) < high) high = MaxInt(type) + 1;
  return {low, std::max(high, low + 1)};
}

double Prober::Spike() { return largest_held_ * std::pow(10.0, 3 + 3 * Uniform(rng_)); }

void Prober::DrawBase(ProbeKind kind, int trial, const Held& held) {
  largest_held_ = 1;
  for (int k = 0; k < num_inputs(); ++k) {
    if (!has_input(k) || held.is_held[k].empty()) continue;
    for (double value : held.value[k]) {
      if (std::fabs(value) < 1e30) largest_held_ = std::max(largest_held_, std::fabs(value));
    }
  }
  for (int k = 0; k < num_inputs(); ++k) {
    if (!has_input(k)) continue;
    RefTensor& x = point_[k];
    const bool any_held = !held.is_held[k].empty();
    for (int64_t e = 0; e < x.size(); ++e) {
      const bool fixed = any_held && held.is_held[k][e];
      if (x.is_float()) {
        x.f[e] = fixed ? held.value[k][e] : Draw(kind);
      } else {
        x.i[e] = fixed ? static_cast<int64_t>(held.value[k][e]) : DrawInt(kind, k, e, trial);
      }
    }
  }
}

bool Prober::HasIntegers() const {
  return std::any_of(box_.inputs.begin(), box_.inputs.end(),
                     [](const auto& type) { return type && IsInteger(type->dtype); });
}

int Prober::NumChanges(ProbeKind kind) const {
  switch (kind) {
    case ProbeKind::kSpike: return 2;
    case ProbeKind::kTies:
    case ProbeKind::kSpecial: return 3;
    default: return 1;
  }
}

void Prober::Change(ProbeKind kind, int change, int input, const Group& group) {
  RefTensor& x = point_[input];
  const DType type = x.type.dtype;
  const bool ranged = HasRange(box_, input);
  for (int64_t e : group) {
    if (x.is_float()) {
      double& v = x.f[e];
      if (kind == ProbeKind::kSpike) {
        // Down is the opposite of up, so that one of the two differs from wherever an op that rises or falls was; in a
        // group the elements have signs of their own.
        const double size = Spike();
        const bool up = (change == 0) == (group.size() == 1 || (Mixed(static_cast<uint64_t>(e)) & 1) != 0);
        v = up ? size : -size;
      } else if (kind == ProbeKind::kTies) {
        for (int t = 0; t < 4; ++t) {
          if (v == kTieValues[t] || t == 3) {
            v = kTieValues[(t + 1) % 4];
            break;
          }
        }
      } else if (kind == ProbeKind::kSpecial) {
        v = change == 0 ? std::nan("") : change == 1 ? INFINITY : -INFINITY;
      } else {
        const double before = v;
        while (v == before) v = Draw(kind);
      }
    } else if (IsBool(type)) {
      // The second change of a kind that has several flips back, which is the base point again.
      if (change == 0) x.i[e] ^= 1;
    } else {
      const int64_t before = x.i[e];
      auto [low, high] = IndexRange(input);
      if (!ranged && kind == ProbeKind::kSpike) {
        low = std::max<int64_t>(MinInt(type), -1000000), high = std::min<int64_t>(MaxInt(type), 1000000);
        x.i[e] = change == 0 ? high : low;
        if (x.i[e] == before) --x.i[e];
        continue;
      }
      const uint64_t count = static_cast<uint64_t>(high - low);
      if (count < 2) continue;
      while (x.i[e] == before) x.i[e] = low + static_cast<int64_t>(rng_() % count);
    }
  }
}

void Prober::Run(std::vector<double>& results) {
  ++runs_;
  outputs_.clear();
  for (const TensorType& type : box_.outputs) outputs_.emplace_back(type);
  box_.run(arguments_, outputs_);
  results.resize(num_outputs());
  double* to = results.data();
  for (const RefTensor& out : outputs_) {
    to = out.is_float() ? std::copy(out.f.begin(), out.f.end(), to) : std::copy(out.i.begin(), out.i.end(), to);
  }
}

double Prober::SecondsPerRun() {
  const auto start = std::chrono::steady_clock::now();
  DrawBase(ProbeKind::kSmooth, 0, Held(num_inputs()));
  double passed = 0;
  int count = 0;
  while (count < 4 && passed < 0.01) {
    Run(base_);
    ++count;
    passed = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  return passed / count;
}

const std::vector<double>& Prober::RunBase(ProbeKind kind, int trial, const Held& held) {
  DrawBase(kind, trial, held);
  Run(base_);
  return base_;
}

const std::vector<double>& Prober::RunSpikes(int sign, int trial, const Held& held) {
  DrawBase(ProbeKind::kSmooth, trial, held);
  for (int k = 0; k < num_inputs(); ++k) {
    if (!has_input(k) || !point_[k].is_float()) continue;
    for (int64_t e = 0; e < point_[k].size(); ++e) {
      if (held.Has(k, e)) continue;
      const double size = Spike();
      point_[k].f[e] = sign > 0 || (sign == 0 && (rng_() & 1) != 0) ? size : -size;
    }
  }
  Run(base_);
  return base_;
}

}  // namespace tessera
