// SPDX-License-Identifier: Apache-2.0
// Which nodes share a stage.
#include <doctest/doctest.h>
#include <vector>

#include <hull/net/network.hpp>

using namespace hull;

namespace {

/// A stage as a test sees it: head, stages it reads, tail; `pass` marks a stage without a head of its own.
struct row final {
  bool pass;
  std::size_t head;
  std::vector<std::size_t> inputs, tail;
  std::size_t consumers;
  friend bool operator==(row const&, row const&) = default;
};

template <class Net>
std::vector<row> stages() {
  constexpr auto table = stage_table_of<Net>;
  std::vector<row> rows;
  for (std::size_t k = 0; k < table.count; ++k) {
    auto const& s = table.stage[k];
    rows.push_back({s.pass,
                    s.head,
                    {s.inputs.begin(), s.inputs.begin() + static_cast<std::ptrdiff_t>(s.input_count)},
                    {s.tail.begin(), s.tail.begin() + static_cast<std::ptrdiff_t>(s.tail_count)},
                    s.consumers});
  }
  return rows;
}

constexpr auto x = Input<4>;
constexpr auto image = Input<2, 4, 4>;

}  // namespace

TEST_CASE("pointwise operators join the stage before them") {
  struct net final : decltype(x >> Linear<"a", 3> >> Relu >> Mul<"m"> >> Linear<"b", 2>) {};
  CHECK(stages<net>() == std::vector<row>{{false, 0, {}, {}, 1}, {false, 1, {0}, {2, 3}, 1}, {false, 4, {1}, {}, 0}});
  static_assert(stage<net, 1>::size == 3 && stage_count<net> == 3);
}

TEST_CASE("a pointwise operator on the input has a stage of its own") {
  struct net final : decltype(x >> Sub<"mean"> >> Div<"deviation"> >> Linear<"a", 3>) {};
  CHECK(stages<net>() == std::vector<row>{{false, 0, {}, {}, 1}, {true, 1, {0}, {1, 2}, 1}, {false, 3, {1}, {}, 0}});
  static_assert(std::is_same_v<stage<net, 1>::head, pass_t>);
}

TEST_CASE("a value with two consumers stays as it is") {
  constexpr auto a = x >> Linear<"a", 4>;
  struct net final : decltype((a >> Relu) + a) {};
  CHECK(stages<net>() ==
        std::vector<row>{
            {false, 0, {}, {}, 1}, {false, 1, {0}, {}, 2}, {true, 2, {1}, {2}, 1}, {false, 3, {2, 1}, {}, 0}});
  struct twice final : decltype((a >> Relu) + (a >> Relu)) {};  // one consumer of a, which is read twice
  CHECK(stages<twice>() == std::vector<row>{{false, 0, {}, {}, 1}, {false, 1, {0}, {2}, 2}, {false, 3, {1, 1}, {}, 0}});
}

TEST_CASE("normalisation and activation share the convolution's stage") {
  struct net final : decltype(image >> Conv<"a", 3, kernel<3, 3>> >> BatchNormalization<"n"> >> Relu >> Flatten >>
                              Sigmoid >> Linear<"b", 2> >> Tanh) {};
  CHECK(stages<net>() ==
        std::vector<row>{{false, 0, {}, {}, 1}, {false, 1, {0}, {2, 3, 5}, 1}, {false, 6, {1}, {7}, 0}});
}

TEST_CASE("views have no stage, wherever they stand") {
  struct net final
      : decltype(x >> Reshape<2, 2> >> Unsqueeze<0> >> MaxPool<kernel<2, 1>> >> Flatten >> Relu >> Reshape<2, 1>) {};
  CHECK(stages<net>() == std::vector<row>{{false, 0, {}, {}, 1}, {false, 3, {0}, {5}, 0}});
  constexpr auto a = image >> Conv<"a", 2>;
  struct seen final : decltype(Concat<0>(a >> Flatten, a >> Relu >> Flatten)) {};  // the view is a second consumer
  CHECK(stages<seen>() ==
        std::vector<row>{
            {false, 0, {}, {}, 1}, {false, 1, {0}, {}, 2}, {true, 3, {1}, {3}, 1}, {false, 5, {1, 2}, {}, 0}});
  struct nothing final : decltype(x >> Reshape<2, 2>) {};
  CHECK(stages<nothing>() == std::vector<row>{{false, 0, {}, {}, 0}});
}

TEST_CASE("the input read by several stages") {
  struct net final : decltype((x >> Linear<"a", 4>)+x + (x >> Relu)) {};
  CHECK(stages<net>() == std::vector<row>{{false, 0, {}, {}, 3},
                                          {false, 1, {0}, {}, 1},
                                          {false, 2, {1, 0}, {}, 1},
                                          {true, 3, {0}, {3}, 1},
                                          {false, 4, {2, 3}, {}, 0}});
}
