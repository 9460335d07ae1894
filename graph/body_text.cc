// The text form of a Body, printed and parsed.
#include <cctype>
#include <charconv>
#include <cmath>
#include <map>
#include <optional>

#include "graph/body.h"

namespace tessera {
namespace {

std::string InputName(int k) {
  std::string name(1, static_cast<char>('a' + k % 26));
  return k < 26 ? name : name + std::to_string(k / 26);
}

std::string FormatDouble(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char buffer[32];
  auto end = std::to_chars(buffer, buffer + sizeof(buffer), value).ptr;
  return std::string(buffer, end);
}

// Recursive-descent reader of Body::ToString's form.
class BodyParser {
 public:
  explicit BodyParser(std::string_view text) : text_(text) {}

  StatusOr<Body> Parse() {
    RETURN_IF_ERROR(Expect("("));
    while (!Accept(")")) {
      if (body_.num_inputs > 0) RETURN_IF_ERROR(Expect(","));
      ASSIGN_OR_RETURN(std::string name, Word());
      if (name != InputName(body_.num_inputs)) return Fail("input '" + InputName(body_.num_inputs) + "'");
      RETURN_IF_ERROR(Expect(":"));
      ASSIGN_OR_RETURN(DType type, Type());
      if (body_.num_inputs >= kMaxInputs) return Fail("fewer inputs");
      names_[name] = static_cast<int>(body_.insts.size());
      body_.insts.push_back({.op = ScalarOp::kInput, .type = type, .imm_int = body_.num_inputs++});
    }
    RETURN_IF_ERROR(Expect("{"));
    while (true) {
      ASSIGN_OR_RETURN(std::string word, Word());
      const bool is_return = word == "return";
      if (!is_return) RETURN_IF_ERROR(Expect("="));
      ASSIGN_OR_RETURN(int id, Expression());
      if (is_return) {
        body_.result = id;
        break;
      }
      RETURN_IF_ERROR(Expect(";"));
      names_[word] = id;
    }
    RETURN_IF_ERROR(Expect("}"));
    SkipSpace();
    if (!text_.empty()) return Fail("the end");
    DropUnreadInputs();
    return body_;
  }

 private:
  static constexpr int kMaxInputs = 256;

  Status Fail(const std::string& expected) {
    return Error(ErrorCode::kTextInvalid, "body: expected ", expected, ", found '", text_.substr(0, 24), "'");
  }
  void SkipSpace() {
    while (!text_.empty() && (text_[0] == ' ' || text_[0] == '\n' || text_[0] == '\t')) text_.remove_prefix(1);
  }
  bool Accept(std::string_view token) {
    SkipSpace();
    if (text_.substr(0, token.size()) != token) return false;
    text_.remove_prefix(token.size());
    return true;
  }
  Status Expect(std::string_view token) { return Accept(token) ? OkStatus() : Fail("'" + std::string(token) + "'"); }
  static bool IsWord(char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.' || c == '-' || c == '+';
  }
  StatusOr<std::string> Word() {
    SkipSpace();
    size_t n = 0;
    while (n < text_.size() && IsWord(text_[n])) ++n;
    if (n == 0) return Fail("a word");
    std::string word(text_.substr(0, n));
    text_.remove_prefix(n);
    return word;
  }
  StatusOr<DType> Type() {
    ASSIGN_OR_RETURN(std::string word, Word());
    std::optional<DType> type = ParseDType(word);
    if (!type) return Fail("a type instead of '" + word + "'");
    return *type;
  }
  int Append(ScalarInst inst) {
    body_.insts.push_back(inst);
    return static_cast<int>(body_.insts.size()) - 1;
  }

  StatusOr<int> Expression() {
    ASSIGN_OR_RETURN(std::string word, Word());
    if (auto found = names_.find(word); found != names_.end()) return found->second;
    if (word == "index") {
      ASSIGN_OR_RETURN(std::string axis, Word());
      int64_t value = 0;
      const auto parsed = std::from_chars(axis.data(), axis.data() + axis.size(), value);
      if (parsed.ec != std::errc() || parsed.ptr != axis.data() + axis.size()) {
        return Fail("an axis instead of '" + axis + "'");
      }
      return Append({.op = ScalarOp::kIndex, .type = DType::kI64, .imm_int = value});
    }
    std::optional<DType> given;
    if (Accept(":")) {
      ASSIGN_OR_RETURN(given, Type());
    }
    if (!Accept("(")) {
      if (!given) return Fail("':' and a type after the constant '" + word + "'");
      return Constant(word, *given);
    }
    return Call(word, given);
  }

