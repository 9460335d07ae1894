"""system_repository: makes @system, the libraries that the system's packages provide, each as a C++ target.

LIBRARIES is the one list: a row names a target, the package that provides it, a file by which the package is
recognised, how to compile and link with it, and which packages of this workspace may use it (walls of the layer table).
When packages are missing the rule fails with the one command that installs them all. Nothing is downloaded.
`llvm-config-19` and `pkg-config` are asked only where an answer is a long list of archives.

Why each library is here stands in README.md. To add one: a row here, a line in packages.txt, a paragraph in README.md.
"""

_INCLUDE = "/usr/include"
_LIB = "/usr/lib/x86_64-linux-gnu"

# users: a package_group of //:BUILD that may name the target in its deps; "all" is everybody.
def _library(name, package, file, linkopts = [], includes = [], defines = [], deps = [], users = "all"):
    return struct(
        name = name,
        package = package,
        file = file,
        linkopts = linkopts,
        includes = includes,
        defines = defines,
        deps = deps,
        users = users,
    )

_LLVM_INCLUDES = ["/usr/include/llvm-19", "/usr/include/llvm-c-19"]

# What a travelling binary carries of LLVM: code generation for four targets, inline assembly for the two that have a
# parser, ORC, the pass pipelines, textual IR, and what lld asks for.
_LLVM_STATIC_COMPONENTS = [
    "x86codegen",
    "x86asmparser",
    "aarch64codegen",
    "nvptxcodegen",
    "amdgpucodegen",
    "amdgpuasmparser",
    "orcjit",
    "passes",
    "irreader",
    "lto",
    "option",
]

# LLVM's back ends that a travelling binary leaves out. lld asks all of them to start: NVPTX starts once more instead.
_LLVM_LEFT_OUT = [
    "ARM",
    "AVR",
    "BPF",
    "Hexagon",
    "Lanai",
    "LoongArch",
    "M68k",
    "Mips",
    "MSP430",
    "PowerPC",
    "RISCV",
    "Sparc",
    "SystemZ",
    "VE",
    "WebAssembly",
    "XCore",
    "Xtensa",
]

LIBRARIES = [
    # What we compile with.
    _library(
        "llvm",
        "llvm-19-dev",
        "/usr/include/llvm-19/llvm/IR/Module.h",
        includes = _LLVM_INCLUDES,
        linkopts = ["@llvm@"],
        users = "llvm_users",
    ),
    _library(
        "lld_archives",
        "liblld-19-dev",
        "/usr/lib/llvm-19/lib/liblldELF.a",
        linkopts = ["-L/usr/lib/llvm-19/lib", "-llldELF", "-llldCommon", "-l:libzstd.a", "-l:libz.a"],
        users = "llvm_users",
    ),

    # What we write with.
    _library(
        "absl",
        "libabsl-dev",
        _INCLUDE + "/absl/container/flat_hash_map.h",
        linkopts = ["@absl@"],
        deps = [":pthread"],
    ),
    _library(
        "flatbuffers",
        "libflatbuffers-dev",
        _INCLUDE + "/flatbuffers/flatbuffers.h",
        linkopts = ["-l:libflatbuffers.a"],
    ),
    _library("json", "nlohmann-json3-dev", _INCLUDE + "/nlohmann/json.hpp"),
    _library("xxhash", "libxxhash-dev", _INCLUDE + "/xxhash.h", linkopts = ["-l:libxxhash.a"]),
    _library("zlib", "zlib1g-dev", _INCLUDE + "/zlib.h", linkopts = ["-lz"]),
    _library("zstd", "libzstd-dev", _INCLUDE + "/zstd.h", linkopts = ["-l:libzstd.a"]),

    # The one door to protobuf is models/import.
    _library(
        "protobuf",
        "libprotobuf-dev",
        _INCLUDE + "/google/protobuf/message.h",
        linkopts = ["-lprotobuf"],
        deps = [":pthread"],
        users = "protobuf_users",
    ),
    _library(
        "onnx_proto",
        "libonnx-dev",
        _INCLUDE + "/onnx/onnx_pb.h",
        defines = ["ONNX_ML=1", "ONNX_NAMESPACE=onnx"],
        linkopts = ["-lonnx_proto"],
        deps = [":protobuf"],
        users = "protobuf_users",
    ),

    # What we test and measure with.
    _library(
        "gtest",
        "libgtest-dev",
        _INCLUDE + "/gtest/gtest.h",
        linkopts = ["-l:libgtest.a"],
        deps = [":pthread"],
    ),
    _library(
        "gtest_main",
        "libgtest-dev",
        _LIB + "/libgtest_main.a",
        linkopts = ["-l:libgtest_main.a"],
        deps = [":gtest"],
    ),
    _library(
        "gmock",
        "libgmock-dev",
        _INCLUDE + "/gmock/gmock.h",
        linkopts = ["-l:libgmock.a"],
        deps = [":gtest"],
    ),
    _library(
        "benchmark",
        "libbenchmark-dev",
        _INCLUDE + "/benchmark/benchmark.h",
        linkopts = ["-lbenchmark"],
        deps = [":pthread"],
    ),
    _library(
        "benchmark_main",
        "libbenchmark-dev",
        _LIB + "/libbenchmark_main.a",
        linkopts = ["-l:libbenchmark_main.a"],
        deps = [":benchmark"],
    ),

    # Parts of the C library with a switch of their own.
    _library("dl", "libc6-dev", _INCLUDE + "/dlfcn.h", linkopts = ["-ldl"]),
    _library("pthread", "libc6-dev", _INCLUDE + "/pthread.h", linkopts = ["-pthread"]),
]

