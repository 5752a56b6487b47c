// SPDX-License-Identifier: Apache-2.0
// Parameters that a program writes out or computes itself, by key.
#pragma once

#include <initializer_list>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <hull/net/parameters.hpp>

namespace hull {

/// A source of parameters (net/parameters.hpp): parameter_table const numbers{{"fc1.weight", {...}}, {"fc1.bias",
/// {...}}};
class parameter_table final {
 public:
  parameter_table() = default;
  parameter_table(std::initializer_list<std::pair<std::string const, std::vector<float>>> tensors)
      : tensors_(tensors) {}

  /// The numbers of one key, new ones if it has none yet.
  [[nodiscard]] std::vector<float>& operator[](std::string const& key) { return tensors_[key]; }

  /// Empty for a key that is not there: the network then says how many values it expects.
  [[nodiscard]] parameter_values operator()(std::string const& key) const {
    auto const found = tensors_.find(key);
    return found == tensors_.end() ? parameter_values{} : parameter_values{found->second};
  }

 private:
  std::map<std::string, std::vector<float>> tensors_;
};

}  // namespace hull
