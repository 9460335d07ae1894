// The attention emitter: scores, softmax and the weighed sum of a block of query rows without leaving a core's caches.
//
//   for head in the thread's share:                            batch and head are one number
//     Kᵀ = k[head] transposed, in panels of `vectors` registers                     scratch, D x T
//     for tile of `rows` query rows:
//       for panel of keys:    s[rows][vectors] += splat(q[row, d]) * Kᵀ[d, panel]   sums in registers, over d
//                             scores[rows, panel] = scale * s + mask                scratch, rows x T, first cache
//       for row:              scores = e^(scores - max); factor[row] = 1 / sum
//       for panel of columns: o[rows][vectors] += splat(scores[row, t]) * v[t, panel]     sums in registers, over t
//                             out[rows, panel] = epilogue(factor * o)
//
// Where the mask is a constant that leaves out whole panels (causal, banded, block-sparse), the loops over panels walk
// a list of those that a tile keeps (attention_mask.h), and rows of scores hold only these: the pattern is data, the
// kernel the same for all.
//
// Tasks are tiles, heads outermost, so that a thread's share is a run of heads and each is transposed once (twice where
// two threads share it). A tile is as high as the registers allow: rows * vectors sums, a row of panels and a
// broadcast. Positions may lie before heads or behind (layout): only the distance between rows differs.
//
// What binds: 2·S·T·(D + E) operations a head in multiply-adds, as in any matrix product; transposing adds one
// shuffle round for each S/rows tiles, softmax about 15 instructions for 16 scores, which is half of the multiply-adds
// at D = E = 32 and a quarter at 64.
#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/round.h"
#include "codegen/emit/attention_mask.h"
#include "codegen/emit/attention_problem.h"
#include "codegen/emit/body_emitter.h"
#include "codegen/emit/epilogue.h"
#include "codegen/emit/kernel_builder.h"
#include "codegen/emit/lane_transpose.h"
#include "codegen/emit/vector_math.h"
#include "codegen/emitter.h"
#include "graph/op.h"

namespace tessera {
namespace {

// Arguments: q, k, v; the mask if there is one, or the lists' starts, panels and masks; the epilogue's operands, the
// output.
class AttentionEmitter {
 public:
  AttentionEmitter(KernelBuilder& b, const AttentionProblem& problem, const TileEpilogue& epilogue)
      : b_(b), p_(problem), epilogue_(epilogue), first_arg_(problem.listed ? 6 : (problem.masked ? 4 : 3)) {}

  void Emit() {
    const int64_t bytes = TypeInfo(p_.type).bits / 8;
    keys_ = b_.scratch();
    scores_ = ir().CreateConstInBoundsGEP1_64(ir().getInt8Ty(), b_.scratch(), p_.scores_at() * bytes);
    factors_ = ir().CreateConstInBoundsGEP1_64(ir().getInt8Ty(), b_.scratch(), p_.factors_at() * bytes);
    IrValue begin = Multiple(b_.begin(), p_.tiles_per_task);
    IrValue end = Min(Multiple(b_.end(), p_.tiles_per_task), b_.I64(p_.all_tiles()));
    IrValue first_head = ir().CreateUDiv(begin, b_.I64(p_.tiles));
    IrValue end_head = ir().CreateUDiv(Plus(end, b_.I64(p_.tiles - 1)), b_.I64(p_.tiles));
    b_.For("head", first_head, end_head, 1, [&](IrValue head) {
      batch_ = ir().CreateUDiv(head, b_.I64(p_.heads));
      head_ = ir().CreateURem(head, b_.I64(p_.heads));
      EmitTransposedKeys();
      IrValue first_tile = Multiple(head, p_.tiles);
      IrValue low = ir().CreateSub(begin, first_tile), high = Min(ir().CreateSub(end, first_tile), b_.I64(p_.tiles));
      low = ir().CreateSelect(ir().CreateICmpSLT(low, b_.I64(0)), b_.I64(0), low);
      b_.For("tile", low, high, 1, [&](IrValue tile) { EmitTile(tile); });
    });
  }

