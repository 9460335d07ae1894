"""A compiled Tessera model in Python, through the C interface (engine/c_api.h) and ctypes: our side of each peer.

    session = Session(ctypes.CDLL("bazel-bin/engine/libengine.so"), "model.tess", threads=2)
    outputs = session.run_all({"x": array})

Structures mirror c_api.h; an error ends the program with the library's own message.
"""

import ctypes
import os
import sys
import time

import numpy as np

TYPES = {b"f16": np.float16, b"f32": np.float32,
         b"f64": np.float64, b"i64": np.int64, b"i32": np.int32, b"u8": np.uint8, b"i8": np.int8}


class TensorInfo(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("type", ctypes.c_char_p), ("shape", ctypes.POINTER(ctypes.c_int64)),
                ("rank", ctypes.c_size_t), ("bytes", ctypes.c_size_t)]


class Options(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("target", ctypes.c_char_p), ("threads", ctypes.c_int),
                ("cache_dir", ctypes.c_char_p), ("sparsity", ctypes.c_int), ("on_collapse", ctypes.c_char_p),
                ("propagate", ctypes.c_int), ("fallback", ctypes.c_char_p), ("tier", ctypes.c_char_p)]


class Port(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("data", ctypes.c_void_p), ("bytes", ctypes.c_size_t)]


class Session:
    """One model, loaded and compiled; `load_s` and `compile_s` say how long that took."""

    def __init__(self, library, path, threads, cache_dir=None, target=None, tier="final"):
        self.lib = library
        self.lib.tessera_last_error.restype = ctypes.c_char_p
        self.lib.tessera_model_num_outputs.restype = ctypes.c_size_t
        model, self.session = ctypes.c_void_p(), ctypes.c_void_p()
        start = time.perf_counter()
        self.check(self.lib.tessera_model_load(os.fsencode(path), ctypes.byref(model)))
        self.load_s = time.perf_counter() - start
        cache = os.fsencode(cache_dir) if cache_dir else None
        options = Options(ctypes.sizeof(Options), target.encode() if target else None, threads, cache, 1, None, 1,
                          None, tier.encode())
        self.check(self.lib.tessera_model_compile(model, ctypes.byref(options), ctypes.byref(self.session)))
        self.compile_s = time.perf_counter() - start - self.load_s
        self.model = model
        count = self.lib.tessera_model_num_outputs(model)
        self.output_arrays, self.ports = [], []
        info = TensorInfo()
        for k in range(count):
            self.check(self.lib.tessera_model_output(model, ctypes.c_size_t(k), ctypes.byref(info)))
            self.output_arrays.append(np.zeros([info.shape[d] for d in range(info.rank)], TYPES[info.type]))
            array = self.output_arrays[-1]
            self.ports.append(Port(info.name, array.ctypes.data, array.nbytes))
        self.outputs = (Port * count)(*self.ports)

    def check(self, code):
        if code != 0:
            sys.exit(self.lib.tessera_last_error().decode())

    def bind(self, arrays):
        """Later runs read these arrays, by name; they are kept alive."""
        self.arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        ports = [Port(name.encode(), array.ctypes.data, array.nbytes) for name, array in self.arrays.items()]
        self.inputs = (Port * len(ports))(*ports)
        self.args = (self.session, self.inputs, ctypes.c_size_t(len(ports)), self.outputs,
                     ctypes.c_size_t(len(self.ports)))

    def bind_pointers(self, inputs, outputs):
        """Later runs read and write these places, {name: (address, bytes)}: of the host, or of the target's card."""
        ports = [(Port * len(places))(*[Port(name.encode(), *place) for name, place in places.items()])
                 for places in (inputs, outputs)]
        self.args = (self.session, ports[0], ctypes.c_size_t(len(inputs)), ports[1], ctypes.c_size_t(len(outputs)))

    def measure(self, runs):
        """Microseconds of one inference on the device's own clock, `runs` back to back without copies."""
        us = ctypes.c_double()
        self.check(self.lib.tessera_session_measure(self.session, runs, ctypes.byref(us)))
        return us.value

    def await_final_tier(self):
        """Later runs are the final program's."""
        self.check(self.lib.tessera_session_await_final_tier(self.session))

    def free(self):
        self.lib.tessera_session_free(self.session)
        self.lib.tessera_model_free(self.model)

    def run(self):
        return self.lib.tessera_session_run(*self.args)

    def run_all(self, arrays):
        """Copies of all outputs, in the model's order."""
        self.bind(arrays)
        self.check(self.run())
        return [array.copy() for array in self.output_arrays]
