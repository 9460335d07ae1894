"""cc_system_library: a C++ library that the system already has, as a target.

The headers stay where the distribution put them, at absolute paths below /usr/include, which Bazel's own check of
included files accepts as part of the toolchain. A cc_library could pass on neither an absolute include folder nor
the warning-free -isystem, so this rule builds the provider by hand.

    cc_system_library(name = "llvm", system_includes = ["/usr/include/llvm-19"], linkopts = ["-lLLVM-19"])
"""

def _cc_system_library(ctx):
    compilation = cc_common.create_compilation_context(
        system_includes = depset(ctx.attr.system_includes),
        defines = depset(ctx.attr.defines),
    )
    linking = cc_common.create_linking_context(
        linker_inputs = depset([cc_common.create_linker_input(
            owner = ctx.label,
            user_link_flags = depset(ctx.attr.linkopts),
        )]),
    )
    own = CcInfo(compilation_context = compilation, linking_context = linking)
    return [cc_common.merge_cc_infos(direct_cc_infos = [own], cc_infos = [dep[CcInfo] for dep in ctx.attr.deps])]

cc_system_library = rule(
    implementation = _cc_system_library,
    attrs = {
        "defines": attr.string_list(doc = "-D for every user of the library"),
        "deps": attr.label_list(providers = [CcInfo]),
        "linkopts": attr.string_list(doc = "what the linker is told, in this order, before what deps tell it"),
        "system_includes": attr.string_list(doc = "absolute folders for -isystem"),
    },
)
