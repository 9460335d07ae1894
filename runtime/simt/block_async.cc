// What goes on by itself in a block: copies that mbarriers count, products of warpgroups; and barriers of some threads.
// Tested by stand_ins_test.cc and codegen/simt_async_test.cc.
#include <algorithm>
#include <cstring>
#include <vector>

#include "runtime/simt/block.h"

namespace tessera {
namespace {

// Registers that stand for a result under way: NaNs as f32. Above them lies what shared memory is poisoned with.
constexpr uint32_t kMark = 0x7fc00000, kMaxMark = 0x3f0000;

bool IsMark(uint64_t slot) {
  const auto bits = static_cast<uint32_t>(slot);
  return bits > kMark && bits < kMark + kMaxMark;
}

}  // namespace

void SimtBlock::Fault(const char* site, std::string_view what) {
  NoteFault(current_, site, what);
  Leave();
}

void SimtBlock::Tell(Told& told) {
  clocks_.Release(current_, told.stamp);
  told.waited |= threads_[static_cast<size_t>(current_)].waited;
}

void SimtBlock::Hear(int thread, const Told& told) {
  clocks_.Acquire(thread, told.stamp);
  threads_[static_cast<size_t>(thread)].waited |= told.waited;
}

void SimtBlock::MeetNamed(const char* site, int64_t number, int64_t count, bool waits) {
  CheckNeighbours(site);
  if (number < 1 || number > 15 || count < 1 || count > launch_->threads || count % launch_->warp != 0) {
    NoteFault(current_, site,
              internal::Join("expected a barrier of number 1 to 15 for a multiple of ", launch_->warp, " up to ",
                             launch_->threads, " threads, found number ", number, " for ", count));
    Leave();
  }
  Named& named = named_[number];
  if (named.came > 0 && named.count != count) {
    NoteFault(
        current_, site,
        internal::Join("expected ", count, " threads at barrier ", number, ", others came for one of ", named.count));
    Leave();
  }
  named.count = count;
  Tell(named.told);
  if (++named.came < count) {
    if (!waits) return;
    named.waiting.push_back(current_);
    return Wait(State::kAtNamed, site);
  }
  for (int t : named.waiting) {
    threads_[static_cast<size_t>(t)].state = State::kReady;
    Hear(t, named.told);
  }
  runnable_ += static_cast<int>(named.waiting.size());
  if (waits) Hear(current_, named.told);
  named.came = 0;
  named.waiting.clear();
  named.told = {};
}

void SimtBlock::MeetGroup(const char* site, const uint64_t* operands, uint64_t* results, GroupOp op, int count) {
  const bool wave = count == kWave;
  const int me = current_, first = me / count * count;
  if (first + count > launch_->threads || launch_->warp * 4 != kGroup) {
    Fault(site,
          wave ? "expected a block of whole waves of 64 lanes" : "expected a block of whole warpgroups of 128 threads");
  }
  int& waiting = wave ? waves_[static_cast<size_t>(me / count)] : warpgroups_[static_cast<size_t>(me / count)].waiting;
  CheckNeighbours(site);
  for (int t = first; t < first + count; ++t) {
    const Thread& other = threads_[static_cast<size_t>(t)];
    if (other.state != State::kAtGroup || other.site == site) continue;
    NoteFault(me, site,
              internal::Join("thread ", t, " of the same ", wave ? "wave" : "warpgroup",
                             " waits at another place: ", other.site));
    Leave();
  }
  threads_[static_cast<size_t>(me)].operands = operands;
  threads_[static_cast<size_t>(me)].results = results;
  if (++waiting < count) return Wait(State::kAtGroup, site);
  GroupMeeting meeting = {.block = *this, .site = site, .first_thread = first, .operands = {}, .results = {}};
  for (int l = 0; l < count; ++l) {
    Thread& thread = threads_[static_cast<size_t>(first + l)];
    meeting.operands[static_cast<size_t>(l)] = thread.operands;
    meeting.results[static_cast<size_t>(l)] = thread.results;
    thread.state = State::kReady;
  }
  waiting = 0;
  runnable_ += count - 1;
  op(meeting);
}

// ---- mbarriers.

void SimtBlock::InitBarrier(const char* site, std::byte* at, int64_t count) {
  const int64_t offset = at - memory_.data();
  // Not twice; but the memory of one may be taken again.
  if (barriers_.count(offset) > 0) Fault(site, "makes an mbarrier where there is one");
  CheckAccess(current_, site, at, {.bytes = 8, .align_log2 = 3, .stores = true, .shared = true});
  if (count < 1 || count >= 1 << 20) Fault(site, "expected an mbarrier for 1 to 1048575 arrivals");
  Barrier& barrier = barriers_[offset];
  barrier.offset = offset;
  barrier.count = barrier.missing = count;
  barrier.thread = current_;
  memory_.MarkBarrier(offset, 8);
}

void SimtBlock::FenceBarriers() {
  for (auto& [offset, barrier] : barriers_) barrier.fenced |= barrier.thread == current_;
}

SimtBlock::Barrier& SimtBlock::BarrierAt(const char* site, std::byte* at) {
  const auto found = barriers_.find(at - memory_.data());
  if (found == barriers_.end()) {
    NoteFault(current_, site, internal::Join("no mbarrier was made at ", Where(at), ": nv.mbarrier.init is missing"));
    Leave();
  }
  if (!memory_.IsOrdered(found->first, By(current_))) {
    NoteFault(current_, site,
              internal::Join("uses the mbarrier at offset ", found->first, ", which thread ", found->second.thread,
                             " made since the last barrier: a barrier is missing"));
    Leave();
  }
  return found->second;
}

std::string SimtBlock::Lacks(const Barrier& barrier) const {
  std::string text = internal::Join("the mbarrier at offset ", barrier.offset, ", in phase ", barrier.phase, ", lacks ",
                                    barrier.missing, " of ", barrier.count, " arrivals");
  const int64_t bytes = barrier.bytes();
  if (bytes != barrier.expected) {
    text += internal::Join(", and its copies bring ", bytes, " of ", barrier.expected, " expected bytes");
  }
  return text;
}

void SimtBlock::Land(const BulkCopy& copy) {
  std::byte* shared = memory_.data();
  const int64_t start = copy.to - shared;
  memory_.EndCopy(start, copy.bytes, copy.by, copy.map == nullptr ? 0 : static_cast<int>(copy.map->map.swizzle));
  if (copy.map == nullptr) {
    std::memcpy(copy.to, copy.from, static_cast<size_t>(copy.bytes));
    return;
  }
  const TensorMap& map = copy.map->map;
  const size_t rank = map.dims.size();
  const int64_t element = TypeInfo(map.type).bits / 8;
  std::array<int64_t, 5> index = {};
  for (int64_t to = start; to < start + copy.bytes;) {
    bool inside = true;
    int64_t from = 0;
    for (size_t d = 1; d < rank; ++d) {
      const int64_t at = copy.at[d] + index[d];
      inside &= at >= 0 && at < map.dims[d];
      from += at * map.strides[d - 1];
    }
    for (int64_t i = 0; i < map.box[0]; ++i, to += element) {
      const int64_t at = copy.at[0] + i;
      std::byte* target = shared + Swizzled(to, map.swizzle);
      if (inside && at >= 0 && at < map.dims[0]) {
        std::memcpy(target, copy.map->start + from + at * element, static_cast<size_t>(element));
      } else {
        std::memset(target, 0, static_cast<size_t>(element));
      }
    }
    for (size_t d = 1; d < rank && ++index[d] == map.box[d]; ++d) index[d] = 0;
  }
}

// Ends the phase under way if all has come; its copies land.
void SimtBlock::TryComplete(const char* site, Barrier& barrier) {
  if (barrier.missing > 0) return;
  const int64_t bytes = barrier.bytes();
  if (bytes < barrier.expected) return;
  if (bytes > barrier.expected) {
    NoteFault(current_, site,
              internal::Join("copies bring ", bytes, " bytes to the mbarrier at offset ", barrier.offset,
                             ", which expects ", barrier.expected, ": nv.mbarrier.expect_tx said otherwise"));
    Leave();
  }
  for (const BulkCopy& copy : barrier.copies) Land(copy);
  barrier.copies.clear();
  barrier.expected = 0;
  barrier.missing = barrier.count;
  barrier.completed = barrier.collecting;
  ++barrier.phase;
  if (barrier.waiting == 0) return;
  for (int t = 0; t < launch_->threads; ++t) {
    Thread& thread = threads_[static_cast<size_t>(t)];
    if (thread.state != State::kAtBarrier || thread.barrier != &barrier) continue;
    thread.state = State::kReady;
    ++runnable_;
    Hear(t, barrier.completed);
  }
  barrier.waiting = 0;
}

void SimtBlock::ArriveAtBarrier(const char* site, std::byte* at, int64_t expected_bytes, bool arrives) {
  Barrier& barrier = BarrierAt(site, at);
  if (barrier.missing == 0) TryComplete(site, barrier);
  if (barrier.missing == 0 && arrives) {
    NoteFault(current_, site, "one arrival too many: " + Lacks(barrier));
    Leave();
  }
  if (expected_bytes < 0 || expected_bytes >= 1 << 20) Fault(site, "expected 0 to 1048575 bytes");
  barrier.expected += expected_bytes;
  if (arrives) {
    Tell(barrier.collecting);
    --barrier.missing;
  }
  // As late as may be, or in random order perhaps at once.
  if (barrier.waiting > 0 || (schedule_.order == SimtOrder::kRandom && (random_() & 1) != 0)) {
    TryComplete(site, barrier);
  }
}

void SimtBlock::WaitForBarrier(const char* site, std::byte* at, bool parity) {
  Barrier& barrier = BarrierAt(site, at);
  const auto over = [&] { return (barrier.phase & 1) != (parity ? 1 : 0); };
  if (!over()) TryComplete(site, barrier);
  if (over()) return Hear(current_, barrier.completed);
  threads_[static_cast<size_t>(current_)].barrier = &barrier;
  ++barrier.waiting;
  Wait(State::kAtBarrier, site);
}

// ---- Copies that they count.

void SimtBlock::AddCopy(const char* site, BulkCopy copy, std::byte* at) {
  Barrier& barrier = BarrierAt(site, at);
  if (!barrier.fenced) {
    NoteFault(current_, site,
              internal::Join("copies to the mbarrier at offset ", barrier.offset, ", which thread ", barrier.thread,
                             " made without nv.fence.mbarrier_init behind it"));
    Leave();
  }
  if (barrier.missing == 0) TryComplete(site, barrier);
  CheckAccess(current_, site, copy.to,
              {.bytes = static_cast<uint32_t>(copy.bytes), .align_log2 = 4, .stores = true, .shared = true});
  copy.by = By(current_);
  memory_.StartCopy(copy.to - memory_.data(), copy.bytes, copy.by);
  clocks_.ReleaseOwn(current_, barrier.collecting.stamp);
  barrier.copies.push_back(copy);
  if (barrier.waiting > 0 || (schedule_.order == SimtOrder::kRandom && (random_() & 1) != 0)) {
    TryComplete(site, barrier);
  }
}

void SimtBlock::StartBulkCopy(const char* site, std::byte* to, const std::byte* from, int64_t bytes,
                              std::byte* barrier) {
  if (bytes <= 0 || bytes % 16 != 0 || bytes >= 1 << 20) {
    NoteFault(current_, site, internal::Join("expected a multiple of 16 bytes, found ", bytes));
    Leave();
  }
  CheckAccess(current_, site, from, {.bytes = static_cast<uint32_t>(bytes), .align_log2 = 4});
  AddCopy(site, {.map = nullptr, .to = to, .from = from, .bytes = bytes, .at = {}, .by = {}}, barrier);
}

void SimtBlock::CheckTensorMap(const char* site, const void* map, size_t rank) {
  const std::vector<SimtTensorMap>& maps = launch_->tensor_maps;
  for (const SimtTensorMap& known : maps) {
    if (map != &known) continue;
    if (rank == 0 || rank == known.map.dims.size()) return;
    NoteFault(current_, site,
              internal::Join("expected a tensor map of ", rank, " dimensions, found ", known.map.dims.size()));
    Leave();
  }
  Fault(site, "expected one of the step's tensor maps");
}

void SimtBlock::StartBoxCopy(const char* site, std::byte* to, const void* map, std::byte* barrier,
                             std::span<const int32_t> coordinates) {
  CheckTensorMap(site, map, coordinates.size());
  const auto* box = static_cast<const SimtTensorMap*>(map);
  const int64_t offset = to - memory_.data();
  if (offset % 128 != 0) {
    NoteFault(current_, site, internal::Join("copies a box to offset ", offset, "; expected a multiple of 128"));
    Leave();
  }
  // What it reads must be there to be read, if anything of it is: a look at the tensor's first byte.
  CheckAccess(current_, site, box->start, {.bytes = 1});
  BulkCopy copy = {.map = box, .to = to, .from = nullptr, .bytes = box->map.box_bytes(), .at = {}, .by = {}};
  std::copy(coordinates.begin(), coordinates.end(), copy.at.begin());
  AddCopy(site, copy, barrier);
}

// ---- Products of warpgroups.

// Operands [first, last) are the same of all threads; those before `narrow` have 64 bits, the others 32.
void SimtBlock::CheckUniform(const GroupMeeting& meeting, int first, int narrow, int last) {
  for (int k = first; k < last; ++k) {
    const uint64_t mask = k < narrow ? ~uint64_t{0} : 0xffffffff;
    for (int l = 1; l < kGroup; ++l) {
      if (((meeting.operands[l][k] ^ meeting.operands[0][k]) & mask) == 0) continue;
      NoteFault(meeting.first_thread + l, meeting.site,
                internal::Join("operand ", k, " is ", meeting.operands[l][k] & mask,
                               ", of the warpgroup's first thread ", meeting.operands[0][k] & mask));
      Leave();
    }
  }
}

void SimtBlock::FenceProductRegisters(const GroupMeeting& meeting) {
  warpgroups_[static_cast<size_t>(meeting.first_thread / kGroup)].fenced = true;
}

// Notes that the product reads the operand, and gives each of its pieces to `take`.
template <typename Take>
void SimtBlock::ReadOperand(const GroupMeeting& meeting, const WgmmaOperand& operand, const Take& take) {
  for (int piece = 0; piece < operand.pieces(); ++piece) {
    const int64_t at = operand.offset(piece);
    if (at + 16 > memory_.size()) {
      NoteFault(meeting.first_thread, meeting.site,
                internal::Join("the descriptor of ", operand.name, " reaches offset ", at + 16, " of ", memory_.size(),
                               " bytes of shared memory"));
      Leave();
    }
    // Each warp reads for itself; the first stands for all where they know what was written.
    bool faulty = false;
    for (int warp = 0; warp < 4 && !faulty; ++warp) {
      const int thread = meeting.first_thread + warp * launch_->warp;
      if (warp > 0 && memory_.IsOrdered(at, By(thread))) continue;
      const std::optional<std::string> hazard =
          memory_.StartProduct(at, 16, By(thread), operand.swizzle, {fences_.data(), fences_.size()});
      faulty = hazard.has_value();
      if (faulty) NoteFault(thread, meeting.site, internal::Join("reads ", operand.name, ", ", *hazard));
    }
    if (faulty) Leave();
    take(piece, reinterpret_cast<const uint32_t*>(memory_.data() + at));
  }
}

SimtBlock::Product* SimtBlock::ProductOf(uint32_t mark) {
  for (auto p = products_.rbegin(); p != products_.rend(); ++p) {
    if (mark >= p->first_mark && mark < p->first_mark + static_cast<uint32_t>(p->accumulators)) return &*p;
  }
  return nullptr;
}

void SimtBlock::StartProduct(const GroupMeeting& meeting, const WgmmaShape& shape) {
  const int number = meeting.first_thread / kGroup, count = shape.accumulators();
  const int descriptors = shape.registers ? 4 : 0, scale = descriptors + (shape.registers ? 1 : 2);
  const int constants = !shape.can_transpose() ? 0 : shape.registers ? 1 : 2, first = scale + 1 + constants;
  CheckUniform(meeting, descriptors, scale, first);
  Warpgroup& group = warpgroups_[static_cast<size_t>(number)];
  if (!group.fenced) {
    NoteFault(meeting.first_thread, meeting.site, "nv.wgmma.fence is missing since accumulators could be accessed");
    Leave();
  }
  const uint64_t* uniform = meeting.operands[0];
  const bool adds = static_cast<uint32_t>(uniform[scale]) != 0;
  // Accumulators: marks of a product that this one goes on with, or values.
  Product* product = nullptr;
  if (adds && IsMark(uniform[first])) {
    product = ProductOf(static_cast<uint32_t>(uniform[first]));
    bool whole = product != nullptr && product->accumulators == count && product->warpgroup == number;
    for (int l = 0; whole && l < kGroup; ++l) {
      for (int r = 0; r < count; ++r) {
        whole &=
            static_cast<uint32_t>(meeting.operands[l][first + r]) == product->first_mark + static_cast<uint32_t>(r);
      }
    }
    if (!whole) {
      NoteFault(meeting.first_thread, meeting.site,
                "its accumulators are not those of one product under way: nv.wgmma.wait gives them");
      Leave();
    }
  } else {
    product = &products_.emplace_back();
    product->values.resize(static_cast<size_t>(kGroup * count));
    for (int l = 0; adds && l < kGroup; ++l) {
      for (int r = 0; r < count; ++r) {
        product->values[static_cast<size_t>(l * count + r)] = static_cast<uint32_t>(meeting.operands[l][first + r]);
      }
    }
  }
  product->warpgroup = number;
  product->accumulators = count;
  product->commit = -1;
  product->delivered = 0;
  if (next_mark_ + static_cast<uint32_t>(count) >= kMaxMark) next_mark_ = 1;
  product->first_mark = kMark + next_mark_;
  next_mark_ += static_cast<uint32_t>(count);
  // Operands.
  if (matrices_ == nullptr) matrices_ = std::make_unique<WgmmaMatrices>();
  Reading& reading = readings_.emplace_back();
  reading.warpgroup = number;
  const int per_piece = 4 * ElementsOf(shape.a);
  const auto operand = [&](int k, char name, int extent, bool transposed) -> const WgmmaOperand& {
    reading.operands.push_back(
        DecodeWgmma(uniform[k], reinterpret_cast<uint64_t>(memory_.data()), name, extent, transposed));
    bool faulty = false;
    {
      const std::string error = WgmmaOperandError(reading.operands.back(), uniform[k]);
      faulty = !error.empty();
      if (faulty) NoteFault(meeting.first_thread, meeting.site, error);
    }
    if (faulty) Leave();
    return reading.operands.back();
  };
  reading.operands.reserve(2);
  if (shape.registers) {
    // Of warp w, rows 16 w …, as mma.m16n8 has them.
    const int e = ElementsOf(shape.a);
    for (int l = 0; l < kGroup; ++l) {
      for (int r = 0; r < 4; ++r) {
        const int row = l / 32 * 16 + l % 32 / 4 + 8 * (r % 2), column = l % 4 * e + 4 * e * (r / 2);
        const auto bits = static_cast<uint32_t>(meeting.operands[l][r]);
        for (int i = 0; i < e; ++i)
          matrices_->a[row][column + i] = static_cast<float>(FragmentElement(shape.a, bits, i));
      }
    }
  } else {
    const WgmmaOperand& a = operand(0, 'A', 64, constants > 0 && static_cast<uint32_t>(uniform[scale + 1]) != 0);
    ReadOperand(meeting, a, [&](int piece, const uint32_t* words) {
      const int row = a.row(piece), k = a.k(piece, per_piece);
      for (int i = 0; i < per_piece; ++i) {
        (a.transposed ? matrices_->a[row + i][k] : matrices_->a[row][k + i]) = PieceElement(shape.a, words, i);
      }
    });
  }
  const bool turned = constants > 0 && static_cast<uint32_t>(uniform[scale + constants]) != 0;
  const WgmmaOperand& b = operand(scale - 1, 'B', shape.n, turned);
  ReadOperand(meeting, b, [&](int piece, const uint32_t* words) {
    const int column = b.row(piece), k = b.k(piece, per_piece);
    for (int i = 0; i < per_piece; ++i) {
      (b.transposed ? matrices_->b[k][column + i] : matrices_->b[k + i][column]) = PieceElement(shape.b, words, i);
    }
  });
  MultiplyWarpgroup(*matrices_, shape, adds, product->values.data());
  for (int l = 0; l < kGroup; ++l) {
    for (int r = 0; r < count; ++r) meeting.results[l][r] = product->first_mark + static_cast<uint32_t>(r);
  }
}

void SimtBlock::CommitProducts(const GroupMeeting& meeting) {
  const int number = meeting.first_thread / kGroup;
  const int commit = warpgroups_[static_cast<size_t>(number)].commits++;
  for (Product& product : products_) {
    if (product.warpgroup == number && product.commit < 0) product.commit = commit;
  }
  for (Reading& reading : readings_) {
    if (reading.warpgroup == number && reading.commit < 0) reading.commit = commit;
  }
}

void SimtBlock::WaitForProducts(const GroupMeeting& meeting, int accumulators) {
  const int number = meeting.first_thread / kGroup;
  Warpgroup& group = warpgroups_[static_cast<size_t>(number)];
  const int over = group.commits - static_cast<int32_t>(meeting.operands[0][0]);
  bool any = false;
  std::erase_if(readings_, [&](const Reading& reading) {
    if (reading.warpgroup != number || reading.commit < 0 || reading.commit >= over) return false;
    for (const WgmmaOperand& operand : reading.operands) {
      for (int piece = 0; piece < operand.pieces(); ++piece) {
        memory_.EndProduct(operand.offset(piece), 16, By(meeting.first_thread));
      }
    }
    return any = true;
  });
  // The warpgroup's first thread has read for all of it.
  if (any && clocks_.on()) {
    read_.clear();
    clocks_.ReleaseOwn(meeting.first_thread, read_);
    for (int t = meeting.first_thread + 1; t < meeting.first_thread + kGroup; ++t) clocks_.Acquire(t, read_);
  }
  if (accumulators == 0) return;
  group.fenced = false;
  for (int r = 0; r < accumulators; ++r) {
    for (int l = 0; l < kGroup; ++l) {
      const auto bits = static_cast<uint32_t>(meeting.operands[l][1 + r]);
      meeting.results[l][r] = bits;
      if (!IsMark(bits)) continue;
      Product* product = ProductOf(bits);
      if (product == nullptr || product->warpgroup != number || product->commit < 0 || product->commit >= over)
        continue;
      meeting.results[l][r] =
          product->values[static_cast<size_t>(l * product->accumulators) + (bits - product->first_mark)];
      ++product->delivered;
    }
  }
  std::erase_if(products_, [](const Product& p) { return p.delivered == kGroup * p.accumulators; });
}

void SimtBlock::SetRegisters(const GroupMeeting& meeting, bool more) {
  CheckUniform(meeting, 0, 0, 1);
  const auto registers = static_cast<int64_t>(static_cast<uint32_t>(meeting.operands[0][0]));
  Warpgroup& group = warpgroups_[static_cast<size_t>(meeting.first_thread / kGroup)];
  constexpr int64_t kOfBlock = 65536;
  bool good = registers >= 24 && registers <= 256 && registers % 8 == 0;
  if (group.registers != 0) good &= more ? registers >= group.registers : registers <= group.registers;
  group.registers = registers;
  int64_t sum = 0;
  for (const Warpgroup& each : warpgroups_) sum += each.registers * kGroup;
  if (good && sum <= kOfBlock) return;
  NoteFault(meeting.first_thread, meeting.site,
            internal::Join(registers, " registers a thread; expected a multiple of 8 from 24 to 256, ",
                           more ? "not fewer" : "not more", " than before, and at most ", kOfBlock, " in the block"));
  Leave();
}

}  // namespace tessera
