// SPDX-License-Identifier: Apache-2.0
#pragma once
// A fiber: a stack of its own and a point to go on from. What the sanitizers must know of a switch is told here.

#include <sys/mman.h>

#include <cstddef>
#include <new>

#if !defined(__x86_64__)
#define QUERN_SIMT_UCONTEXT
#endif
#if defined(QUERN_SIMT_UCONTEXT)
#include <ucontext.h>
#endif
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define QUERN_SIMT_ASAN
#endif
#if __has_feature(thread_sanitizer)
#define QUERN_SIMT_TSAN
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define QUERN_SIMT_ASAN
#endif
#if defined(__SANITIZE_THREAD__)
#define QUERN_SIMT_TSAN
#endif
#if defined(QUERN_SIMT_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(QUERN_SIMT_TSAN)
#include <sanitizer/tsan_interface.h>
extern "C" void __tsan_ignore_thread_begin();
extern "C" void __tsan_ignore_thread_end();
// The scheduler runs between the fibers and belongs to none of them: its accesses are not events of the kernel, and
// a function that starts in one fiber and returns in another would unbalance the sanitizer's call stacks.
#define QUERN_SIMT_SCHEDULER __attribute__((no_sanitize("thread"), noinline))
#else
#define QUERN_SIMT_SCHEDULER __attribute__((noinline))
#endif

namespace quern_test::simt {

#if defined(QUERN_SIMT_UCONTEXT)
using saved = ucontext_t;
inline void switch_to(saved& from, saved& to) { swapcontext(&from, &to); }
#else
/// The registers that a called function must keep (System V ABI) lie on the stack, so a fiber is its stack pointer.
/// 14 to 18 million switches per second where swapcontext, which enters the kernel, makes 2.
struct saved {
  void* stack = nullptr;
};
extern "C" void quern_simt_switch(void** from, void* to);
asm(R"(
.text
.weak quern_simt_switch
.type quern_simt_switch,@function
quern_simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp,(%rdi)
  movq %rsi,%rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size quern_simt_switch,.-quern_simt_switch
)");
inline void switch_to(saved& from, saved& to) { quern_simt_switch(&from.stack, to.stack); }
#endif

/// What happens before what, for the thread sanitizer: all that a fiber did before `publish(p)` is visible to one
/// that `observe`s p later. Elsewhere they do nothing.
QUERN_SIMT_SCHEDULER inline void publish([[maybe_unused]] void* p) {
#if defined(QUERN_SIMT_TSAN)
  __tsan_release(p);
#endif
}
QUERN_SIMT_SCHEDULER inline void observe([[maybe_unused]] void* p) {
#if defined(QUERN_SIMT_TSAN)
  __tsan_acquire(p);
#endif
}

/// While one lives, the thread sanitizer does not look at what the current fiber reads and writes: bookkeeping of the
/// emulator, in which the fibers take turns.
struct unseen {
#if defined(QUERN_SIMT_TSAN)
  QUERN_SIMT_SCHEDULER unseen() { __tsan_ignore_thread_begin(); }
  QUERN_SIMT_SCHEDULER ~unseen() { __tsan_ignore_thread_end(); }
#else
  unseen() {}
#endif
  unseen(const unseen&) = delete;
  unseen& operator=(const unseen&) = delete;
};

class fiber {
 public:
  /// Kernels keep their arrays in registers: frames are small, except under the address sanitizer.
  static constexpr std::size_t stack_bytes = 256 << 10;

  /// @param number  staggers the stacks, whose tops would else share one cache set
  explicit fiber(std::size_t number) : skip_(number * 7 % 61 * 128) {
    void* p = mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) throw std::bad_alloc();
    stack_ = static_cast<char*>(p);
  }
  fiber(const fiber&) = delete;
  fiber& operator=(const fiber&) = delete;
  QUERN_SIMT_SCHEDULER ~fiber() {
    forget();
    munmap(stack_, stack_bytes);
  }

  /// The next `resume` enters @p entry, which must leave by `yield(true)`. What ran before is forgotten.
  QUERN_SIMT_SCHEDULER void start(void (*entry)()) {
    forget();
#if defined(QUERN_SIMT_TSAN)
    tsan_ = __tsan_create_fiber(0);
#endif
#if defined(QUERN_SIMT_UCONTEXT)
    getcontext(&here_);
    here_.uc_stack.ss_sp = stack_;
    here_.uc_stack.ss_size = stack_bytes;
    here_.uc_link = nullptr;
    makecontext(&here_, entry, 0);
#else
    void** top = reinterpret_cast<void**>(stack_ + stack_bytes - skip_);
    *--top = nullptr;  // so that the stack is aligned as after a call
    *--top = reinterpret_cast<void*>(entry);
    for (int registers = 0; registers < 6; ++registers) *--top = nullptr;
    here_.stack = top;
#endif
  }
  /// Called by the scheduler after the last yield: the sanitizers may forget the fiber.
  QUERN_SIMT_SCHEDULER void end() { forget(); }
  /// Called by the scheduler: runs the fiber until it yields.
  QUERN_SIMT_SCHEDULER void resume() {
#if defined(QUERN_SIMT_ASAN)
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, stack_, stack_bytes);
#endif
#if defined(QUERN_SIMT_TSAN)
    scheduler_tsan_ = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(tsan_, 1);  // 1: without an order between the two
#endif
    switch_to(scheduler_, here_);
#if defined(QUERN_SIMT_ASAN)
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
  }
  /// Called in the fiber, at its entry.
  QUERN_SIMT_SCHEDULER void entered() {
#if defined(QUERN_SIMT_ASAN)
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack_, &scheduler_bytes_);
#endif
  }
  /// Called in the fiber: back to the scheduler, for good if @p last.
  QUERN_SIMT_SCHEDULER void yield([[maybe_unused]] bool last = false) {
#if defined(QUERN_SIMT_ASAN)
    __sanitizer_start_switch_fiber(last ? nullptr : &fake_, scheduler_stack_, scheduler_bytes_);
#endif
#if defined(QUERN_SIMT_TSAN)
    __tsan_switch_to_fiber(scheduler_tsan_, 1);
#endif
    switch_to(here_, scheduler_);
#if defined(QUERN_SIMT_ASAN)
    __sanitizer_finish_switch_fiber(fake_, &scheduler_stack_, &scheduler_bytes_);
#endif
  }

 private:
  QUERN_SIMT_SCHEDULER void forget() {
#if defined(QUERN_SIMT_ASAN)
    __asan_unpoison_memory_region(stack_, stack_bytes);
#endif
#if defined(QUERN_SIMT_TSAN)
    if (tsan_ != nullptr) __tsan_destroy_fiber(tsan_);
    tsan_ = nullptr;
#endif
  }
  char* stack_;
  std::size_t skip_;
  saved here_, scheduler_;
#if defined(QUERN_SIMT_ASAN)
  void* fake_ = nullptr;
  const void* scheduler_stack_ = nullptr;
  std::size_t scheduler_bytes_ = 0;
#endif
#if defined(QUERN_SIMT_TSAN)
  void *tsan_ = nullptr, *scheduler_tsan_ = nullptr;
#endif
};

}  // namespace quern_test::simt
