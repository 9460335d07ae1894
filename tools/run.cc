// run: one inference on given inputs, of a model or of compiled programs; the outputs are printed, written, or compared
// with what is expected.
#include <algorithm>
#include <cmath>

#include "engine/engine.h"
#include "engine/engine_internal.h"
#include "models/import/npy.h"
#include "tools/common/flags.h"
#include "tools/common/input_spec.h"
#include "tools/common/model_flags.h"
#include "tools/common/model_source.h"
#include "tools/common/reference.h"
#include "tools/common/table.h"
#include "tools/common/tool.h"
#include "tools/verbs.h"

namespace tessera {
namespace {

struct RunFlags {
  std::vector<std::string> inputs, expected, outputs;
  bool random = false, reference = false, tests = false, sparsity = true;
  double atol = 1e-5, rtol = 1e-4;
  int64_t threads = 0, max_printed = 16;
  std::string target = "host", fallback, emitter, cache, tier = "final";
  ModelFlags model;
  FlagSet flags = FlagSet("run", "MODEL|FILE.tessx --input=… [flags]",
                          "Runs a model once and prints, writes or compares its outputs.");

  RunFlags() {
    flags.Section("Inputs");
    flags.Repeated("input", "[NAME=]VALUE", "an input; without its name, the next one in order", &inputs);
    flags.Bool("random", "random inputs of --seed for those that are not given", &random);
    flags.Bool("tests", "runs the test vectors that the .tess file carries instead", &tests);
    flags.Section("Outputs");
    flags.Repeated("output", "[NAME=]FILE.npy", "writes an output", &outputs);
    flags.Int("max_printed", "N", "elements of each output that are printed", &max_printed, 0, 1 << 30);
    flags.Section("What is expected");
    flags.Repeated("expected_output", "[NAME=]VALUE", "compares an output", &expected);
    flags.Bool("reference", "compares all outputs with the reference interpreter", &reference);
    flags.Double("atol", "X", "an element may differ by atol + rtol · max |expected|", &atol, 0, 1e30);
    flags.Double("rtol", "X", "see --atol", &rtol, 0, 1e30);
    flags.Section("How it runs");
    flags.String("target", "host|host:CPU|cuda|hip|simt:nvptx:CHIP|simt:amdgpu:CHIP|null",
                 "what kernels are compiled for", &target);
    flags.String("fallback", "TARGET", "taken where --target cannot be had, with a warning; else an error", &fallback);
    flags.Int("threads", "N", "of the inference; 0: all processors", &threads, 0, 1024);
    flags.String("emitter", "NAME", "uses this emitter wherever it applies", &emitter);
    flags.Bool("sparsity", "off: the masked weights through dense kernels", &sparsity);
    flags.String("cache", "FOLDER", "keeps compiled programs", &cache);
    flags.Choice("tier", {"final", "first", "both"},
                 "first: the program that is there soonest; both: the same, until the final one has been compiled",
                 &tier);
    model.Declare(flags);
    flags.Note("Values",
               "@FILE.npy, or type and elements: 2x2xf32=1 2 3 4 (one element stands for all), or random:SEED, "
               "random:SEED:LOW:HIGH.");
    flags.Note("Exit status", "1 bad input, 2 bad usage, 3 an output differs from what is expected.");
    flags.Example("run zoo:fashion_mlp --input=image=@boot.npy", "prints the ten logits");
    flags.Example("run m.onnx --input=@x.npy --expected_output=@y.npy --atol=1e-4", "compares");
    flags.Example("run m.tess --random --reference", "random inputs against the interpreter");
    flags.Example("run m.tessx --target=cuda --random", "a program that `compile` wrote for this machine's card");
  }
};

// Elements as text, at most `max` of them.
std::string Elements(const Tensor& tensor, int64_t max) {
  std::string text;
  for (int64_t k = 0; k < std::min(max, tensor.num_elements()); ++k) {
    text += (k > 0 ? " " : "") +
            (IsFloat(tensor.dtype()) ? FormatSignificant(tensor.Get(k)) : std::to_string(tensor.GetInt(k)));
  }
  return text + (tensor.num_elements() > max ? " …" : "");
}

StatusOr<std::vector<Tensor>> RunOnce(Session& session, const Graph& graph, const std::vector<Tensor>& inputs) {
  std::vector<InputView> in;
  std::vector<OutputView> out;
  std::vector<Tensor> results;
  for (size_t k = 0; k < inputs.size(); ++k) {
    in.push_back({graph[graph.inputs[k]].name, inputs[k].bytes().data(), inputs[k].bytes().size()});
  }
  for (ValueId id : graph.outputs) results.emplace_back(graph[id].type.dtype, graph[id].type.shape);
  for (size_t k = 0; k < results.size(); ++k) {
    const std::span<std::byte> bytes = results[k].mutable_bytes();
    out.push_back({graph[graph.outputs[k]].name, bytes.data(), bytes.size()});
  }
  RETURN_IF_ERROR(session.Run(in, out));
  return results;
}

// A row per compared output; an error at the end when one differs.
class Comparison {
 public:
  Comparison(double atol, double rtol) : atol_(atol), rtol_(rtol) {}

