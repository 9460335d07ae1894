// TuningRecords: what measuring has told about ways to compute nodes, as a file that people can read and merge.
//
//   ASSIGN_OR_RETURN(TuningRecords records, TuningRecords::Parse(text));
//   const std::map<std::string, double>* times = records.Find(key);        // way -> microseconds, or nullptr
//   records.Set(key, "sparse_stream", 124.1, "matmul f32[192,512] x f32[512,512] kept 10 %");
//   WriteFileAtomically(path, records.ToString());
//
//   # tessera tuning records 1
//   3f9c… <TAB> sparse_stream <TAB> 124.1 <TAB> matmul f32[192,512] x f32[512,512] kept 10 %
//   3f9c… <TAB> matmul <TAB> 881.0 <TAB> matmul f32[192,512] x f32[512,512] kept 10 %
//
// A line is a node's key (single_node.h: op, types, epilogue, pattern of what is kept, processor, threads; not the
// weights' values), a way's name, its median in microseconds, and words for people, separated by tabs. Of two lines
// for the same key and way the later one counts, so that files are merged by writing one after the other. Values only;
// thread-compatible. Tested by tuning_records_test.cc.
#ifndef TESSERA_CODEGEN_TUNING_RECORDS_H_
#define TESSERA_CODEGEN_TUNING_RECORDS_H_

#include <map>
#include <string>
#include <string_view>

#include "base/status.h"

namespace tessera {

class TuningRecords {
 public:
  // Lines are hostile: TES-1005 names the line and what was expected there.
  static StatusOr<TuningRecords> Parse(std::string_view text);
  // Of the file at `path`; no records where there is no such file.
  static StatusOr<TuningRecords> ReadIfPresent(const std::string& path);

  // Microseconds by way, for the ways that were measured; nullptr where none was. Valid until the next Set or Merge.
  const std::map<std::string, double>* Find(const std::string& key) const;
  // Tabs and line ends in `what` become spaces.
  void Set(const std::string& key, const std::string& way, double us, std::string_view what);
  // What `other` says counts where both say something.
  void Merge(const TuningRecords& other);

  size_t size() const;  // pairs of key and way
  std::string ToString() const;
  friend bool operator==(const TuningRecords&, const TuningRecords&) = default;

 private:
  struct Entry {
    std::map<std::string, double> times;
    std::string what;
    friend bool operator==(const Entry&, const Entry&) = default;
  };
  std::map<std::string, Entry> entries_;
};

}  // namespace tessera

#endif  // TESSERA_CODEGEN_TUNING_RECORDS_H_
