// SPDX-License-Identifier: Apache-2.0
// Proves a certificate again, leaf by leaf, from the model and the specification (docs/certificates.md).
//
// A tree covers its box because every inner node's two closed halves cover the node's own set: that needs no numbers.
// What is left is that in every leaf the named constraint fails, which io/check/bounds.hpp shows.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#include <hull/core/deadline.hpp>
#include <hull/core/error.hpp>
#include <hull/io/check/bounds.hpp>
#include <hull/io/check/network.hpp>
#include <hull/io/model.hpp>
#include <hull/propagate/specification.hpp>
#include <hull/search/certificate.hpp>

namespace hull::io {

struct check_report final {
  bool valid = false;
  std::string reason;      // why not
  std::size_t leaves = 0;  // that were proved
  std::size_t boxes = 0;   // for which hidden values were bounded
  std::size_t added = 0;   // leaves that `complete` had to cut
};

namespace check {

/// A leaf of a disjunct's tree, with the kink splits on its path.
struct leaf final {
  std::size_t disjunct = 0;
  std::uint32_t at = 0;
  std::vector<active_split> splits;
};

/// Leaves in one box, whose hidden values are bounded once for all of them.
struct task final {
  std::uint32_t hints = disjunct_proof::no_hints;
  std::size_t cuts = 0;  // how often `complete` halved it
  std::vector<input_range> box;
  std::vector<leaf> leaves;
};

class checker final {
 public:
  /// With `repair` leaves that cannot be proved are cut in two until they can, and the certificate is changed.
  checker(model const& m, specification const& spec, certificate& proof, bool repair, deadline end)
      : net_(m), spec_(&spec), proof_(&proof), repair_(repair), end_(std::move(end)) {}

  check_report run() {
    report_.reason = misfit();
    for (std::size_t d = 0; d < spec_->disjuncts.size() && report_.reason.empty(); ++d) walk(d);
    flush();
    report_.valid = report_.reason.empty();
    return report_;
  }

 private:
  static constexpr std::size_t most_tasks = 256, most_leaves = 4096, rows_at_once = 64;
  static constexpr std::size_t most_cuts = 24, most_added = 100000;

  /// The first thing that is wrong with the certificate's form; nothing is bounded for it.
  [[nodiscard]] std::string misfit() const {
    if (spec_->inputs != net_.inputs() || (spec_->outputs != 0 && spec_->outputs != net_.outputs())) {
      return "the specification is not for this model";
    }
    if (proof_->disjuncts.size() != spec_->disjuncts.size()) {
      return "it has proofs for " + std::to_string(proof_->disjuncts.size()) + " disjuncts, the specification has " +
             std::to_string(spec_->disjuncts.size());
    }
    auto const share = [](float a) { return a >= 0 && a <= 1; };
    for (proof_hints const& hints : proof_->hints) {
      for (kink const& k : hints.parameters) {
        if (!is_kink(k)) return "it has a parameter for something that is not a Relu or LeakyRelu";
      }
      for (hint_row const& row : hints.rows) {
        if (row.node >= net_.steps().size() || row.element >= net_.steps()[row.node].size) {
          return "it bounds a value that is not there";
        }
        if (row.alpha.size() > hints.parameters.size()) return "a row has more slopes than there are parameters";
        if (!std::all_of(row.alpha.begin(), row.alpha.end(), share)) return "a slope is not between 0 and 1";
      }
    }
    for (disjunct_proof const& one : proof_->disjuncts) {
      if (one.hints != disjunct_proof::no_hints && one.hints >= proof_->hints.size())
        return "it lacks hints it refers to";
      std::size_t const parameters =
          one.hints == disjunct_proof::no_hints ? 0 : proof_->hints[one.hints].parameters.size();
      for (proof_node const& node : one.tree.nodes()) {
        if (!node.alpha.empty() && node.alpha.size() != parameters) return "a leaf has a wrong number of slopes";
        if (!std::all_of(node.alpha.begin(), node.alpha.end(), share)) return "a slope is not between 0 and 1";
        if (!std::all_of(node.beta.begin(), node.beta.end(), [](float b) { return b >= 0 && std::isfinite(b); })) {
          return "a multiplier is negative or not finite";
        }
      }
    }
    return {};
  }

  [[nodiscard]] bool is_kink(kink const& k) const {
    return k.node < net_.steps().size() && net_.steps()[k.node].kind == step_kind::kinked &&
           k.element < net_.steps()[k.node].size;
  }

  [[nodiscard]] static std::string place(leaf const& one) {
    return "disjunct " + std::to_string(one.disjunct) + ", node " + std::to_string(one.at) + ": ";
  }

