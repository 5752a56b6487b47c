// SPDX-License-Identifier: Apache-2.0
// The expression language: chains, a residual connection, two branches joined; then what the compiler made of it.
#include <cstdio>
#include <string>
#include <string_view>

#include <hull/net/network.hpp>

using namespace hull;

namespace {

// `trunk` is used three times below and is still one set of nodes: equal sub-expressions are shared.
// The formatter takes the < and > of an initialiser for comparisons; inside decltype(...) it does not.
// clang-format off
constexpr auto trunk = Input<1, 8, 8> >> Conv<"conv1", 4, kernel<3, 3>, pad<1, 1, 1, 1>> >> Relu;
constexpr auto residual = trunk + (trunk >> Conv<"conv2", 4, kernel<3, 3>, pad<1, 1, 1, 1>>);
constexpr auto pooled = residual >> Relu >> AveragePool<kernel<2, 2>, stride<2, 2>>;
constexpr auto strided = trunk >> Conv<"conv3", 2, kernel<4, 4>, stride<2, 2>, pad<1, 1, 1, 1>> >> Tanh;
// clang-format on
struct net final : decltype(Concat<0>(pooled, strided) >> Flatten >> Linear<"fc", 10>) {};

static_assert(graph<net>::input_size == 64 && graph<net>::output_size == 10);
static_assert(stage_count<net> == 8);

std::string spell(extents shape) {
  std::string text;
  for (std::size_t axis = 0; axis < shape.rank; ++axis) text += (axis > 0 ? "x" : "") + std::to_string(shape[axis]);
  return text;
}

/// "Conv conv1 + Relu": the head of a stage and the pointwise operators that are fused into it.
template <class S>
std::string spell_stage() {
  auto text = std::string(S::head::name);
  if constexpr (requires { S::head::layer; }) text += " " + std::string(S::head::layer);
  S::for_each_tail([&]<std::size_t I> { text += " + " + std::string(graph<net>::op<I>::name); });
  return text;
}

}  // namespace

int main() {
  std::printf("%zu nodes in %zu stages\n%-7s%-7s%-20s%s\n", graph<net>::size, stage_count<net>, "stage", "reads",
              "what", "output");
  std::size_t fused = 0;
  for_each_stage<0, stage_count<net>>([&]<std::size_t K> {
    using S = stage<net, K>;
    std::string reads;
    for (std::size_t i = 0; i < S::input_count; ++i) reads += (i > 0 ? ", " : "") + std::to_string(S::info.inputs[i]);
    fused += S::info.tail_count;
    std::printf("%-7zu%-7s%-20s%s\n", K, reads.c_str(), spell_stage<S>().c_str(), spell(S::shape).c_str());
  });

  std::puts("\nparameters");
  std::size_t numbers = 0;
  for (auto const& slot : parameter_slots<net>) {
    numbers += slot.count;
    std::printf("%.*s.%.*s: %zu\n", static_cast<int>(slot.layer.size()), slot.layer.data(),
                static_cast<int>(slot.name.size()), slot.name.data(), slot.count);
  }
  return fused == 3 && numbers == 40 + 148 + 130 + 970 ? 0 : 1;
}
