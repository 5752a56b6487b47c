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
#include <hull/backend/cuda/host.cuh>
#include <hull/backend/cuda/patch_steps.cuh>
#include <hull/backend/cuda/precision.cuh>
#include <hull/backend/cuda/relax.cuh>
#include <hull/backend/cuda/rows.cuh>
#include <hull/backend/cuda/sparse.cuh>
#include <hull/backend/cuda/step_memory.cuh>
#include <hull/backend/cuda/weights.cuh>
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
class steps : public host<Member>, public step_memory<Net, P> {
 protected:
  using base = host<Member>;
  using sizes = step_memory<Net, P>;
  using base::device_;
  using base::member_;
  using base::stream;

 public:
  using rounding = R;
  using rounds = rounding_counts<order>;

  /// Copies the parameters to the device; borrows what else the member stands for.
  explicit steps(Member member) : base(member, stage_count<Net> + 1), weights_(member.weights(), device_) {
    P::expect_device();
    for_each_stage<1, stage_count<Net>>([&]<std::size_t K> {
      using S = stage<Net, K>;
      if constexpr (sizes::template precision_of<S>::scaled) {
        float const* const w = member.weights().template tensor<S::info.head, 0>();
        for (std::size_t i = 0; i < weight_count<S>(); ++i) {
          largest_weight_[K] = std::max(largest_weight_[K], std::fabs(w[i]));
        }
      }
    });
  }

  /// Sets the input stage to the boxes, rounded outward to floats.
  void load_boxes(network_state<Net>& state, std::span<std::vector<input_range> const* const> boxes) const {
    auto& s = state.stage[0];
    write_boxes(device_, s, boxes);
    std::size_t const all = boxes.size() * s.size;
    load_boxes_kernel<<<blocks_for(all, block), block, 0, stream()>>>(s, boxes.size(), s.lower, s.upper);
    compact_kernel<R::outward><<<1, list_threads, 0, stream()>>>(s, boxes.size(), {}, {}, device_.counter(0));
    check_launch("load_boxes");
    device_.clear(s.floor, boxes.size());
    first_stage_ = &s;
    pending_.assign(1, &s);
  }

  /// Interval arithmetic from the operands of stage S to its head.
  template <class S>
  void forward(network_state<Net>& state, float* /*scratch*/) const {
    auto& y = state.stage[S::number];
    auto const x = sources<S>(state);
    if constexpr (HeadOf<typename S::head, linear_head>) {
      linear_forward<R>(stream(), dense<S>(), *x[0], y, state.batch);
    }
    if constexpr (HeadOf<typename S::head, conv_head>) {
      conv_forward<R>(stream(), filters<S>(), *x[0], y, state.batch, affine_terms<S>());
    }
    if constexpr (HeadOf<typename S::head, sparse_head>) sparse_forward<S, R>(stream(), x, y, state.batch);
    if constexpr (HeadOf<typename S::head, max_head>) max_forward<S>(stream(), *x[0], y, state.batch);
  }

