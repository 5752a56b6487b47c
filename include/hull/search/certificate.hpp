// SPDX-License-Identifier: Apache-2.0
// The proof of an `unsat`: for every disjunct a tree of splits whose leaves name the constraint that fails there, and
// parameters of relaxations. docs/certificates.md says what is proved from it; io/check.hpp proves it again.
//
// Nothing in a certificate has to be believed. Whatever the splits are, their halves cover the set that was split; any
// alpha in [0, 1] and any beta >= 0 gives a bound. A wrong certificate can fail to prove, it cannot prove what is
// wrong.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

namespace hull {

/// The argument z of Relu or LeakyRelu: number of that node in the expression, element of its output.
struct kink final {
  std::uint32_t node = 0;
  std::uint32_t element = 0;

  [[nodiscard]] friend constexpr bool operator==(kink const&, kink const&) = default;
};

/// One node of a tree. What each field means depends on `what`.
struct proof_node final {
  enum class kind : std::uint8_t {
    open,         // not proved yet; no complete certificate has one
    refuted,      // constraint `number` of the disjunct fails everywhere in this set
    input_split,  // x[number] <= plane in the first child, >= plane in the second
    kink_split,   // z[number, element] >= 0 in the first child, <= 0 in the second
  };
  kind what = kind::open;
  std::uint32_t number = 0;
  std::uint32_t element = 0;
  std::uint32_t children = 0;  // number of the first; the second comes next
  double plane = 0;
  std::vector<float> alpha;  // of a leaf: [parameters of the disjunct's hints] or none, for CROWN's own
  std::vector<float> beta;   // of a leaf: [kink splits between the root and here] or none, for zero
};

/// Grows from its root, in any order.
class proof_tree final {
 public:
  static constexpr std::uint32_t root = 0;

  /// Both return the first of two new children.
  std::uint32_t split_input(std::uint32_t at, std::size_t coordinate, double plane) {
    nodes_[at].plane = plane;
    return split(at, proof_node::kind::input_split, coordinate, 0);
  }
  std::uint32_t split_kink(std::uint32_t at, kink where) {
    return split(at, proof_node::kind::kink_split, where.node, where.element);
  }

  void refute(std::uint32_t at, std::size_t constraint, std::span<float const> alpha = {},
              std::span<float const> beta = {}) {
    proof_node& leaf = nodes_[at];
    leaf.what = proof_node::kind::refuted;
    leaf.number = static_cast<std::uint32_t>(constraint);
    leaf.alpha.assign(alpha.begin(), alpha.end());
    leaf.beta.assign(beta.begin(), beta.end());
  }

  /// Forgets the nodes from number `count` on. Nothing that stays may lead to them.
  void forget(std::size_t count) { nodes_.resize(count); }

  [[nodiscard]] std::vector<proof_node> const& nodes() const { return nodes_; }
  [[nodiscard]] proof_node& node(std::uint32_t at) { return nodes_[at]; }

 private:
  std::uint32_t split(std::uint32_t at, proof_node::kind what, std::size_t number, std::size_t element) {
    auto const children = static_cast<std::uint32_t>(nodes_.size());
    nodes_[at].what = what;
    nodes_[at].number = static_cast<std::uint32_t>(number);
    nodes_[at].element = static_cast<std::uint32_t>(element);
    nodes_[at].children = children;
    nodes_.resize(nodes_.size() + 2);
    return children;
  }

  std::vector<proof_node> nodes_{1};
};

/// Parameters with which a backward pass from one hidden value bounds it better than CROWN's own.
struct hint_row final {
  std::uint32_t node = 0;  // of the expression
  std::uint32_t element = 0;
  bool upper = false;        // which side of it
  std::vector<float> alpha;  // of the first so many parameters; CROWN's own for the others
};

/// How hidden values are bounded before the leaves' turn, and which kinks the numbers `alpha` belong to.
struct proof_hints final {
  std::vector<kink> parameters;
  std::vector<hint_row> rows;
};

struct disjunct_proof final {
  static constexpr std::uint32_t no_hints = std::numeric_limits<std::uint32_t>::max();

  proof_tree tree;
  std::uint32_t hints = no_hints;  // in certificate::hints; disjuncts over one box share them
};

/// What provers fill in: `verify_options::proof` points to one that is wanted. Only worth something after `unsat`.
struct certificate final {
  std::vector<proof_hints> hints;
  std::vector<disjunct_proof> disjuncts;  // in order of the specification
};

}  // namespace hull
