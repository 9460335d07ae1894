// FlagSet: the command line of one tool: what it may say, its --help, and what to answer when it says something else.
//
//   std::vector<int64_t> threads = {1};
//   FlagSet flags("bench", "MODEL… [flags]", "Measures the latency of models.");
//   flags.Section("What to measure");
//   flags.IntList("threads", "LIST", "threads of one inference", &threads);
//   flags.Example("bench zoo:mlp --threads=1,2", "the MLP on one and on two threads");
//   RETURN_IF_ERROR(flags.Parse(args));            // flags.positional() is what is left
//
// Flags are written --name=VALUE or --name VALUE, short ones -o VALUE or -oVALUE; a bool also --name alone; a dash
// within a name is as good as its underscore. `--` ends them. Whatever is wrong is one TES-2001 that says what was
// expected and names the nearest flag. The variables keep their values where a flag is absent: what they hold before
// Parse is the default that --help shows. Not for sharing between threads. Tested by flags_test.cc.
#ifndef TESSERA_TOOLS_COMMON_FLAGS_H_
#define TESSERA_TOOLS_COMMON_FLAGS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"

namespace tessera {

// "1,2,8", "1-4" (each), "2-10+4" (steps), "1-8*2" (powers); parts joined by commas. At most 4096 values.
StatusOr<std::vector<int64_t>> ParseIntList(std::string_view text);
StatusOr<int64_t> ParseInt(std::string_view text);
StatusOr<double> ParseDouble(std::string_view text);
// "1x3x224x224"; "" or "scalar" is the shape of a scalar.
StatusOr<std::vector<int64_t>> ParseDims(std::string_view text);
// Parts between commas; empty text has none.
std::vector<std::string> SplitList(std::string_view text, char separator = ',');

// The one of `known` that `text` was probably meant to be, or "": at most a third of its letters differ.
std::string Nearest(std::string_view text, const std::vector<std::string>& known);

// `path` as seen from where the user stands, also under `bazel run`, which moves the process elsewhere.
std::string UserPath(const std::string& path);

class FlagSet {
 public:
  // `usage` is what follows the tool's name on the first line of --help.
  FlagSet(std::string tool, std::string usage, std::string summary);

  // ---- What there is, in the order of --help ----
  // Flags declared from here on stand under this title.
  void Section(std::string title);
  // `metavar` stands for the value in --help and should say its grammar: "N", "table|md|csv".
  void String(std::string name, std::string metavar, std::string doc, std::string* value);
  void Int(std::string name, std::string metavar, std::string doc, int64_t* value, int64_t min, int64_t max);
  void Double(std::string name, std::string metavar, std::string doc, double* value, double min, double max);
  // on|off, true|false, yes|no, 1|0; alone: on.
  void Bool(std::string name, std::string doc, bool* value);
  void IntList(std::string name, std::string metavar, std::string doc, std::vector<int64_t>* value, int64_t min,
               int64_t max);
  // Each value is one of `choices`; a list when `value` may hold several.
  void Choice(std::string name, std::vector<std::string> choices, std::string doc, std::string* value);
  void ChoiceList(std::string name, std::vector<std::string> choices, std::string doc, std::vector<std::string>* value);
  // Parts between commas.
  void StringList(std::string name, std::string metavar, std::string doc, std::vector<std::string>* value);
  // May be given again and again; each value is kept whole.
  void Repeated(std::string name, std::string metavar, std::string doc, std::vector<std::string>* value);
  // The same flag as the one declared last, as -c.
  void Short(char letter);
  // A paragraph after the flags: a grammar, what exit statuses mean.
  void Note(std::string title, std::string text);
  void Example(std::string command, std::string meaning);

  // ---- What was said ----
  // `args` without the program's name. After --help: help() is true and nothing else counts.
  Status Parse(const std::vector<std::string>& args);
  bool help() const { return help_; }
  const std::vector<std::string>& positional() const { return positional_; }
  // Whether the flag was given.
  bool Given(std::string_view name) const;
  std::string HelpText() const;

 private:
  struct Flag {
    std::string name;
    char letter = 0;
    std::string metavar;  // empty: a bool
    std::string doc;
    std::string standard;  // the default, as text
    size_t section = 0;
    bool given = false;
    std::function<Status(const std::string&)> set;
  };
  struct Titled {
    std::string title, text;
  };

  void Add(std::string name, std::string metavar, std::string doc, std::string standard,
           std::function<Status(const std::string&)> set);
  Flag* Find(std::string_view name);
  Flag* FindLetter(char letter);
  Status Unknown(const std::string& argument) const;

  std::string tool_, usage_, summary_;
  std::vector<std::string> sections_;
  std::vector<Flag> flags_;
  std::vector<Titled> notes_, examples_;
  std::vector<std::string> positional_;
  bool help_ = false;
};

}  // namespace tessera

#endif  // TESSERA_TOOLS_COMMON_FLAGS_H_