  /// Lines, outputs and live columns of stage S from the intervals of its head.
  template <class S>
  void relax(network_state<Net>& state) const {
    auto& s = state.stage[S::number];
    relax_stage<S, R>(stream(), weights_.view(), sources<S>(state), s, state.batch, cost<S>(),
                      device_.counter(S::number));
    pending_.push_back(&s);
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
    if (rows.count == 0) return;
    index_t* const count = device_.counter(stage_count<Net>);
    opposite_kernel<S><<<1, list_threads, 0, stream()>>>(weights_.view(), state.stage[S::number], rows, all, count);
    check_launch("seed_opposite");
    index_t left = 0;
    device_.read(&left, count, 1);
    rows.count = left;
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
        patch_step const step = patch_step_of<S>(filters<S>(), rows.start, true, largest_weight_[S::number]);
        return patch_product<conv_numbers::floats>(stream(), step, filters<S>().weight, rows, a[S::number], scratch,
                                                   *x[0], out[0]);
      }
    }
    if constexpr (HeadOf<typename S::head, linear_head>) {
      sizes::template precision_of<S>::multiply(
          device_, a[S::number], rows.count, y.live_count, live_weights<S, false>(y, *x[0]), x[0]->live_count,
          largest_weight_[S::number], out[0], x[0]->live_count, overwrite[0], scratch);
    } else {
      for (std::size_t i = 0; i < x.size(); ++i) {
        if (overwrite[i]) device_.clear(out[i], rows.count * x[i]->live_count);
      }
      if constexpr (HeadOf<typename S::head, conv_head>) {
        conv_backward<sizes::template numbers_of<S>>(stream(), filters<S>(), rows.count, y, a[S::number], *x[0], out[0],
                                                     scratch, largest_weight_[S::number], overwrite[0]);
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
        return patch_back<S, R, sizes::template numbers_of<S>>(
            stream(), device_, filters<S>(), rows, state.stage[S::number], a[S::number], state.stage[from], a[from],
            state.batch, scratch, largest_weight_[S::number]);
      }
    }
    if constexpr (HeadOf<typename S::head, linear_head> && S::size <= sizes::most_fused) {
      if (rows.count == 0) return;
      auto const& y = state.stage[S::number];
      auto const& x = state.stage[S::template input<0>];
      double const share = 1 + gamma_sum(y.live_count);
      chain_product(stream(), relaxed_rows<R::outward>{a[S::number], rows, y, share, state.batch > 1}, rows.count,
                    y.live_count, live_weights<S, false>(y, x), x.live_count, a[S::template input<0>], x.live_count,
                    overwrite[0]);
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
    if (member_.ranks() > 1 && count > 0) {
      gather_intervals(device_, member_, state.stage[S::number], state.batch, state.candidates, count);
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
  static constexpr unsigned block = 128;

  /// Waits for the numbers of live columns of the stages that were relaxed since the last call, and of candidates.
  std::size_t settle() const {
    counts_.resize(stage_count<Net> + 1);
    device_.read(counts_.data(), device_.counter(0), counts_.size());
    for (stage_state* const s : pending_) s->live_count = counts_[static_cast<std::size_t>(s - first_stage_)];
    pending_.clear();
    return counts_.back();
  }

  template <class S>
  std::size_t list(network_state<Net>& state, bool all, bool generous) const {
    candidates_kernel<S><<<1, list_threads, 0, stream()>>>(weights_.view(), state.stage[S::number], state.batch, all,
                                                           generous, state.candidates,
                                                           device_.counter(stage_count<Net>));
    check_launch("candidates");
    return settle();
  }

  template <class S>
  void seed(network_state<Net> const& state, index_t const* neurons, row_block const& rows, naming how,
            coefficient_views<Net> const& a) const {
    if (rows.count == 0) return;
    constexpr double error = gamma(rounds::template seed_roundings<S>(), unit_float);
    auto const& y = state.stage[S::number];
    auto const x = sources<S>(state);
    auto const out = targets<S>(a);
    if constexpr (HeadOf<typename S::head, linear_head>) {
      linear_seed_kernel<R::outward><<<static_cast<unsigned>(rows.count), block, 0, stream()>>>(
          dense<S>(), y, neurons, rows, how, error, *x[0], out[0]);
    } else {
      start_kernel<R::outward><<<blocks_for(rows.count, block), block, 0, stream()>>>(y, neurons, rows, how, error);
      if constexpr (HeadOf<typename S::head, conv_head>) {
        if (rows.start == S::number && are_patches<stage<Net, S::template input<0>>>(rows)) {
          return patch_seed(stream(), filters<S>(), patches<Net>[rows.start][S::template input<0>], rows, out[0]);
        }
      }
      for (std::size_t i = 0; i < x.size(); ++i) device_.clear(out[i], rows.count * x[i]->live_count);
      if constexpr (HeadOf<typename S::head, conv_head>) conv_seed(stream(), filters<S>(), rows, *x[0], out[0]);
      if constexpr (HeadOf<typename S::head, sparse_head>) {
        sparse_seed_kernel<S>
            <<<blocks_for(rows.count, block), block, 0, stream()>>>(rows, by_value<S>(x), by_value<S>(out));
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
  [[nodiscard]] bool rounded() const {
    return rounded_head<S>(member_.weights());
  }
  template <class S>
  [[nodiscard]] float const* bias() const {
    return weights_.view().template tensor<S::info.head, 1>();
  }
  template <class S>
  [[nodiscard]] linear_weights dense() const {
    return {weights_.view().template tensor<S::info.head, 0>(), bias<S>(), S::size, S::template operand<0>.size(),
            rounded<S>()};
  }
  template <class S>
  [[nodiscard]] static constexpr std::size_t weight_count() {
    if constexpr (HeadOf<typename S::head, conv_head>) {
      return S::shape[0] * (S::template operand<0>[0] / S::head::filter.groups) * S::head::filter.area();
    }
    return S::size * S::template operand<0>.size();
  }

  template <class S>
  [[nodiscard]] product_cost cost() const {
    std::size_t terms = S::size, in_chain = 1 + std::min(S::size, chain_terms);
    if constexpr (HeadOf<typename S::head, conv_head>) {
      terms = conv_terms(S::shape, S::head::filter), in_chain = conv_in_chain(S::shape, S::head::filter);
    }
    return {rounds::template roundings<S>(), in_chain, HeadOf<typename S::head, linear_head>, rounded<S>(),
            sizes::template precision_of<S>::errors(terms, largest_weight_[S::number])};
  }

  /// Live rows and columns of W.
  template <class S, bool Transposed>
  [[nodiscard]] gathered<Transposed> live_weights(stage_state const& y, stage_state const& x) const {
    static_assert(S::size * S::template operand<0>.size() < (std::size_t{1} << 32));
    return {dense<S>().weight, static_cast<unsigned>(S::template operand<0>.size()), y.live, x.live};
  }
  template <class S>
  [[nodiscard]] conv_weights filters() const {
    return {weights_.view().template tensor<S::info.head, 0>(),
            bias<S>(),
            S::head::filter,
            S::template operand<0>,
            S::shape,
            rounded<S>()};
  }

  device_weights<Net> weights_;
  std::array<float, stage_count<Net>> largest_weight_{};  // where `precision_of` is scaled

 private:
  // counts of live columns come with the next number that the host waits for
  mutable std::vector<stage_state*> pending_;
  mutable stage_state* first_stage_ = nullptr;
  mutable std::vector<index_t> counts_;
};

}  // namespace hull::cuda
