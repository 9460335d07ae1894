// AllocationCount: how often this process has asked for memory, for tests that promise not to.
//
//   const int64_t before = AllocationCount();
//   executor.Run();
//   EXPECT_EQ(AllocationCount() - before, 0);
//
// A test that links this replaces the global operator new, in all its forms; malloc called directly is not seen.
// Tested by thread_pool_test.cc, which first sees an allocation counted.
#ifndef TESSERA_RUNTIME_TESTING_ALLOCATION_COUNTER_H_
#define TESSERA_RUNTIME_TESTING_ALLOCATION_COUNTER_H_

#include <cstdint>

namespace tessera {

// Calls of operator new by all threads so far.
int64_t AllocationCount();

}  // namespace tessera

#endif  // TESSERA_RUNTIME_TESTING_ALLOCATION_COUNTER_H_
