// SPDX-License-Identifier: Apache-2.0
// The steps of IBP and CROWN on one GPU. State, rows and coefficients stay in device memory; the host launches kernels
// and reads back how many live columns and rows there are, and bounds.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <type_traits>
#include <vector>

#include <hull/backend/cuda/conv.cuh>
#include <hull/backend/cuda/exchange.cuh>
#include <hull/backend/cuda/forms.cuh>
#include <hull/backend/cuda/forward.cuh>
#include <hull/backend/cuda/patch_steps.cuh>
#include <hull/backend/cuda/precision.cuh>
#include <hull/backend/cuda/relax.cuh>
#include <hull/backend/cuda/rows.cuh>
#include <hull/backend/cuda/sparse.cuh>
#include <hull/backend/cuda/stage_weights.cuh>
#include <hull/backend/operands.hpp>
#include <hull/backend/roundings.hpp>
#include <hull/net/parameters.hpp>
#include <hull/propagate/machine.hpp>
#include <hull/shard/member.hpp>

namespace hull::cuda {

/// How this backend's convolutions sum (backend/roundings.hpp).
struct order final {
  [[nodiscard]] static constexpr std::size_t conv_roundings(extents out, window const& filter) {
    return cuda::conv_roundings(out, filter);
  }
  [[nodiscard]] static constexpr std::size_t conv_additions(extents out, window const& filter) {
    return cuda::conv_additions(out, filter);
  }
};

template <Network Net, class R, class Member, class P>
class steps : public stage_weights<Net, Member, P> {
 protected:
  using base = stage_weights<Net, Member, P>;
  using base::block;
  using base::device_;
  using base::member_;
  using base::others_;
  using base::settle;
  using base::stream;
  using base::weights_;
  using typename base::sizes;

 public:
  using rounding = R;
  using rounds = rounding_counts<order>;

  /// Copies what this rank holds of the parameters to the device; borrows what else the member stands for. All ranks do
  /// so together.
  explicit steps(Member member) : base(member) { P::expect_device(); }

  /// Sets the input stage to the boxes, rounded outward to floats.
  void load_boxes(network_state<Net>& state, std::span<std::vector<input_range> const* const> boxes) const {
    auto& s = state.stage[0];
    write_boxes(device_, s, boxes);
    std::size_t const all = boxes.size() * s.size;
    load_boxes_kernel<<<blocks_for(all, block), block, 0, stream()>>>(s, boxes.size(), s.lower, s.upper);
    compact_kernel<R::outward><<<1, list_threads, 0, stream()>>>(s, boxes.size(), {}, {}, device_.counter(0));
    check_launch("load_boxes");
    device_.clear(s.floor, boxes.size());
    this->begin_settling(s);
  }

  /// Where a matrix comes in several blocks, sums wait there for the next one.
  template <class S>
  [[nodiscard]] static constexpr std::size_t forward_floats(std::size_t batch, std::size_t threads) {
    if constexpr (HeadOf<typename S::head, linear_head> && HoldsParts<Member>) {
      if (base::template blocks_of<S>() > 1) return batch * S::size * sizeof(affine_sums) / sizeof(float);
    }
    return sizes::template forward_floats<S>(batch, threads);
  }

  /// Interval arithmetic from the operands of stage S to its head.
  template <class S>
  void forward(network_state<Net>& state, [[maybe_unused]] float* scratch) const {
    auto& y = state.stage[S::number];
    auto const x = sources<S>(state);
    affine_forward<S>(state, reinterpret_cast<affine_sums*>(scratch), false);
    if constexpr (HeadOf<typename S::head, sparse_head>) sparse_forward<S, R>(stream(), x, y, state.batch);
    if constexpr (HeadOf<typename S::head, max_head>) max_forward<S>(stream(), *x[0], y, state.batch);
  }

  /// Lines, outputs and live columns of stage S from the intervals of its head.
  template <class S>
  void relax(network_state<Net>& state) const {
    auto& s = state.stage[S::number];
    relax_stage<S, R>(device_, weights_.view(), sources<S>(state), s, state.batch, cost<S>(),
                      device_.counter(S::number));
    this->settle_later(s);
    if constexpr (S::number + 1 == stage_count<Net>) settle();
  }

  /// Lists the neurons of stage S whose relaxation tighter bounds could tighten. Returns their number.
  template <class S>
  std::size_t find_candidates(network_state<Net>& state, bool all) const {
    return list<S>(state, all, true);
  }
  /// The same for optimised rows, which cost too much to take stable neurons along.
  template <class S>
  std::size_t list_gaining(network_state<Net>& state, bool all) const {
    return list<S>(state, all, false);
  }

