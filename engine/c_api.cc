#include "engine/c_api.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <string>

#include "engine/engine.h"

struct tessera_model {
  tessera::Model model;
};
struct tessera_session {
  tessera::Session session;
};

namespace {

using tessera::Error;
using tessera::ErrorCode;
using tessera::Status;
using tessera::TensorInfo;

std::string& LastError() {
  thread_local std::string text;
  return text;
}

// Remembers the text of an error and gives its number.
int Finish(const Status& status) {
  LastError() = status.ok() ? "" : status.ToString();
  return static_cast<int>(status.code());
}

// Runs `work`, which gives a Status; memory that runs out does not become an exception in the caller's language.
template <typename Work>
int Guarded(const Work& work) {
  try {
    return Finish(work());
  } catch (const std::bad_alloc&) {
    return Finish(Status(ErrorCode::kOutOfMemory, "not enough memory"));
  } catch (const std::exception& error) {
    return Finish(Error(ErrorCode::kInternal, "a fault of Tessera itself, please report it: ", error.what()));
  }
}

Status NotNull(const void* pointer, const char* what) {
  return pointer != nullptr ? tessera::OkStatus() : Error(ErrorCode::kUsageInvalid, what, " is NULL");
}

Status Describe(const std::vector<TensorInfo>& ports, size_t index, const char* what, tessera_tensor_info* info) {
  RETURN_IF_ERROR(NotNull(info, "info"));
  if (index >= ports.size()) {
    return Error(ErrorCode::kInputUnknown, "the model has ", ports.size(), " ", what, "s, and none at position ",
                 index);
  }
  const TensorInfo& port = ports[index];
  *info = {port.name.c_str(), port.type.c_str(), port.shape.data(), port.shape.size(), port.bytes};
  return tessera::OkStatus();
}

tessera::Options OptionsOf(const tessera_options* options) {
  // A caller built against an older header knows fewer members; those keep their defaults.
  tessera_options known = TESSERA_OPTIONS_INIT;
  if (options != nullptr) std::memcpy(&known, options, std::min(options->struct_size, sizeof(known)));
  tessera::Options wanted;
  if (known.target != nullptr) wanted.target = known.target;
  if (known.cache_dir != nullptr) wanted.cache_dir = known.cache_dir;
  wanted.threads = known.threads;
  wanted.sparsity = known.sparsity != 0;
  wanted.propagate = known.propagate != 0;
  if (known.on_collapse != nullptr) wanted.on_collapse = known.on_collapse;
  if (known.fallback != nullptr) wanted.fallback = known.fallback;
  if (known.tier != nullptr) wanted.tier = known.tier;
  return wanted;
}

}  // namespace