# Programs that the build runs: name, package, path.
_PROGRAMS = [
    ("flatc", "flatbuffers-compiler", "/usr/bin/flatc"),
    ("llvm-config", "llvm-19-dev", "/usr/bin/llvm-config-19"),
    ("pkg-config", "pkg-config", "/usr/bin/pkg-config"),
]

def _output_words(repository_ctx, command):
    result = repository_ctx.execute(command)
    if result.return_code != 0:
        fail("@system: `{}` failed: {}".format(" ".join(command), result.stderr))
    return [word for word in result.stdout.replace("\n", " ").split(" ") if word]

def _fail_if_missing(repository_ctx):
    wanted = [(row.package, row.file) for row in LIBRARIES] + [(package, path) for _, package, path in _PROGRAMS]
    missing = {package: path for package, path in wanted if not repository_ctx.path(path).exists}
    if missing:
        fail("\n\nTessera needs system packages that are not installed (looked for {}). Install them with\n\n".format(
            ", ".join(sorted(missing.values())),
        ) + "    apt-get install {}\n".format(" ".join(sorted(missing.keys()))))

def _llvm_linkopts(repository_ctx):
    """The shared library; for a binary that travels (.bazelrc, --config=travel) the archives."""
    if repository_ctx.os.environ.get("TESSERA_LLVM") != "static":
        return ["-L/usr/lib/llvm-19/lib", "-lLLVM-19"]
    words = _output_words(
        repository_ctx,
        ["/usr/bin/llvm-config-19", "--link-static", "--libs"] + _LLVM_STATIC_COMPONENTS,
    )

    # Debian registers Polly as an extension of every static build; nothing here uses it or would register it.
    libraries = [word for word in words if not word.startswith("-lPolly")]
    start = "-Wl,--defsym=LLVMInitialize{}{}=LLVMInitialize{}{}"
    parts = ["TargetInfo", "Target", "TargetMC", "AsmPrinter"]
    starts = [start.format(name, part, "NVPTX", part) for name in _LLVM_LEFT_OUT for part in parts]
    starts += [start.format(name, "AsmParser", "AMDGPU", "AsmParser") for name in _LLVM_LEFT_OUT + ["AArch64"]]
    switches = ["-L/usr/lib/llvm-19/lib", "-Wl,--gc-sections", "-Wl,--defsym=_Z18getPollyPluginInfov=0"]
    return switches + starts + libraries + [
        "-l:libzstd.a",
        "-l:libz.a",
        "-lrt",
        "-ldl",
        "-lm",
    ]

def _absl_linkopts(repository_ctx):
    words = _output_words(
        repository_ctx,
        ["/usr/bin/pkg-config", "--libs", "absl_flat_hash_map", "absl_flat_hash_set", "absl_str_format"],
    )

    # The archive, not the shared object, so that a binary does not ask for the package where it runs.
    archives = ["-l:lib{}.a".format(word[2:]) for word in words if word.startswith("-labsl_")]
    return ["-Wl,--start-group"] + archives + ["-Wl,--end-group", "-lrt"]

def _call(rule_name, **attributes):
    """The text of a rule's instantiation."""
    return "{}({})".format(rule_name, ", ".join(["{} = {}".format(key, repr(attributes[key])) for key in attributes]))

def _system_repository(repository_ctx):
    _fail_if_missing(repository_ctx)
    answers = {
        "@absl@": _absl_linkopts(repository_ctx),
        "@llvm@": _llvm_linkopts(repository_ctx),
    }
    build = [
        "# Written by third_party/system.bzl.",
        'load("@tessera//third_party:cc_system_library.bzl", "cc_system_library")',
        'package(default_visibility = ["//visibility:public"])',
    ]
    for row in LIBRARIES:
        linkopts = []
        for word in row.linkopts:
            linkopts += answers.get(word, [word])
        visibility = "//visibility:public" if row.users == "all" else "@tessera//:" + row.users
        build.append(_call(
            "cc_system_library",
            name = row.name,
            system_includes = row.includes,
            defines = row.defines,
            linkopts = linkopts,
            deps = row.deps,
            visibility = [visibility],
        ))

    # lld's headers are the only ones outside /usr/include: they are few, so they become files of this repository.
    repository_ctx.symlink("/usr/lib/llvm-19/include/lld", "lld_include/lld")
    build.append('LLD_HEADERS = glob(["lld_include/**"])')
    build.append(_call(
        "cc_library",
        name = "lld",
        includes = ["lld_include"],
        deps = [":lld_archives", ":llvm"],
        visibility = ["@tessera//:llvm_users"],
    )[:-1] + ", hdrs = LLD_HEADERS)")

    repository_ctx.symlink("/usr/bin/flatc", "bin/flatc")
    build.append('exports_files(["bin/flatc"])')
    build.append('filegroup(name = "flatc", srcs = ["bin/flatc"])')
    repository_ctx.file("BUILD", "\n".join(build) + "\n")

system_repository = repository_rule(
    implementation = _system_repository,
    environ = ["TESSERA_LLVM"],
    local = True,
    doc = "The system's libraries as targets; see the head of this file.",
)