  /// Rows for candidates, as cpu::machine has them.
  template <class S>
  void seed_candidates(network_state<Net> const& state, std::size_t first, row_block const& rows,
                       coefficient_views<Net> const& a) const {
    seed<S>(state, state.candidates + first, rows, naming::both, a);
  }
  template <class S>
  void seed_nearer(network_state<Net> const& state, std::size_t first, row_block const& rows,
                   coefficient_views<Net> const& a) const {
    seed<S>(state, state.candidates + first, rows, naming::nearer, a);
  }
  template <class S>
  void seed_opposite(network_state<Net> const& state, row_block& rows, coefficient_views<Net> const& a,
                     bool all) const {
    if (rows.count > 0) {
      opposite_kernel<S>
          <<<1, list_threads, 0, stream()>>>(weights_.view(), state.stage[S::number], rows, all, this->list_count());
      check_launch("seed_opposite");
      rows.count = this->listed();
    }
    seed_neurons<S>(state, rows, a);
  }
  template <class S>
  void name_rows(network_state<Net> const& state, std::size_t first, row_block const& rows) const {
    if (rows.count == 0) return;
    start_kernel<R::outward><<<blocks_for(rows.count, block), block, 0, stream()>>>(
        state.stage[S::number], state.candidates + first, rows, naming::both, 0.0);
    check_launch("name_rows");
  }

  /// Rows for the neurons of the head of stage S that box, index and sign name.
  template <class S>
  void seed_neurons(network_state<Net> const& state, row_block const& rows, coefficient_views<Net> const& a) const {
    seed<S>(state, nullptr, rows, naming::given, a);
  }

  /// Rows for specification forms at the output of the last stage (and at the input, for terms over X).
  void seed_forms(network_state<Net> const& state, std::span<row_form const> forms, row_block const& rows,
                  coefficient_views<Net> const& a) const {
    cuda::seed_forms<R>(device_, state.stage.front(), state.stage.back(), forms, rows, a.front(), a.back(),
                        rounds::template all_additions<Net, 0>());
  }
  void bound_by_intervals(network_state<Net> const& state, row_block const& rows,
                          coefficient_views<Net> const& a) const {
    cuda::bound_by_intervals<R>(stream(), state.stage.front(), state.stage.back(), rows, a.front(), a.back());
  }

  /// Takes rows from the output of stage S to its head; at the input, rows.bound is then their bound.
  template <class S>
  void relax_rows(network_state<Net> const& state, row_block const& rows, coefficient_views<Net> const& a) const {
    if constexpr (S::number == 0) {
      if (are_patches<S>(rows)) {
        patch const& at = patches<Net>[rows.start][0];
        if (!at.summed || rows.tables != nullptr) patch_finish<R>(stream(), at, rows, state.stage[0], a[0]);
        return;
      }
    }
    cuda::relax_rows<R, S::number == 0>(stream(), rows, state.stage[S::number], a[S::number], a[S::number],
                                        state.batch > 1);
  }

  /// Takes rows from the head of stage S to the outputs of its operands.
  template <class S>
  void backward(network_state<Net> const& state, row_block const& rows, coefficient_views<Net> const& a,
                overwrite_flags<S> const& overwrite, [[maybe_unused]] float* scratch) const {
    auto const& y = state.stage[S::number];
    auto const x = sources<S>(state);
    auto const out = targets<S>(a);
    if constexpr (HeadOf<typename S::head, conv_head>) {
      if (are_patches<S>(rows)) {  // optimised rows, whose patches go on to the input
        this->template with_filters<S>(way::back, [&](conv_weights const& w) {
          patch_product<conv_numbers::floats>(stream(),
                                              patch_step_of<S>(w, rows.start, true, this->template largest_weight<S>()),
                                              w.weight, rows, a[S::number], scratch, *x[0], out[0]);
        });
        return;
      }
    }
    if constexpr (HeadOf<typename S::head, linear_head>) {
      weights_.template any_blocks<S::info.head>(way::back, [&](column_block const& w) {
        row_range const mine = this->template live_in<S>(w, *x[0]);
        sizes::template precision_of<S>::multiply(device_, {a[S::number], y.live_count}, rows.count, y.live_count,
                                                  base::template live_weights<S, false>(w, y, *x[0], mine), mine.size(),
                                                  this->template largest_weight<S>(), out[0] + mine.first,
                                                  x[0]->live_count, overwrite[0], scratch);
      });
    } else {
      for (std::size_t i = 0; i < x.size(); ++i) {
        if (overwrite[i]) device_.clear(out[i], rows.count * x[i]->live_count);
      }
      if constexpr (HeadOf<typename S::head, conv_head>) {
        this->template with_filters<S>(way::back, [&](conv_weights const& w) {
          conv_backward<sizes::template numbers_of<S>>(stream(), w, rows.count, y, a[S::number], *x[0], out[0], scratch,
                                                       this->template largest_weight<S>(), overwrite[0]);
        });
      }
      if constexpr (HeadOf<typename S::head, sparse_head>) {
        sparse_backward<S>(stream(), rows.count, y, a[S::number], x, out);
      }
      if constexpr (HeadOf<typename S::head, max_head>) {
        max_backward<S>(stream(), rows, y, a[S::number], *x[0], out[0]);
      }
    }
  }

