#include "runtime/simt/fibre.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>

#if defined(__SANITIZE_ADDRESS__)
#define TES_FIBRE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TES_FIBRE_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define TES_FIBRE_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TES_FIBRE_TSAN 1
#endif
#endif
#ifdef TES_FIBRE_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef TES_FIBRE_TSAN
#include <sanitizer/tsan_interface.h>
#endif

// What a function must keep (System V ABI), pushed on the stack that is left and popped from the one that is entered.
// tessera_fibre_switch(void** left, void* entered). A new fibre's stack holds such a frame whose return address is
// tessera_fibre_enter, and whose r12 and r13 are what to call and with what.
extern "C" void tessera_fibre_switch(void** left, void* entered);
extern "C" void tessera_fibre_enter();

#if defined(__x86_64__)
asm(R"(
  .text
  .p2align 4
  .type tessera_fibre_switch,@function
tessera_fibre_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size tessera_fibre_switch,.-tessera_fibre_switch
  .type tessera_fibre_enter,@function
tessera_fibre_enter:
  movq %r13, %rdi
  callq *%r12
  ud2
  .size tessera_fibre_enter,.-tessera_fibre_enter
)");
#endif

namespace tessera {
namespace {

size_t PageBytes() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }

}  // namespace

std::unique_ptr<Fibre> Fibre::Make() {
#if !defined(__x86_64__)
  return nullptr;
#endif
  const size_t guard = PageBytes();
  void* memory = mmap(nullptr, kStackBytes + guard, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  std::unique_ptr<Fibre> fibre(new Fibre());
  fibre->stack_ = static_cast<std::byte*>(memory) + guard;
  fibre->size_ = kStackBytes;
  fibre->owns_stack_ = true;
#ifdef TES_FIBRE_TSAN
  fibre->tsan_ = __tsan_create_fiber(0);
#endif
  if (mprotect(memory, guard, PROT_NONE) != 0) return nullptr;
  return fibre;
}

std::unique_ptr<Fibre> Fibre::OfCaller() {
  std::unique_ptr<Fibre> fibre(new Fibre());
#ifdef TES_FIBRE_ASAN
  pthread_attr_t attributes;
  if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
    void* low = nullptr;
    pthread_attr_getstack(&attributes, &low, &fibre->size_);
    fibre->stack_ = static_cast<std::byte*>(low);
    pthread_attr_destroy(&attributes);
  }
#endif
#ifdef TES_FIBRE_TSAN
  fibre->tsan_ = __tsan_get_current_fiber();
#endif
  return fibre;
}

Fibre::~Fibre() {
  if (!owns_stack_) return;
#ifdef TES_FIBRE_TSAN
  __tsan_destroy_fiber(tsan_);
#endif
#ifdef TES_FIBRE_ASAN
  ASAN_UNPOISON_MEMORY_REGION(stack_, size_);
#endif
  munmap(stack_ - PageBytes(), size_ + PageBytes());
}

void Fibre::Enter(void* fibre) {
  auto* self = static_cast<Fibre*>(fibre);
#ifdef TES_FIBRE_ASAN
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
  self->body_(self->argument_);
}

void Fibre::Start(Body body, void* argument) {
#ifdef TES_FIBRE_ASAN
  ASAN_UNPOISON_MEMORY_REGION(stack_, size_);
  fake_stack_ = nullptr;
#endif
  body_ = body;
  argument_ = argument;
  // From the top: room, the return address, then rbp, rbx, r12 … r15 as the switch pops them. After its return the
  // stack must be aligned to 16 bytes, for a call.
  auto* top = reinterpret_cast<uintptr_t*>(stack_ + size_) - 2;
  *--top = reinterpret_cast<uintptr_t>(&tessera_fibre_enter);
  *--top = 0;                                    // rbp
  *--top = 0;                                    // rbx
  *--top = reinterpret_cast<uintptr_t>(&Enter);  // r12
  *--top = reinterpret_cast<uintptr_t>(this);    // r13
  *--top = 0;                                    // r14
  *--top = 0;                                    // r15
  stack_pointer_ = top;
}

void Fibre::Switch(Fibre& from, Fibre& to) {
#ifdef TES_FIBRE_ASAN
  __sanitizer_start_switch_fiber(&from.fake_stack_, to.stack_, to.size_);
#endif
#ifdef TES_FIBRE_TSAN
  __tsan_switch_to_fiber(to.tsan_, 0);
#endif
  tessera_fibre_switch(&from.stack_pointer_, to.stack_pointer_);
#ifdef TES_FIBRE_ASAN
  __sanitizer_finish_switch_fiber(from.fake_stack_, nullptr, nullptr);
#endif
}

}  // namespace tessera