  StatusOr<int> Constant(const std::string& word, DType type) {
    ScalarInst inst = {.op = ScalarOp::kConst, .type = type};
    const char* begin = word.data();
    const char* end = begin + word.size();
    const auto parsed =
        IsFloat(type) ? std::from_chars(begin, end, inst.imm) : std::from_chars(begin, end, inst.imm_int);
    if (parsed.ec != std::errc() || parsed.ptr != end) return Fail("a number instead of '" + word + "'");
    return Append(inst);
  }

  StatusOr<int> Call(const std::string& name, std::optional<DType> given) {
    for (int k = 0; k <= static_cast<int>(ScalarOp::kSelect); ++k) {
      const ScalarOpInfo& info = ScalarInfo(static_cast<ScalarOp>(k));
      if (info.name != name || info.arity == 0) continue;
      ScalarInst inst = {.op = static_cast<ScalarOp>(k)};
      for (int a = 0; a < info.arity; ++a) {
        if (a > 0) RETURN_IF_ERROR(Expect(","));
        ASSIGN_OR_RETURN(std::string word, Word());
        auto found = names_.find(word);
        if (found == names_.end()) return Fail("a name defined above instead of '" + word + "'");
        inst.args[a] = found->second;
      }
      RETURN_IF_ERROR(Expect(")"));
      const DType operand = body_.insts[inst.args[inst.op == ScalarOp::kSelect ? 1 : 0]].type;
      inst.type = info.result == ScalarOpInfo::Result::kBool ? DType::kBool : operand;
      if (inst.op == ScalarOp::kCast || inst.op == ScalarOp::kNarrow) {
        if (!given) return Fail("':' and a type after '" + name + "'");
        if (inst.op == ScalarOp::kCast) inst.type = *given;
        if (inst.op == ScalarOp::kNarrow) inst.imm_int = static_cast<int64_t>(*given);
      }
      return Append(inst);
    }
    return Fail("a scalar operation instead of '" + name + "'");
  }

  // As BodyBuilder::Finish does: an input that nothing reads is counted, and has no instruction.
  void DropUnreadInputs() {
    std::vector<bool> read(body_.insts.size(), false);
    read[body_.result] = true;
    for (const ScalarInst& inst : body_.insts) {
      for (int arg : inst.args) {
        if (arg >= 0) read[arg] = true;
      }
    }
    std::vector<ScalarInst> kept;
    std::vector<int> renamed(body_.insts.size(), -1);
    for (size_t n = 0; n < body_.insts.size(); ++n) {
      ScalarInst inst = body_.insts[n];
      if (inst.op == ScalarOp::kInput && !read[n]) continue;
      for (int& arg : inst.args) {
        if (arg >= 0) arg = renamed[arg];
      }
      renamed[n] = static_cast<int>(kept.size());
      kept.push_back(inst);
    }
    body_.insts = std::move(kept);
    body_.result = renamed[body_.result];
  }

  std::string_view text_;
  Body body_;
  std::map<std::string, int> names_;
};

}  // namespace

std::string Body::ToString() const {
  std::string text = "(";
  for (int k = 0; k < num_inputs; ++k) {
    if (k > 0) text += ", ";
    text += InputName(k) + ": " + std::string(Name(input_type(k)));
  }
  text += ") { ";
  const auto name = [&](int n) {
    return insts[n].op == ScalarOp::kInput ? InputName(static_cast<int>(insts[n].imm_int)) : "t" + std::to_string(n);
  };
  const auto expression = [&](const ScalarInst& inst) -> std::string {
    const std::string type(Name(inst.type));
    switch (inst.op) {
      case ScalarOp::kInput: return InputName(static_cast<int>(inst.imm_int));
      case ScalarOp::kIndex: return "index " + std::to_string(inst.imm_int);
      case ScalarOp::kConst:
        return (IsFloat(inst.type) ? FormatDouble(inst.imm) : std::to_string(inst.imm_int)) + ":" + type;
      default: break;
    }
    std::string out(ScalarInfo(inst.op).name);
    if (inst.op == ScalarOp::kCast) out += ":" + type;
    if (inst.op == ScalarOp::kNarrow) out += ":" + std::string(Name(static_cast<DType>(inst.imm_int)));
    out += "(";
    for (int k = 0; k < ScalarInfo(inst.op).arity; ++k) out += (k > 0 ? ", " : "") + name(inst.args[k]);
    return out + ")";
  };
  for (size_t n = 0; n < insts.size(); ++n) {
    if (insts[n].op == ScalarOp::kInput) continue;
    if (static_cast<int>(n) == result && n + 1 == insts.size()) {
      return text + "return " + expression(insts[n]) + " }";
    }
    text += "t" + std::to_string(n) + " = " + expression(insts[n]) + "; ";
  }
  return text + "return " + name(result) + " }";
}

StatusOr<Body> ParseBody(std::string_view text) { return BodyParser(text).Parse(); }

}  // namespace tessera