  /// Both: from the output of stage S to the outputs of its operands.
  template <class S>
  void step_back(network_state<Net> const& state, row_block const& rows, coefficient_views<Net> const& a,
                 overwrite_flags<S> const& overwrite, float* scratch) const {
    if constexpr (HeadOf<typename S::head, conv_head>) {
      if (are_patches<S>(rows)) {
        constexpr std::size_t from = S::template input<0>;
        this->template with_filters<S>(way::back, [&](conv_weights const& w) {
          patch_back<S, R, sizes::template numbers_of<S>>(stream(), device_, w, rows, state.stage[S::number],
                                                          a[S::number], state.stage[from], a[from], state.batch,
                                                          scratch, this->template largest_weight<S>());
        });
        return;
      }
    }
    if constexpr (HeadOf<typename S::head, linear_head> && S::size <= sizes::most_fused) {
      auto const& y = state.stage[S::number];
      auto const& x = state.stage[S::template input<0>];
      double const share = 1 + gamma_sum(y.live_count);
      weights_.template any_blocks<S::info.head>(way::back, [&](column_block const& w) {
        row_range const mine = this->template live_in<S>(w, x);
        bool const counts = w.first == 0;
        if (rows.count == 0 || (mine.size() == 0 && !counts)) return;
        chain_product(stream(), relaxed_rows<R::outward>{a[S::number], rows, y, share, state.batch > 1, counts},
                      rows.count, y.live_count, base::template live_weights<S, false>(w, y, x, mine), mine.size(),
                      a[S::template input<0>] + mine.first, x.live_count, overwrite[0]);
      });
    } else {
      relax_rows<S>(state, rows, a);
      backward<S>(state, rows, a, overwrite, scratch);
    }
  }

  /// Gives the bounds of rows to the head's intervals of stage S.
  template <class S>
  void refine_nearer(network_state<Net>& state, row_block const& rows) const {
    if (rows.count == 0) return;
    refine_nearer_kernel<<<blocks_for(rows.count, block), block, 0, stream()>>>(state.stage[S::number], rows);
    check_launch("refine_nearer");
  }
  template <class S>
  void refine(network_state<Net>& state, row_block const& rows, bool intersect) const {
    if (rows.count == 0) return;
    refine_kernel<<<blocks_for(rows.count / 2, block), block, 0, stream()>>>(state.stage[S::number], rows, !intersect);
    check_launch("refine");
  }

  /// Gives every rank the head's intervals of the first `count` candidates of stage S; each has refined its share.
  template <class S>
  void gather_candidates(network_state<Net>& state, std::size_t count, arena& /*memory*/) const {
    if constexpr (requires { typename Member::communicator; }) {
      if (member_.ranks() > 1) {
        gather_intervals(device_, others_, state.stage[S::number], state.candidates, count);
      }
    }
  }

  /// Intersects the intervals of the head of stage S with known ones, [b] lists; null: nothing known.
  template <class S>
  void narrow(network_state<Net>& state, std::span<float const* const> known, std::size_t offset) const {
    narrow_head(device_, state.stage[S::number], known, offset);
  }

  /// All bounds of the head of stage S, for the first box.
  template <class S>
  void head_bounds(network_state<Net> const& state, std::vector<float>& lower, std::vector<float>& upper) const {
    auto const& s = state.stage[S::number];
    lower.resize(S::size);
    upper.resize(S::size);
    device_.read(lower.data(), s.lower, S::size);
    device_.read(upper.data(), s.upper, S::size);
  }

  /// Copies the intervals of the head of stage S for box b to a list of `size` lower and `size` upper bounds.
  template <class S>
  void keep(network_state<Net> const& state, std::size_t b, float* known) const {
    auto const& s = state.stage[S::number];
    device_.read(known, s.lower + b * S::size, S::size);
    device_.read(known + S::size, s.upper + b * S::size, S::size);
  }

