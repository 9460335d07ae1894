// bench: latency of models, each row checked against the reference before it is timed.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <thread>

#include "engine/engine_internal.h"
#include "runtime/trace.h"
#include "tools/bench_case.h"
#include "tools/common/flags.h"
#include "tools/common/model_flags.h"
#include "tools/common/statistics.h"
#include "tools/common/table.h"
#include "tools/common/tool.h"
#include "tools/verbs.h"

namespace tessera {
namespace {

constexpr double kNoisyCv = 0.025;
constexpr int kCompareRounds = 15;

struct BenchFlags {
  std::vector<std::string> targets = {"host"}, sparsity = {"on"}, propagate = {"on"}, emitters, impose = {"none"},
                           precision = {"as-is"};
  std::vector<int64_t> threads = {0};
  double warmup = 0.2, min_time = 2;
  int64_t runs = 10, max_code_kib = 0;
  bool compare = false, profile = false, no_check = false;
  std::string form = "table", trace, cache, tuning, accuracy, tier = "final";
  ModelFlags model;
  FlagSet flags =
      FlagSet("bench", "MODEL… [flags]",
              "Measures the latency of one inference, from input buffers to output buffers. Lists and ranges "
              "(1,2,8 · 1-8*2) make a row for each combination.");

  BenchFlags() {
    flags.Section("What is measured");
    flags.IntList("threads", "LIST", "of one inference; 0: all processors", &threads, 0, 1024);
    flags.StringList("target", "LIST",
                     "host, host:CPU (x86-64-v3, znver4, …), cuda, hip, simt:nvptx:CHIP, simt:amdgpu:CHIP, null",
                     &targets);
    flags.ChoiceList("sparsity", {"on", "off"}, "off: the same masked weights through dense kernels", &sparsity);
    flags.ChoiceList("propagate", {"on", "off"},
                     "off: what the weights' zeros make constant or unneeded is computed all the same", &propagate);
    flags.StringList("impose", "LIST", "prunes the weights first: none, 90%:fine, 90%:4x1, 90%:channels, 2:4", &impose);
    flags.StringList("precision", "LIST",
                     "as-is, f32, bf16, f16, i8, w8, w4g32, …: quantises after pruning, calibrated with noise; convert "
                     "--help has the grammar",
                     &precision);
    flags.StringList("emitter", "LIST", "uses this emitter wherever it applies; auto: the best for each node",
                     &emitters);
    flags.String("accuracy", "DATA", "adds the share of labelled samples that are classified right; fashion, data.npz",
                 &accuracy);
    flags.Section("How long");
    flags.Double("warmup", "SECONDS", "before times are taken", &warmup, 0, 600);
    flags.Double("min_time", "SECONDS", "of samples", &min_time, 0, 3600);
    flags.Int("runs", "N", "samples at least", &runs, 1, 1000000);
    flags.Bool("compare", "interleaves all rows in 15 rounds and adds how many times faster than the first each is",
               &compare);
    flags.Bool("no_check", "skips the reference; rows then say so", &no_check);
    flags.String("cache", "FOLDER", "keeps compiled programs between processes", &cache);
    flags.Int("max_code_kib", "KIB", "of machine code that patterns of weights may become; 0: as much as is quickest",
              &max_code_kib, 0, int64_t{1} << 30);
    flags.Choice("tier", {"final", "first", "both"},
                 "first: the program that is there soonest, which reads patterns as data; both: compile ms is that "
                 "one's, times are the final one's, outputs of both are checked",
                 &tier);
    flags.String("tuning", "FILE", "takes the kernels that `tune` found quickest", &tuning);
    model.Declare(flags);
    flags.Section("Output");
    flags.Choice("form", TableFormNames(), "how results look; json and jsonl carry every sample and the machine",
                 &form);
    flags.Short('o');
    flags.Bool("profile", "adds the time of each step, and why each node got its emitter", &profile);
    flags.String("trace", "FILE.json", "writes a trace of one inference, for https://ui.perfetto.dev", &trace);
    flags.Note("Columns",
               "times in microseconds; cv: standard deviation / mean; error: against the interpreter in double "
               "on the same masked weights; roofline: the time that arithmetic and memory alone would take, by "
               "rates measured in this run, over the median.");
    flags.Note("Exit status", "1 bad input, 2 bad usage, 3 a result is wrong: then that row has no time.");
    flags.Example("bench zoo:fashion_mobilenet model.onnx --threads=1,2 -o md", "four rows");
    flags.Example("bench zoo:mlp --emitter=auto,generic --compare", "ratios within one run");
    flags.Example("bench zoo:mobilenet_v1 --precision=f32,i8 --impose=none,90%:fine --compare", "what each brings");
    flags.Example("bench zoo:bert_base --impose=90%:fine --sparsity=off,on --compare", "what sparsity brings");
  }
};

// A line that is overwritten, on terminals only, and only between timed regions.
void Progress(const std::string& text) {
  if (isatty(2) == 0) return;
  std::fprintf(stderr, "\r\033[K%s", text.c_str());
  std::fflush(stderr);
}

std::string Describe(const BenchCase& c) {
  return internal::Join(c.model->opened.name, ", ", SessionAccess::ThreadsOf(*c.session), " threads");
}

using TextPair = std::pair<std::string, std::string>;
std::vector<TextPair> Pairs(const std::vector<std::string>& first, const std::vector<std::string>& second) {
  std::vector<TextPair> pairs;
  for (const std::string& a : first) {
    for (const std::string& b : second) pairs.emplace_back(a, b);
  }
  return pairs;
}

// The cross product. Models are opened once each; a row whose result is wrong becomes `wrong` and is left out.
StatusOr<std::vector<BenchCase>> PrepareCases(const BenchFlags& f, Status& wrong) {
  std::vector<BenchCase> cases;
  ASSIGN_OR_RETURN(ModelOptions options, f.model.Options());
  std::vector<BenchModelOptions> models;
  for (const auto& [impose, precision] : Pairs(f.impose, f.precision)) {
    BenchModelOptions wanted_model = {.check = !f.no_check, .accuracy = f.accuracy};
    ASSIGN_OR_RETURN(wanted_model.prune, ParsePruneSpec(impose));
    ASSIGN_OR_RETURN(wanted_model.precision, ParseQuantizeSpec(precision == "as-is" ? "none" : precision));
    models.push_back(std::move(wanted_model));
  }
  const std::vector<std::string> emitters = f.emitters.empty() ? std::vector<std::string>{"auto"} : f.emitters;
  for (const std::string& source : f.flags.positional()) {
    for (int64_t batch : f.model.batch) {
      options.batch = batch;
      for (const BenchModelOptions& wanted_model : models) {
        Progress("reading " + source + " and computing its reference");
        ASSIGN_OR_RETURN(const std::shared_ptr<BenchModel> model, PrepareModel(source, options, wanted_model));
        for (const std::string& warning : model->opened.warnings) PrintNote("warning: " + warning);
        for (const std::string& target : f.targets) {
          for (int64_t threads : f.threads) {
            for (const auto& [sparsity, propagate] : Pairs(f.sparsity, f.propagate)) {
              for (const std::string& emitter : emitters) {
                Options wanted;
                wanted.target = target;
                wanted.threads = static_cast<int>(threads);
                wanted.sparsity = sparsity == "on";
                wanted.propagate = propagate == "on";
                wanted.only_emitter = emitter == "auto" ? "" : emitter;
                if (!f.cache.empty()) wanted.cache_dir = UserPath(f.cache);
                wanted.max_code_bytes = f.max_code_kib << 10;
                wanted.tier = f.tier;
                if (!f.tuning.empty()) wanted.tuning_file = UserPath(f.tuning);
                Progress("compiling " + source);
                StatusOr<BenchCase> prepared = PrepareCase(model, wanted);
                if (prepared.ok()) {
                  cases.push_back(*std::move(prepared));
                } else if (prepared.status().code() == ErrorCode::kResultWrong) {
                  PrintNote(prepared.status().ToString());
                  wrong = prepared.status();
                } else {
                  return prepared.status();
                }
              }
            }
          }
        }
      }
    }
  }
  Progress("");
  return cases;
}

Status MeasureAlone(const BenchFlags& f, BenchCase& c) {
  Progress("measuring " + Describe(c));
  RETURN_IF_ERROR(c.Warm(f.warmup));
  return c.Sample(f.min_time, f.runs);
}

struct Ratio {
  double median = 1, low = 1, high = 1;  // of the rounds; low and high are the quantiles 5 % and 95 %
};

// Blocks of all cases alternate, in turn from the other end, so that a slow phase of the machine meets all of them.
StatusOr<std::vector<Ratio>> MeasureInterleaved(const BenchFlags& f, std::vector<BenchCase>& cases) {
  std::vector<std::vector<double>> medians(cases.size());
  for (BenchCase& c : cases) RETURN_IF_ERROR(c.Warm(f.warmup));
  for (int round = 0; round < kCompareRounds; ++round) {
    Progress(internal::Join("round ", round + 1, " of ", kCompareRounds));
    for (size_t k = 0; k < cases.size(); ++k) {
      const size_t at = round % 2 == 0 ? k : cases.size() - 1 - k;
      BenchCase& c = cases[at];
      // Workers of the one before stop spinning, caches fill with this one's weights.
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      RETURN_IF_ERROR(c.Warm(0.002));
      const size_t before = c.samples.size();
      RETURN_IF_ERROR(c.Sample(f.min_time / kCompareRounds, std::max<int64_t>(1, f.runs / kCompareRounds)));
      medians[at].push_back(
          Summarize(std::vector<double>(c.samples.begin() + static_cast<std::ptrdiff_t>(before), c.samples.end()))
              .median);
    }
  }
  std::vector<Ratio> ratios;
  for (const std::vector<double>& own : medians) {
    std::vector<double> rounds;
    for (size_t round = 0; round < own.size(); ++round) rounds.push_back(medians[0][round] / own[round]);
    std::sort(rounds.begin(), rounds.end());
    ratios.push_back({Quantile(rounds, 0.5), Quantile(rounds, 0.05), Quantile(rounds, 0.95)});
  }
  return ratios;
}

void MeasureAllPeaks(std::vector<BenchCase>& cases) {
  std::map<std::pair<int, int64_t>, Peaks> known;
  for (BenchCase& c : cases) {
    if (c.options.target == "null" || c.OnCard()) continue;  // a card's peaks are not the host's
    const SessionReport& report = c.session->report();
    const int threads = SessionAccess::ThreadsOf(*c.session);
    const int64_t bytes = report.constant_bytes + report.arena_bytes;
    Progress("measuring the machine");
    const auto [at, fresh] = known.try_emplace({threads, bytes});
    if (fresh) at->second = MeasurePeaks(threads, bytes);
    c.peaks = at->second;
  }
  Progress("");
}

std::vector<Column> Columns(const BenchFlags& f) {
  const auto if_many = [](size_t count, const char* title) { return std::string(count > 1 ? title : ""); };
  return {{.key = "model", .title = "model"},
          {.key = "batch", .title = f.flags.Given("batch") ? "batch" : ""},
          {.key = "threads", .title = "threads"},
          {.key = "target", .title = if_many(f.targets.size(), "target")},
          {.key = "precision", .title = f.flags.Given("precision") ? "precision" : ""},
          {.key = "impose", .title = f.flags.Given("impose") ? "pruned" : ""},
          {.key = "sparsity", .title = f.flags.Given("sparsity") ? "sparsity" : ""},
          {.key = "propagate", .title = f.flags.Given("propagate") ? "propagate" : ""},
          {.key = "emitter", .title = f.emitters.empty() ? "" : "emitter"},
          {.key = "latency_us_min", .title = "min us"},
          {.key = "latency_us_median", .title = "median"},
          {.key = "latency_us_mean", .title = "mean"},
          {.key = "latency_us_p90", .title = "p90"},
          {.key = "latency_us_p95", .title = "p95"},
          {.key = "latency_us_p99", .title = "p99"},
          {.key = "cv_percent", .title = "cv %", .digits = 1},
          {.key = "samples", .title = "runs"},
          {.key = "speedup", .title = f.compare ? "x first" : "", .digits = 3},
          {.key = "speedup_spread", .title = f.compare ? "5-95 %" : ""},
          {.key = "arena_kib", .title = "arena KiB", .digits = 1},
          {.key = "max_abs_error", .title = "max |error|"},
          {.key = "rel_error", .title = "rel. error"},
          {.key = "accuracy_percent", .title = f.accuracy.empty() ? "" : "accuracy %", .digits = 2},
          {.key = "checked", .title = "checked"},
          {.key = "roofline_percent", .title = "roofline %", .digits = 1},
          {.key = "compile_ms", .title = "compile ms", .digits = 0},
          // For programs.
          {.key = "cv"},
          {.key = "roofline_share"},
          {.key = "arena_bytes"},
          {.key = "max_live_bytes"},
          {.key = "constant_bytes"},
          {.key = "device_bytes"},
          {.key = "device_bytes_peak"},
          {.key = "pinned_bytes"},
          {.key = "assembler"},
          {.key = "code_bytes"},
          {.key = "flops"},
          {.key = "steps"},
          {.key = "load_ms"},
          {.key = "from_cache"},
          {.key = "seed"},
          {.key = "source"},
          {.key = "model_hash"},
          {.key = "cpu"},
          {.key = "processors"},
          {.key = "isa"},
          {.key = "clock_ghz"},
          {.key = "os"},
          {.key = "commit"},
          {.key = "peak_flops"},
          {.key = "peak_bytes_per_s"},
          {.key = "latency_us"}};
}

// The widest float type that the network computes in, or the integer type of its first input.
std::string PrecisionOf(const Graph& graph) {
  DType widest = graph.inputs.empty() ? DType::kF32 : graph[graph.inputs[0]].type.dtype;
  for (const Node& node : graph.nodes) {
    const DType dtype = graph[node.outputs[0]].type.dtype;
    if (IsFloat(dtype) && (!IsFloat(widest) || TypeInfo(dtype).bits > TypeInfo(widest).bits)) widest = dtype;
  }
  return std::string(Name(widest));
}

std::vector<Cell> Row(const BenchFlags& f, const BenchCase& c, const Ratio& ratio, const HostMachine& machine) {
  const Statistics s = Summarize(c.samples);
  const SessionReport& report = c.session->report();
  const Graph& graph = c.model->opened.graph;
  const Shape shape = graph.inputs.empty() ? Shape() : graph[graph.inputs[0]].type.shape;
  const auto number = [](auto value) { return Cell(static_cast<int64_t>(value)); };
  const Cell none;
  const double roofline = s.median > 0 ? c.RooflineUs() / s.median : 0;
  const Cell share = c.peaks.flops > 0 ? Cell(roofline) : none;
  const std::string checked = c.error ? "yes" : c.options.target == "null" ? "null" : "no check";
  std::string spread = FormatSignificant(ratio.low) + " - " + FormatSignificant(ratio.high);
  return {c.model->opened.name,
          number(shape.rank() > 0 ? shape[0] : 1),
          number(SessionAccess::ThreadsOf(*c.session)),
          c.options.target,
          c.model->precision.scheme == QuantizeScheme::kNone ? PrecisionOf(graph) : c.model->precision.text,
          c.model->prune.text,
          std::string(c.options.sparsity ? "on" : "off"),
          std::string(c.options.propagate && c.options.sparsity ? "on" : "off"),
          c.options.only_emitter.empty() ? std::string("auto") : c.options.only_emitter,
          s.min,
          s.median,
          s.mean,
          s.p90,
          s.p95,
          s.p99,
          100 * s.cv,
          number(s.samples),
          f.compare ? Cell(ratio.median) : none,
          f.compare ? Cell(spread) : none,
          static_cast<double>(report.arena_bytes) / 1024,
          c.error ? Cell(c.error->absolute) : none,
          c.error ? Cell(c.error->relative) : none,
          c.model->accuracy ? Cell(*c.model->accuracy) : none,
          checked,
          c.peaks.flops > 0 ? Cell(100 * roofline) : none,
          report.compile_ms,
          s.cv,
          share,
          number(report.arena_bytes),
          number(report.max_live_bytes),
          number(report.constant_bytes),
          number(report.device_bytes),
          number(report.device_bytes_peak),
          number(report.pinned_bytes),
          report.assembler,
          number(report.code_bytes),
          report.flops,
          number(report.steps),
          c.model->load_ms,
          report.from_cache,
          f.model.seed,
          c.model->opened.source,
          c.model->opened.hash,
          machine.cpu,
          machine.processors,
          machine.isa,
          machine.clock_ghz,
          machine.os,
          machine.commit,
          c.peaks.flops,
          c.peaks.bytes,
          c.samples};
}

// Each step's median over some runs, with its share of the whole and of what the machine could do.
Status PrintProfile(BenchCase& c, TableForm form) {
  constexpr int kRuns = 31;
  std::vector<std::vector<double>> times(static_cast<size_t>(c.session->report().steps));
  c.session->SetProfiling(true);
  for (int run = 0; run < kRuns; ++run) {
    RETURN_IF_ERROR(c.Warm(0));
    const std::vector<StepProfile> steps = c.session->Profile();
    for (size_t s = 0; s < steps.size(); ++s) times[s].push_back(steps[s].us);
  }
  c.session->SetProfiling(false);
  const std::vector<StepProfile> steps = c.session->Profile();
  double total = 0;
  for (const std::vector<double>& samples : times) total += Summarize(samples).median;
  Table table({{.key = "step", .title = "step"},
               {.key = "node", .title = "node"},
               {.key = "kernel", .title = "kernel"},
               {.key = "us", .title = "us"},
               {.key = "share_percent", .title = "share %", .digits = 1},
               {.key = "gflops", .title = "GFLOP/s", .digits = 1},
               {.key = "gbytes_per_s", .title = "GB/s", .digits = 1},
               {.key = "roofline_percent", .title = "roofline %", .digits = 1}});
  for (size_t s = 0; s < steps.size(); ++s) {
    const double us = Summarize(times[s]).median;
    const double bound =
        c.peaks.flops > 0 ? std::max(steps[s].flops / c.peaks.flops, steps[s].bytes / c.peaks.bytes) * 1e6 : 0;
    const double inverse = us > 0 ? 1 / us : 0;
    table.AddRow({static_cast<int64_t>(s), steps[s].label, steps[s].kernel, us, total > 0 ? 100 * us / total : 0,
                  steps[s].flops * inverse / 1e3, steps[s].bytes * inverse / 1e3, 100 * bound * inverse});
  }
  std::string text = "\nsteps of " + Describe(c) + ": " + FormatSignificant(total) + " us\n" + table.Print(form);
  const SessionReport& report = c.session->report();
  if (!report.shrunk.empty()) text += "\nshrunk in " + FormatSignificant(report.propagate_ms) + " ms\n";
  for (const std::string& line : report.shrunk) text += "  " + line + "\n";
  if (!report.in_float.empty()) text += "\nin float\n";
  for (const std::string& line : report.in_float) text += "  " + line + "\n";
  for (const std::string& warning : report.warnings) text += "\nwarning\n" + warning + "\n";
  text += "\ndecisions\n";
  for (const std::string& decision : report.decisions) text += "  " + decision + "\n";
  PrintOut(text);
  return OkStatus();
}

Status WriteTrace(BenchCase& c, const std::string& path) {
  Trace trace({.num_threads = SessionAccess::ThreadsOf(*c.session)});
  SessionAccess::SetTrace(*c.session, &trace);
  Status status = c.Warm(0);
  SessionAccess::SetTrace(*c.session, nullptr);
  RETURN_IF_ERROR(status);
  return trace.WriteChromeTrace(UserPath(path));
}

Status CheckUsage(const BenchFlags& f, size_t rows) {
  if (!f.trace.empty() && rows > 1)
    return Error(ErrorCode::kUsageInvalid, "--trace is of one row; these flags make ", rows);
  if (f.profile && (f.form == "json" || f.form == "jsonl" || f.form == "csv")) {
    return Error(ErrorCode::kUsageInvalid, "--profile is for people: use -o table or -o md");
  }
  if (f.compare && rows < 2)
    return Error(ErrorCode::kUsageInvalid,
                 "--compare needs two rows at least; give several models or a flag with a list");
  return OkStatus();
}

}  // namespace

Status BenchVerb(const std::vector<std::string>& args) {
  BenchFlags f;
  RETURN_IF_ERROR(f.flags.Parse(args));
  ASSIGN_OR_RETURN(const bool answered, AnswerAtOnce(f.flags, 64));
  if (answered) return OkStatus();
  RETURN_IF_ERROR(CheckUsage(f, f.flags.positional().size() * f.model.batch.size() * f.impose.size() *
                                    f.precision.size() * f.targets.size() * f.threads.size() * f.sparsity.size() *
                                    f.propagate.size() * std::max<size_t>(1, f.emitters.size())));
  Status wrong;
  ASSIGN_OR_RETURN(std::vector<BenchCase> cases, PrepareCases(f, wrong));
  std::vector<Ratio> ratios(cases.size());
  if (f.compare && cases.size() > 1) {
    ASSIGN_OR_RETURN(ratios, MeasureInterleaved(f, cases));
  } else {
    for (BenchCase& c : cases) RETURN_IF_ERROR(MeasureAlone(f, c));
  }
  MeasureAllPeaks(cases);
  const HostMachine machine = DescribeMachine();
  const TableForm form = ParseTableForm(f.form);
  Table table(Columns(f));
  for (size_t k = 0; k < cases.size(); ++k) table.AddRow(Row(f, cases[k], ratios[k], machine));
  if (table.num_rows() > 0) PrintOut(table.Print(form));
  if (form == TableForm::kTable || form == TableForm::kMarkdown) {
    PrintNote(internal::Join(machine.cpu, ", ", machine.processors, " processors, ", machine.isa, ", ",
                             FormatSignificant(machine.clock_ghz), " GHz",
                             machine.commit.empty() ? "" : ", commit " + machine.commit.substr(0, 12)));
  }
  for (const BenchCase& c : cases) {
    const double cv = Summarize(c.samples).cv;
    if (cv > kNoisyCv)
      PrintNote(internal::Join("warning: ", Describe(c), ": coefficient of variation ", FormatSignificant(100 * cv),
                               " % is above 2.5 %; the machine is not quiet"));
  }
  for (BenchCase& c : cases) {
    if (f.profile) RETURN_IF_ERROR(PrintProfile(c, form));
    if (!f.trace.empty()) RETURN_IF_ERROR(WriteTrace(c, f.trace));
  }
  return wrong;
}

}  // namespace tessera