 private:
  llvm::IRBuilder<>& ir() { return b_.ir(); }
  IrValue Multiple(IrValue x, int64_t by) { return ir().CreateMul(x, b_.I64(by), "", true, true); }
  IrValue Plus(IrValue x, IrValue y) { return ir().CreateAdd(x, y, "", true, true); }
  IrValue Plus(IrValue x, int64_t y) { return Plus(x, b_.I64(y)); }
  IrValue Min(IrValue x, IrValue y) { return ir().CreateSelect(ir().CreateICmpSLT(x, y), x, y); }

  // The first element of this head in an operand of `positions` rows of `columns`, and the distance between its rows.
  IrValue HeadStart(int64_t positions, int64_t columns) {
    IrValue row = p_.positions_first ? Plus(Multiple(batch_, positions * p_.heads), head_)
                                     : Multiple(Plus(Multiple(batch_, p_.heads), head_), positions);
    return Multiple(row, columns);
  }
  int64_t RowStep(int64_t columns) const { return p_.positions_first ? p_.heads * columns : columns; }

  // ---- Kᵀ ----

  // Squares of `lanes` keys by `lanes` columns; at the edges fewer, with zeros for keys that do not exist.
  void EmitTransposedKeys() {
    const int64_t lanes = p_.lanes, whole_keys = p_.keys / lanes, whole_columns = p_.depth / lanes;
    IrValue start = HeadStart(p_.keys, p_.depth);
    const auto columns = [&](IrValue key_block, int64_t keys) {
      b_.For("column_block", b_.I64(0), b_.I64(whole_columns), 1,
             [&](IrValue block) { EmitSquare(start, key_block, keys, block, lanes); });
      if (p_.depth % lanes != 0) EmitSquare(start, key_block, keys, b_.I64(whole_columns), p_.depth % lanes);
    };
    b_.For("key_block", b_.I64(0), b_.I64(whole_keys), 1, [&](IrValue block) { columns(block, lanes); });
    if (p_.keys % lanes != 0) columns(b_.I64(whole_keys), p_.keys % lanes);
    // Listed panels are always computed whole.
    if (!p_.listed) return;
    b_.For("no_key_block", b_.I64(DivideUp(p_.keys, lanes)), b_.I64(p_.panels() * p_.vectors), 1,
           [&](IrValue block) { columns(block, 0); });
  }

  void EmitSquare(IrValue start, IrValue key_block, int64_t keys, IrValue column_block, int64_t columns) {
    const int lanes = p_.lanes;
    IrValue mask = columns < lanes ? b_.MaskBelow(b_.I64(columns), lanes) : nullptr;
    IrValue column = Multiple(column_block, lanes);
    IrValue at = Plus(Plus(start, Multiple(key_block, lanes * RowStep(p_.depth))), column);
    IrValues rows;
    for (int64_t r = 0; r < lanes; ++r) {
      rows.push_back(r < keys ? b_.Load(b_.arg(1), Plus(at, r * RowStep(p_.depth)), p_.stored, lanes, mask)
                              : b_.Zero(p_.type, lanes));
    }
    rows = EmitLaneTranspose(b_, rows);
    IrValue panel = ir().CreateUDiv(key_block, b_.I64(p_.vectors));
    IrValue within = Multiple(ir().CreateURem(key_block, b_.I64(p_.vectors)), lanes);
    IrValue to = Plus(Multiple(Plus(Multiple(panel, p_.depth), column), p_.width()), within);
    for (int64_t c = 0; c < columns; ++c) b_.Store(keys_, Plus(to, c * p_.width()), p_.type, rows[c]);
  }

  // ---- One tile of query rows ----

