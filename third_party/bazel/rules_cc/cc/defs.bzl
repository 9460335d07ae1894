"""Stand-in for rules_cc: the native C++ rules of Bazel 4.2.3 under the names that newer Bazels load from here."""

cc_binary = native.cc_binary
cc_import = native.cc_import
cc_library = native.cc_library
cc_proto_library = native.cc_proto_library
cc_test = native.cc_test
cc_toolchain = native.cc_toolchain
cc_toolchain_suite = native.cc_toolchain_suite
fdo_prefetch_hints = native.fdo_prefetch_hints
fdo_profile = native.fdo_profile
objc_import = native.objc_import
objc_library = native.objc_library

def _nothing(ctx):  # The embedded tools name these two; no target that we build reads what they would give.
    return []

cc_flags_supplier = rule(implementation = _nothing)
compiler_flag = rule(implementation = _nothing)
