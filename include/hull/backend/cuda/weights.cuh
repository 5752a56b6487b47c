// SPDX-License-Identifier: Apache-2.0
// The parameters of a network in device memory, in the layout of net/parameters.hpp.
#pragma once

#include <cstddef>

#include <hull/backend/cuda/device.cuh>
#include <hull/core/config.hpp>
#include <hull/net/parameters.hpp>

namespace hull::cuda {

/// What kernels take by value.
template <Network Net>
struct weights_view final {
  float const* base = nullptr;

  template <std::size_t I, std::size_t Slot>
  [[nodiscard]] HULL_FN float const* tensor() const {
    constexpr std::size_t offset = parameter_slots<Net>[detail::first_slot<Net>[I] + Slot].offset;
    return base + offset;
  }
  template <std::size_t I>
  [[nodiscard]] HULL_FN auto element(std::size_t index) const {
    return bind_element<Net, I>(*this, index);
  }
};

/// Owns the copy.
template <Network Net>
class device_weights final {
 public:
  device_weights(parameters<Net> const& source, device const& at) : block_(allocate<float>(parameters<Net>::size)) {
    if constexpr (parameters<Net>::size > 0) at.write(block_.get(), source.data(), parameters<Net>::size);
  }

  [[nodiscard]] weights_view<Net> view() const { return {block_.get()}; }

 private:
  device_block<float> block_;
};

}  // namespace hull::cuda
