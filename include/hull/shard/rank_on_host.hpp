// SPDX-License-Identifier: Apache-2.0
// Which of the ranks of one host a rank is, where the launcher does not say.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <unistd.h>
#include <vector>

#include <hull/shard/communicator.hpp>

namespace hull {

/// How many ranks of this host have a smaller number. A collective of 64 bytes.
template <Communicator C>
[[nodiscard]] std::size_t rank_on_host(C& ranks) {
  using name = std::array<char, 64>;
  name self{};
  gethostname(self.data(), self.size() - 1);
  std::vector<name> hosts(ranks.size());
  ranks.all_gather(reinterpret_cast<std::byte const*>(&self), reinterpret_cast<std::byte*>(hosts.data()), sizeof self);
  auto const before = hosts.begin() + static_cast<std::ptrdiff_t>(ranks.rank());
  return static_cast<std::size_t>(std::count(hosts.begin(), before, self));
}

}  // namespace hull
