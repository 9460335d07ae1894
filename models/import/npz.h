// npz: reads NumPy's .npz archives: several .npy files under their names in one zip file.
//
//   ASSIGN_OR_RETURN(const auto arrays, ReadNpz("calibration.npz"));
//   arrays.at("image").shape()
//
// What numpy.savez and savez_compressed write: entries stored or deflated, below 4 GiB in all. An archive is hostile
// input: TES-1005 says what is wrong with it and in which entry, TES-1008 where it unpacks to more than the limit.
// Thread-safe. Tested by npz_test.cc.
#ifndef TESSERA_MODELS_IMPORT_NPZ_H_
#define TESSERA_MODELS_IMPORT_NPZ_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "base/status.h"
#include "tesa/tensor.h"

namespace tessera {

// Arrays by name, without ".npy".
StatusOr<std::map<std::string, Tensor>> ReadNpz(const std::string& path);
// `name` stands for the path in messages; `max_bytes` is a limit of what all entries unpack to.
StatusOr<std::map<std::string, Tensor>> ParseNpz(std::string_view bytes, const std::string& name,
                                                 uint64_t max_bytes = uint64_t{4} << 30);

}  // namespace tessera

#endif  // TESSERA_MODELS_IMPORT_NPZ_H_
