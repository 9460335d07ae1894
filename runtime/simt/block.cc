#include "runtime/simt/block.h"

#include <algorithm>
#include <cstring>

namespace tessera {
namespace {

const char* Does(SimtAccess access) { return access.stores ? "stores " : "loads "; }

}  // namespace

StatusOr<std::unique_ptr<SimtBlock>> SimtBlock::Make() {
#if !defined(__x86_64__)
  return Error(ErrorCode::kTargetUnsupported, "simt: expected an x86-64 machine");
#endif
  std::unique_ptr<SimtBlock> block(new SimtBlock());
  block->check = [](SimtContext* context, const char* site, const void* address, uint64_t access) {
    auto& self = *static_cast<SimtBlock*>(context);
    self.CheckAccess(self.current_, site, address, SimtAccess::Decode(access));
  };
  return block;
}

Status SimtBlock::Run(const SimtLaunch& launch, std::array<int64_t, 3> id, const SimtSchedule& schedule) {
  const size_t count = static_cast<size_t>(launch.threads);
  TES_CHECK(launch.threads > 0 && launch.threads <= kMaxThreads, launch.threads);
  TES_CHECK(launch.warp > 0 && launch.warp <= kMaxWarp, launch.warp);
  launch_ = &launch;
  id_ = id;
  schedule_ = schedule;
  ops = launch.ops;
  RETURN_IF_ERROR(memory_.Resize(launch.shared_bytes));
  clocks_.Start(launch.threads);
  memory_.StartBlock(launch.warp, &clocks_);
  shared = memory_.data();
  if (threads_.size() < count) threads_.resize(count);
  for (size_t t = 0; t < count; ++t) {
    Thread& thread = threads_[t];
    thread.state = State::kNew;
    thread.warp_meetings = 0;
    thread.waited = !launch.overlap;
    thread.copies.clear();
    thread.groups.clear();
  }
  fences_.assign(count, 0);
  named_.clear();
  barriers_.clear();
  products_.clear();
  readings_.clear();
  next_mark_ = 1;
  warpgroups_.assign((count + kGroup - 1) / kGroup, Warpgroup());
  waves_.assign((count + kWave - 1) / kWave, 0);
  warps_.assign((count + static_cast<size_t>(launch.warp) - 1) / static_cast<size_t>(launch.warp), Warp());
  for (size_t w = 0; w < warps_.size(); ++w) {
    warps_[w].lanes = std::min(launch_->warp, launch.threads - static_cast<int>(w) * launch_->warp);
  }
  order_.resize(count);
  for (size_t k = 0; k < count; ++k) {
    order_[k] = static_cast<int>(schedule.order == SimtOrder::kReverse ? count - 1 - k : k);
  }
  random_.seed(schedule.seed + static_cast<uint64_t>(id[0] + 65537 * (id[1] + 65537 * id[2])));
  cursor_ = 0;
  runnable_ = launch.threads;
  ended_ = at_block_ = 0;
  Shuffle();
  idle_.clear();
  for (const auto& fibre : fibres_) idle_.push_back(fibre.get());
  fault_ = OkStatus();
  if (caller_ == nullptr || caller_thread_ != std::this_thread::get_id()) {
    caller_ = Fibre::OfCaller();
    caller_thread_ = std::this_thread::get_id();
  }
  Fibre* first = TakeFibre();
  if (first == nullptr) return Error(ErrorCode::kOutOfMemory, "no memory for the stack of an emulated thread");
  current_ = Next();
  threads_[static_cast<size_t>(current_)].state = State::kReady;
  running_ = first;
  first->Start(RunThreads, this);
  Fibre::Switch(*caller_, *first);
  return std::move(fault_);
}

// On a fibre: this thread, then others that have not started, for as long as there are such.
void SimtBlock::RunThreads(void* self) {
  auto& block = *static_cast<SimtBlock*>(self);
  for (;;) {
    Thread& thread = block.threads_[static_cast<size_t>(block.current_)];
    thread.fibre = block.running_;
    block.launch_->entry(&block, block.launch_->params.data());
    block.EndThread();
    const int next = block.Next();
    if (next < 0) {
      block.CheckEnd();
      block.Leave();
    }
    block.current_ = next;
    if (block.threads_[static_cast<size_t>(next)].state == State::kNew) {
      block.threads_[static_cast<size_t>(next)].state = State::kReady;
      continue;
    }
    // The fibre is done with, and starts anew when it is taken again.
    Fibre* left = block.running_;
    block.idle_.push_back(left);
    block.running_ = block.threads_[static_cast<size_t>(next)].fibre;
    Fibre::Switch(*left, *block.running_);
  }
}

// No thread can run any more.
void SimtBlock::CheckEnd() {
  if (ended_ < launch_->threads) return NoteFault(current_, nullptr, WhoWaits());
  for (const auto& [offset, barrier] : barriers_) {
    if (barrier.copies.empty()) continue;
    return NoteFault(current_, nullptr,
                     internal::Join("the block ends, and nobody waited for ", barrier.bytes(),
                                    " bytes of copies that the mbarrier at offset ", offset, " counts"));
  }
  for (const auto& [number, named] : named_) {
    if (named.came == 0) continue;
    return NoteFault(current_, nullptr,
                     internal::Join("the block ends, and only ", named.came, " of ", named.count,
                                    " threads have come to barrier ", number));
  }
  bool waited = false;
  for (int t = 0; t < launch_->threads; ++t) waited |= threads_[static_cast<size_t>(t)].waited;
  if (waited) return;
  NoteFault(current_, nullptr,
            "the block ends without nv.grid_wait: steps after this one could start while those before it still run");
}

void SimtBlock::EndThread() {
  Thread& thread = threads_[static_cast<size_t>(current_)];
  thread.state = State::kEnded;
  ++ended_;
  Warp& warp = warps_[static_cast<size_t>(current_ / launch_->warp)];
  ++warp.ended;
  if (warp.waiting == 0) return;
  NoteFault(current_, nullptr, "ends while other lanes of its warp wait for it: " + WhoWaits());
  Leave();
}

void SimtBlock::Shuffle() {
  if (schedule_.order == SimtOrder::kRandom) std::shuffle(order_.begin(), order_.end(), random_);
}

// Takes the next thread that can run, in order and round about; -1: none can.
int SimtBlock::Next() {
  if (runnable_ == 0) return -1;
  for (;;) {
    if (cursor_ == order_.size()) {
      cursor_ = 0;
      Shuffle();
    }
    const int next = order_[cursor_++];
    const State state = threads_[static_cast<size_t>(next)].state;
    if (state == State::kNew || state == State::kReady) {
      --runnable_;
      return next;
    }
  }
}

Fibre* SimtBlock::TakeFibre() {
  if (idle_.empty()) {
    std::unique_ptr<Fibre> fibre = Fibre::Make();
    if (fibre == nullptr) return nullptr;
    fibres_.push_back(std::move(fibre));
    return fibres_.back().get();
  }
  Fibre* fibre = idle_.back();
  idle_.pop_back();
  return fibre;
}

// The current thread waits, as `state`; returns when it may go on.
void SimtBlock::Wait(State state, const char* site) {
  Thread& thread = threads_[static_cast<size_t>(current_)];
  thread.state = state;
  thread.site = site;
  const int next = Next();
  if (next < 0) {
    NoteFault(current_, site, WhoWaits());
    Leave();
  }
  Continue(next);
}

void SimtBlock::Continue(int next) {
  Fibre* left = running_;
  Thread& thread = threads_[static_cast<size_t>(next)];
  current_ = next;
  if (thread.state == State::kNew) {
    thread.state = State::kReady;
    Fibre* fibre = TakeFibre();
    if (fibre == nullptr) {
      NoteFault(next, nullptr, "no memory for its stack");
      running_ = left;
      Leave();
    }
    fibre->Start(RunThreads, this);
    thread.fibre = fibre;
  }
  running_ = thread.fibre;
  if (running_ != left) Fibre::Switch(*left, *running_);
}

// To whoever called Run; the fibres are forgotten as they are.
void SimtBlock::Leave() {
  Fibre::Switch(*running_, *caller_);
  __builtin_unreachable();
}

// Lanes of a warp meet at one place.
void SimtBlock::CheckNeighbours(const char* site) {
  const int first = current_ / launch_->warp * launch_->warp;
  for (int t = first; t < std::min(first + launch_->warp, launch_->threads); ++t) {
    const Thread& other = threads_[static_cast<size_t>(t)];
    const bool waits = other.state == State::kAtWarp || other.state == State::kAtBlock ||
                       other.state == State::kAtGroup || other.state == State::kAtNamed;
    if (!waits || other.site == site) continue;
    NoteFault(current_, site,
              internal::Join("lane ", t % launch_->warp, " of the same warp waits at another place: ", other.site));
    Leave();
  }
}

void SimtBlock::MeetWarp(const char* site, const uint64_t* operands, uint64_t* results, WarpOp op) {
  const int me = current_, first = me / launch_->warp * launch_->warp;
  Warp& warp = warps_[static_cast<size_t>(me / launch_->warp)];
  threads_[static_cast<size_t>(me)].operands = operands;
  threads_[static_cast<size_t>(me)].results = results;
  if (warp.ended > 0) {
    NoteFault(me, site, "waits for lanes of its warp that have ended");
    Leave();
  }
  CheckNeighbours(site);
  if (++warp.waiting < warp.lanes) return Wait(State::kAtWarp, site);
  WarpMeeting meeting = {
      .block = *this, .site = site, .first_thread = first, .lanes = launch_->warp, .operands = {}, .results = {}};
  for (int l = 0; l < warp.lanes; ++l) {
    Thread& thread = threads_[static_cast<size_t>(first + l)];
    meeting.operands[static_cast<size_t>(l)] = thread.operands;
    meeting.results[static_cast<size_t>(l)] = thread.results;
    thread.state = State::kReady;
  }
  warp.waiting = 0;
  runnable_ += warp.lanes - 1;
  op(meeting);
}

void SimtBlock::OrderWarp(int first_thread) {
  const int lanes = warps_[static_cast<size_t>(first_thread / launch_->warp)].lanes;
  for (int t = first_thread; t < first_thread + lanes; ++t) ++threads_[static_cast<size_t>(t)].warp_meetings;
  clocks_.Meet(first_thread, lanes);
}

void SimtBlock::MeetBlock(const char* site) {
  CheckNeighbours(site);
  if (++at_block_ < launch_->threads) return Wait(State::kAtBlock, site);
  at_block_ = 0;
  runnable_ += launch_->threads - 1;
  bool waited = false;
  for (int t = 0; t < launch_->threads; ++t) waited |= threads_[static_cast<size_t>(t)].waited;
  for (int t = 0; t < launch_->threads; ++t) {
    threads_[static_cast<size_t>(t)].state = State::kReady;
    threads_[static_cast<size_t>(t)].waited = waited;
  }
  memory_.Barrier();
}

void SimtBlock::CheckAccess(int thread, const char* site, const void* address, SimtAccess access) {
  const auto* at = static_cast<const std::byte*>(address);
  if ((reinterpret_cast<uintptr_t>(at) & ((uintptr_t{1} << access.align_log2) - 1)) != 0) {
    NoteFault(thread, site,
              internal::Join(Does(access), access.bytes, " bytes at ", Where(address),
                             "; expected an address that is a multiple of ", 1 << access.align_log2));
    Leave();
  }
  const bool in_shared = at >= memory_.data() && at < memory_.data() + memory_.size();
  if (access.shared || in_shared) return CheckShared(thread, site, at, access);
  const bool waited = threads_[static_cast<size_t>(thread)].waited;
  bool too_early = false;
  for (const SimtRange& range : launch_->ranges) {
    if (at < range.begin || at + access.bytes > range.begin + range.bytes) continue;
    if (access.stores && !range.writes) continue;
    if (waited || (range.early && !access.stores)) return;
    too_early = true;
  }
  if (too_early) {
    NoteFault(thread, site,
              internal::Join(Does(access), access.bytes, " bytes at ", Where(address),
                             ", before nv.grid_wait: the steps before may still be running"));
    Leave();
  }
  if (threads_[static_cast<size_t>(thread)].fibre->Contains(address)) return;
  NoteFault(thread, site, internal::Join(Does(access), access.bytes, " bytes at ", Where(address)));
  Leave();
}

void SimtBlock::CheckShared(int thread, const char* site, const std::byte* address, SimtAccess access) {
  const int64_t at = address - memory_.data();
  if (at < 0 || at + access.bytes > memory_.size()) {
    NoteFault(thread, site,
              internal::Join(Does(access), access.bytes, " bytes at offset ", at, " of ", memory_.size(),
                             " bytes of shared memory"));
    Leave();
  }
  if (access.atomic) return;
  {
    const std::optional<std::string> hazard =
        access.stores ? memory_.Write(at, access.bytes, By(thread)) : memory_.Read(at, access.bytes, By(thread));
    if (!hazard) return;
    NoteFault(thread, site, Does(access) + *hazard);
  }
  Leave();
}

// An address in words: the buffer that it lies in or nearest to.
std::string SimtBlock::Where(const void* address) const {
  const auto* at = static_cast<const std::byte*>(address);
  const SimtRange* nearest = nullptr;
  int64_t nearest_distance = INT64_MAX;
  for (const SimtRange& range : launch_->ranges) {
    const int64_t distance = std::max<int64_t>({0, range.begin - at, at - (range.begin + range.bytes) + 1});
    if (distance >= nearest_distance) continue;
    nearest = &range;
    nearest_distance = distance;
  }
  if (at >= memory_.data() && at < memory_.data() + memory_.size()) {
    return internal::Join("offset ", at - memory_.data(), " of shared memory");
  }
  constexpr int64_t kNear = int64_t{1} << 30;
  if (nearest == nullptr || nearest_distance > kNear) {
    return internal::Join("address ", address, ", which is in none of the step's buffers");
  }
  return internal::Join("offset ", at - nearest->begin, " of '", nearest->name, "', which has ", nearest->bytes,
                        " bytes", nearest->writes ? "" : " and may only be read");
}

void SimtBlock::StartCopy(const char* site, std::byte* to, const std::byte* from, int64_t bytes, int64_t size) {
  uint8_t align = 0;
  while ((int64_t{1} << align) < size) ++align;
  if (bytes > 0) CheckAccess(current_, site, from, {.bytes = static_cast<uint32_t>(bytes), .align_log2 = align});
  const SimtAccess store = {.bytes = static_cast<uint32_t>(size), .align_log2 = align, .stores = true, .shared = true};
  CheckAccess(current_, site, to, store);
  memory_.StartCopy(to - memory_.data(), size, By(current_));
  threads_[static_cast<size_t>(current_)].copies.push_back({to, from, bytes, size});
}

void SimtBlock::CommitCopies() {
  Thread& thread = threads_[static_cast<size_t>(current_)];
  thread.groups.push_back(std::move(thread.copies));
  thread.copies.clear();
}

void SimtBlock::WaitForCopies(size_t groups) {
  Thread& thread = threads_[static_cast<size_t>(current_)];
  while (thread.groups.size() > groups) {
    for (const Copy& copy : thread.groups.front()) {
      memory_.EndCopy(copy.to - memory_.data(), copy.size, By(current_));
      std::memcpy(copy.to, copy.from, static_cast<size_t>(copy.bytes));
      std::memset(copy.to + copy.bytes, 0, static_cast<size_t>(copy.size - copy.bytes));
    }
    thread.groups.pop_front();
  }
}

void SimtBlock::WaitForGrid() { threads_[static_cast<size_t>(current_)].waited = true; }

// The meeting that cannot happen, in words.
std::string SimtBlock::WhoWaits() const {
  int waiting = 0, example = -1, ended_example = -1;
  for (int t = 0; t < launch_->threads; ++t) {
    const State state = threads_[static_cast<size_t>(t)].state;
    if (state != State::kNew && state != State::kReady && state != State::kEnded) {
      ++waiting;
      if (example < 0) example = t;
    } else if (state == State::kEnded && ended_example < 0) {
      ended_example = t;
    }
  }
  std::string text = internal::Join(waiting, " of ", launch_->threads, " threads wait");
  if (example >= 0) text += internal::Join(", thread ", example, " at ", threads_[static_cast<size_t>(example)].site);
  if (ended_example >= 0) text += internal::Join(", while thread ", ended_example, " has ended");
  for (int t = 0; t < launch_->threads; ++t) {
    const Thread& thread = threads_[static_cast<size_t>(t)];
    const bool waits = thread.state != State::kNew && thread.state != State::kReady && thread.state != State::kEnded;
    if (!waits || thread.site == threads_[static_cast<size_t>(example)].site) continue;
    text += internal::Join(", thread ", t, " at ", thread.site);
    break;
  }
  const Barrier* told = nullptr;
  for (int t = 0; t < launch_->threads; ++t) {
    const Thread& thread = threads_[static_cast<size_t>(t)];
    if (thread.state != State::kAtBarrier || thread.barrier == told) continue;
    told = thread.barrier;
    text += "; " + Lacks(*told);
  }
  return text;
}

void SimtBlock::NoteFault(int thread, const char* site, std::string_view what) {
  fault_ = Error(ErrorCode::kKernelFaulty, "kernel '", launch_->kernel, "' of node '", launch_->node, "', block (",
                 id_[0], ",", id_[1], ",", id_[2], "), thread ", thread, " (warp ", thread / launch_->warp, ", lane ",
                 thread % launch_->warp, ")", site == nullptr ? "" : ", ", site == nullptr ? "" : site, ": ", what);
}

}  // namespace tessera