  void EmitTile(IrValue tile) {
    IrValue row = Multiple(tile, p_.tile_rows);
    if (p_.listed) {
      IrValue list = Plus(Multiple(batch_, p_.list_steps[0]), Multiple(head_, p_.list_steps[1]));
      IrValue at = Plus(Multiple(list, p_.tiles), tile);
      list_begin_ = b_.Load(b_.arg(3), at, DType::kI64, 1);
      list_end_ = b_.Load(b_.arg(3), Plus(at, 1), DType::kI64, 1);
    }
    const auto with_rows = [&](int64_t rows) {
      EmitScores(row, rows);
      if (p_.listed) {
        EmitListedSoftmax(rows);
      } else {
        EmitSoftmax(rows);
      }
      EmitWeighedSum(row, rows);
      return IrValues();
    };
    if (p_.full_tiles == p_.tiles) {
      with_rows(p_.tile_rows);
      return;
    }
    IrValue is_full = ir().CreateICmpSLT(tile, b_.I64(p_.full_tiles));
    row = ir().CreateSelect(is_full, row, Plus(Multiple(tile, p_.tile_rows - 1), p_.full_tiles));
    b_.IfElse("rows", is_full, [&] { return with_rows(p_.tile_rows); }, [&] { return with_rows(p_.tile_rows - 1); });
  }

  IrValues ZeroSums(size_t rows, int vectors) { return IrValues(rows * vectors, b_.Zero(p_.type, p_.lanes)); }

  // sums[r * vectors + v] += over k < depth: splat(a[a_rows[r] + k]) * b[b_start + k * b_step + v * lanes].
  // `end` (may be nullptr): the depth if it is known only while running; then a multiple of the unrolling, which is
  // 2 for an even `depth` and 1 otherwise.
  IrValues EmitProduct(IrValues sums, int64_t depth, IrValue end, IrValue a, DType a_type, const IrValues& a_rows,
                       IrValue b_pointer, DType b_type, IrValue b_start, int64_t b_step, int vectors,
                       IrValue last_mask) {
    const auto step = [&](IrValue k, IrValues& into) {
      IrValues row;
      IrValue at = Plus(b_start, Multiple(k, b_step));
      for (int v = 0; v < vectors; ++v) {
        row.push_back(b_.Load(b_pointer, Plus(at, int64_t{v} * p_.lanes), b_type, p_.lanes,
                              v + 1 == vectors ? last_mask : nullptr));
      }
      for (size_t r = 0; r < a_rows.size(); ++r) {
        IrValue factor = b_.Splat(b_.Load(a, Plus(a_rows[r], k), a_type, 1), p_.lanes);
        for (int v = 0; v < vectors; ++v) into[r * vectors + v] = b_.Fma(factor, row[v], into[r * vectors + v]);
      }
    };
    const int64_t unroll = end != nullptr && depth % 2 != 0 ? 1 : 2, trips = depth / unroll * unroll;
    sums = b_.For("k", b_.I64(0), end != nullptr ? end : b_.I64(trips), unroll, sums,
                  [&](IrValue k, const IrValues& carried) {
                    IrValues next = carried;
                    for (int64_t u = 0; u < unroll; ++u) step(Plus(k, u), next);
                    return next;
                  });
    for (int64_t k = trips; k < depth && end == nullptr; ++k) step(b_.I64(k), sums);
    return sums;
  }

  // Calls body(start, vectors, mask of the last) for each panel of `columns`: whole ones in a loop, the last by itself.
  void ForPanels(const char* name, int64_t columns, const std::function<void(IrValue, int, IrValue)>& body) {
    const int64_t whole = columns / p_.width(), rest = columns - whole * p_.width();
    if (whole > 0) {
      b_.For(name, b_.I64(0), b_.I64(whole * p_.width()), p_.width(),
             [&](IrValue at) { body(at, p_.vectors, nullptr); });
    }
    if (rest == 0) return;
    IrValue mask = rest % p_.lanes == 0 ? nullptr : b_.MaskBelow(b_.I64(rest % p_.lanes), p_.lanes);
    body(b_.I64(whole * p_.width()), static_cast<int>(DivideUp(rest, p_.lanes)), mask);
  }

