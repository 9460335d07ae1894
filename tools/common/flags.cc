#include "tools/common/flags.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>

namespace tessera {
namespace {

constexpr size_t kMaxListValues = 4096;
constexpr size_t kHelpColumn = 30;
constexpr size_t kHelpWidth = 110;

Status Usage(const auto&... pieces) { return Error(ErrorCode::kUsageInvalid, pieces...); }

// The letters that must be changed, added or dropped to make one text of the other (Levenshtein).
size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

std::string Joined(const std::vector<std::string>& parts, std::string_view separator) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : std::string(separator)) + part;
  return text;
}

std::string Joined(const std::vector<int64_t>& values) {
  std::vector<std::string> parts;
  for (int64_t value : values) parts.push_back(std::to_string(value));
  return Joined(parts, ",");
}

std::string ShortNumber(double value) {
  std::ostringstream out;
  out << value;
  return out.str();
}

Status CheckRange(double value, double min, double max) {
  if (value >= min && value <= max) return OkStatus();
  return Usage("expected a value from ", ShortNumber(min), " to ", ShortNumber(max), ", found ", ShortNumber(value));
}

Status CheckChoice(const std::string& value, const std::vector<std::string>& choices) {
  if (std::find(choices.begin(), choices.end(), value) != choices.end()) return OkStatus();
  const std::string nearest = Nearest(value, choices);
  return Usage("expected one of ", Joined(choices, ", "), "; found '", value, "'",
               nearest.empty() ? "" : "; did you mean '" + nearest + "'?");
}

// `text` with lines of at most kHelpWidth, those after the first indented by `indent`.
std::string Wrap(std::string_view text, size_t indent) {
  std::string out;
  size_t column = indent;
  for (const std::string& word : SplitList(text, ' ')) {
    if (column > indent && column + 1 + word.size() > kHelpWidth) {
      out += "\n" + std::string(indent, ' ');
      column = indent;
    }
    if (column > indent) {
      out += ' ';
      ++column;
    }
    out += word;
    column += word.size();
  }
  return out;
}

// One part of a list: "8", "1-8", "1-8+2" or "1-8*2".
Status AppendRange(std::string_view part, std::vector<int64_t>& values) {
  const size_t dash = part.find('-', 1);
  if (dash == std::string_view::npos) {
    ASSIGN_OR_RETURN(const int64_t value, ParseInt(part));
    values.push_back(value);
    return OkStatus();
  }
  const size_t mark = part.find_first_of("+*", dash);
  ASSIGN_OR_RETURN(const int64_t first, ParseInt(part.substr(0, dash)));
  ASSIGN_OR_RETURN(const int64_t last,
                   ParseInt(part.substr(dash + 1, mark == std::string_view::npos ? mark : mark - dash - 1)));
  const bool powers = mark != std::string_view::npos && part[mark] == '*';
  int64_t step = 1;
  if (mark != std::string_view::npos) {
    ASSIGN_OR_RETURN(step, ParseInt(part.substr(mark + 1)));
  }
  if (step < (powers ? 2 : 1)) return Usage("the step of '", part, "' does not grow; write 1-8, 2-10+4 or 1-8*2");
  if (first > last) return Usage("the range '", part, "' is empty: ", first, " is above ", last);
  if (powers && first < 1) return Usage("the range '", part, "' of powers must begin at 1 or above");
  for (int64_t value = first; value <= last;) {
    if (values.size() >= kMaxListValues) return Usage("'", part, "' has more than ", kMaxListValues, " values");
    values.push_back(value);
    // Written so that neither form runs over the end of the type.
    if (powers ? value > last / step : value > last - step) break;
    value = powers ? value * step : value + step;
  }
  return OkStatus();
}

}  // namespace

StatusOr<int64_t> ParseInt(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc::result_out_of_range) return Usage("the number '", text, "' is too large");
  if (error != std::errc() || end != text.data() + text.size())
    return Usage("expected a whole number, found '", text, "'");
  return value;
}

StatusOr<double> ParseDouble(std::string_view text) {
  const std::string copy(text);
  char* end = nullptr;
  const double value = std::strtod(copy.c_str(), &end);
  // strtod would skip blanks in front and stop at a zero byte.
  if (copy.empty() || end != copy.c_str() + copy.size() || copy.front() == ' ') {
    return Usage("expected a number, found '", text, "'");
  }
  return value;
}

StatusOr<std::vector<int64_t>> ParseIntList(std::string_view text) {
  std::vector<int64_t> values;
  for (const std::string& part : SplitList(text)) RETURN_IF_ERROR(AppendRange(part, values));
  if (values.empty()) return Usage("expected numbers such as 1,2,8 or 1-8*2, found nothing");
  return values;
}

StatusOr<std::vector<int64_t>> ParseDims(std::string_view text) {
  std::vector<int64_t> dims;
  if (text.empty() || text == "scalar") return dims;
  for (const std::string& part : SplitList(text, 'x')) {
    ASSIGN_OR_RETURN(const int64_t dim, ParseInt(part));
    if (dim < 0) return Usage("the shape '", text, "' has a negative extent");
    dims.push_back(dim);
  }
  return dims;
}

