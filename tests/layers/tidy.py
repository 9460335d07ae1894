"""What a machine can see of STYLE.md: each rule below is a function that yields what it found, and says what to do.

    tests/layers/tidy.py [ROOT]      prints every finding as `path:line: what; what to do` and fails if there is one

RULES_OF_A_FILE look at one file's text, RULES_OF_THE_TREE at all files together. To add a rule: a function and its row
here, a case with a fault in tidy_test.py, a line in STYLE.md.
Tested by tidy_test.py (the rules, on texts with one fault each); run on this tree by the target :tidy.
"""

import pathlib
import re
import shutil
import subprocess
import sys

LINES_OF_A_FILE = 600
LINES_OF_A_FUNCTION = 150
COLUMNS = 120
BYTES_OF_A_FILE = 5_000_000

CODE = (".cc", ".h", ".def", ".py", ".bzl", ".sh", ".fbs")
CPP = (".cc", ".h")
# Text whose lines a machine or another project laid out.
FREE_TEXT = (".md", ".txt", ".svg", ".csv", ".json", ".jsonl", ".tesa", ".tess", ".ll", ".ptx", ".html")


def is_code(path):
    name = path.rsplit("/", 1)[-1]
    return path.endswith(CODE) or name in ("BUILD", "WORKSPACE", "check", "quickstart", "run")


def head(text):
    """The comment at the top of a file, as one string."""
    lines = []
    if text.startswith('"""'):
        return text[3:].split('"""')[0]
    for line in text.splitlines()[:60]:
        if line.startswith(("//", "#!", "# ", "#\n")) or line == "#":
            lines.append(line.lstrip("/#! "))
        elif lines or line.strip():
            break
    return "\n".join(lines)


# ---- rules of a file: (path, text) -> findings (line, what)


def check_guard(path, text):
    """A header's include guard is its path."""
    if not path.endswith(".h"):
        return
    guard = "TESSERA_" + re.sub(r"[^A-Z0-9]", "_", path.upper()) + "_"
    if not all(part.format(guard) in text for part in ("#ifndef {0}\n#define {0}\n", "#endif  // {0}\n")):
        yield 1, "the include guard is not {}".format(guard)


def check_opens_with_prose(path, text):
    """A file says what it is; a .cc may leave that to its header, a test to its name."""
    if path.endswith((".h", ".py", ".bzl", ".sh", ".def", ".fbs")) and len(head(text)) < 40:
        yield 1, "the file does not open with prose: what it is, why it exists, an example, what tests it"


def check_own_header_first(path, text):
    """x.cc and x_test.cc include x.h first, which shows that x.h stands on its own."""
    if not path.endswith(".cc"):
        return
    own = re.sub(r"(_test|_benchmark)?\.cc$", ".h", path)
    includes = re.findall(r'^#include ["<]([^">]+)[">]', text, re.MULTILINE)
    if own in includes and includes[0] != own:
        yield 1, 'the first include is not "{}"'.format(own)


def check_includes(path, text):
    """Includes name files from the root, headers open no namespace to all, errors are not exceptions."""
    if not path.endswith(CPP):
        return
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(r'#include "\.\.?/', line):
            yield number, "a relative include; name the file from the root of the workspace"
        if path.endswith(".h") and re.match(r"\s*using namespace ", line):
            yield number, "a header opens a namespace for all who include it; name what you use"


def check_length(path, text):
    """A long file says at its top why it is one thing."""
    lines = text.count("\n")
    if is_code(path) and lines > LINES_OF_A_FILE and not re.search(r"\b[Oo]ne (thing|file)\b", head(text)):
        yield 1, "{} lines; split it, or say at the top why it is one thing".format(lines)


def check_functions(path, text):
    """A function fits a few screens; tables and the bodies of data files are exempt by their form."""
    if not path.endswith(".cc"):
        return
    start = None
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(r"[A-Za-z_~].*\)( const| noexcept| override)* \{$", line) and not line.startswith("namespace"):
            start = number
        elif line.startswith("}") and start is not None:
            lines = number - start
            if lines > LINES_OF_A_FUNCTION:
                yield start, "a function of {} lines; more than {} is several".format(lines, LINES_OF_A_FUNCTION)
            start = None


