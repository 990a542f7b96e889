// SPDX-License-Identifier: Apache-2.0
#pragma once
// Runs kernels without a GPU: one fiber per CUDA thread, all on one thread of the operating system.
//
//   simt::launch({.blocks = 4, .threads = 128, .shared_bytes = 1024, .seed = 7},
//                [&](simt::context& ctx) { quern::cuda::reverse(ctx, y); });
//
// What a GPU does at the same time happens here in an order drawn from the seed, and copies of `copy_async` land as
// late as they may: at the wait. A mistake is thrown as `report`. Data races need the thread sanitizer, accesses
// out of bounds the address sanitizer (or the guards of shared memory, which see writes close to an array).
// Not modelled: the time anything takes, and blocks that wait for each other.

#include <cstdint>
#include <cstring>
#include <deque>
#include <exception>
#include <memory>
#include <quern/core/rng.hpp>
#include <quern/kernel/cuda/context.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "fiber.hpp"

namespace quern_test::simt {

/// A mistake of a kernel: divergent barriers, exited threads, missing lanes, deadlock, misuse of shared memory.
struct report : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Where a barrier or collective stands in the source.
struct site {
  const char* file = __builtin_FILE();
  int line = __builtin_LINE();
  static site here(const char* f = __builtin_FILE(), int l = __builtin_LINE()) { return {f, l}; }
  friend bool operator==(const site& a, const site& b) {
    return a.line == b.line && std::strcmp(a.file, b.file) == 0;
  }
  std::string text() const {
    const char* name = std::strrchr(file, '/');
    return std::string(name != nullptr ? name + 1 : file) + ":" + std::to_string(line);
  }
};

struct config {
  unsigned blocks = 1, blocks_y = 1, blocks_z = 1;
  unsigned threads = 32;
  std::size_t shared_bytes = 0;  ///< as the launch on a GPU would ask for
  std::uint64_t seed = 1;        ///< order of the threads and of the blocks
};

namespace detail {

enum class state : std::uint8_t { ready, at_barrier, in_warp_operation, done };

struct pending_copy {
  void* to;
  const void* from;
  unsigned bytes;
};

/// A CUDA thread.
struct thread {
  explicit thread(unsigned n) : number(n), run(n) {}
  unsigned number;
  fiber run;
  state now = state::ready;
  site at;
  std::size_t next_shared = 0, shared_used = 0;
  std::vector<std::vector<pending_copy>> groups;  ///< closed groups of copies, oldest first
  std::vector<pending_copy> open;
};

/// One warp operation under way: lanes deposit `in`, the last one computes `out` of all.
struct collective {
  static constexpr std::size_t bytes = 64;
  std::uint32_t mask = 0, arrived = 0;
  std::uint32_t leaving = 0;  ///< lanes that have not picked up their `out` yet
  bool is_free() const { return arrived == 0 && leaving == 0; }
  const void* operation = nullptr;
  site at;
  alignas(16) unsigned char in[32 * bytes], out[32 * bytes];
};

/// A warp can be split over as many operations.
struct warp {
  collective operations[4];
};

/// An array of shared memory between two guards.
class shared_array {
 public:
  static constexpr std::size_t guard = 64;
  static constexpr unsigned char pattern = 0xa5;
  shared_array(std::size_t bytes)
      : bytes_(bytes), memory_(new quern::cuda::quad[(bytes + 15) / 16 + 2 * guard / 16]) {
    fill();
  }
  ~shared_array() { poison(false); }
  shared_array(const shared_array&) = delete;
  shared_array& operator=(const shared_array&) = delete;
  unsigned char* data() const { return base() + guard; }
  std::size_t bytes() const { return bytes_; }
  bool holds(const void* p, std::size_t n) const {
    const unsigned char* c = static_cast<const unsigned char*>(p);
    return c >= data() && c + n <= data() + bytes_;
  }
  bool intact() {
    poison(false);
    bool whole = true;
    for (std::size_t i = 0; i < guard; ++i)
      whole = whole && base()[i] == pattern && data()[bytes_ + i] == pattern;
    poison(true);
    return whole;
  }
  /// NaN in every floating-point type: what a block finds is not what the block before left.
  QUERN_SIMT_SCHEDULER void fill() {
    poison(false);
    for (std::size_t i = 0; i < guard; ++i) base()[i] = data()[bytes_ + i] = pattern;
    for (std::size_t i = 0; i < bytes_; ++i) data()[i] = 0xff;
    poison(true);
  }

