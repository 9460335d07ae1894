// Fibre: a thread of execution that runs only when it is switched to, a few nanoseconds away.
//
//   std::unique_ptr<Fibre> self = Fibre::OfCaller(), other = Fibre::Make();
//   other->Start([](void* argument) { …; Fibre::Switch(*this_one, *that_one); …}, argument);
//   Fibre::Switch(*self, *other);          // returns when somebody switches to `self`
//
// The threads of an emulated block, up to 1024 of which wait for each other at every barrier: as threads of the system
// they would cost a thousand times as much. x86-64 only, as is the code that they run. All fibres that switch to each
// other belong to one thread of the system. Tested by fibre_test.cc.
#ifndef TESSERA_RUNTIME_SIMT_FIBRE_H_
#define TESSERA_RUNTIME_SIMT_FIBRE_H_

#include <cstddef>
#include <memory>

namespace tessera {

class Fibre {
 public:
  using Body = void (*)(void* argument);
  // Of a stack, with a page below it that nothing may touch.
  static constexpr size_t kStackBytes = 256 << 10;

  // Null when the system gives no memory.
  static std::unique_ptr<Fibre> Make();
  // Stands for what runs now, to be come back to.
  static std::unique_ptr<Fibre> OfCaller();

  Fibre(const Fibre&) = delete;
  Fibre& operator=(const Fibre&) = delete;
  ~Fibre();

  // The next switch to this fibre calls body(argument), which must not return; whatever it did before is forgotten.
  void Start(Body body, void* argument);
  // Leaves `from`, which is running, and goes on in `to`.
  static void Switch(Fibre& from, Fibre& to);
  // Is the address on this fibre's stack?
  bool Contains(const void* address) const {
    const auto* byte = static_cast<const std::byte*>(address);
    return byte >= stack_ && byte < stack_ + size_;
  }

 private:
  Fibre() = default;
  static void Enter(void* fibre);

  Body body_ = nullptr;
  void* argument_ = nullptr;
  std::byte* stack_ = nullptr;  // lowest usable address
  size_t size_ = 0;
  void* stack_pointer_ = nullptr;
  [[maybe_unused]] void* fake_stack_ = nullptr;  // AddressSanitizer's
  [[maybe_unused]] void* tsan_ = nullptr;        // ThreadSanitizer's
  bool owns_stack_ = false;
};

}  // namespace tessera

#endif  // TESSERA_RUNTIME_SIMT_FIBRE_H_