  void Add(const std::string& what, const Tensor& result, const Tensor& expected) {
    const Difference d = Compare(result, expected);
    const double scale = d.relative > 0 && std::isfinite(d.relative) ? d.absolute / d.relative : 0;
    const bool ok = d.absolute <= atol_ + rtol_ * scale;
    table_.AddRow({what, ok ? std::string("agrees") : std::string("DIFFERS"), d.absolute, d.relative});
    if (ok || !first_.ok()) return;
    first_ = Error(ErrorCode::kResultWrong, what, ": element ", d.worst, " is ", FormatSignificant(result.Get(d.worst)),
                   ", expected ", FormatSignificant(expected.Get(d.worst)), "; the largest difference may be ", atol_,
                   " + ", rtol_, " · ", FormatSignificant(scale));
  }
  Status Finish() const {
    if (table_.num_rows() > 0) PrintOut(table_.Print(TableForm::kTable));
    return first_;
  }

 private:
  double atol_, rtol_;
  Table table_{{{.key = "output", .title = "output"},
                {.key = "verdict", .title = "verdict"},
                {.key = "max_abs_error", .title = "max |error|"},
                {.key = "rel_error", .title = "rel. error"}}};
  Status first_;
};

// The position of the output that `name` means; an empty name means the k-th.
StatusOr<size_t> FindOutput(const Graph& graph, const std::string& name, size_t k) {
  const std::vector<Port> ports = OutputPorts(graph);
  std::string known;
  for (size_t at = 0; at < ports.size(); ++at) {
    if (name.empty() ? at == k : ports[at].name == name) return at;
    known += (at > 0 ? ", '" : "'") + ports[at].name + "'";
  }
  return Error(ErrorCode::kInputUnknown, "the model has no output ",
               name.empty() ? "number " + std::to_string(k + 1) : "'" + name + "'", "; it has ", known);
}

Status CompareExpected(const RunFlags& f, const Graph& graph, const std::vector<Tensor>& results,
                       Comparison& comparison) {
  size_t unnamed = 0;
  for (const std::string& spec : f.expected) {
    const auto [name, value] = SplitNamed(spec);
    ASSIGN_OR_RETURN(const size_t at, FindOutput(graph, name, name.empty() ? unnamed++ : 0));
    // The type may be another: a double says what a float should have been.
    StatusOr<Tensor> expected = ParseValue(value, nullptr);
    if (!expected.ok()) return expected.status().WithContext("expected output '" + graph[graph.outputs[at]].name + "'");
    if (!(expected->shape() == results[at].shape())) {
      return Error(ErrorCode::kShapeMismatch, "expected output '", graph[graph.outputs[at]].name, "': the model gives ",
                   results[at].type(), ", found ", expected->type());
    }
    comparison.Add(graph[graph.outputs[at]].name, results[at], *expected);
  }
  return OkStatus();
}

Status WriteOutputs(const RunFlags& f, const Graph& graph, const std::vector<Tensor>& results) {
  size_t unnamed = 0;
  for (const std::string& spec : f.outputs) {
    const size_t equals = spec.find('=');
    const std::string name = equals == std::string::npos ? "" : spec.substr(0, equals);
    std::string path = equals == std::string::npos ? spec : spec.substr(equals + 1);
    if (path.substr(0, 1) == "@") path = path.substr(1);
    ASSIGN_OR_RETURN(const size_t at, FindOutput(graph, name, name.empty() ? unnamed++ : 0));
    RETURN_IF_ERROR(WriteNpy(UserPath(path), results[at]));
  }
  return OkStatus();
}

Status RunTests(Session& session, const OpenedModel& model, Comparison& comparison) {
  if (model.tests.empty())
    return Error(ErrorCode::kUsageInvalid, model.source, " carries no test vectors; convert --test=SEED stores some");
  for (const TestVector& test : model.tests) {
    std::vector<Tensor> inputs;
    for (ValueId id : model.graph.inputs) {
      const Value& value = model.graph[id];
      const auto given =
          std::find_if(test.inputs.begin(), test.inputs.end(), [&](const auto& p) { return p.first == value.name; });
      if (given == test.inputs.end() || !(given->second.type() == value.type)) {
        return Error(ErrorCode::kInputMissing, "test '", test.name, "' has no input '", value.name, "' of ",
                     value.type);
      }
      inputs.push_back(given->second);
    }
    ASSIGN_OR_RETURN(const std::vector<Tensor> results, RunOnce(session, model.graph, inputs));
    for (const auto& [name, expected] : test.outputs) {
      ASSIGN_OR_RETURN(const size_t at, FindOutput(model.graph, name, 0));
      if (!(expected.shape() == results[at].shape()))
        return Error(ErrorCode::kShapeMismatch, "test '", test.name, "': output '", name, "' is ", results[at].type(),
                     ", expected ", expected.type());
      comparison.Add(test.name + " " + name, results[at], expected);
    }
  }
  return OkStatus();
}

// A compiled file's inputs and outputs, as a graph of nothing else.
Graph PortsOf(const Session& session) {
  Graph graph;
  const auto add = [&](const TensorInfo& info) {
    Value value;
    value.name = info.name;
    value.kind = ValueKind::kInput;
    value.type = {*ParseDType(info.type), Shape(info.shape)};
    return graph.AddValue(std::move(value));
  };
  for (const TensorInfo& info : session.inputs()) graph.inputs.push_back(add(info));
  for (const TensorInfo& info : session.outputs()) graph.outputs.push_back(add(info));
  return graph;
}

Options OptionsOf(const RunFlags& f) {
  Options options;
  options.target = f.target;
  options.fallback = f.fallback;
  options.threads = static_cast<int>(f.threads);
  options.only_emitter = f.emitter;
  options.sparsity = f.sparsity;
  options.tier = f.tier;
  if (!f.cache.empty()) options.cache_dir = UserPath(f.cache);
  return options;
}

Status RunAndShow(const RunFlags& f, Session& session, const Graph& graph, const std::vector<Tensor>& inputs) {
  Comparison comparison(f.atol, f.rtol);
  ASSIGN_OR_RETURN(const std::vector<Tensor> results, RunOnce(session, graph, inputs));
  RETURN_IF_ERROR(WriteOutputs(f, graph, results));
  for (size_t k = 0; k < results.size(); ++k) {
    PrintOut(internal::Join(graph[graph.outputs[k]].name, ": ", results[k].type(), f.max_printed > 0 ? " = " : "",
                            Elements(results[k], f.max_printed), "\n"));
  }
  RETURN_IF_ERROR(CompareExpected(f, graph, results, comparison));
  if (f.reference) {
    ASSIGN_OR_RETURN(const std::vector<Tensor> expected, Reference(graph, inputs, CacheFolder() + "/reference"));
    for (size_t k = 0; k < results.size(); ++k)
      comparison.Add(graph[graph.outputs[k]].name + " (reference)", results[k], expected[k]);
  }
  return comparison.Finish();
}

// A file of `compile`.
Status RunCompiled(const RunFlags& f, const std::string& path) {
  if (f.reference || f.tests) {
    return Error(ErrorCode::kUsageInvalid, "'", path, "' has no graph and carries no test vectors: --reference and ",
                 "--tests need the model itself");
  }
  ASSIGN_OR_RETURN(Session session, Session::Load(UserPath(path), OptionsOf(f)));
  for (const std::string& warning : session.report().warnings) PrintNote("warning: " + warning);
  const Graph ports = PortsOf(session);
  ASSIGN_OR_RETURN(const std::vector<Tensor> inputs,
                   ResolveInputs(ports, f.inputs, f.random ? &f.model.seed : nullptr));
  return RunAndShow(f, session, ports, inputs);
}

}  // namespace

Status RunVerb(const std::vector<std::string>& args) {
  RunFlags f;
  RETURN_IF_ERROR(f.flags.Parse(args));
  ASSIGN_OR_RETURN(const bool answered, AnswerAtOnce(f.flags, 1));
  if (answered) return OkStatus();
  if (f.flags.positional()[0].ends_with(".tessx")) return RunCompiled(f, f.flags.positional()[0]);
  ASSIGN_OR_RETURN(const OpenedModel opened, f.model.Open(f.flags.positional()[0]));
  const Graph& graph = opened.graph;
  // Inputs first: they are read in no time, compiling takes seconds.
  std::vector<Tensor> inputs;
  if (!f.tests) {
    ASSIGN_OR_RETURN(inputs, ResolveInputs(graph, f.inputs, f.random ? &f.model.seed : nullptr));
  }
  ASSIGN_OR_RETURN(const Model model, ModelFromGraph(graph));
  ASSIGN_OR_RETURN(Session session, model.Compile(OptionsOf(f)));
  for (const std::string& warning : session.report().warnings) PrintNote("warning: " + warning);

  if (f.tests) {
    Comparison comparison(f.atol, f.rtol);
    RETURN_IF_ERROR(RunTests(session, opened, comparison));
    return comparison.Finish();
  }
  return RunAndShow(f, session, graph, inputs);
}

}  // namespace tessera