 private:
  unsigned char* base() const { return reinterpret_cast<unsigned char*>(memory_.get()); }
  void poison([[maybe_unused]] bool on) {
#if defined(QUERN_SIMT_ASAN)
    for (unsigned char* p : {base(), data() + bytes_})
      on ? __asan_poison_memory_region(p, guard) : __asan_unpoison_memory_region(p, guard);
#endif
  }
  std::size_t bytes_;
  std::unique_ptr<quern::cuda::quad[]> memory_;
};

/// A block under way, and the scheduler of its threads.
class block {
 public:
  using entry = void (*)(void* kernel, block& b);
  block(const config& c, void* kernel, entry call)
      : shape(c), kernel_(kernel), call_(call), random_(c.seed), warps_((c.threads + 31) / 32) {
    for (unsigned i = 0; i < c.threads; ++i) threads_.emplace_back(i);
  }
  /// Runs block (x, y, z) to its end.
  QUERN_SIMT_SCHEDULER void run(unsigned bx, unsigned by, unsigned bz) {
    const unseen bookkeeping;
    x = bx;
    y = by;
    z = bz;
    running = this;
    alive_ = shape.threads;
    waiting_ = 0;
    for (shared_array& a : arrays_) a.fill();
    for (warp& w : warps_)
      for (collective& c : w.operations) c.arrived = c.leaving = 0;
    std::vector<thread*> order;
    for (thread& t : threads_) {
      t.now = state::ready;
      t.next_shared = t.shared_used = 0;
      t.groups.clear();
      t.open.clear();
      t.run.start(&block::enter);
      order.push_back(&t);
    }
    // Of two kinds of order, one is drawn: all warps go on in turns, or one runs ahead as far as it can before the next
    // one starts. Each hides some missing barriers and shows the others.
    const bool ahead = random_.below(2) == 1;
    std::vector<std::size_t> warp_order(warps_.size());
    for (std::size_t i = 0; i < warp_order.size(); ++i) warp_order[i] = i;
    shuffle(warp_order);
    while (alive_ > 0) {
      shuffle(order);
      bool progress = false;
      if (!ahead) {
        progress = resume_ready(order, ~std::size_t{0});
      } else {
        for (std::size_t i = 0; i < warp_order.size() && !progress; ++i)
          progress = resume_ready(order, warp_order[i]);
      }
      if (!progress) throw deadlock();
    }
    for (thread& t : threads_) t.run.end();
    for (std::size_t i = 0; i < arrays_.size(); ++i)
      if (!arrays_[i].intact())
        throw report("shared memory: the block wrote outside of its array number " + std::to_string(i));
  }

