// classify MODEL.tess IMAGE.pgm: names the best class of a grey image, in one file: load, compile, run.
//
//   bazel run //tools:convert -- zoo:fashion_mobilenet -o fashion.tess
//   bazel run //examples:classify -- $PWD/fashion.tess $PWD/boot.pgm       # 28x28, binary PGM
//
// Uses nothing but engine/engine.h. The model takes one f32 input of as many elements as the image has pixels, which
// are given as pixel / 255, and gives one f32 output with a score for each class. Tested by tests/e2e.
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "engine/engine.h"

namespace {

// The pixels of a binary PGM of 8 bits; empty when it is none.
std::vector<unsigned char> ReadPgm(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string magic;
  long width = 0, height = 0, largest = 0;
  file >> magic >> width >> height >> largest;
  if (!file || magic != "P5" || width < 1 || height < 1 || width > 4096 || height > 4096 || largest != 255) return {};
  file.get();
  std::vector<unsigned char> pixels(static_cast<size_t>(width * height));
  file.read(reinterpret_cast<char*>(pixels.data()), static_cast<std::streamsize>(pixels.size()));
  return file ? pixels : std::vector<unsigned char>();
}

int Fail(const std::string& what) {
  std::fprintf(stderr, "%s\n", what.c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return Fail("usage: classify MODEL.tess IMAGE.pgm");
  tessera::StatusOr<tessera::Model> model = tessera::Model::Load(argv[1]);
  if (!model.ok()) return Fail(model.status().ToString());
  const std::vector<unsigned char> pixels = ReadPgm(argv[2]);
  if (pixels.empty()) return Fail(std::string(argv[2]) + ": expected a binary PGM image (P5) of 8 bits");
  if (model->inputs().size() != 1 || model->outputs().empty())
    return Fail("expected a model of one input and an output");

  tessera::StatusOr<tessera::Session> session = model->Compile({});
  if (!session.ok()) return Fail(session.status().ToString());
  const tessera::TensorInfo& input = session->inputs()[0];
  const tessera::TensorInfo& output = session->outputs()[0];
  std::vector<float> image(pixels.size()), scores(output.bytes / sizeof(float));
  std::transform(pixels.begin(), pixels.end(), image.begin(), [](unsigned char pixel) { return pixel / 255.0f; });
  const tessera::Status status = session->Run({{input.name, image.data(), image.size() * sizeof(float)}},
                                              {{output.name, scores.data(), scores.size() * sizeof(float)}});
  if (!status.ok()) return Fail(status.ToString());
  const auto best = std::max_element(scores.begin(), scores.end());
  std::printf("class %td of %zu, score %.3f\n", best - scores.begin(), scores.size(), *best);
  return 0;
}
