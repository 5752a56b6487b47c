// SPDX-License-Identifier: Apache-2.0
// The numbers of a network, addressed by node: one block of floats whose layout is a compile-time constant.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <hull/core/config.hpp>
#include <hull/core/error.hpp>
#include <hull/net/blocks.hpp>
#include <hull/net/graph.hpp>

namespace hull {

/// One tensor in the block.
struct parameter_slot final {
  std::string_view layer;
  std::string_view name;
  std::size_t count = 0;
  std::size_t offset = 0;  // in floats
};

/// What a source of parameters returns for a key.
struct parameter_values final {
  std::span<float const> values;
  bool rounded = false;  // the file had more digits than a float holds
};

namespace detail {

template <Network Net, std::size_t I>
consteval std::size_t parameter_count() {
  using op = typename graph<Net>::template op<I>;
  if constexpr (Pointwise<op>) {
    return op::parameters.size();
  } else if constexpr (requires { op::layer; }) {
    return 2;
  } else {
    return 0;
  }
}

/// Number of the first slot of node I; one past the last slot for I = number of nodes.
template <Network Net>
consteval auto first_slots() {
  std::array<std::size_t, graph<Net>::size + 1> first{};
  graph<Net>::for_each([&]<std::size_t I> { first[I + 1] = first[I] + parameter_count<Net, I>(); });
  return first;
}

template <Network Net>
inline constexpr auto first_slot = first_slots<Net>();

constexpr std::size_t pointwise_count(per extent, extents shape) {
  if (extent == per::layer) return 1;
  return extent == per::channel ? shape[0] : shape.size();
}

template <Network Net>
consteval auto parameter_slots() {
  using g = graph<Net>;
  std::array<parameter_slot, first_slot<Net>[g::size]> slots {};
  std::size_t at = 0, offset = 0;
  auto const add = [&](std::string_view layer, std::string_view name, std::size_t count) {
    slots[at++] = {layer, name, count, offset};
    offset += (count + 15) / 16 * 16;  // 64 bytes: every tensor begins on a cache line
  };
  g::for_each([&]<std::size_t I> {
    using op = typename g::template op<I>;
    if constexpr (Pointwise<op>) {
      for (auto const& p : op::parameters) {
        add(layer_name<op>(), p.name, pointwise_count(p.extent, g::template shape<I>));
      }
    } else if constexpr (parameter_count<Net, I>() > 0) {
      for (auto const& p : op::template parameters<g::template shape<g::template inputs<I>[0]>>) {
        add(layer_name<op>(), p.name, p.count);
      }
    }
  });
  return slots;
}

}  // namespace detail

template <Network Net>
inline constexpr auto parameter_slots = detail::parameter_slots<Net>();

/// Checks the values that a source gave for a tensor. Throws hull::error.
inline void check_values(std::string const& key, std::size_t count, parameter_values const& found) {
  expect(found.values.size() == count, "parameter " + key + " has " + std::to_string(found.values.size()) +
                                           " values, the network expects " + std::to_string(count));
  bool const finite = std::all_of(found.values.begin(), found.values.end(), [](float v) { return std::isfinite(v); });
  expect(finite, "parameter " + key + " has a value that is NaN or infinite");
}

/// The scalar function of pointwise node I at element `index`, its parameters bound. `weights` has tensor<I, P>().
template <Network Net, std::size_t I, class Weights>
[[nodiscard]] HULL_FN auto bind_element(Weights const& weights, std::size_t index) {
  using op = typename graph<Net>::template op<I>;
  constexpr extents shape = graph<Net>::template shape<I>;
  return [&]<std::size_t... P>(std::index_sequence<P...>) {
    [[maybe_unused]] auto const place = [&](per extent) {
      return extent == per::layer ? 0 : extent == per::channel ? index / shape.stride(0) : index;
    };
    return typename op::element{weights.template tensor<I, P>()[place(op::parameters[P].extent)]...};
  }
  (std::make_index_sequence<op::parameters.size()>{});
}

/// The parameters of a network in host memory.
template <Network Net>
class parameters final {
 public:
  static constexpr auto const& slots = parameter_slots<Net>;
  static constexpr std::size_t size = slots.empty() ? 0 : slots.back().offset + (slots.back().count + 15) / 16 * 16;

  /// `source(key)` returns a parameter_values for each key "<layer>.<name>".
  /// Throws hull::error if a count differs from the network's or a value is not finite. Cost: one copy.
  template <class Source>
  explicit parameters(Source const& source) : values_(size) {
    for (std::size_t at = 0; at < slots.size(); ++at) {
      auto const& slot = slots[at];
      std::string const key = std::string(slot.layer) + "." + std::string(slot.name);
      parameter_values const found = source(key);
      check_values(key, slot.count, found);
      std::copy(found.values.begin(), found.values.end(), values_.begin() + static_cast<std::ptrdiff_t>(slot.offset));
      rounded_[at] = found.rounded;
    }
  }

  /// Tensor number `Slot` of node I.
  template <std::size_t I, std::size_t Slot>
  [[nodiscard]] float const* tensor() const {
    return values_.data() + slots[detail::first_slot<Net>[I] + Slot].offset;
  }

  /// The whole block, `size` floats.
  [[nodiscard]] float const* data() const { return values_.data(); }

  /// Whether a tensor of node I was rounded to float when it was read.
  template <std::size_t I>
  [[nodiscard]] bool rounded() const {
    for (std::size_t at = detail::first_slot<Net>[I]; at < detail::first_slot<Net>[I + 1]; ++at) {
      if (rounded_[at]) return true;
    }
    return false;
  }

  /// The scalar function of pointwise node I at element `index`, its parameters bound.
  template <std::size_t I>
  [[nodiscard]] auto element(std::size_t index) const {
    return bind_element<Net, I>(*this, index);
  }

  // Weights of heads: who holds only a part of them (shard/sharded_parameters.hpp) offers the same.

  /// Calls f(column_block) for the blocks of the matrix of Linear node I, in order.
  template <std::size_t I, class F>
  void each_block(F&& f) const {
    constexpr std::size_t rows = graph<Net>::template shape<I>.size();
    constexpr std::size_t columns = slots[detail::first_slot<Net>[I]].count / rows;
    for_blocks(rows, columns, [&](std::size_t first, std::size_t last) {
      f(column_block{tensor<I, 0>() + first, columns, first, last});
    });
  }

  /// The same in blocks of any size: here the whole matrix.
  template <std::size_t I, class F>
  void any_blocks(F&& f) const {
    constexpr std::size_t columns = slots[detail::first_slot<Net>[I]].count / graph<Net>::template shape<I>.size();
    f(column_block{tensor<I, 0>(), columns, 0, columns});
  }

  /// Calls f(filters) with all filters of Conv node I.
  template <std::size_t I, class F>
  void filters(F&& f) const {
    f(tensor<I, 0>());
  }

 private:
  std::vector<float> values_;
  std::array<bool, slots.size() + 1> rounded_{};
};

}  // namespace hull
