"""flatbuffer_cc_library: the C++ header of a FlatBuffers schema, written by the system's flatc at build time.

    load("//third_party:flatbuffers.bzl", "flatbuffer_cc_library")
    flatbuffer_cc_library(name = "model_fbs", src = "model.fbs")    # in graph/schema

gives `#include "graph/schema/model_generated.h"`, with the mutable object API (`ModelT`), scoped enums and the names of
enum values. `includes` lists other schemas that `src` names in an `include "graph/schema/other.fbs";` line, by path
from the root.
"""

load("@rules_cc//cc:defs.bzl", "cc_library")

def flatbuffer_cc_library(name, src, includes = [], deps = [], visibility = None):
    """Generates and wraps SRC_generated.h.

    Args:
      name: the cc_library.
      src: one .fbs file.
      includes: .fbs files that src includes.
      deps: the flatbuffer_cc_library targets of those files.
      visibility: as everywhere.
    """
    header = src.replace(".fbs", "_generated.h")
    native.genrule(
        name = name + "_header",
        srcs = [src] + includes,
        outs = [header],
        cmd = "$(location @system//:flatc) --cpp --cpp-std c++17 --scoped-enums --gen-object-api --gen-mutable " +
              "--reflect-names --keep-prefix -I . -o $(@D) $(location " + src + ")",
        message = "Writing the C++ of " + src,
        tools = ["@system//:flatc"],
        visibility = ["//visibility:private"],
    )
    cc_library(
        name = name,
        hdrs = [header],
        visibility = visibility,
        deps = deps + ["@system//:flatbuffers"],
    )
