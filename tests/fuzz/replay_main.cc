// Runs a fuzz target on its seeds and on random damage to them for TESSERA_FUZZ_SECONDS (default 5), then says how many
// inputs it tried. Another seed of the damage: TESSERA_FUZZ_SEED. A crash leaves the input in fuzz_input.bin of the
// test's output folder; given a file's path as argument, only that input is run.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>

#include "tesa/random.h"
#include "tests/fuzz/target.h"

namespace tessera {
namespace {

// Numbers at which sizes, counts and indices go wrong.
constexpr int64_t kEdges[] = {0,
                              1,
                              -1,
                              2,
                              16,
                              64,
                              127,
                              128,
                              255,
                              256,
                              32767,
                              65535,
                              65536,
                              INT32_MAX,
                              INT32_MIN,
                              INT64_MAX,
                              INT64_MIN,
                              int64_t{1} << 32,
                              int64_t{1} << 40};

size_t Place(Random& random, const std::string& text) {
  return static_cast<size_t>(random.Int(0, static_cast<int64_t>(text.size()) - 1));
}

void Damage(Random& random, const std::vector<std::string>& seeds, std::string& text) {
  for (int64_t k = random.Int(1, 4); k > 0; --k) {
    if (text.empty()) text = "x";
    const size_t at = Place(random, text);
    const size_t room = text.size() - at;
    switch (random.Int(0, 6)) {
      case 0:
      case 1: text[at] ^= static_cast<char>(1 << random.Int(0, 7)); break;
      case 2: text[at] = static_cast<char>(random.Int(0, 255)); break;
      case 3: {  // an edge, at a place where a number of its width may lie
        const int64_t edge = kEdges[random.Int(0, static_cast<int64_t>(std::size(kEdges)) - 1)];
        const size_t width = size_t{1} << random.Int(0, 3);
        const size_t aligned = at / width * width;
        const char* bytes = reinterpret_cast<const char*>(&edge);
        std::copy_n(bytes, std::min(width, text.size() - aligned), text.begin() + static_cast<int64_t>(aligned));
        break;
      }
      case 4: text.erase(at, static_cast<size_t>(random.Int(1, 40))); break;
      case 5: {  // a piece of another seed
        const std::string& other = seeds[static_cast<size_t>(random.Int(0, static_cast<int64_t>(seeds.size()) - 1))];
        if (other.empty()) break;
        const size_t from = Place(random, other);
        const size_t length = std::min({other.size() - from, room, static_cast<size_t>(random.Int(1, 64))});
        text.replace(at, length, other, from, length);
        break;
      }
      default: text.insert(at, text, at, std::min<size_t>(room, static_cast<size_t>(random.Int(1, 40)))); break;
    }
  }
}

double Setting(const char* name, double otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::atof(text) : otherwise;
}

int Run(const std::string& input) {
  return LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
}

int Replay() {
  const std::vector<std::string> seeds = Seeds();
  for (const std::string& seed : seeds) Run(seed);
  const char* folder = std::getenv("TEST_UNDECLARED_OUTPUTS_DIR");
  const std::string path = folder != nullptr ? std::string(folder) + "/fuzz_input.bin" : "";
  const auto seed = static_cast<uint64_t>(Setting("TESSERA_FUZZ_SEED", 1));
  Random random(seed);
  const std::chrono::duration<double> allowed(Setting("TESSERA_FUZZ_SECONDS", 5));
  const auto start = std::chrono::steady_clock::now();
  int64_t count = 0;
  while (std::chrono::steady_clock::now() - start < allowed) {
    std::string input = seeds[static_cast<size_t>(count) % seeds.size()];
    Damage(random, seeds, input);
    if (!path.empty()) std::ofstream(path, std::ios::binary).write(input.data(), static_cast<int64_t>(input.size()));
    Run(input);
    ++count;
  }
  if (!path.empty()) std::remove(path.c_str());
  std::printf("%zu seeds and %lld damaged inputs (seed %llu)\n", seeds.size(), static_cast<long long>(count),
              static_cast<unsigned long long>(seed));
  return 0;
}

}  // namespace
}  // namespace tessera

int main(int argc, char** argv) {
  if (argc < 2) return tessera::Replay();
  std::ifstream file(argv[1], std::ios::binary);
  return tessera::Run(std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()));
}
