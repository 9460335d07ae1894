"""The walls between the layers, checked on Bazel's own graph of targets; `./check --walls` runs it.

Visibility (//:BUILD) stops a wrong edge while Bazel loads. This asks the other question: is there any *path*,
through whatever targets, from a folder to something that it must not reach? When there is, the shortest one is
printed, with the reason for which the wall stands. The graph comes from one `bazel query 'deps(//...)'`; the walls
are the lists below.
Tested by walls_test.py, on graphs with holes in them.
"""

import collections
import subprocess
import sys

# A folder may use only folders on lines above it; two folders on one line may not use each other.
LAYERS = [
    ["base"],
    ["tesa"],
    ["graph"],
    ["propagate", "runtime"],
    ["codegen"],
    ["engine"],
    ["models"],
    ["tools"],
    ["tests"],
]

# What a wall keeps out, by the name that its lines print: folders of ours or targets of the system.
PLACES = {
    "graph": ["graph"],
    "LLVM": ["@system//:" + name for name in ("llvm", "llvm_static", "lld", "lld_static", "lld_archives")],
    "protobuf": ["@system//:protobuf", "@system//:onnx_proto"],
    "ops or their algebra": ["//graph:op", "//graph:point_evaluator", "propagate/algebra"],
}

# (from, to, reason): no path may lead from a folder or a target of `from` to the place `to`.
NO_PATH = [
    (["runtime"], "graph", "a compiled program runs without the network that it came from"),
    (["runtime"], "LLVM", "a compiled program runs where no LLVM is installed, on a library under 2 MiB"),
    (["base", "tesa", "graph", "propagate"], "LLVM", "only codegen sees LLVM: all above it builds and tests quickly"),
    (["propagate/learn"], "ops or their algebra",
     "a rule is learned from runs of a callable alone; what it finds is then held against the algebra"),
    (["engine"], "protobuf", "a program that embeds the library does not carry protobuf; importers do"),
]

# (to, users, reason): only packages below the folders `users` may name the place `to` in their deps.
ONLY_DIRECTLY = [
    ("LLVM", ["codegen"], "one folder knows LLVM, so that one folder changes with it"),
    ("protobuf", ["models/import"], "the importer of ONNX is the only door to protobuf"),
]

# Folders outside the table: what they may name in their deps.
EXAMPLES_MAY_USE = ["engine", "examples"]


def package(label):
    """'graph/ops' for '//graph/ops:conv.cc'; '' at the root; None outside this workspace."""
    return label[2:].split(":")[0] if label.startswith("//") else None


def top_folder(label):
    """'graph' for '//graph/ops:conv.cc'; None outside this workspace."""
    name = package(label)
    return None if name is None else name.split("/")[0]


def is_below(label, folder):
    """Whether label lies in the folder or below it."""
    name = package(label)
    return name is not None and (name == folder or name.startswith(folder + "/"))


def is_in(label, place):
    """Whether label belongs to the place of PLACES."""
    return any(label == part or is_below(label, part) for part in PLACES[place])


def shortest_path(edges, starts, is_goal):
    """The labels from one of `starts` to the nearest label for which is_goal holds; [] when there is none."""
    previous = {start: None for start in starts}
    queue = collections.deque(starts)
    while queue:
        label = queue.popleft()
        if is_goal(label):
            path = [label]
            while previous[path[-1]] is not None:
                path.append(previous[path[-1]])
            return path[::-1]
        for other in sorted(edges.get(label, ())):
            if other not in previous:
                previous[other] = label
                queue.append(other)
    return []


def check_no_path(edges):
    """Yields (wall, problem) for each pair of NO_PATH; problem is '' when the wall stands."""
    for sources, place, reason in NO_PATH:
        for source in sources:
            starts = sorted(label for label in edges if label == source or is_below(label, source))
            path = shortest_path(edges, starts, lambda label: is_in(label, place))
            name = "//{} does not reach {}".format(source.lstrip("/"), place)
            yield name, "{} ({})".format("\n      -> ".join(path), reason) if path else ""


def check_layers(edges):
    """Yields (wall, problem) for each folder of LAYERS: it uses only folders on lines above it."""
    line = {folder: number for number, row in enumerate(LAYERS) for folder in row}
    for folder, own in line.items():
        problems = []
        for label in sorted(edges):
            if top_folder(label) != folder:
                continue
            for other in sorted(edges[label]):
                used = top_folder(other)
                if used in line and used != folder and line[used] >= own:
                    problems.append("{}\n      -> {}".format(label, other))
        yield "//{} uses only layers above it".format(folder), "\n      ".join(problems)


def check_direct_users(edges):
    """Yields (wall, problem) for each row of ONLY_DIRECTLY, and for the examples."""
    for place, users, reason in ONLY_DIRECTLY:
        problems = []
        for label in sorted(edges):
            if label.startswith("@") or any(is_below(label, user) for user in users):
                continue
            named = [other for other in sorted(edges[label]) if is_in(other, place)]
            problems += ["{}\n      -> {} ({})".format(label, other, reason) for other in named]
        yield "only //{} names {}".format(" //".join(users), place), "\n      ".join(problems)
    problems = []
    for label in sorted(edges):
        if top_folder(label) != "examples":
            continue
        for other in sorted(edges[label]):
            if top_folder(other) not in [None, ""] + EXAMPLES_MAY_USE:
                problems.append("{}\n      -> {} (an example shows what a user can do)".format(label, other))
    yield "//examples uses only //engine", "\n      ".join(problems)


def check(edges):
    """All walls, as (wall, problem); problem is '' when the wall stands."""
    return list(check_no_path(edges)) + list(check_layers(edges)) + list(check_direct_users(edges))


def parse_graph(text):
    """Label -> set of the labels it depends on, from `bazel query --output=graph --nograph:factored`."""
    edges = collections.defaultdict(set)
    for line in text.splitlines():
        words = line.split('"')
        if len(words) == 5 and words[2].strip() == "->":
            edges[words[1]].add(words[3])
            edges.setdefault(words[3], set())
        elif len(words) == 3 and words[0].strip() == "":
            edges.setdefault(words[1], set())
    return dict(edges)


def main():
    flags = ["--noimplicit_deps", "--noshow_progress", "--output=graph", "--nograph:factored"]
    answer = subprocess.run(["bazel", "query"] + flags + ["deps(//...)"], capture_output=True, text=True)
    if answer.returncode != 0:
        print("FAILED the graph of targets loads\n      " + answer.stderr.strip().replace("\n", "\n      "))
        return 1
    results = check(parse_graph(answer.stdout))
    for name, problem in results:
        print("{} {}{}".format("FAILED" if problem else "ok", name, "\n      " + problem if problem else ""))
    return 1 if any(problem for _, problem in results) else 0


if __name__ == "__main__":
    sys.exit(main())