  // Calls body(position in the lists, first key, first score) for each panel that the tile keeps.
  void ForListed(const char* name, const std::function<void(IrValue, IrValue, IrValue)>& body) {
    b_.For(name, list_begin_, list_end_, 1, [&](IrValue at) {
      IrValue key = Multiple(b_.Load(b_.arg(4), at, DType::kI64, 1), p_.width());
      body(at, key, Multiple(ir().CreateSub(at, list_begin_), p_.width()));
    });
  }

  void EmitScores(IrValue row, int64_t rows) {
    IrValue start = Plus(HeadStart(p_.queries, p_.depth), Multiple(row, RowStep(p_.depth)));
    IrValues query_rows;
    for (int64_t r = 0; r < rows; ++r) query_rows.push_back(Plus(start, r * RowStep(p_.depth)));
    IrValue scale = b_.Constant(p_.type, p_.scale, p_.lanes);
    const auto products = [&](IrValue key, int vectors) {
      return EmitProduct(ZeroSums(query_rows.size(), vectors), p_.depth, nullptr, b_.arg(0), p_.stored, query_rows,
                         keys_, p_.type, Multiple(key, p_.depth), p_.width(), vectors, nullptr);
    };
    if (p_.listed) {
      ForListed("listed_keys", [&](IrValue at, IrValue key, IrValue score_at) {
        IrValues sums = products(key, p_.vectors);
        IrValue mask_at = Multiple(at, p_.tile_rows * p_.width());
        for (int64_t r = 0; r < rows; ++r) {
          for (int v = 0; v < p_.vectors; ++v) {
            const int64_t within = int64_t{v} * p_.lanes;
            IrValue mask = b_.Load(b_.arg(5), Plus(mask_at, r * p_.width() + within), p_.stored, p_.lanes);
            IrValue score = ir().CreateFAdd(ir().CreateFMul(sums[r * p_.vectors + v], scale), mask);
            b_.Store(scores_, Plus(score_at, r * p_.score_step() + within), p_.type, score);
          }
        }
      });
      return;
    }
    ForPanels("keys", p_.keys, [&](IrValue key, int vectors, IrValue mask) {
      IrValues sums = products(key, vectors);
      for (int64_t r = 0; r < rows; ++r) {
        for (int v = 0; v < vectors; ++v) {
          IrValue last = v + 1 == vectors ? mask : nullptr;
          IrValue score = ir().CreateFMul(sums[r * vectors + v], scale);
          IrValue at = Plus(key, int64_t{v} * p_.lanes);
          if (p_.masked) score = ir().CreateFAdd(score, LoadMask(Plus(row, r), at, last));
          // A key that does not exist weighs nothing.
          if (last != nullptr) score = ir().CreateSelect(last, score, Lowest());
          b_.Store(scores_, Plus(at, r * p_.score_step()), p_.type, score);
        }
      }
    });
  }

  IrValue LoadMask(IrValue row, IrValue key, IrValue lanes_mask) {
    IrValue at = Plus(Multiple(batch_, p_.mask_steps[0]), Multiple(head_, p_.mask_steps[1]));
    at = Plus(at, Multiple(row, p_.mask_steps[2]));
    if (p_.mask_steps[3] == 0) return b_.Splat(b_.Load(b_.arg(3), at, p_.stored, 1), p_.lanes);
    return b_.Load(b_.arg(3), Plus(at, key), p_.stored, p_.lanes, lanes_mask);
  }

  IrValue Lowest() { return llvm::ConstantFP::getInfinity(b_.VectorType(p_.type, p_.lanes), /*Negative=*/true); }