  thread& current() { return *current_; }
  /// Waits for all threads of the block.
  QUERN_SIMT_SCHEDULER void barrier(site at) {
    char* key = &barrier_key_[phase_ % 2];
    publish(key);
    if (!arrive(at)) wait(state::at_barrier, at);
    observe(key);
  }
  /// The collective that lane `current` joins, and in @p last whether it is the last one.
  QUERN_SIMT_SCHEDULER collective& join(std::uint32_t& mask, const void* operation, site at, bool& last) {
    const unseen bookkeeping;
    const unsigned lane = current_->number % 32, first = current_->number - lane;
    if (shape.threads - first < 32) mask &= (1u << (shape.threads - first)) - 1;
    if ((mask >> lane & 1) == 0)
      throw report("warp operation " + at.text() + ": lane " + std::to_string(lane) +
                   " is not in its own mask");
    collective* found = nullptr;
    for (collective& c : warps_[first / 32].operations) {
      if (c.arrived == 0 || (c.mask & mask) == 0) continue;
      if (c.mask != mask || c.operation != operation || !(c.at == at))
        throw report("warp operation " + at.text() + ": thread " + std::to_string(current_->number) +
                     " meets lanes that wait in " + c.at.text());
      found = &c;
    }
    if (found == nullptr) {
      for (collective& c : warps_[first / 32].operations)
        if (c.is_free() && found == nullptr) found = &c;
      if (found == nullptr)
        throw report("warp operation " + at.text() + ": the warp is split over more than 4");
      found->mask = mask;
      found->operation = operation;
      found->at = at;
    }
    found->arrived |= 1u << lane;
    last = found->arrived == mask;
    return *found;
  }
  /// The last lane is done computing: all go on.
  QUERN_SIMT_SCHEDULER void finish(collective& c) {
    const unseen bookkeeping;
    const unsigned first = current_->number / 32 * 32;
    for (unsigned lane = 0; lane < 32; ++lane)
      if ((c.mask >> lane & 1) != 0 && threads_[first + lane].now == state::in_warp_operation)
        threads_[first + lane].now = state::ready;
    c.arrived = 0;
    c.leaving = c.mask;
  }
  QUERN_SIMT_SCHEDULER void leave(collective& c) { c.leaving &= ~(1u << current_->number % 32); }
  QUERN_SIMT_SCHEDULER void wait(state s, site at) {
    current_->now = s;
    current_->at = at;
    publish(&finished);  // it may never be resumed: another thread's mistake ends the launch
    current_->run.yield();
  }
  /// The next array of shared memory that the current thread asks for.
  QUERN_SIMT_SCHEDULER unsigned char* shared(std::size_t bytes, site at) {
    const unseen bookkeeping;
    const std::size_t number = current_->next_shared++;
    current_->shared_used += (bytes + 15) / 16 * 16;
    if (current_->shared_used > shape.shared_bytes)
      throw report("shared memory " + at.text() + ": " + std::to_string(current_->shared_used) +
                   " bytes used, the launch has " + std::to_string(shape.shared_bytes));
    if (number == arrays_.size()) arrays_.emplace_back(bytes);
    if (arrays_[number].bytes() != bytes)
      throw report("shared memory " + at.text() + ": thread " + std::to_string(current_->number) +
                   " asks for " + std::to_string(bytes) + " bytes where another asked for " +
                   std::to_string(arrays_[number].bytes()));
    return arrays_[number].data();
  }
  /// Whether [p, p + n) lies in one array of shared memory.
  QUERN_SIMT_SCHEDULER bool is_shared(const void* p, std::size_t n) const {
    const unseen bookkeeping;
    for (const shared_array& a : arrays_)
      if (a.holds(p, n)) return true;
    return false;
  }

  const config shape;
  unsigned x = 0, y = 0, z = 0;
  static inline block* running = nullptr;
  static inline char finished = 0;  ///< published by every thread when it stops; observed when a launch ends

 private:
  template <class T>
  void shuffle(std::vector<T>& v) {
    for (std::size_t i = v.size(); i > 1; --i) std::swap(v[i - 1], v[random_.below(i)]);
  }
  /// Runs every ready thread of warp @p only (all ones: of any) until it waits; false if none was ready.
  QUERN_SIMT_SCHEDULER bool resume_ready(const std::vector<thread*>& order, std::size_t only) {
    bool progress = false;
    for (thread* t : order) {
      if (t->now != state::ready || (only != ~std::size_t{0} && t->number / 32 != only)) continue;
      progress = true;
      current_ = t;
      t->run.resume();
      if (failure_) std::rethrow_exception(failure_);
    }
    return progress;
  }
  /// Counts the current thread at the barrier; true: it is the last one, and all go on.
  QUERN_SIMT_SCHEDULER bool arrive(site at) {
    const unseen bookkeeping;
    if (waiting_ > 0 && !(barrier_at_ == at))
      throw report("divergent barrier: thread " + std::to_string(current_->number) + " at " + at.text() +
                   " while others wait at " + barrier_at_.text());
    barrier_at_ = at;
    if (++waiting_ < alive_) return false;
    if (alive_ != shape.threads)
      throw report("barrier " + at.text() + ": " + std::to_string(shape.threads - alive_) +
                   " threads have exited before it");
    waiting_ = 0;
    ++phase_;
    for (thread& t : threads_)
      if (t.now == state::at_barrier) t.now = state::ready;
    return true;
  }
  static void enter() { running->enter_thread(); }
  QUERN_SIMT_SCHEDULER void enter_thread() {
    current_->run.entered();
    try {
      call_(kernel_, *this);
    } catch (...) {
      const unseen bookkeeping;
      if (!failure_) failure_ = std::current_exception();
    }
    exit_thread();
  }
  QUERN_SIMT_SCHEDULER void exit_thread() {
    {
      const unseen bookkeeping;
      current_->now = state::done;
      --alive_;
      if (alive_ > 0 && waiting_ == alive_ && !failure_)
        failure_ = std::make_exception_ptr(report("thread " + std::to_string(current_->number) +
                                                  " has exited while the others wait at barrier " +
                                                  barrier_at_.text()));
    }
    publish(&finished);
    current_->run.yield(true);
    std::terminate();  // a finished thread is never resumed
  }
  report deadlock() const {
    std::string text = "deadlock:";
    int named = 0;
    for (const thread& t : threads_) {
      if (t.now == state::done || ++named > 4) continue;
      text += " thread " + std::to_string(t.number) +
              (t.now == state::at_barrier ? " waits at barrier " : " waits for lanes in warp operation ") +
              t.at.text() + ";";
    }
    if (alive_ < shape.threads) text += " " + std::to_string(shape.threads - alive_) + " threads have exited";
    return report(text);
  }
  void* kernel_;
  entry call_;
  quern::rng random_;
  std::deque<thread> threads_;
  std::vector<warp> warps_;
  std::deque<shared_array> arrays_;
  thread* current_ = nullptr;
  unsigned alive_ = 0, waiting_ = 0;
  std::size_t phase_ = 0;
  site barrier_at_;
  std::exception_ptr failure_;
  char barrier_key_[2] = {};  ///< addresses for publish and observe
};

}  // namespace detail

/// The context of an emulated thread; see quern::cuda::context for what the members mean.
class context {
 public:
  static constexpr bool emulated = true;
  static constexpr std::uint32_t all = 0xffffffffu;
  explicit context(detail::block& b) : block_(b), thread_(b.current()) {}

