// SPDX-License-Identifier: Apache-2.0
// The one exception type, and the check that throws it.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace hull {

/// What went wrong decides the exit status of the command line tool.
enum class fault {
  input = 2,   ///< a file, a specification or an argument is bad: the user can repair it
  device = 3,  ///< a device, a compiler or a communicator failed
};

/// Thrown on misuse and on bad input. `what()` is one line: place, what was found, what was expected.
/// "Could not prove" is never an exception; it is the verdict `unknown`.
class error : public std::runtime_error {
 public:
  explicit error(std::string const& sentence, fault kind = fault::input) : std::runtime_error(sentence), kind_(kind) {}

  [[nodiscard]] fault kind() const noexcept { return kind_; }

 private:
  fault kind_;
};

/// Throws hull::error with `sentence` unless `condition` holds.
inline void expect(bool condition, std::string_view sentence) {
  if (!condition) throw error(std::string(sentence));
}

}  // namespace hull