  // Scores become exponentials; factors[r] = 1 / their sum. Up to a quarter of the registers a row is read once.
  void EmitSoftmax(int64_t rows) {
    constexpr int64_t kChains = 4;
    const int64_t vectors = DivideUp(p_.keys, p_.lanes), chains = std::min(kChains, vectors);
    const bool kept = vectors <= b_.target().vector_registers / 4;
    const int64_t looped = kept ? 0 : vectors / chains * chains;
    b_.For("softmax", b_.I64(0), b_.I64(rows), 1, [&](IrValue r) {
      IrValue start = Multiple(r, p_.score_step());
      IrValues scores(kept ? vectors : 0);
      const auto sweep = [&](const char* name, IrValue initial,
                             const std::function<IrValue(IrValue, int64_t, IrValue)>& body) {
        IrValues sums(chains, initial);
        if (looped > 0) {
          sums = b_.For(name, start, Plus(start, looped * p_.lanes), chains * p_.lanes, sums,
                        [&](IrValue at, const IrValues& carried) {
                          IrValues next;
                          for (int64_t k = 0; k < chains; ++k)
                            next.push_back(body(Plus(at, k * p_.lanes), -1, carried[k]));
                          return next;
                        });
        }
        for (int64_t k = looped; k < vectors; ++k) {
          sums[k % chains] = body(Plus(start, k * p_.lanes), kept ? k : -1, sums[k % chains]);
        }
        return sums;
      };
      const auto max = [&](IrValue x, IrValue y) { return Max(x, y); };
      const auto add = [&](IrValue x, IrValue y) { return ir().CreateFAdd(x, y); };
      IrValues maxima = sweep("max", Lowest(), [&](IrValue at, int64_t k, IrValue so_far) {
        IrValue score = b_.Load(scores_, at, p_.type, p_.lanes);
        if (k >= 0) scores[k] = score;
        return max(score, so_far);
      });
      IrValue largest = b_.Splat(JoinAll(std::move(maxima), max), p_.lanes);
      IrValues sums = sweep("exp", b_.Zero(p_.type, p_.lanes), [&](IrValue at, int64_t k, IrValue so_far) {
        IrValue score = k >= 0 ? scores[k] : b_.Load(scores_, at, p_.type, p_.lanes);
        IrValue power = EmitExpNonPositive(b_, ir().CreateFSub(score, largest));
        b_.Store(scores_, at, p_.type, power);
        return add(power, so_far);
      });
      IrValue sum = JoinAll(std::move(sums), add);
      b_.Store(factors_, r, p_.type, ir().CreateFDiv(b_.Constant(p_.type, 1), sum));
    });
  }

  IrValue Max(IrValue x, IrValue y) { return ir().CreateSelect(ir().CreateFCmpOGT(x, y), x, y); }

  // The same over the panels that the tile keeps.
  void EmitListedSoftmax(int64_t rows) {
    b_.For("softmax", b_.I64(0), b_.I64(rows), 1, [&](IrValue r) {
      IrValue start = Multiple(r, p_.score_step());
      IrValue end = Plus(start, Multiple(ir().CreateSub(list_end_, list_begin_), p_.width()));
      const auto sweep = [&](const char* name, IrValue initial, const std::function<IrValue(IrValue, IrValue)>& body) {
        return b_.For(name, start, end, p_.width(), IrValues(p_.vectors, initial),
                      [&](IrValue at, const IrValues& carried) {
                        IrValues next;
                        for (int v = 0; v < p_.vectors; ++v)
                          next.push_back(body(Plus(at, int64_t{v} * p_.lanes), carried[v]));
                        return next;
                      });
      };
      const auto max = [&](IrValue x, IrValue y) { return Max(x, y); };
      const auto add = [&](IrValue x, IrValue y) { return ir().CreateFAdd(x, y); };
      IrValues maxima = sweep("max", Lowest(), [&](IrValue at, IrValue so_far) {
        return max(b_.Load(scores_, at, p_.type, p_.lanes), so_far);
      });
      IrValue largest = b_.Splat(JoinAll(std::move(maxima), max), p_.lanes);
      IrValues sums = sweep("exp", b_.Zero(p_.type, p_.lanes), [&](IrValue at, IrValue so_far) {
        IrValue score = b_.Load(scores_, at, p_.type, p_.lanes);
        IrValue power = EmitExpNonPositive(b_, ir().CreateFSub(score, largest));
        b_.Store(scores_, at, p_.type, power);
        return add(power, so_far);
      });
      IrValue sum = JoinAll(std::move(sums), add);
      b_.Store(factors_, r, p_.type, ir().CreateFDiv(b_.Constant(p_.type, 1), sum));
    });
  }

