#include "tools/evaluate_figures.h"
namespace tessera {
Status EvaluatePropagation(const EvaluateOptions&) { return OkStatus(); }
}  // namespace tessera