  [[nodiscard]] proof_node const& node_of(leaf const& one) const {
    return proof_->disjuncts[one.disjunct].tree.nodes()[one.at];
  }
  [[nodiscard]] linear_constraint const& form_of(leaf const& one) const {
    return spec_->disjuncts[one.disjunct].constraints[node_of(one).number];
  }

  /// From the root of a tree to its leaves: fills tasks, and has them proved whenever there are enough.
  void walk(std::size_t d) {
    struct place_in_tree {
      std::uint32_t at;
      std::vector<input_range> box;
      std::vector<active_split> splits;
    };
    auto const& nodes = proof_->disjuncts[d].tree.nodes();
    std::vector<place_in_tree> open;
    open.push_back({proof_tree::root, spec_->disjuncts[d].box, {}});
    std::size_t visited = 0;
    while (!open.empty() && report_.reason.empty()) {
      auto here = std::move(open.back());
      open.pop_back();
      proof_node const& node = nodes[here.at];
      bool const inner = node.what == proof_node::kind::input_split || node.what == proof_node::kind::kink_split;
      if (++visited > nodes.size() || (inner && (node.children <= here.at || node.children + 1 >= nodes.size()))) {
        report_.reason = place({d, here.at, {}}) + "this is no tree";
      } else if (node.what == proof_node::kind::open) {
        report_.reason = place({d, here.at, {}}) + "a part of the input set has no proof";
      } else if (node.what == proof_node::kind::refuted) {
        add_leaf(std::move(here.box), {d, here.at, std::move(here.splits)});
      } else if (node.what == proof_node::kind::kink_split) {
        kink const where{node.number, node.element};
        if (!is_kink(where)) {
          report_.reason = place({d, here.at, {}}) + "it splits something that is not a Relu or LeakyRelu";
          break;
        }
        for (bool const positive : {false, true}) {  // the stack turns the order round
          auto splits = here.splits;
          splits.push_back({where, positive, 0});
          open.push_back({node.children + (positive ? 0u : 1u), here.box, std::move(splits)});
        }
      } else {
        if (node.number >= here.box.size() || !std::isfinite(node.plane)) {
          report_.reason = place({d, here.at, {}}) + "it splits an input that is not there";
          break;
        }
        auto upper = here.box;
        here.box[node.number].upper = std::min(here.box[node.number].upper, node.plane);
        upper[node.number].lower = std::max(upper[node.number].lower, node.plane);
        // a plane outside the box leaves one half empty, and nothing to prove there
        if (upper[node.number].lower <= upper[node.number].upper) {
          open.push_back({node.children + 1, std::move(upper), here.splits});
        }
        if (here.box[node.number].lower <= here.box[node.number].upper) {
          open.push_back({node.children, std::move(here.box), std::move(here.splits)});
        }
      }
    }
  }

  void add_leaf(std::vector<input_range> box, leaf one) {
    proof_node const& node = node_of(one);
    if (node.number >= spec_->disjuncts[one.disjunct].constraints.size()) {
      report_.reason = place(one) + "it names a constraint that is not there";
      return;
    }
    if (!node.beta.empty() && node.beta.size() != one.splits.size()) {
      report_.reason = place(one) + "a leaf has a wrong number of multipliers";
      return;
    }
    for (std::size_t q = 0; q < node.beta.size(); ++q) one.splits[q].beta = static_cast<double>(node.beta[q]);
    std::uint32_t const hints = proof_->disjuncts[one.disjunct].hints;
    auto const same = [&](task const& t) {
      return t.hints == hints && t.leaves.size() < most_leaves &&
             std::equal(t.box.begin(), t.box.end(), box.begin(), box.end(),
                        [](auto const& a, auto const& b) { return a.lower == b.lower && a.upper == b.upper; });
    };
    auto found = std::find_if(tasks_.rbegin(), tasks_.rend(), same);
    if (found == tasks_.rend()) {
      if (tasks_.size() >= most_tasks) flush();
      if (!report_.reason.empty()) return;
      tasks_.push_back({hints, 0, std::move(box), {}});
      found = tasks_.rbegin();
    }
    found->leaves.push_back(std::move(one));
  }

  /// Proves the tasks at hand, side by side, and those that repair makes of them.
  void flush() {
    while (!tasks_.empty() && report_.reason.empty()) {
      std::vector<std::vector<leaf>> failed(tasks_.size());
      std::vector<double> worst(tasks_.size(), 0);
      auto const count = static_cast<std::ptrdiff_t>(tasks_.size());
      std::vector<std::exception_ptr> thrown(tasks_.size());
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic, 1) if (count > 1)
#endif
      for (std::ptrdiff_t at = 0; at < count; ++at) {
        auto const i = static_cast<std::size_t>(at);
        try {
          end_.check();
          prove(tasks_[i], failed[i], worst[i]);
        } catch (...) {  // must not leave the parallel loop
          thrown[i] = std::current_exception();
        }
      }
      for (auto const& one : thrown) {
        if (one != nullptr) std::rethrow_exception(one);
      }
      std::vector<task> next;
      for (std::size_t i = 0; i < tasks_.size(); ++i) {
        report_.leaves += tasks_[i].leaves.size() - failed[i].size();
        ++report_.boxes;
        if (failed[i].empty()) continue;
        if (!repair_ || tasks_[i].cuts >= most_cuts || report_.added >= most_added ||
            !halve(tasks_[i], failed[i], next)) {
          report_.reason =
              place(failed[i].front()) + "the constraint is not refuted (bound " + std::to_string(worst[i]) + ")";
          break;
        }
      }
      tasks_ = std::move(next);
    }
    tasks_.clear();
  }

