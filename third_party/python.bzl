"""python_test: a test written in Python, run by the interpreter that ./check prepared.

    load("//third_party:python.bzl", "python_test")
    python_test(name = "onnx_node_test", main = "onnx_node_test.py", data = ["//tools:run"], size = "large")

The script gets `args`, runs at the root of the runfiles (so paths from the workspace's root work, also as
`from tests.peers import compare`), and fails by its exit status. It may import numpy, onnx, onnxruntime and
ai_edge_litert (requirements.txt); with `peers = False` the system's Python runs it, with only the standard library.
"""

def python_test(name, main, data = [], args = [], peers = True, **kwargs):
    """A test whose body is the Python file `main`; further arguments as for sh_test.

    Args:
      name: the test.
      main: the .py file, in this package.
      data: files and programs that it reads; other .py files that it imports.
      args: its arguments.
      peers: whether it needs the packages of requirements.txt.
      **kwargs: size, timeout, tags, …
    """
    native.sh_test(
        name = name,
        srcs = ["//third_party:python_test.sh"],
        args = ["peers" if peers else "plain", "$(location {})".format(main)] + args,
        data = [main] + data,
        **kwargs
    )