  unsigned thread() const { return thread_.number; }
  unsigned threads() const { return block_.shape.threads; }
  unsigned block() const { return block_.x; }
  unsigned block_y() const { return block_.y; }
  unsigned block_z() const { return block_.z; }
  unsigned blocks() const { return block_.shape.blocks; }

  template <class T>
  T* shared(unsigned n, site at = site::here()) {
    return reinterpret_cast<T*>(block_.shared(n * sizeof(T), at));
  }
  void sync(site at = site::here()) { block_.barrier(at); }
  void sync_warp(site at = site::here()) {
    collective<char>(
        all, char{}, [](const char*, char* out, std::uint32_t) { std::memset(out, 0, 32); }, at);
  }

  /// What warp primitives are made of: every lane of @p mask deposits @p in and waits; the last one calls
  /// op(in [32], out [32], mask), entries of lanes outside the mask being stale; each lane returns its out.
  template <class Out, class In, class Op>
  Out collective(std::uint32_t mask, const In& in, Op op, site at = site::here()) {
    static_assert(sizeof(In) <= detail::collective::bytes && sizeof(Out) <= detail::collective::bytes);
    static const char operation = 0;
    const unsigned lane = thread_.number % 32;
    bool last = false;
    detail::collective& c = block_.join(mask, &operation, at, last);
    In* inputs = reinterpret_cast<In*>(c.in);
    Out* outputs = reinterpret_cast<Out*>(c.out);
    inputs[lane] = in;
    publish(&c);
    if (last) {
      observe(&c);
      op(static_cast<const In*>(inputs), outputs, mask);
      publish(&c);
      block_.finish(c);
    } else {
      block_.wait(detail::state::in_warp_operation, at);
    }
    observe(&c);
    const Out mine = outputs[lane];
    block_.leave(c);
    return mine;
  }

  template <class T>
  T shuffle(T v, unsigned from, site at = site::here()) {
    return move_lanes(
        v, from, [](unsigned, unsigned source) { return source % 32; }, at);
  }
  template <class T>
  T shuffle_xor(T v, unsigned lane_mask, site at = site::here()) {
    return move_lanes(
        v, lane_mask, [](unsigned lane, unsigned m) { return lane ^ m; }, at);
  }
  template <class T>
  T shuffle_down(T v, unsigned n, site at = site::here()) {
    return move_lanes(
        v, n, [](unsigned lane, unsigned d) { return lane + d < 32 ? lane + d : lane; }, at);
  }
  std::uint32_t ballot(bool condition, site at = site::here()) {
    return collective<std::uint32_t>(
        all, condition,
        [](const bool* in, std::uint32_t* out, std::uint32_t mask) {
          std::uint32_t bits = 0;
          for (unsigned i = 0; i < 32; ++i)
            if ((mask >> i & 1) != 0 && in[i]) bits |= 1u << i;
          for (unsigned i = 0; i < 32; ++i) out[i] = bits;
        },
        at);
  }

