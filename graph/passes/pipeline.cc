#include "graph/passes/pipeline.h"

#include "graph/passes/apply_masks.h"
#include "graph/passes/canonicalize.h"
#include "graph/passes/choose_layout.h"
#include "graph/passes/choose_planes.h"
#include "graph/passes/eliminate_common.h"
#include "graph/passes/fold_batch_norm.h"
#include "graph/passes/fold_constants.h"
#include "graph/passes/fuse_epilogues.h"
#include "graph/passes/move_scales.h"
#include "graph/passes/recognize.h"
#include "graph/passes/requantize.h"
#include "graph/passes/scale_blocks.h"
#include "graph/passes/split_products.h"
#include "graph/passes/take_signed.h"
#include "graph/passes/use_integers.h"

namespace tessera {
namespace {

Status RemoveDead(Graph& graph) {
  RemoveDeadNodes(graph);
  return OkStatus();
}

constexpr Pass kApplyMasks = {"apply_masks", "what is declared pruned of an input or a computed value becomes 0",
                              ApplyMasks};
constexpr Pass kRemoveDead = {"remove_dead", "drops nodes whose results nobody needs", RemoveDead};
constexpr Pass kEliminateCommon = {"eliminate_common", "computes once what is computed twice", EliminateCommon};
constexpr Pass kFoldConstants = {"fold_constants", "computes what depends on constants only", FoldConstants};
constexpr Pass kCanonicalize = {"canonicalize", "one form for what can be written in several", Canonicalize};
constexpr Pass kSplitProducts = {"split_products", "slices of a product's columns become products with those columns",
                                 SplitProducts};
constexpr Pass kRecognize = {"recognize", "what was written in parts becomes the op that it is", Recognize};
constexpr Pass kMoveScales = {"move_scales", "what moves elements moves integers, not the reals that they stand for",
                              MoveScales};
constexpr Pass kUseIntegers = {"use_integers", "products of quantised operands run on the integers themselves",
                               UseIntegers};
constexpr Pass kFoldBatchNorm = {"fold_batch_norm", "factors and shifts per channel go into weights and bias",
                                 FoldBatchNorm};
constexpr Pass kChooseLayout = {"choose_layout", "convolutions and pools get channels last", ChooseLayout};
constexpr Pass kChoosePlanes = {"choose_planes", "scattered convolutions and what lies between them get channels first",
                                ChoosePlanes};
constexpr Pass kFuseEpilogues = {"fuse_epilogues", "element-wise work joins the node that makes its operand",
                                 FuseEpilogues};

constexpr Pass kRequantize = {"requantize", "arithmetic between integers is one multiplication and one addition",
                              Requantize};

constexpr Pass kScaleBlocks = {
    "scale_blocks", "for processors: quantised values times 4-bit weights with a scale for each block run on integers",
    ScaleBlocks};

constexpr Pass kTakeSigned = {
    "take_signed", "for GPUs: products of i8 values that became u8 for processors take them as they were", TakeSigned};

constexpr Pass kAll[] = {kApplyMasks,    kRemoveDead, kMoveScales,  kEliminateCommon, kFoldConstants, kCanonicalize,
                         kSplitProducts, kRecognize,  kUseIntegers, kFoldBatchNorm,   kChooseLayout,  kChoosePlanes,
                         kFuseEpilogues, kRequantize, kTakeSigned,  kScaleBlocks};

// Each line with why it stands there.
constexpr Pass kHost[] = {
    kApplyMasks,       // before any rewrite could lose what was said of a value that it replaces
    kRemoveDead,       // what no output needs would only be in the way
    kMoveScales,       // weights and biases stay integers in what follows
    kFoldConstants,    // shapes, masks and re-laid-out weights become plain constants
    kEliminateCommon,  // equal constants and nodes become one, so that patterns with a shared part are seen
    kCanonicalize,     // fewer forms to recognise
    kSplitProducts,    // queries, keys and values of one product are read like those of three
    kCanonicalize,     // reshapes and transposes around what was split
    kRecognize,        // before scales go into weights and hide what they belonged to
    kMoveScales,       // of activations, now that their patterns have been seen
    kUseIntegers,      // behind it no constant is dequantised any more
    kFoldBatchNorm,    // while convolutions and what scales them are still neighbours
    kFoldConstants,    // constants that canonical forms brought together
    kEliminateCommon,  // before fusion hides equal nodes in different epilogues
    // What follows suits one machine; what is above suits whatever reads the graph, propagation first of all.
    kScaleBlocks,    // processors multiply bytes four times as fast as floats
    kChooseLayout,   // the host's kernels walk channels in vectors
    kChoosePlanes,   // except where weights are scattered, which walk pixels
    kCanonicalize,   // transposes that now stand side by side cancel
    kFuseEpilogues,  // what is left of element-wise work joins the nodes that kernels are made for
    kRequantize,     // last: bodies as kernels run them
};
constexpr size_t kLowering = 6;  // of these, the last ones

constexpr Pass kGpuLowering[] = {
    kTakeSigned,     // while corrections are still additions
    kChooseLayout,   // neighbouring threads take neighbouring channels
    kCanonicalize,   // as for the host
    kFuseEpilogues,  // as for the host
    kRequantize,     // as for the host
};

}  // namespace

std::span<const Pass> HostPipeline() { return kHost; }
std::span<const Pass> SimplifyPipeline() { return std::span(kHost).first(std::size(kHost) - kLowering); }
std::span<const Pass> LoweringPipeline(MachineKind machine) {
  return machine == MachineKind::kGpu ? std::span<const Pass>(kGpuLowering) : std::span(kHost).last(kLowering);
}
std::span<const Pass> AllPasses() { return kAll; }

Status OptimizeForHost(Graph& graph) { return RunPasses(graph, HostPipeline()); }

}  // namespace tessera
