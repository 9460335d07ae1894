// The null driver: accepts any program that verifies, checks each run's ports and computes nothing. It measures what
// the engine itself costs around a run, and lets programs of any target be loaded and inspected anywhere.
#include <vector>

#include "runtime/drivers/drivers.h"

namespace tessera {
namespace {

class NullExecutable : public Executable {
 public:
  explicit NullExecutable(std::shared_ptr<const Program> program)
      : program_(std::move(program)), nanoseconds_(program_->steps.size(), 0) {}

  Status Run(std::span<const void* const> inputs, std::span<void* const> outputs) override {
    if (inputs.size() != program_->inputs.size() || outputs.size() != program_->outputs.size()) {
      return Error(ErrorCode::kInputMissing, "program '", program_->name, "': expected ", program_->inputs.size(),
                   " inputs and ", program_->outputs.size(), " outputs, found ", inputs.size(), " and ",
                   outputs.size());
    }
    return OkStatus();
  }
  StatusOr<std::unique_ptr<Executable>> Clone(const LoadOptions&) const override {
    return std::unique_ptr<Executable>(std::make_unique<NullExecutable>(program_));
  }
  const Program& program() const override { return *program_; }
  void SetTrace(Trace*) override {}
  int threads() const override { return 1; }
  void SetProfiling(bool) override {}
  std::span<const int64_t> step_nanoseconds() const override { return nanoseconds_; }

 private:
  std::shared_ptr<const Program> program_;
  std::vector<int64_t> nanoseconds_;
};

class NullDevice : public Device {
 public:
  std::string_view name() const override { return "null"; }
  std::string Describe() const override { return "null device: computes nothing"; }
  StatusOr<std::unique_ptr<Executable>> Load(std::shared_ptr<const Program> program, const LoadOptions&) override {
    RETURN_IF_ERROR(program->Verify());
    return std::unique_ptr<Executable>(std::make_unique<NullExecutable>(std::move(program)));
  }
};

}  // namespace

StatusOr<std::unique_ptr<Device>> MakeNullDevice() { return std::unique_ptr<Device>(std::make_unique<NullDevice>()); }

}  // namespace tessera