extern "C" {

const char* tessera_last_error(void) { return LastError().c_str(); }

int tessera_model_load(const char* path, tessera_model** model) {
  return Guarded([&]() -> Status {
    RETURN_IF_ERROR(NotNull(path, "path"));
    RETURN_IF_ERROR(NotNull(model, "model"));
    ASSIGN_OR_RETURN(tessera::Model loaded, tessera::Model::Load(path));
    *model = new tessera_model{std::move(loaded)};
    return tessera::OkStatus();
  });
}

int tessera_model_load_from_memory(const void* data, size_t size, tessera_model** model) {
  return Guarded([&]() -> Status {
    RETURN_IF_ERROR(NotNull(model, "model"));
    if (size > 0) RETURN_IF_ERROR(NotNull(data, "data"));
    ASSIGN_OR_RETURN(tessera::Model loaded, tessera::Model::LoadFromMemory(data, size));
    *model = new tessera_model{std::move(loaded)};
    return tessera::OkStatus();
  });
}

void tessera_model_free(tessera_model* model) { delete model; }
size_t tessera_model_num_inputs(const tessera_model* model) { return model->model.inputs().size(); }
size_t tessera_model_num_outputs(const tessera_model* model) { return model->model.outputs().size(); }

int tessera_model_input(const tessera_model* model, size_t index, tessera_tensor_info* info) {
  return Guarded([&] { return Describe(model->model.inputs(), index, "input", info); });
}
int tessera_model_output(const tessera_model* model, size_t index, tessera_tensor_info* info) {
  return Guarded([&] { return Describe(model->model.outputs(), index, "output", info); });
}

int tessera_model_compile(const tessera_model* model, const tessera_options* options, tessera_session** session) {
  return Guarded([&]() -> Status {
    RETURN_IF_ERROR(NotNull(model, "model"));
    RETURN_IF_ERROR(NotNull(session, "session"));
    ASSIGN_OR_RETURN(tessera::Session compiled, model->model.Compile(OptionsOf(options)));
    *session = new tessera_session{std::move(compiled)};
    return tessera::OkStatus();
  });
}

int tessera_session_load(const char* path, const tessera_options* options, tessera_session** session) {
  return Guarded([&]() -> Status {
    RETURN_IF_ERROR(NotNull(path, "path"));
    RETURN_IF_ERROR(NotNull(session, "session"));
    tessera::Options wanted = OptionsOf(options);
    if (options == nullptr || options->target == nullptr) wanted.target = "auto";
    ASSIGN_OR_RETURN(tessera::Session loaded, tessera::Session::Load(path, wanted));
    *session = new tessera_session{std::move(loaded)};
    return tessera::OkStatus();
  });
}

int tessera_session_clone(const tessera_session* session, tessera_session** clone) {
  return Guarded([&]() -> Status {
    RETURN_IF_ERROR(NotNull(session, "session"));
    RETURN_IF_ERROR(NotNull(clone, "clone"));
    ASSIGN_OR_RETURN(tessera::Session copy, session->session.Clone());
    *clone = new tessera_session{std::move(copy)};
    return tessera::OkStatus();
  });
}

void tessera_session_free(tessera_session* session) { delete session; }
size_t tessera_session_num_inputs(const tessera_session* session) { return session->session.inputs().size(); }
size_t tessera_session_num_outputs(const tessera_session* session) { return session->session.outputs().size(); }
const char* tessera_session_target(const tessera_session* session) { return session->session.report().target.c_str(); }

int tessera_session_input(const tessera_session* session, size_t index, tessera_tensor_info* info) {
  return Guarded([&] { return Describe(session->session.inputs(), index, "input", info); });
}
int tessera_session_output(const tessera_session* session, size_t index, tessera_tensor_info* info) {
  return Guarded([&] { return Describe(session->session.outputs(), index, "output", info); });
}

int tessera_session_run(tessera_session* session, const tessera_input* inputs, size_t num_inputs,
                        const tessera_output* outputs, size_t num_outputs) {
  return Guarded([&]() -> Status {
    RETURN_IF_ERROR(NotNull(session, "session"));
    std::vector<tessera::InputView> in;
    for (size_t k = 0; k < num_inputs; ++k) {
      RETURN_IF_ERROR(NotNull(inputs[k].name, "the name of an input"));
      in.push_back({inputs[k].name, inputs[k].data, inputs[k].bytes});
    }
    std::vector<tessera::OutputView> out;
    for (size_t k = 0; k < num_outputs; ++k) {
      RETURN_IF_ERROR(NotNull(outputs[k].name, "the name of an output"));
      out.push_back({outputs[k].name, outputs[k].data, outputs[k].bytes});
    }
    return session->session.Run(in, out);
  });
}

int tessera_session_await_final_tier(tessera_session* session) {
  return Guarded([&]() -> Status {
    RETURN_IF_ERROR(NotNull(session, "session"));
    return session->session.AwaitFinalTier();
  });
}
int tessera_session_measure(tessera_session* session, int runs, double* us) {
  return Guarded([&]() -> Status {
    RETURN_IF_ERROR(NotNull(session, "session"));
    RETURN_IF_ERROR(NotNull(us, "us"));
    ASSIGN_OR_RETURN(*us, session->session.MeasureUs(runs));
    return tessera::OkStatus();
  });
}

}  // extern "C"