  [[nodiscard]] static bool refuted(double bound, linear_constraint const& form) {
    return form.strict ? bound >= 0 : bound > 0;  // false for NaN
  }

  void prove(task const& t, std::vector<leaf>& failed, double& worst) const {
    std::vector<leaf const*> open;
    bounds const quick(net_, t.box, nullptr, false);
    for (leaf const& one : t.leaves) {
      if (!refuted(quick.interval_bound(form_of(one)), form_of(one))) open.push_back(&one);
    }
    if (open.empty()) return;
    bounds const all(net_, t.box, t.hints == disjunct_proof::no_hints ? nullptr : &proof_->hints[t.hints], true, end_);
    for (std::size_t first = 0; first < open.size(); first += rows_at_once) {
      std::size_t const some = std::min(rows_at_once, open.size() - first);
      std::vector<linear_constraint const*> forms;
      std::vector<row_parameters> parameters;
      for (std::size_t i = first; i < first + some; ++i) {
        forms.push_back(&form_of(*open[i]));
        parameters.push_back({node_of(*open[i]).alpha, open[i]->splits});
      }
      auto const lower = all.lower_bounds(forms, parameters);
      for (std::size_t i = 0; i < some; ++i) {
        if (refuted(lower[i], *forms[i]) || refuted(all.interval_bound(*forms[i]), *forms[i])) continue;
        if (failed.empty()) worst = lower[i];
        failed.push_back(*open[first + i]);
      }
    }
  }

  /// Cuts the leaves that failed across the widest input. False if it is too narrow for that.
  bool halve(task const& t, std::vector<leaf> const& failed, std::vector<task>& next) {
    std::size_t widest = 0;
    auto const width = [&](std::size_t i) { return t.box[i].upper - t.box[i].lower; };
    for (std::size_t i = 1; i < t.box.size(); ++i) widest = width(i) > width(widest) ? i : widest;
    double const plane = 0.5 * t.box[widest].lower + 0.5 * t.box[widest].upper;
    if (!(t.box[widest].lower < plane && plane < t.box[widest].upper)) return false;
    task halves[2] = {{t.hints, t.cuts + 1, t.box, {}}, {t.hints, t.cuts + 1, t.box, {}}};
    halves[0].box[widest].upper = halves[1].box[widest].lower = plane;
    for (leaf const& one : failed) {
      proof_tree& tree = proof_->disjuncts[one.disjunct].tree;
      proof_node const old = tree.nodes()[one.at];
      std::uint32_t const first = tree.split_input(one.at, widest, plane);
      tree.node(one.at).alpha = tree.node(one.at).beta = {};
      for (std::uint32_t h = 0; h < 2; ++h) {
        tree.refute(first + h, old.number, old.alpha, old.beta);
        halves[h].leaves.push_back({one.disjunct, first + h, one.splits});
      }
      ++report_.added;
    }
    for (auto& half : halves) next.push_back(std::move(half));
    return true;
  }

  network net_;
  specification const* spec_;
  certificate* proof_;
  bool repair_;
  deadline end_;
  check_report report_;
  std::vector<task> tasks_;
};

}  // namespace check

/// Whether the certificate proves that no point satisfies the specification. Sound for the exact network on the model's
/// numbers; for a tensor that is marked rounded, for all numbers that round to it. Throws hull::error for a model with
/// an operator that the checker does not know. Cost: one CROWN pass for every box, one row for every leaf.
[[nodiscard]] inline check_report check_certificate(model const& m, specification const& spec,
                                                    certificate const& proof) {
  auto& unchanged = const_cast<certificate&>(proof);  // without repair it is only read
  return check::checker(m, spec, unchanged, false, deadline()).run();
}

/// The same for a certificate that was just made: a leaf that only the prover could refute (its sums are others) is cut
/// across its inputs until the checker can. Throws deadline_passed.
[[nodiscard]] inline check_report complete_certificate(model const& m, specification const& spec, certificate& proof,
                                                       deadline const& end) {
  return check::checker(m, spec, proof, true, end).run();
}

}  // namespace hull::io
