// npy: reads and writes NumPy's .npy files, the form in which tensors come from and go to other programs.
//
//   ASSIGN_OR_RETURN(Tensor x, ReadNpy("x.npy"));
//   RETURN_IF_ERROR(WriteNpy("y.npy", y));
//
// Versions 1 to 3 of the format (numpy/lib/format.py), numbers and bool; bytes of either order and Fortran order are
// turned round. Types that NumPy lacks are written as one that holds them: bf16 and f8 as f32, i4 as i8, u4 as u8. A
// file is hostile input: TES-1005 what is wrong with it and where; TES-1107 for text, structures and pickled objects.
// Thread-safe. Tested by npy_test.cc.
#ifndef TESSERA_MODELS_IMPORT_NPY_H_
#define TESSERA_MODELS_IMPORT_NPY_H_

#include <string>
#include <string_view>

#include "base/status.h"
#include "tesa/tensor.h"

namespace tessera {

StatusOr<Tensor> ReadNpy(const std::string& path);
// `name` stands for the path in messages.
StatusOr<Tensor> ParseNpy(std::string_view bytes, const std::string& name);

// Replaces the file as a whole or not at all.
Status WriteNpy(const std::string& path, const Tensor& tensor);
std::string NpyBytes(const Tensor& tensor);

}  // namespace tessera

#endif  // TESSERA_MODELS_IMPORT_NPY_H_
