// HeldProcessors: while it lives, the calling thread and the workers of all sessions ("tessera-1", …) each stay on a
// processor of their own.
//
//   const HeldProcessors held;
//   TimeRounds(runs, 15, 0.001);
//
// Where the system puts two of them on one processor, as it does for a while when somebody else's work comes and goes,
// a run of 8 us takes 300 and says nothing about kernels. Worker N gets the Nth processor after the caller's that this
// process may use; workers beyond them stay as they are. For one thread at a time; make no pools meanwhile, whose
// workers would get the caller's processor. Tested by held_processors_test.cc.
#ifndef TESSERA_TESTS_GRID_HELD_PROCESSORS_H_
#define TESSERA_TESTS_GRID_HELD_PROCESSORS_H_

#include <sched.h>

namespace tessera {

class HeldProcessors {
 public:
  HeldProcessors();
  HeldProcessors(const HeldProcessors&) = delete;
  HeldProcessors& operator=(const HeldProcessors&) = delete;
  // Lets the caller go where it was allowed to; workers stay.
  ~HeldProcessors();

 private:
  cpu_set_t allowed_;
  bool known_ = false;
};

}  // namespace tessera

#endif  // TESSERA_TESTS_GRID_HELD_PROCESSORS_H_