  // The vectors, then their lanes, joined into a scalar.
  IrValue JoinAll(IrValues vectors, const std::function<IrValue(IrValue, IrValue)>& join) {
    while (vectors.size() > 1) {
      IrValue x = vectors.back();
      vectors.pop_back();
      IrValue y = vectors.front();
      vectors.erase(vectors.begin());
      vectors.push_back(join(x, y));
    }
    IrValue total = vectors[0];
    for (int lanes = p_.lanes; lanes > 1; lanes /= 2) {
      std::vector<int> low, high;
      for (int l = 0; l < lanes / 2; ++l) {
        low.push_back(l);
        high.push_back(l + lanes / 2);
      }
      total = join(ir().CreateShuffleVector(total, low), ir().CreateShuffleVector(total, high));
    }
    return p_.lanes == 1 ? total : ir().CreateExtractElement(total, uint64_t{0});
  }

  void EmitWeighedSum(IrValue row, int64_t rows) {
    IrValue start = HeadStart(p_.keys, p_.value_depth);
    IrValues score_rows;
    for (int64_t r = 0; r < rows; ++r) score_rows.push_back(b_.I64(r * p_.score_step()));
    // Rows of the output as the epilogue counts them.
    IrValue first = p_.positions_first ? Plus(Multiple(Plus(Multiple(batch_, p_.queries), row), p_.heads), head_)
                                       : Plus(Multiple(Plus(Multiple(batch_, p_.heads), head_), p_.queries), row);
    ForPanels("columns", p_.value_depth, [&](IrValue column, int vectors, IrValue mask) {
      IrValues sums = ZeroSums(score_rows.size(), vectors);
      const auto weigh = [&](IrValues so_far, int64_t depth, IrValue end, const IrValues& from, IrValue value) {
        return EmitProduct(std::move(so_far), depth, end, scores_, p_.type, from, b_.arg(2), p_.stored,
                           Plus(value, column), RowStep(p_.value_depth), vectors, mask);
      };
      if (p_.listed) {
        sums = b_.For("listed_values", list_begin_, list_end_, 1, sums, [&](IrValue at, const IrValues& carried) {
          IrValue key = Multiple(b_.Load(b_.arg(4), at, DType::kI64, 1), p_.width());
          IrValue score_at = Multiple(ir().CreateSub(at, list_begin_), p_.width());
          IrValues from;
          for (IrValue score_row : score_rows) from.push_back(Plus(score_row, score_at));
          IrValue end = Min(b_.I64(p_.width()), ir().CreateSub(b_.I64(p_.keys), key));
          return weigh(carried, p_.keys, end, from, Plus(start, Multiple(key, RowStep(p_.value_depth))));
        });
      } else {
        sums = weigh(std::move(sums), p_.keys, nullptr, score_rows, start);
      }
      EpilogueEmitter finish(b_, epilogue_, first_arg_);
      IrValues columns;
      for (int v = 0; v < vectors; ++v) columns.push_back(Plus(column, int64_t{v} * p_.lanes));
      for (int64_t r = 0; r < rows; ++r) {
        IrValue factor = b_.Splat(b_.Load(factors_, b_.I64(r), p_.type, 1), p_.lanes);
        IrValue out_row = Plus(first, p_.positions_first ? r * p_.heads : r);
        for (int v = 0; v < vectors; ++v) {
          finish.Store(ir().CreateFMul(sums[r * vectors + v], factor), out_row, columns[v],
                       v + 1 == vectors ? mask : nullptr);
        }
      }
    });
  }