 protected:
  /// The forward step of a Linear or Conv head. `sums`: forward_floats; `keeps`: the sums of all elements stay there,
  /// without constants, and the head is not written.
  template <class S>
  void affine_forward(network_state<Net>& state, affine_sums* sums, bool keeps) const {
    auto& y = state.stage[S::number];
    auto const x = sources<S>(state);
    if constexpr (HeadOf<typename S::head, linear_head>) {
      if constexpr (base::template blocks_of<S>() > 1) {
        block_ends_kernel<<<blocks_for(base::template blocks_of<S>(), block), block, 0, stream()>>>(
            x[0]->live, device_.counter(S::template input<0>), base::template width_of<S>(),
            base::template blocks_of<S>(), device_.counter(base::block_ends[S::number]));
        check_launch("block_ends");
      }
      weights_.template any_blocks<S::info.head>(way::forward, [&](column_block const& w) {
        linear_forward<R>(stream(), this->template dense<S>(), w, base::template width_of<S>(), *x[0], y, state.batch,
                          sums, keeps);
      });
    }
    if constexpr (HeadOf<typename S::head, conv_head>) {
      this->template with_filters<S>(way::forward, [&](conv_weights const& w) {
        conv_forward<R>(stream(), w, *x[0], y, state.batch, affine_terms<S>(), keeps ? sums : nullptr);
      });
    }
  }

  template <class S>
  std::size_t list(network_state<Net>& state, bool all, bool generous) const {
    candidates_kernel<S><<<1, list_threads, 0, stream()>>>(weights_.view(), state.stage[S::number], state.batch, all,
                                                           generous, state.candidates, this->list_count());
    check_launch("candidates");
    return settle();
  }

  template <class S>
  void seed(network_state<Net> const& state, index_t const* neurons, row_block const& rows, naming how,
            coefficient_views<Net> const& a) const {
    constexpr double error = gamma(rounds::template seed_roundings<S>(), unit_float);
    auto const& y = state.stage[S::number];
    auto const x = sources<S>(state);
    auto const out = targets<S>(a);
    if constexpr (HeadOf<typename S::head, linear_head>) {
      weights_.template any_blocks<S::info.head>(way::back, [&](column_block const& w) {
        if (rows.count == 0) return;
        linear_seed_kernel<R::outward><<<static_cast<unsigned>(rows.count), block, 0, stream()>>>(
            w, this->template live_in<S>(w, *x[0]), w.last == x[0]->size, y, neurons, rows, how, error, *x[0], out[0]);
      });
    } else {
      if (rows.count > 0) {
        start_kernel<R::outward><<<blocks_for(rows.count, block), block, 0, stream()>>>(y, neurons, rows, how, error);
      }
      if constexpr (HeadOf<typename S::head, conv_head>) {
        this->template with_filters<S>(way::back, [&](conv_weights const& w) {
          if (rows.start == S::number && are_patches<stage<Net, S::template input<0>>>(rows)) {
            patch_seed(stream(), w, patches<Net>[rows.start][S::template input<0>], rows, out[0]);
          } else {
            device_.clear(out[0], rows.count * x[0]->live_count);
            conv_seed(stream(), w, rows, *x[0], out[0]);
          }
        });
      } else {
        for (std::size_t i = 0; i < x.size(); ++i) device_.clear(out[i], rows.count * x[i]->live_count);
      }
      if constexpr (HeadOf<typename S::head, sparse_head>) {
        if (rows.count > 0) {
          sparse_seed_kernel<S>
              <<<blocks_for(rows.count, block), block, 0, stream()>>>(rows, by_value<S>(x), by_value<S>(out));
        }
      }
    }
    check_launch("seed");
  }

  /// Whether the coefficients of stage S are patches.
  template <class S>
  [[nodiscard]] static bool are_patches(row_block const& rows) {
    return rows.start != row_block::anywhere && patches<Net>[rows.start][S::number].kept;
  }

  template <class S>
  [[nodiscard]] product_cost cost() const {
    std::size_t terms = S::size, in_chain = 1 + std::min(S::size, chain_terms);
    if constexpr (HeadOf<typename S::head, conv_head>) {
      terms = conv_terms(S::shape, S::head::filter), in_chain = conv_in_chain(S::shape, S::head::filter);
    }
    return {rounds::template roundings<S>(), in_chain, HeadOf<typename S::head, linear_head>,
            this->template rounded<S>(),
            sizes::template precision_of<S>::errors(terms, this->template largest_weight<S>())};
  }
};

}  // namespace hull::cuda
