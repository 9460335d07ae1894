// DataSet: the samples that a user names for calibration or for accuracy, as tensors for the inputs of one network.
//
//   ASSIGN_OR_RETURN(DataSet data, OpenDataSet(graph, "images.npz", FashionSplit::kTrain));
//   std::vector<Tensor> inputs;
//   while (*data.Next(inputs)) …
//
//   fashion, fashion:500        Fashion-MNIST from Debian's package, with labels; the first 500
//   random:SEED, random:1:64    seeded values, 16 or as many samples: ranges of noise, not of data
//   images.npy                  one sample, or as many as are stacked along a first dimension
//   data.npz                    an array for each input, by its name, stacked likewise; `labels` beside them, if any
//   list.txt                    paths of .npy files, one a line, seen from the list's folder
//   folder/                     its .npy files by name, or, where they are named after inputs, one for each input
//
// A network with one input takes an array of any name. Where its batch is above 1, samples are taken so many at a time
// and those that do not fill one are left out. Not for sharing between threads. Tested by data_set_test.cc.
#ifndef TESSERA_TOOLS_COMMON_DATA_SET_H_
#define TESSERA_TOOLS_COMMON_DATA_SET_H_

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "graph/graph.h"
#include "tools/common/fashion.h"

namespace tessera {

class DataSet {
 public:
  // Runs of the network that the samples fill.
  int64_t size() const { return size_; }
  // Fills `inputs` with the next sample, in the order of the graph's inputs; false: there is none left.
  StatusOr<bool> Next(std::vector<Tensor>& inputs);
  void Rewind() { next_ = 0; }
  // The class of each row of each sample; empty where it is not known.
  const std::vector<int64_t>& labels() const { return labels_; }
  const std::string& description() const { return description_; }

 private:
  friend StatusOr<DataSet> OpenDataSet(const Graph& graph, const std::string& spec, FashionSplit split);
  const Graph* graph_ = nullptr;  // of random samples; outlives them
  uint64_t seed_ = 0;
  std::vector<TensorType> types_;
  std::vector<Tensor> stacks_;  // by input: size_ samples
  int64_t size_ = 0, next_ = 0;
  std::vector<int64_t> labels_;
  std::string description_;
};

// `graph` outlives the result. TES-2001 for a text that is none of the above, TES-1105 and 1107 for arrays that do not
// fit an input, TES-1201 for an input that has none.
StatusOr<DataSet> OpenDataSet(const Graph& graph, const std::string& spec, FashionSplit split);

// How many of the labelled rows get the class of their label: the largest of the network's first output. The network is
// compiled and run on all samples. TES-1105 where its first output is not [batch, classes].
StatusOr<int64_t> CountRight(const Graph& graph, DataSet& data, int threads);

}  // namespace tessera

#endif  // TESSERA_TOOLS_COMMON_DATA_SET_H_