  KernelBuilder& b_;
  const AttentionProblem& p_;
  const TileEpilogue& epilogue_;
  const int first_arg_;
  IrValue keys_ = nullptr, scores_ = nullptr, factors_ = nullptr;  // in scratch
  IrValue batch_ = nullptr, head_ = nullptr;
  IrValue list_begin_ = nullptr, list_end_ = nullptr;  // of the tile, when listed
};

}  // namespace

extern const std::string_view kAttentionDoc;
const std::string_view kAttentionDoc =
    "attention in one step: scores, softmax and weighed sum of a tile of rows in cache";

std::optional<double> EstimateAttention(const Graph& graph, const Node& node, const Target& target, std::string* why) {
  const std::optional<AttentionProblem> problem = AttentionProblemOf(graph, node, target, why);
  if (!problem) return std::nullopt;
  const int epilogue_cost = node.epilogue ? static_cast<int>(node.epilogue->body.insts.size()) : 0;
  return static_cast<double>(problem->all_tiles()) * AttentionTileMicroseconds(*problem, target, epilogue_cost);
}

Status PlanAttention(const Node& node, PlanBuilder& builder) {
  const Graph& graph = builder.graph();
  std::string why;
  AttentionMaskLists lists;
  std::optional<AttentionProblem> found = AttentionProblemOf(graph, node, builder.target(), &why, &lists);
  TES_CHECK(found.has_value(), node.name, ": ", why);
  auto problem = std::make_shared<AttentionProblem>(*std::move(found));
  auto epilogue = std::make_shared<const TileEpilogue>(graph, node);
  constexpr double kTaskMicroseconds = 2;
  problem->tiles_per_task = std::clamp<int64_t>(
      static_cast<int64_t>(kTaskMicroseconds / AttentionTileMicroseconds(*problem, builder.target(), epilogue->cost())),
      1, problem->all_tiles());

  PlanStep step;
  double bytes = 0;
  for (size_t k = 0; k < node.inputs.size(); ++k) {
    const ValueId id = node.inputs[k];
    if (id == ValueId::kNone || (k == 3 && problem->listed)) continue;
    step.args.push_back(builder.Read(id));
    bytes += static_cast<double>(ByteSize(graph[id].type.dtype, graph[id].type.shape.num_elements()));
  }
  if (problem->listed) {
    // Layers that share a mask share what is made of it.
    const Value& mask = graph[node.inputs[3]];
    const AttentionTiling tiling = problem->tiling();
    const std::string name = internal::Join(mask.name, " #", static_cast<int>(node.inputs[3]), " b", problem->batch,
                                            " h", problem->heads, " tiles ", tiling.tiles, " width ", tiling.width);
    const auto add = [&](const char* what, const std::function<Tensor()>& make) {
      const int buffer = builder.ConstantOnce(name + what, make);
      bytes += static_cast<double>(builder.plan().buffers[buffer].bytes);
      step.args.push_back({.buffer = buffer});
    };
    const auto column = [](const std::vector<int64_t>& values) {
      return Tensor::FromVector(Shape({static_cast<int64_t>(values.size())}), values);
    };
    add(" starts", [&] { return column(lists.starts); });
    add(" panels", [&] { return column(lists.panels); });
    add(" masks", [&] { return PackAttentionMask(mask.constant, problem->mask_steps, problem->heads, tiling, lists); });
  }
  epilogue->AddArguments(node, builder, step);
  const TensorType& out = graph[node.outputs[0]].type;
  step.tasks = problem->tasks();
  step.serial = TypeInfo(out.dtype).bits < 8;  // two results share a byte
  step.scratch_bytes = problem->scratch_bytes();
  step.label = node.name;
  step.flops = 2.0 * static_cast<double>(problem->batch * problem->heads * problem->queries) *
               static_cast<double>(problem->keys) * problem->kept *
               static_cast<double>(problem->depth + problem->value_depth);
  step.bytes = bytes + static_cast<double>(ByteSize(out.dtype, out.shape.num_elements()));
  step.kernel.family = "attention";
  step.kernel.key = problem->Key() + "\n" + epilogue->Key();
  step.kernel.emit = [problem, epilogue](KernelBuilder& b) { AttentionEmitter(b, *problem, *epilogue).Emit(); };
  builder.AddStep(std::move(step));
  return OkStatus();
}

}  // namespace tessera