std::vector<std::string> SplitList(std::string_view text, char separator) {
  std::vector<std::string> parts;
  if (text.empty()) return parts;
  while (true) {
    const size_t at = text.find(separator);
    parts.emplace_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

std::string Nearest(std::string_view text, const std::vector<std::string>& known) {
  std::string best;
  size_t best_distance = (text.size() + 1) / 3 + 1;
  for (const std::string& candidate : known) {
    const size_t distance = EditDistance(text, candidate);
    if (distance < best_distance && distance < candidate.size()) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

std::string UserPath(const std::string& path) {
  const char* folder = std::getenv("BUILD_WORKING_DIRECTORY");
  if (folder == nullptr || path.empty() || path.front() == '/') return path;
  return std::string(folder) + "/" + path;
}

FlagSet::FlagSet(std::string tool, std::string usage, std::string summary)
    : tool_(std::move(tool)), usage_(std::move(usage)), summary_(std::move(summary)), sections_({"Flags"}) {}

void FlagSet::Section(std::string title) { sections_.push_back(std::move(title)); }

void FlagSet::Add(std::string name, std::string metavar, std::string doc, std::string standard,
                  std::function<Status(const std::string&)> set) {
  TES_CHECK(Find(name) == nullptr, "flag declared twice: ", name);
  Flag flag;
  flag.name = std::move(name);
  flag.metavar = std::move(metavar);
  flag.doc = std::move(doc);
  flag.standard = std::move(standard);
  flag.section = sections_.size() - 1;
  flag.set = std::move(set);
  flags_.push_back(std::move(flag));
}

void FlagSet::String(std::string name, std::string metavar, std::string doc, std::string* value) {
  Add(std::move(name), std::move(metavar), std::move(doc), *value, [value](const std::string& text) {
    *value = text;
    return OkStatus();
  });
}

void FlagSet::Int(std::string name, std::string metavar, std::string doc, int64_t* value, int64_t min, int64_t max) {
  Add(std::move(name), std::move(metavar), std::move(doc), std::to_string(*value),
      [value, min, max](const std::string& text) -> Status {
        ASSIGN_OR_RETURN(*value, ParseInt(text));
        return CheckRange(static_cast<double>(*value), static_cast<double>(min), static_cast<double>(max));
      });
}

void FlagSet::Double(std::string name, std::string metavar, std::string doc, double* value, double min, double max) {
  Add(std::move(name), std::move(metavar), std::move(doc), ShortNumber(*value),
      [value, min, max](const std::string& text) -> Status {
        ASSIGN_OR_RETURN(*value, ParseDouble(text));
        return CheckRange(*value, min, max);  // NaN is in no range
      });
}

void FlagSet::Bool(std::string name, std::string doc, bool* value) {
  Add(std::move(name), "", std::move(doc), *value ? "on" : "", [value](const std::string& text) -> Status {
    const bool on = text == "on" || text == "true" || text == "yes" || text == "1";
    if (!on && text != "off" && text != "false" && text != "no" && text != "0") {
      return Usage("expected on or off, found '", text, "'");
    }
    *value = on;
    return OkStatus();
  });
}

void FlagSet::IntList(std::string name, std::string metavar, std::string doc, std::vector<int64_t>* value, int64_t min,
                      int64_t max) {
  Add(std::move(name), std::move(metavar), std::move(doc), Joined(*value),
      [value, min, max](const std::string& text) -> Status {
        ASSIGN_OR_RETURN(*value, ParseIntList(text));
        for (int64_t v : *value) {
          RETURN_IF_ERROR(CheckRange(static_cast<double>(v), static_cast<double>(min), static_cast<double>(max)));
        }
        return OkStatus();
      });
}

void FlagSet::Choice(std::string name, std::vector<std::string> choices, std::string doc, std::string* value) {
  const std::string metavar = Joined(choices, "|");
  Add(std::move(name), metavar, std::move(doc), *value,
      [value, choices = std::move(choices)](const std::string& text) -> Status {
        RETURN_IF_ERROR(CheckChoice(text, choices));
        *value = text;
        return OkStatus();
      });
}

void FlagSet::ChoiceList(std::string name, std::vector<std::string> choices, std::string doc,
                         std::vector<std::string>* value) {
  const std::string metavar = Joined(choices, "|") + ",…";
  Add(std::move(name), metavar, std::move(doc), Joined(*value, ","),
      [value, choices = std::move(choices)](const std::string& text) -> Status {
        std::vector<std::string> parts = SplitList(text);
        if (parts.empty()) parts.emplace_back();
        for (const std::string& part : parts) RETURN_IF_ERROR(CheckChoice(part, choices));
        *value = std::move(parts);
        return OkStatus();
      });
}

void FlagSet::StringList(std::string name, std::string metavar, std::string doc, std::vector<std::string>* value) {
  Add(std::move(name), std::move(metavar), std::move(doc), Joined(*value, ","), [value](const std::string& text) {
    *value = SplitList(text);
    return OkStatus();
  });
}

void FlagSet::Repeated(std::string name, std::string metavar, std::string doc, std::vector<std::string>* value) {
  Add(std::move(name), std::move(metavar), std::move(doc) + " (may be repeated)", "", [value](const std::string& text) {
    value->push_back(text);
    return OkStatus();
  });
}

void FlagSet::Short(char letter) { flags_.back().letter = letter; }
void FlagSet::Note(std::string title, std::string text) { notes_.push_back({std::move(title), std::move(text)}); }
void FlagSet::Example(std::string command, std::string meaning) {
  examples_.push_back({std::move(command), std::move(meaning)});
}

FlagSet::Flag* FlagSet::Find(std::string_view name) {
  std::string wanted(name);
  std::replace(wanted.begin(), wanted.end(), '-', '_');
  for (Flag& flag : flags_) {
    if (flag.name == wanted) return &flag;
  }
  return nullptr;
}

FlagSet::Flag* FlagSet::FindLetter(char letter) {
  for (Flag& flag : flags_) {
    if (flag.letter == letter) return &flag;
  }
  return nullptr;
}

bool FlagSet::Given(std::string_view name) const {
  const Flag* flag = const_cast<FlagSet*>(this)->Find(name);
  return flag != nullptr && flag->given;
}

Status FlagSet::Unknown(const std::string& argument) const {
  std::vector<std::string> known;
  for (const Flag& flag : flags_) known.push_back("--" + flag.name);
  known.push_back("--help");
  const std::string nearest = Nearest(argument, known);
  return Usage("unknown flag ", argument, nearest.empty() ? "" : "; did you mean " + nearest + "?", "; `", tool_,
               " --help` lists them all");
}

Status FlagSet::Parse(const std::vector<std::string>& args) {
  for (size_t k = 0; k < args.size(); ++k) {
    const std::string& argument = args[k];
    if (argument == "--") {
      positional_.insert(positional_.end(), args.begin() + static_cast<std::ptrdiff_t>(k) + 1, args.end());
      break;
    }
    if (argument == "--help" || argument == "-h") {
      help_ = true;
      return OkStatus();
    }
    // A dash alone, and numbers, are no flags.
    if (argument.size() < 2 || argument[0] != '-' || (argument[1] >= '0' && argument[1] <= '9')) {
      positional_.push_back(argument);
      continue;
    }
    const bool is_short = argument[1] != '-';
    const size_t equals = argument.find('=');
    const std::string name = is_short ? argument.substr(0, 2) : argument.substr(0, equals);
    Flag* flag = is_short ? FindLetter(argument[1]) : Find(std::string_view(name).substr(2));
    if (flag == nullptr) return Unknown(is_short ? argument : name);
    std::string value;
    if (is_short && argument.size() > 2) {
      value = argument.substr(argument[2] == '=' ? 3 : 2);
    } else if (!is_short && equals != std::string::npos) {
      value = argument.substr(equals + 1);
    } else if (flag->metavar.empty()) {
      value = "on";
    } else if (k + 1 < args.size()) {
      value = args[++k];
    } else {
      return Usage("flag ", name, " needs a value: ", flag->metavar);
    }
    flag->given = true;
    if (Status status = flag->set(value); !status.ok()) {
      return Usage("flag ", name, "=", flag->metavar.empty() ? "on|off" : flag->metavar, ": ", status.message());
    }
  }
  return OkStatus();
}

std::string FlagSet::HelpText() const {
  std::string text = "usage: " + tool_ + " " + usage_ + "\n\n" + Wrap(summary_, 0) + "\n";
  for (size_t section = 0; section < sections_.size(); ++section) {
    std::string lines;
    for (const Flag& flag : flags_) {
      if (flag.section != section) continue;
      std::string left = "  ";
      if (flag.letter != 0) left += std::string("-") + flag.letter + ", ";
      left += "--" + flag.name + (flag.metavar.empty() ? "" : "=" + flag.metavar);
      const std::string doc = flag.doc + (flag.standard.empty() ? "" : " [" + flag.standard + "]");
      // A long left column has its line to itself. Letters of one column are counted, not bytes.
      const auto letters =
          static_cast<size_t>(std::count_if(left.begin(), left.end(), [](char c) { return (c & 0xC0) != 0x80; }));
      lines += left + (letters + 2 > kHelpColumn ? "\n" + std::string(kHelpColumn, ' ')
                                                 : std::string(kHelpColumn - letters, ' '));
      lines += Wrap(doc, kHelpColumn) + "\n";
    }
    if (!lines.empty()) text += "\n" + sections_[section] + ":\n" + lines;
  }
  for (const Titled& note : notes_) text += "\n" + note.title + ":\n  " + Wrap(note.text, 2) + "\n";
  if (!examples_.empty()) text += "\nExamples:\n";
  for (const Titled& example : examples_) text += "  " + example.title + "\n      " + Wrap(example.text, 6) + "\n";
  return text;
}

}  // namespace tessera
