"""Tests libengine.so as another language meets it: its exported names, and a model loaded and run through ctypes."""

import ctypes
import os
import subprocess
import sys
import unittest

LIBRARY, MODEL = (os.path.abspath(path) for path in sys.argv[1:3])


class Input(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("data", ctypes.c_void_p), ("bytes", ctypes.c_size_t)]


class Info(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("type", ctypes.c_char_p), ("shape", ctypes.POINTER(ctypes.c_int64)),
                ("rank", ctypes.c_size_t), ("bytes", ctypes.c_size_t)]


def load():
    library = ctypes.CDLL(LIBRARY)
    library.tessera_last_error.restype = ctypes.c_char_p
    return library


class LibengineTest(unittest.TestCase):

    def test_exports_the_public_interface_and_nothing_else(self):
        command = ["nm", "-D", "-C", "--defined-only", LIBRARY]
        listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        # A small letter: of this library alone, though gold lists what the thread-local ones among them need.
        lines = [line.split(" ", 2) for line in listing.splitlines()]
        names = [name for _, kind, name in lines if kind.isupper()]
        self.assertIn("tessera_model_load", names)
        self.assertTrue(any(name.startswith("tessera::Model::Load(") for name in names))
        public = ("tessera_", "tessera::Model::", "tessera::Session::", "tessera::Status::", "tessera::ErrorCode",
                  "tessera::operator<<(std::ostream&, tessera::Status const&)", "tessera::internal::CheckFailed")
        # The linker keeps instances of the standard library's templates visible, which other libraries share.
        self.assertEqual([], [name for name in names if not name.startswith(public + ("std::",))])

    def test_runs_a_model(self):
        library = load()
        model, session, info = ctypes.c_void_p(), ctypes.c_void_p(), Info()
        status = library.tessera_model_load(MODEL.encode(), ctypes.byref(model))
        self.assertEqual(0, status, library.tessera_last_error())
        self.assertEqual(0, library.tessera_model_input(model, 0, ctypes.byref(info)))
        self.assertEqual((b"x", b"f32", [2, 3]), (info.name, info.type, info.shape[:info.rank]))
        status = library.tessera_model_compile(model, None, ctypes.byref(session))
        self.assertEqual(0, status, library.tessera_last_error())
        x, y = (ctypes.c_float * 6)(1, 2, 3, 4, 5, 6), (ctypes.c_float * 6)()
        given = Input(b"x", ctypes.cast(x, ctypes.c_void_p), 24)
        wanted = Input(b"doubled", ctypes.cast(y, ctypes.c_void_p), 24)
        status = library.tessera_session_run(session, ctypes.byref(given), 1, ctypes.byref(wanted), 1)
        self.assertEqual(0, status, library.tessera_last_error())
        self.assertEqual([2, 4, 6, 8, 10, 12], list(y))
        library.tessera_session_free(session)
        library.tessera_model_free(model)

    def test_errors_come_back_with_their_text(self):
        library = load()
        model = ctypes.c_void_p()
        self.assertEqual(1001, library.tessera_model_load(b"/nonexistent/m.tess", ctypes.byref(model)))
        self.assertTrue(library.tessera_last_error().startswith(b"TES-1001: "))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
