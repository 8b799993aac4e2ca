#include "memory_checks.h"

#include <algorithm>

#include "emulator/atomics.h"
#include "settings.h"
#include "statistics.h"

namespace emulator {

MemoryChecks& memory_checks() {
  static MemoryChecks checks;
  return checks;
}

void MemoryChecks::begin(const Launch& launch) {
  launch_ = &launch;
  on_ = settings().check;
  grid_time_ = ++clock_;
  if (buffers_.empty()) global_.clear();  // what earlier launches wrote matters for registered buffers alone
  releases_.clear();
  acquires_.clear();
}

void MemoryChecks::end() { launch_ = nullptr; }

void MemoryChecks::begin_block(Block& block) {
  if (!on_) return;
  block.start = block.barrier = block.previous_barrier = ++clock_;
  block.shared_variables.resize(launch_->shared_memory().variables().size() / granule + 1);
  block.shared_dynamic.resize(launch_->shared_memory().dynamic().size() / granule + 1);
  for (Thread& thread : block.threads) {
    thread.segment = clock_;
    thread.fence = 0;
    thread.known.fill(0);
  }
}

void MemoryChecks::block_barrier(Block& block) {
  if (!on_) return;
  block.previous_barrier = block.barrier;
  block.barrier = ++clock_;
  for (Thread& thread : block.threads) thread.segment = clock_;
}

void MemoryChecks::grid_barrier(std::vector<Block>& blocks) {
  if (!on_) return;
  grid_time_ = ++clock_;
  for (Block& block : blocks) block_barrier(block);
}

void MemoryChecks::warp_barrier(Thread* lanes, unsigned mask) {
  if (!on_) return;
  std::array<std::uint32_t, 32> known{};
  for (unsigned lane = 0; lane < 32; ++lane) {
    if ((mask >> lane & 1u) == 0) continue;
    for (unsigned i = 0; i < 32; ++i) known[i] = std::max(known[i], lanes[lane].known[i]);
    known[lane] = std::max(known[lane], lanes[lane].segment);
  }
  ++clock_;
  for (unsigned lane = 0; lane < 32; ++lane) {
    if ((mask >> lane & 1u) == 0) continue;
    lanes[lane].known = known;
    lanes[lane].segment = clock_;
  }
}

void MemoryChecks::fence(Thread& thread) {
  if (!on_) return;
  thread.known[thread.lane] = thread.segment;
  thread.fence = thread.segment = ++clock_;
}

void MemoryChecks::access(std::uintptr_t address, std::size_t bytes, Access access, Site site) {
  Thread& thread = *current_thread();
  const auto stack = reinterpret_cast<std::uintptr_t>(thread.stack.low);
  if (bytes == 0 || (address >= stack && address < stack + thread.stack.size)) return;
  const Buffer* buffer = nullptr;
  const Space space = check_bounds(thread, address, bytes, access, site, buffer);
  if (space == Space::none) return;
  if (settings().statistics) statistics().count(thread, space != Space::global, address, bytes, access, site);
  if (!on_) return;
  check_cells(thread, space, buffer, address, bytes, access, site);
  if (access == Access::atomic) pass_on(thread, address);
}

namespace {

std::string size_of_access(std::size_t bytes, Access access) {
  const char* verb = access == Access::read ? "a read of " : access == Access::write ? "a write of " : "an atomic of ";
  return verb + std::to_string(bytes) + " bytes ";
}

std::string distance(std::uintptr_t address, std::size_t bytes, const Range& range) {
  if (address < range.low) return "that begins " + std::to_string(range.low - address) + " bytes before the start";
  return "that ends " + std::to_string(address + bytes - range.high) + " bytes behind the " +
         std::to_string(range.size()) + " that there are";
}

}  // namespace

MemoryChecks::Space MemoryChecks::check_bounds(const Thread& thread, std::uintptr_t address, std::size_t bytes,
                                               Access access, const Site& site, const Buffer*& buffer) {
  const SharedMemory& shared = launch_->shared_memory();
  const auto fail = [&](const std::string& where, const std::string& memory) {
    report_about(thread, "out of bounds", size_of_access(bytes, access) + where, site, memory);
    current_launch()->abandon(cudaErrorIllegalAddress);
  };
  if (shared.variables().contains(address)) {
    if (address + bytes > shared.variables().high) {
      fail(distance(address, bytes, shared.variables()), name(Space::shared_variables, nullptr));
    }
    return Space::shared_variables;
  }
  if (shared.dynamic_area().contains(address)) {
    if (on_ && address + bytes > shared.dynamic().high) {
      fail(distance(address, bytes, shared.dynamic()), name(Space::shared_dynamic, nullptr));
    }
    return Space::shared_dynamic;
  }
  buffer = buffers_.find(address);
  if (buffer != nullptr && address + bytes <= buffer->range.high) return Space::global;
  const auto arguments = reinterpret_cast<std::uintptr_t>(launch_->kernel().arguments);
  if (address >= arguments && address < arguments + launch_->kernel().arguments_size) return Space::none;
  if (shared.module().contains(address)) return Space::none;  // constants, and the emulator itself
  if (on_ && !buffers_.empty()) {
    const Buffer& nearest = buffer != nullptr ? *buffer : buffers_.nearest(address);
    fail(distance(address, bytes, nearest.range), nearest.name);
  }
  return Space::global;
}

void MemoryChecks::check_cells(Thread& thread, Space space, const Buffer* buffer, std::uintptr_t address,
                               std::size_t bytes, Access access, const Site& site) {
  Block& block = *thread.block;
  Mark now;
  now.time = thread.segment;
  now.block = block.rank;
  now.site = index(site);
  now.thread = static_cast<std::uint16_t>(thread.rank);
  now.atomic = access == Access::atomic;
  const bool shared = space != Space::global;
  const bool has_value = !shared && (buffer == nullptr || buffer->initialised);
  bool uninitialised = false;
  for (std::uintptr_t at = address & ~(granule - 1); at < address + bytes; at += granule) {
    Cell& cell = this->cell(block, space, at);
    if (shared && cell.write.time < block.start) {  // what an earlier block left
      cell.written = 0;
      if (cell.reads[0].time < block.start) cell.reads = {};
    }
    now.bytes = 0;
    for (std::size_t byte = 0; byte < granule; ++byte) {
      if (at + byte >= address && at + byte < address + bytes) now.bytes |= static_cast<std::uint8_t>(1u << byte);
    }
    if (access != Access::write && !has_value && (now.bytes & ~cell.written) != 0) uninitialised = true;
    check_order(thread, cell.write, now, access == Access::read ? "a read after a write" : "a write after a write",
                space, buffer, at);
    if (access == Access::read) {
      cell.remember_read(now);
      continue;
    }
    for (const Mark& read : cell.reads) check_order(thread, read, now, "a write after a read", space, buffer, at);
    cell.reads = {};
    cell.write = now;
    cell.written |= now.bytes;
  }
  if (uninitialised) {
    report_about(thread, "uninitialised read", size_of_access(bytes, access) + "of memory that nothing was written to",
                 site, name(space, buffer));
  }
}

void MemoryChecks::check_order(const Thread& thread, const Mark& earlier, const Mark& now, const char* what,
                               Space space, const Buffer* buffer, std::uintptr_t address) {
  if (earlier.time == 0 || (earlier.bytes & now.bytes) == 0 || (earlier.atomic && now.atomic)) return;
  if (space != Space::global && earlier.time < thread.block->start) return;
  if (ordered(thread, earlier)) return;
  const Range& range = space == Space::shared_variables ? launch_->shared_memory().variables()
                       : space == Space::shared_dynamic ? launch_->shared_memory().dynamic()
                       : buffer != nullptr              ? buffer->range
                                                        : Range{};
  report_about(thread, "race",
               std::string(what) + " by thread " + std::to_string(earlier.thread) + " of block " +
                   std::to_string(earlier.block) + ", with nothing to order them, of byte " +
                   std::to_string(address - range.low),
               site(now.site), name(space, buffer), site(earlier.site));
}

bool MemoryChecks::ordered(const Thread& thread, const Mark& earlier) const {
  if (earlier.time < grid_time_) return true;
  if (earlier.block != thread.block->rank) return released(thread, earlier);
  if (earlier.thread == thread.rank || earlier.time < thread.block->barrier) return true;
  return earlier.thread / 32u == thread.warp() && earlier.time <= thread.known[earlier.thread % 32];
}

bool MemoryChecks::released(const Thread& thread, const Mark& earlier) const {
  const auto acquires = acquires_.find(thread.block->rank);
  if (acquires == acquires_.end()) return false;
  for (const Acquire& acquire : acquires->second) {
    if (acquire.warp != thread.warp() && acquire.time >= thread.block->barrier) continue;  // not yet passed on
    const std::vector<Release>& releases = releases_.at(acquire.address);
    for (std::size_t i = 0; i < acquire.releases; ++i) {
      const Release& release = releases[i];
      if (release.block != earlier.block) continue;
      if (earlier.time < release.before) return true;
      if (earlier.thread / 32u == release.warp && earlier.time <= release.lanes[earlier.thread % 32]) return true;
    }
  }
  return false;
}

void MemoryChecks::pass_on(Thread& thread, std::uintptr_t address) {
  const Block& block = *thread.block;
  std::vector<Release>& releases = releases_[address];
  if (!releases.empty()) acquires_[block.rank].push_back({address, releases.size(), thread.warp(), thread.segment});
  // A fence before the last barrier counts too: programs fence in every thread, pass a barrier, and then one counts.
  if (thread.fence == 0 || thread.fence < block.previous_barrier) return;
  Release release;
  release.block = block.rank;
  release.before = block.barrier;
  release.warp = thread.warp();
  release.lanes = thread.known;
  releases.push_back(release);
}

Cell& MemoryChecks::cell(Block& block, Space space, std::uintptr_t address) {
  const SharedMemory& shared = launch_->shared_memory();
  switch (space) {
    case Space::shared_variables: return block.shared_variables[(address - shared.variables().low) / granule];
    case Space::shared_dynamic: return block.shared_dynamic[(address - shared.dynamic().low) / granule];
    default: return global_.cell(address);
  }
}

std::string MemoryChecks::name(Space space, const Buffer* buffer) const {
  switch (space) {
    case Space::shared_variables: return "static shared memory";
    case Space::shared_dynamic: return "dynamic shared memory";
    default: return buffer != nullptr ? buffer->name : "global memory";
  }
}

// Code addresses are kept as offsets into the library, places that are known by name as indices with the top bit set.
std::uint32_t MemoryChecks::index(const Site& site) {
  if (site.location.file == nullptr) return static_cast<std::uint32_t>(site.pc - launch_->shared_memory().module().low);
  for (std::uint32_t i = 0; i < locations_.size(); ++i) {
    if (locations_[i].line == site.location.line && locations_[i].file == site.location.file) return i | 0x80000000u;
  }
  locations_.push_back(site.location);
  return static_cast<std::uint32_t>(locations_.size() - 1) | 0x80000000u;
}

Site MemoryChecks::site(std::uint32_t index) const {
  if ((index & 0x80000000u) != 0) return {locations_[index & 0x7fffffffu]};
  return {{nullptr, 0}, launch_->shared_memory().module().low + index};
}

void MemoryChecks::register_buffer(std::uintptr_t address, std::size_t bytes, const char* name, bool initialised) {
  buffers_.add({{address, address + bytes}, name, initialised});
  for (std::uintptr_t at = address; !initialised && at < address + bytes; at += granule) global_.cell(at) = {};
}

void MemoryChecks::mark_initialised(std::uintptr_t address, std::size_t bytes) {
  for (std::uintptr_t at = address; at < address + bytes; at += granule) global_.cell(at).written = 3;
}

void MemoryChecks::clear() {
  buffers_.clear();
  global_.clear();
}

void before_atomic(const void* address, std::size_t bytes, Location at) {
  Thread& thread = *current_thread();
  current_launch()->let_others_go_first(thread);
  if (settings().check || settings().statistics) {
    memory_checks().access(reinterpret_cast<std::uintptr_t>(address), bytes, Access::atomic, {at});
  }
}

}  // namespace emulator