  quern::cuda::quad load16(const void* p, site at = site::here()) {
    aligned(p, 16, at);
    return load(static_cast<const quern::cuda::quad*>(p), at);
  }
  template <class T>
  T load(const T* p, site at = site::here()) {
    aligned(p, sizeof(T), at);
    return *p;
  }
  template <class T>
  T load_written(const T* p, site at = site::here()) {
    return load(p, at);
  }
  void copy_async(void* to, const void* from, site at = site::here()) { copy_async(to, from, 16, at); }
  void copy_async(void* to, const void* from, unsigned bytes, site at = site::here()) {
    aligned(to, 16, at);
    if (bytes > 0) aligned(from, 16, at);
    if (bytes > 16 || !block_.is_shared(to, 16))
      throw report("copy " + at.text() + ": thread " + std::to_string(thread_.number) +
                   " does not copy 0 to 16 bytes to 16 bytes of one array of shared memory");
    thread_.open.push_back({to, from, bytes});
  }
  void commit_async() {
    thread_.groups.push_back(std::move(thread_.open));
    thread_.open.clear();
  }
  template <int N>
  void wait_async() {
    while (thread_.groups.size() > N) {
      for (const detail::pending_copy& c : thread_.groups.front()) {
        std::memcpy(c.to, c.from, c.bytes);
        std::memset(static_cast<char*>(c.to) + c.bytes, 0, 16 - c.bytes);
      }
      thread_.groups.erase(thread_.groups.begin());
    }
  }
  void atomic_or(unsigned* p, unsigned bits) { __atomic_fetch_or(p, bits, __ATOMIC_RELAXED); }
  bool last_to_arrive(unsigned* counter, unsigned n) {
    // No other fiber runs between the two; they are atomic for the order that they make.
    const unsigned before = __atomic_load_n(counter, __ATOMIC_ACQUIRE);
    __atomic_exchange_n(counter, before + 1 >= n ? 0 : before + 1, __ATOMIC_ACQ_REL);
    return before + 1 == n;
  }

 private:
  template <class T, class Source>
  T move_lanes(T v, unsigned argument, Source source, site at) {
    struct deposit {
      T value;
      unsigned argument;
    };
    return collective<T>(
        all, deposit{v, argument},
        [=](const deposit* in, T* out, std::uint32_t mask) {
          for (unsigned lane = 0; lane < 32; ++lane) {
            if ((mask >> lane & 1) == 0) continue;
            const unsigned from = source(lane, in[lane].argument);
            if ((mask >> from & 1) == 0)
              throw report("warp operation " + at.text() + ": lane " + std::to_string(lane) + " reads lane " +
                           std::to_string(from) + ", which does not take part");
            out[lane] = in[from].value;
          }
        },
        at);
  }
  void aligned(const void* p, std::size_t n, site at) const {
    if (reinterpret_cast<std::uintptr_t>(p) % n != 0)
      throw report("access " + at.text() + ": thread " + std::to_string(thread_.number) +
                   " needs an address that is a multiple of " + std::to_string(n));
  }
  detail::block& block_;
  detail::thread& thread_;
};
static_assert(quern::cuda::context<context>);

/// Runs kernel(ctx) for every thread of the grid, block after block in an order drawn from the seed.
/// @tparam Context  context, or one that makes mistakes on purpose (faults.hpp)
/// @throws report at the first mistake
template <class Context = context, class Kernel>
void launch(const config& c, Kernel kernel) {
  // Blocks have no order between them: under the thread sanitizer each has its own fibers and memory, kept until all
  // have ended, so that a race between blocks is seen. Elsewhere they take turns in one.
#if defined(QUERN_SIMT_TSAN)
  constexpr bool reuse = false;
#else
  constexpr bool reuse = true;
#endif
  std::deque<detail::block> blocks;
  struct end {
    ~end() { observe(&detail::block::finished); }
  } at_end;
  std::vector<unsigned> order(std::size_t{c.blocks} * c.blocks_y * c.blocks_z);
  for (unsigned i = 0; i < order.size(); ++i) order[i] = i;
  quern::rng random(c.seed);
  for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
  for (const unsigned i : order) {
    if (!reuse || blocks.empty()) {
      config own = c;
      own.seed += i;
      blocks.emplace_back(own, &kernel, [](void* k, detail::block& b) {
        Context ctx(b);
        (*static_cast<Kernel*>(k))(ctx);
      });
    }
    blocks.back().run(i % c.blocks, i / c.blocks % c.blocks_y, i / c.blocks / c.blocks_y);
  }
}

}  // namespace quern_test::simt
