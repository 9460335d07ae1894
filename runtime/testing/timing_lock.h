// TimingLock: of several processes that time one card, one at a time takes its times.
//
//   {
//     const TimingLock alone("/tmp/times");  // the same path in each; none: nothing is waited for
//     us = Time(program);
//   }
//
// What the others do meanwhile, compiling for one, still takes processors. Used by benchmarks, which show whether it
// works.
#ifndef TESSERA_RUNTIME_TESTING_TIMING_LOCK_H_
#define TESSERA_RUNTIME_TESTING_TIMING_LOCK_H_

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <string>

#include "base/status.h"

namespace tessera {

class TimingLock {
 public:
  explicit TimingLock(const std::string& path) {
    if (path.empty()) return;
    file_ = open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0666);
    TES_CHECK(file_ >= 0 && flock(file_, LOCK_EX) == 0, "cannot lock ", path);
  }
  ~TimingLock() {
    if (file_ >= 0) close(file_);  // which unlocks it
  }
  TimingLock(const TimingLock&) = delete;
  TimingLock& operator=(const TimingLock&) = delete;

 private:
  int file_ = -1;
};

}  // namespace tessera

#endif  // TESSERA_RUNTIME_TESTING_TIMING_LOCK_H_