def check_lines(path, text):
    """Lines fit (C++ by clang-format), end cleanly, and hold no tabs; the file ends with a newline."""
    if not is_code(path):
        return
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > COLUMNS and "http" not in line and not path.endswith(CPP):
            yield number, "{} columns; {} is the limit".format(len(line), COLUMNS)
        if line != line.rstrip():
            yield number, "blanks at the end of the line"
        if "\t" in line:
            yield number, "a tab; indent with blanks"
    if text and not text.endswith("\n"):
        yield text.count("\n") + 1, "no newline at the end of the file"


def check_unfinished(path, text):
    """Nothing is left for later: it is done, or it is an issue."""
    words = r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK|not imple" r"mented|unimple" r"mented)\b"
    if not is_code(path):
        return
    for number, line in enumerate(text.splitlines(), 1):
        if re.search(words, line):
            yield number, "something left for later; finish it or file it"


def check_machine_paths(path, text):
    """No path of somebody's machine."""
    for number, line in enumerate(text.splitlines(), 1):
        if re.search(r"(?<![\w.}$~/-])/(root|work|home|tmp/w)/", line):
            yield number, "an absolute path of one machine; derive it"


def check_build(path, text):
    """C++ rules come from rules_cc, and only the engine is public."""
    if not path.endswith("/BUILD") or path.startswith("third_party/"):
        return
    if re.search(r"^cc_(library|binary|test)\(", text, re.MULTILINE) and "@rules_cc//cc:defs.bzl" not in text:
        yield 1, 'cc rules without load("@rules_cc//cc:defs.bzl", …)'
    public = text.find("//visibility:public")
    if public >= 0 and path.split("/")[0] not in ("engine", "examples"):
        yield text[:public].count("\n") + 1, "public to everybody; name the package group of its layer (//:BUILD)"


RULES_OF_A_FILE = [
    check_guard,
    check_opens_with_prose,
    check_own_header_first,
    check_includes,
    check_length,
    check_functions,
    check_lines,
    check_unfinished,
    check_machine_paths,
    check_build,
]


# ---- rules of the tree: {path: text} -> findings (path, line, what)


def check_tested(files):
    """x.{h,cc} has x_test.cc beside it, or its head says which test covers it ("Tested by …")."""
    for path, text in files.items():
        if not path.endswith(".h") or path[:-2] + ".cc" not in files or path[:-2] + "_test.cc" in files:
            continue
        if "/testing/" in path:  # what tests are made of is tested by them
            continue
        named = re.search(r"[Tt]ested by\s+(?:the\s+)?([\w/.{},* -]+)", head(text))
        names = re.findall(r"[\w/]+_test(?:\.cc|\.py)?|tests/\w+", named.group(1)) if named else []
        if not any(other.find(re.sub(r"\.(cc|py)$", "", name)) >= 0 for name in names for other in files):
            yield path, 1, "no {}_test.cc beside it, and its head names no test that exists".format(path[:-2])


def check_rows_tested(files):
    """Every row of a .def file is mentioned by a test, or a test walks the whole table and names it by its path."""
    tests = {path: text for path, text in files.items() if re.search(r"_test\.(cc|py)$", path)}
    everything = "\n".join(tests.values())
    for path, text in files.items():
        if not path.endswith(".def"):
            continue
        if path in everything:
            continue
        names = re.findall(r"^[A-Z][A-Z_0-9]*\(\s*\"?([\w.]+)\"?", text, re.MULTILINE)
        missing = [name for name in names if not re.search(r"\bk?{}\b".format(re.escape(name)), everything)]
        if missing:
            yield path, 1, "no test names {}, or walks the table and says so by its path".format(", ".join(missing))


