// The flags that all tools which open a model or compile it share.
//
//   ModelFlags model_flags;  model_flags.Declare(flags);
//   RETURN_IF_ERROR(flags.Parse(args));
//   ASSIGN_OR_RETURN(const bool answered, AnswerAtOnce(flags, 1));
//   if (answered) return OkStatus();
//   ASSIGN_OR_RETURN(const OpenedModel opened, model_flags.Open(flags.positional()[0]));
//
// Tested by model_source_test.cc.
#ifndef TESSERA_TOOLS_COMMON_MODEL_FLAGS_H_
#define TESSERA_TOOLS_COMMON_MODEL_FLAGS_H_

#include <string>
#include <vector>

#include "base/status.h"
#include "tools/common/flags.h"
#include "tools/common/model_source.h"

namespace tessera {

// How a model is opened.
struct ModelFlags {
  std::vector<std::string> shapes, binds;
  std::string annotate = "auto", tesa;
  std::vector<int64_t> batch = {0};
  int64_t seed = 1;

  // --shape, --bind, --tesa, --annotate, --batch, --seed, and the grammar of models.
  void Declare(FlagSet& flags);
  // Reads the files that the flags name. The first of `batch`.
  StatusOr<ModelOptions> Options() const;
  // The model of that name with these options; its warnings go to stderr.
  StatusOr<OpenedModel> Open(const std::string& spec) const;
};

// What the error line says when a verb gets no model, or more than it takes.
Status CheckModelCount(const std::vector<std::string>& positional, size_t max);
// Prints what is asked for by --help or by `zoo:` in a model's place: true when that was all. Checks the number of
// models.
StatusOr<bool> AnswerAtOnce(const FlagSet& flags, size_t max_models);
// What a model's opener has to say, to stderr.
void PrintWarnings(const OpenedModel& model);

}  // namespace tessera

#endif  // TESSERA_TOOLS_COMMON_MODEL_FLAGS_H_
