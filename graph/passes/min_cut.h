// min_cut: the cheapest way to part a directed graph in two.
//
//   MinCut cut(num_nodes);
//   cut.AddEdge(a, b, 5);                            // costs 5 when a is on the source's side and b is not
//   std::vector<bool> on_source_side = cut.Solve(source, sink);
//
// Dinic's algorithm: shortest augmenting paths found in phases, without recursion. Of several cheapest cuts the one
// with the smallest source side. Tested by min_cut_test.cc.
#ifndef TESSERA_GRAPH_PASSES_MIN_CUT_H_
#define TESSERA_GRAPH_PASSES_MIN_CUT_H_

#include <cstdint>
#include <vector>

namespace tessera {

class MinCut {
 public:
  static constexpr int64_t kUncuttable = int64_t{1} << 60;

  explicit MinCut(int num_nodes) : edges_of_(num_nodes) {}

  // One more node; its number.
  int AddNode();
  void AddEdge(int from, int to, int64_t cost);
  // Which nodes are on the source's side. Consumes the costs; call once.
  std::vector<bool> Solve(int source, int sink);

 private:
  struct Edge {
    int to;
    int64_t left;  // capacity that is left; the edge back is the next or previous one
  };
  // Distances from the source over edges with capacity left; -1: not reached.
  std::vector<int> Levels(int source) const;

  std::vector<Edge> edges_;
  std::vector<std::vector<int>> edges_of_;
};

}  // namespace tessera

#endif  // TESSERA_GRAPH_PASSES_MIN_CUT_H_
