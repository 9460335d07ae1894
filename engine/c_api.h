// Tessera for C callers, and for any language that can call C: what engine.h does, as functions over opaque handles.
//
//   tessera_model* model;
//   tessera_session* session;
//   if (tessera_model_load("mobilenet.tess", &model) != 0) die(tessera_last_error());
//   tessera_options options = TESSERA_OPTIONS_INIT;
//   if (tessera_model_compile(model, &options, &session) != 0) die(tessera_last_error());
//   tessera_input in = {"image", pixels, sizeof(pixels)};
//   tessera_output out = {"logits", scores, sizeof(scores)};
//   if (tessera_session_run(session, &in, 1, &out, 1) != 0) die(tessera_last_error());
//
// Functions return 0, or the number of the error (1001 for TES-1001, …); tessera_last_error() has its text. Handles are
// freed by the function of their name; a model may be freed while its sessions live. Thread-safety is that of engine.h:
// a model is shared freely, a session runs one inference at a time. The interface is stable: structures grow at their
// end and carry their size. Tested by c_api_test.cc, and from Python through the shared library by libengine_test.py.
#ifndef TESSERA_ENGINE_C_API_H_
#define TESSERA_ENGINE_C_API_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tessera_model tessera_model;
typedef struct tessera_session tessera_session;

/* An input or output: dense, row-major. The texts and the shape live as long as the model or session asked. */
typedef struct tessera_tensor_info {
  const char* name;
  const char* type; /* "f32", "i64", … */
  const int64_t* shape;
  size_t rank;
  size_t bytes;
} tessera_tensor_info;

/* As Options of engine.h. Null texts stand for the defaults. */
typedef struct tessera_options {
  size_t struct_size; /* sizeof(tessera_options) as the caller knows it */
  const char* target;
  int threads;
  const char* cache_dir;
  int sparsity;            /* 0: the masked weights through dense kernels */
  const char* on_collapse; /* "keep" or "error" */
  int propagate;           /* 0: what is constant or unneeded stays as it is */
  const char* fallback;    /* the target to take where `target` cannot be had; NULL: that is an error */
  const char* tier;        /* "final", "first" or "both" */
} tessera_options;
#define TESSERA_OPTIONS_INIT {sizeof(tessera_options), NULL, 0, NULL, 1, NULL, 1, NULL, NULL}

typedef struct tessera_input {
  const char* name;
  const void* data;
  size_t bytes;
} tessera_input;

typedef struct tessera_output {
  const char* name;
  void* data;
  size_t bytes;
} tessera_output;

/* The text of this thread's last error, "TES-1001: …"; empty when there was none. Valid until its next call. */
const char* tessera_last_error(void);

int tessera_model_load(const char* path, tessera_model** model);
/* The bytes are copied. */
int tessera_model_load_from_memory(const void* data, size_t size, tessera_model** model);
void tessera_model_free(tessera_model* model);
size_t tessera_model_num_inputs(const tessera_model* model);
size_t tessera_model_num_outputs(const tessera_model* model);
/* TES-1202 when there is no such position. */
int tessera_model_input(const tessera_model* model, size_t index, tessera_tensor_info* info);
int tessera_model_output(const tessera_model* model, size_t index, tessera_tensor_info* info);

/* `options` may be NULL. */
int tessera_model_compile(const tessera_model* model, const tessera_options* options, tessera_session** session);
/* A session from a file of compiled programs (`compile` writes them); nothing is compiled. Of its programs it takes the
   one that asks most of the machine of options->target, "auto" where that is NULL or `options` is: of a CUDA card, else
   of an AMD card, else of the processor. Only target, fallback, threads and cache_dir count. TES-3004 lists the
   programs of a file that has none for this machine. */
int tessera_session_load(const char* path, const tessera_options* options, tessera_session** session);
/* Another session over the same weights and code. */
int tessera_session_clone(const tessera_session* session, tessera_session** clone);
void tessera_session_free(tessera_session* session);
/* As of a model; for sessions that were loaded. */
size_t tessera_session_num_inputs(const tessera_session* session);
size_t tessera_session_num_outputs(const tessera_session* session);
int tessera_session_input(const tessera_session* session, size_t index, tessera_tensor_info* info);
int tessera_session_output(const tessera_session* session, size_t index, tessera_tensor_info* info);
/* What runs it: "hip:gfx942 (gfx942)". The text lives as long as the session. */
const char* tessera_session_target(const tessera_session* session);
/* All inputs by name, in any order; outputs that are not wanted may be left out. Data may lie in the memory of the
   target's card, where it has one. Sizes are checked. */
int tessera_session_run(tessera_session* session, const tessera_input* inputs, size_t num_inputs,
                        const tessera_output* outputs, size_t num_outputs);
/* Waits until the final program of tier "both" has been compiled and runs from now on. */
int tessera_session_await_final_tier(tessera_session* session);
/* Microseconds of one inference on the device's own clock: `runs` back to back without copies, over what the last run
   left there. TES-2001 on the host. */
int tessera_session_measure(tessera_session* session, int runs, double* us);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif  // TESSERA_ENGINE_C_API_H_
