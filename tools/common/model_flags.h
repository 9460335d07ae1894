// The flags that all tools which open a model or compile it share.
//
//   ModelFlags model_flags;  model_flags.Declare(flags);
//   RETURN_IF_ERROR(flags.Parse(args));
//   ASSIGN_OR_RETURN(const ModelOptions options, model_flags.Options());
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
};

// What the error line says when a verb gets no model, or more than it takes.
Status CheckModelCount(const std::vector<std::string>& positional, size_t max);

}  // namespace tessera

#endif  // TESSERA_TOOLS_COMMON_MODEL_FLAGS_H_
