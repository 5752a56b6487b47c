// SPDX-License-Identifier: Apache-2.0
// Tensor parallelism as a rewriting of types: the part of a network that one of P ranks computes is a network, too.
//
// Two affine layers with only pointwise operators between them form a pair. The first gives each rank 1/P of its
// outputs (rows of its matrix, filters of a Conv); the second takes them in (columns, channels), and its outputs are
// sums over the ranks (Shoeybi et al. 2019, section 3). Between the two, a rank knows its own neurons only; everywhere
// else all ranks know the same. Where the number of neurons is no multiple of P, the last rank gets neurons that are
// always zero.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <hull/net/graph.hpp>
#include <hull/net/parameters.hpp>
#include <hull/ops/conv.hpp>
#include <hull/ops/flatten.hpp>
#include <hull/ops/linear.hpp>

namespace hull {

/// What a node is to a rank: the same everywhere, the first layer of a pair, something between, or the second layer.
enum class role { whole, first, inside, second };

namespace detail {

template <class Op>
consteval bool can_pair() {
  if constexpr (Head<Op>) {
    if constexpr (HeadOf<Op, linear_head>) return true;
    if constexpr (HeadOf<Op, conv_head>) return Op::filter.groups == 1;
  }
  return false;
}

/// Whether an operator between the layers of a pair may see a part of the neurons: element by element, or no change.
template <class Op>
consteval bool can_stay_inside() {
  if constexpr (Pointwise<Op>) return true;
  return std::is_same_v<Op, std::remove_cvref_t<decltype(Flatten)>>;
}

/// Pairs up layers from the input on.
template <Network Net>
consteval auto find_pairs() {
  using g = graph<Net>;
  constexpr std::size_t n = g::size;
  std::array<std::size_t, n> uses{}, reader{};
  std::array<bool, n> pairs{}, inside{};
  g::for_each([&]<std::size_t I> {
    pairs[I] = can_pair<typename g::template op<I>>();
    inside[I] = can_stay_inside<typename g::template op<I>>();
    for (std::size_t i = 0; i < g::template input_count<I>; ++i) {
      ++uses[g::template inputs<I>[i]];
      reader[g::template inputs<I>[i]] = I;
    }
  });
  std::array<role, n> roles{};
  for (std::size_t first = 0; first < n; ++first) {
    if (!pairs[first] || roles[first] != role::whole) continue;
    std::size_t at = first;
    do {
      at = uses[at] == 1 ? reader[at] : 0;
    } while (at != 0 && inside[at]);
    if (at == 0 || !pairs[at]) continue;
    for (std::size_t between = reader[first]; between != at; between = reader[between]) roles[between] = role::inside;
    roles[first] = role::first;
    roles[at] = role::second;
  }
  return roles;
}

/// The operator as one of P ranks has it. (A specialisation that deduces the name of a layer would be found by the
/// host's compiler, but not by nvcc's: then kernels have other shapes than who launches them.)
template <class Op, role Role, std::size_t P>
struct divided_op {
  using type = Op;
};
template <class Op, std::size_t P>
struct divided_op<Op, role::first, P> {
  using type = typename Op::template part<P>;
};

template <class Node, role Role, std::size_t P>
struct divided_node;
template <class Op, std::size_t... In, role Role, std::size_t P>
struct divided_node<node<Op, In...>, Role, P> {
  using type = node<typename divided_op<Op, Role, P>::type, In...>;
};

template <Network Net, std::size_t P, std::size_t... I>
auto divide_nodes(std::index_sequence<I...>) -> expression<
    typename divided_node<std::tuple_element_t<I, typename graph<Net>::nodes>, find_pairs<Net>()[I], P>::type...>;

}  // namespace detail

/// Net as one of P ranks computes it. Nodes and stages have the numbers that they have in Net.
template <Network Net, std::size_t P>
struct divided final : decltype(detail::divide_nodes<Net, P>(std::make_index_sequence<graph<Net>::size>{})) {
  using whole = Net;
  static constexpr std::size_t ranks = P;
  static constexpr auto roles = detail::find_pairs<Net>();
};

/// Of how many ranks Net is a part.
template <Network Net>
inline constexpr std::size_t ranks_of = [] {
  if constexpr (requires { Net::roles; }) return Net::ranks;
  return std::size_t{1};
}();

/// What node I of Net is to a rank.
template <Network Net, std::size_t I>
inline constexpr role role_of = [] {
  if constexpr (requires { Net::roles; }) return Net::roles[I];
  return role::whole;
}();

/// Whether the head of a stage is `which` to a rank.
template <class Stage>
[[nodiscard]] constexpr bool has_role(role which) {
  if constexpr (Stage::info.pass || Stage::number == 0) return false;
  return role_of<typename Stage::net, Stage::info.head> == which;
}

/// Gives a divided network the part of each tensor that belongs to `rank`, from a source of whole tensors. What lies
/// beyond the last neuron is zero; of parameters of pointwise operators, the last one again.
template <Network Local, class Source>
class divided_source final {
 public:
  divided_source(Source const& whole, std::size_t rank) : whole_(&whole), rank_(rank) {}

  [[nodiscard]] parameter_values operator()(std::string const& key) const {
    parameter_values found = (*whole_)(key);
    graph<Local>::for_each([&]<std::size_t I> {
      for (std::size_t at = detail::first_slot<Local>[I]; at < detail::first_slot<Local>[I + 1]; ++at) {
        auto const& slot = parameter_slots<Local>[at];
        if (key == std::string(slot.layer) + "." + std::string(slot.name)) take<I>(at, found);
      }
    });
    return found;
  }

 private:
  using whole_net = typename Local::whole;

  template <std::size_t I>
  void take(std::size_t at, parameter_values& found) const {
    constexpr role here_as = Local::roles[I];
    auto const& here = parameter_slots<Local>[at];
    auto const& all = parameter_slots<whole_net>[at];
    if constexpr (here_as == role::whole) return;
    check_values(std::string(all.layer) + "." + std::string(all.name), all.count, found);
    if constexpr (here_as == role::inside) {
      if (here.count != all.count) copy(found, 1, all.count, here.count, true);
    } else {
      constexpr bool conv = HeadOf<typename graph<Local>::template op<I>, conv_head>;
      std::size_t const outs =
          conv ? graph<whole_net>::template shape<I>[0] : graph<whole_net>::template shape<I>.size();
      bool const weight = at == detail::first_slot<Local>[I];
      if (here_as == role::first) {  // rows of the matrix, entries of the bias
        std::size_t const width = all.count / outs;
        copy(found, 1, all.count, here.count / width * width, false);
      } else if (weight) {
        copy(found, outs, all.count / outs, here.count / outs, false);
      }
    }
  }

  /// Of `rows` lines of `whole` numbers each, the `mine` numbers that belong to this rank.
  void copy(parameter_values& found, std::size_t rows, std::size_t whole, std::size_t mine, bool repeat) const {
    buffer_.assign(rows * mine, 0.0f);
    for (std::size_t r = 0; r < rows; ++r) {
      float const* const from = found.values.data() + r * whole;
      for (std::size_t i = 0; i < mine; ++i) {
        std::size_t const at = rank_ * mine + i;
        if (at < whole || repeat) buffer_[r * mine + i] = from[std::min(at, whole - 1)];
      }
    }
    found.values = buffer_;
  }

  Source const* whole_;
  std::size_t rank_;
  mutable std::vector<float> buffer_;
};

}  // namespace hull