def check_readmes(files):
    """Every folder at the top has its README.md: what it is, its invariants, how to add one."""
    for folder in sorted({path.split("/")[0] for path in files if "/" in path and not path.startswith(".")}):
        if folder + "/README.md" not in files:
            yield folder, 1, "no README.md"


def check_rooms(files):
    """ARCHITECTURE.md's list of rooms has each folder at the top, and no folder that is not there."""
    text = files.get("ARCHITECTURE.md", "")
    rooms = set(re.findall(r"^([a-z_]+)/ ", text, re.MULTILINE))
    folders = {path.split("/")[0] for path in files if "/" in path and not path.startswith(".")}
    for folder in sorted(folders - rooms):
        yield "ARCHITECTURE.md", 1, "the rooms lack {}/".format(folder)
    for folder in sorted(rooms - folders):
        yield "ARCHITECTURE.md", 1, "the rooms have {}/, the tree has not".format(folder)


def check_packages(files):
    """packages.txt, system.bzl and third_party/README.md tell of the same packages."""
    listed = re.findall(r"^(?:build|test) (\S+)$", files.get("third_party/packages.txt", ""), re.MULTILINE)
    rows = re.findall(r'_library\(\s*"[\w-]+",\s*"([\w+.-]+)"', files.get("third_party/system.bzl", ""))
    for name in sorted(set(rows) - set(listed) - {"libc6-dev"}):
        yield "third_party/packages.txt", 1, "{} is a row of system.bzl; list it".format(name)
    for name in listed:
        if "`{}`".format(name) not in files.get("third_party/README.md", ""):
            yield "third_party/README.md", 1, "does not say why {} is here".format(name)


RULES_OF_THE_TREE = [check_tested, check_rows_tested, check_readmes, check_rooms, check_packages]


def check_sizes(root, paths):
    for path in paths:
        size = (root / path).stat().st_size
        if size > BYTES_OF_A_FILE:
            yield path, 1, "{:.1f} MB; the tree is no place for large files".format(size / 1e6)


def check_format(root, paths):
    """What `./check --format` would change."""
    program = shutil.which("clang-format-19")
    if program is None:
        yield ".clang-format", 1, "clang-format-19 is not installed; ./check --setup installs it"
        return
    sources = [path for path in paths if path.endswith(CPP)]
    if not sources:
        return
    answer = subprocess.run([program, "--dry-run"] + sources, cwd=root, capture_output=True, text=True)
    first = {}
    for path, line in re.findall(r"^(\S+?):(\d+):\d+: warning: code should be", answer.stderr, re.MULTILINE):
        first.setdefault(path, int(line))
    for path, line in first.items():
        yield path, line, "not as clang-format-19 lays it out, here and perhaps below; ./check --format"


def tree(root):
    """The files that git knows or would add, without what it ignores."""
    listing = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    answer = subprocess.run(listing, cwd=root, capture_output=True, check=True)
    return [path for path in answer.stdout.decode().split("\0") if path and (root / path).is_file()]


def check_texts(files):
    """All findings of both lists of rules on {path: text}, as (path, line, what)."""
    for path, text in files.items():
        for rule in RULES_OF_A_FILE:
            for line, what in rule(path, text):
                yield path, line, what
    for rule in RULES_OF_THE_TREE:
        yield from rule(files)


def read_text(path):
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


def main(root):
    paths = tree(root)
    files = {path: text for path in paths for text in [read_text(root / path)] if text is not None}
    findings = list(check_texts(files)) + list(check_sizes(root, paths)) + list(check_format(root, paths))
    for path, line, what in sorted(set(findings)):
        print("{}:{}: {}".format(path, line, what))
    print("{} files looked at, {} findings".format(len(paths), len(set(findings))))
    return 1 if findings else 0


if __name__ == "__main__":
    # Under Bazel this file is a link into the tree, which is the root to look at.
    DEFAULT = pathlib.Path(__file__).resolve().parent.parent.parent
    sys.exit(main(pathlib.Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else DEFAULT))
