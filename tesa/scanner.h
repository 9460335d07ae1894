// Scanner: a cursor over a text form that knows its line and column, for the hand-written parsers of text.h and the
// graph.
//
//   Scanner in("f32[2,3] # a comment");
//   ASSIGN_OR_RETURN(std::string word, in.Word("a type"));      // "f32"
//   RETURN_IF_ERROR(in.Expect("["));
//   return in.Fail("a number");           // TES-1111: line 1, column 5: expected a number, found '2,3] # a c'
//
// Blanks and comments (`#` or `//` to the end of the line) are skipped before each token. The text outlives the
// scanner. One thread at a time. Tested by text_test.cc.
#ifndef TESSERA_TESA_SCANNER_H_
#define TESSERA_TESA_SCANNER_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace tessera {

class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}

  // TES-1111 with line, column, what was expected and the text that stands there.
  Status Fail(std::string_view expected);
  // The same place in front of another error.
  Status At(const Status& status);

  bool AtEnd();
  // The next character after blanks, '\0' at the end.
  char Peek();
  // Is `token` next? A token that ends in a letter or digit must end there: "tes" does not match "tesa".
  bool Sees(std::string_view token);
  // Takes `token` if it is next.
  bool Accept(std::string_view token);
  Status Expect(std::string_view token);

  // Letters, digits and `_`.
  StatusOr<std::string> Word(std::string_view expected);
  StatusOr<int64_t> Int(std::string_view expected = "an integer");
  // An integer of at least `low` and at most `high`.
  StatusOr<int64_t> IntIn(int64_t low, int64_t high, std::string_view expected);
  // A number, "inf", "-inf" or "nan".
  StatusOr<double> Number();
  // "…" with \\ \" \n \t \r \xHH.
  StatusOr<std::string> Quoted();
  // "[a, b]" of integers or numbers; "[]" is empty.
  StatusOr<std::vector<int64_t>> Ints();
  StatusOr<std::vector<double>> Numbers();
  // Everything up to the end of the word-like run [A-Za-z0-9+/=], without copying: the digits of hex and base64.
  std::string_view Digits();
  // The text from here on, before blanks are skipped; and a way to move past what another parser took of it.
  std::string_view rest() const { return text_.substr(at_); }
  void Advance(size_t count) { at_ += count; }
  size_t position() const { return at_; }
  std::string_view text() const { return text_; }

 private:
  void SkipBlanks();
  std::string Place() const;

  std::string_view text_;
  size_t at_ = 0;
};

// The shortest text that reads back as the same double; "inf", "-inf", "nan".
std::string FormatNumber(double value);
// `text` in quotes, as Quoted() reads it.
std::string Quote(std::string_view text);
// Lower-case hexadecimal digits of bytes, and back (nullopt-like: an error without a place).
std::string FormatHex(std::string_view bytes);
StatusOr<std::string> ParseHex(std::string_view digits);
// Base64 (RFC 4648, padded).
std::string FormatBase64(std::string_view bytes);
StatusOr<std::string> ParseBase64(std::string_view digits);

}  // namespace tessera

#endif  // TESSERA_TESA_SCANNER_H_
