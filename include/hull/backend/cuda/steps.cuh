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
#include <hull/backend/cuda/ranks.cuh>
#include <hull/backend/cuda/relax.cuh>
#include <hull/backend/cuda/rows.cuh>
#include <hull/backend/cuda/sharded_weights.cuh>
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

  /// Copies what this rank holds of the parameters to the device; borrows what else the member stands for. All ranks do
  /// so together.
  explicit steps(Member member)
      : base(member, counters),
        weights_(member, device_, scans_weights()),
        others_(ranks_of_member<Member>::make(member)) {
    P::expect_device();
  }

  /// What a rank holds of the parameters on its device, where it does not hold all.
  [[nodiscard]] static constexpr parameter_bytes held(std::size_t ranks)
      requires HoldsParts<Member> { return sharded_weights<Net, Member>::held(ranks); }
  /// What collectives on device memory have cost. Waits for the device.
  [[nodiscard]] device_cost communication() const requires requires { typename Member::communicator; } {
    device_cost all = others_.cost();
    if constexpr (HoldsParts<Member>) all += weights_.cost();
    return all;
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

  /// Where a matrix comes in several blocks, sums wait there for the next one.
  template <class S>
  [[nodiscard]] static constexpr std::size_t forward_floats(std::size_t batch) {
    if constexpr (HeadOf<typename S::head, linear_head> && HoldsParts<Member>) {
      if (blocks_of<S>() > 1) return batch * S::size * sizeof(affine_sums) / sizeof(float);
    }
    return sizes::template forward_floats<S>(batch);
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
    if (rows.count > 0) {
      index_t* const count = device_.counter(stage_count<Net>);
      opposite_kernel<S><<<1, list_threads, 0, stream()>>>(weights_.view(), state.stage[S::number], rows, all, count);
      check_launch("seed_opposite");
      index_t left = 0;
      device_.read(&left, count, 1);
      rows.count = left;
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
        with_filters<S>(way::back, [&](conv_weights const& w) {
          patch_product<conv_numbers::floats>(stream(), patch_step_of<S>(w, rows.start, true, largest_weight<S>()),
                                              w.weight, rows, a[S::number], scratch, *x[0], out[0]);
        });
        return;
      }
    }
    if constexpr (HeadOf<typename S::head, linear_head>) {
      weights_.template any_blocks<S::info.head>(way::back, [&](column_block const& w) {
        row_range const mine = live_in<S>(w, *x[0]);
        sizes::template precision_of<S>::multiply(device_, {a[S::number], y.live_count}, rows.count, y.live_count,
                                                  live_weights<S, false>(w, y, *x[0], mine), mine.size(),
                                                  largest_weight<S>(), out[0] + mine.first, x[0]->live_count,
                                                  overwrite[0], scratch);
      });
    } else {
      for (std::size_t i = 0; i < x.size(); ++i) {
        if (overwrite[i]) device_.clear(out[i], rows.count * x[i]->live_count);
      }
      if constexpr (HeadOf<typename S::head, conv_head>) {
        with_filters<S>(way::back, [&](conv_weights const& w) {
          conv_backward<sizes::template numbers_of<S>>(stream(), w, rows.count, y, a[S::number], *x[0], out[0], scratch,
                                                       largest_weight<S>(), overwrite[0]);
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
        with_filters<S>(way::back, [&](conv_weights const& w) {
          patch_back<S, R, sizes::template numbers_of<S>>(stream(), device_, w, rows, state.stage[S::number],
                                                          a[S::number], state.stage[from], a[from], state.batch,
                                                          scratch, largest_weight<S>());
        });
        return;
      }
    }
    if constexpr (HeadOf<typename S::head, linear_head> && S::size <= sizes::most_fused) {
      auto const& y = state.stage[S::number];
      auto const& x = state.stage[S::template input<0>];
      double const share = 1 + gamma_sum(y.live_count);
      weights_.template any_blocks<S::info.head>(way::back, [&](column_block const& w) {
        row_range const mine = live_in<S>(w, x);
        bool const counts = w.first == 0;
        if (rows.count == 0 || (mine.size() == 0 && !counts)) return;
        chain_product(stream(), relaxed_rows<R::outward>{a[S::number], rows, y, share, state.batch > 1, counts},
                      rows.count, y.live_count, live_weights<S, false>(w, y, x, mine), mine.size(),
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
  static constexpr unsigned block = 128;

  /// Waits for the numbers of live columns of the stages that were relaxed since the last call, and of candidates.
  std::size_t settle() const {
    counts_.resize(counters);
    device_.read(counts_.data(), device_.counter(0), counts_.size());
    for (stage_state* const s : pending_) s->live_count = counts_[static_cast<std::size_t>(s - first_stage_)];
    pending_.clear();
    return counts_[stage_count<Net>];
  }

  /// The forward step of a Linear or Conv head. `sums`: forward_floats; `keeps`: the sums of all elements stay there,
  /// without constants, and the head is not written.
  template <class S>
  void affine_forward(network_state<Net>& state, affine_sums* sums, bool keeps) const {
    auto& y = state.stage[S::number];
    auto const x = sources<S>(state);
    if constexpr (HeadOf<typename S::head, linear_head>) {
      if constexpr (blocks_of<S>() > 1) {
        block_ends_kernel<<<blocks_for(blocks_of<S>(), block), block, 0, stream()>>>(
            x[0]->live, device_.counter(S::template input<0>), width_of<S>(), blocks_of<S>(),
            device_.counter(block_ends[S::number]));
        check_launch("block_ends");
      }
      weights_.template any_blocks<S::info.head>(way::forward, [&](column_block const& w) {
        linear_forward<R>(stream(), dense<S>(), w, width_of<S>(), *x[0], y, state.batch, sums, keeps);
      });
    }
    if constexpr (HeadOf<typename S::head, conv_head>) {
      with_filters<S>(way::forward, [&](conv_weights const& w) {
        conv_forward<R>(stream(), w, *x[0], y, state.batch, affine_terms<S>(), keeps ? sums : nullptr);
      });
    }
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
    constexpr double error = gamma(rounds::template seed_roundings<S>(), unit_float);
    auto const& y = state.stage[S::number];
    auto const x = sources<S>(state);
    auto const out = targets<S>(a);
    if constexpr (HeadOf<typename S::head, linear_head>) {
      weights_.template any_blocks<S::info.head>(way::back, [&](column_block const& w) {
        if (rows.count == 0) return;
        linear_seed_kernel<R::outward><<<static_cast<unsigned>(rows.count), block, 0, stream()>>>(
            w, live_in<S>(w, *x[0]), w.last == x[0]->size, y, neurons, rows, how, error, *x[0], out[0]);
      });
    } else {
      if (rows.count > 0) {
        start_kernel<R::outward><<<blocks_for(rows.count, block), block, 0, stream()>>>(y, neurons, rows, how, error);
      }
      if constexpr (HeadOf<typename S::head, conv_head>) {
        with_filters<S>(way::back, [&](conv_weights const& w) {
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
  [[nodiscard]] bool rounded() const {
    return rounded_head<S>(member_.weights());
  }
  template <class S>
  [[nodiscard]] float const* bias() const {
    return weights_.view().template tensor<S::info.head, 1>();
  }
  template <class S>
  [[nodiscard]] head_bias constants() const {
    if constexpr (HeadOf<typename S::head, linear_head>) return {bias<S>(), 1};
    if constexpr (HeadOf<typename S::head, conv_head>) return {bias<S>(), S::shape[1] * S::shape[2]};
    return {};
  }
  template <class S>
  [[nodiscard]] linear_weights dense() const {
    return {bias<S>(), S::size, S::template operand<0>.size(), rounded<S>()};
  }
  /// 0 where no product of the stage asks for it.
  template <class S>
  [[nodiscard]] float largest_weight() const {
    if constexpr (sizes::template precision_of<S>::scaled) return weights_.template largest<S::info.head>();
    return 0;
  }

  /// Columns of a block of the matrix of stage S, and how many blocks there are.
  template <class S>
  [[nodiscard]] static constexpr std::size_t width_of() {
    return block_width(S::size, S::template operand<0>.size(), weight_block_bytes);
  }
  template <class S>
  [[nodiscard]] static constexpr std::size_t blocks_of() {
    if constexpr (HeadOf<typename S::head, linear_head>) {
      return block_count(S::size, S::template operand<0>.size(), weight_block_bytes);
    }
    return 0;
  }
  /// Live columns of the operand of stage S that are in a block of its matrix, after settle().
  template <class S>
  [[nodiscard]] row_range live_in(column_block const& w, stage_state const& x) const {
    auto const before = [&](std::size_t column) -> std::size_t {
      if (column == 0) return 0;
      return column == x.size ? x.live_count : counts_[block_ends[S::number] + column / width_of<S>() - 1];
    };
    return {before(w.first), before(w.last)};
  }

  template <class S>
  [[nodiscard]] product_cost cost() const {
    std::size_t terms = S::size, in_chain = 1 + std::min(S::size, chain_terms);
    if constexpr (HeadOf<typename S::head, conv_head>) {
      terms = conv_terms(S::shape, S::head::filter), in_chain = conv_in_chain(S::shape, S::head::filter);
    }
    return {rounds::template roundings<S>(), in_chain, HeadOf<typename S::head, linear_head>, rounded<S>(),
            sizes::template precision_of<S>::errors(terms, largest_weight<S>())};
  }

  /// Live rows of a block of W and the live columns `mine` of it.
  template <class S, bool Transposed>
  [[nodiscard]] static gathered<Transposed> live_weights(column_block const& w, stage_state const& y,
                                                         stage_state const& x, row_range mine) {
    static_assert(S::size * S::template operand<0>.size() < (std::size_t{1} << 32));
    return {w.weight - w.first, static_cast<unsigned>(w.stride), y.live, x.live + mine.first};
  }
  /// Calls f(conv_weights). A collective where ranks hold parts.
  template <class S, class F>
  void with_filters(way going, F&& f) const {
    weights_.template filters<S::info.head>(going, [&](float const* weight) {
      f(conv_weights{weight, bias<S>(), S::head::filter, S::template operand<0>, S::shape, rounded<S>()});
    });
  }

  typename weights_of<Net, Member>::type weights_;
  mutable typename ranks_of_member<Member>::type others_;

 private:
  static constexpr bool scans_weights() {
    bool found = false;
    for_each_stage<1, stage_count<Net>>(
        [&]<std::size_t K> { found = found || sizes::template precision_of<stage<Net, K>>::scaled; });
    return found;
  }

  // On the device: live columns of each stage, candidates, and by stage where blocks of its matrix end among the live
  // columns.
  static constexpr auto block_ends = [] {
    std::array<std::size_t, stage_count<Net> + 1> first{};
    std::size_t at = stage_count<Net> + 1;
    for_each_stage<1, stage_count<Net>>([&]<std::size_t K> {
      first[K] = at;
      at += blocks_of<stage<Net, K>>();
    });
    first[stage_count<Net>] = at;
    return first;
  }();
  static constexpr std::size_t counters = block_ends[stage_count<Net>];

  // counts of live columns come with the next number that the host waits for
  mutable std::vector<stage_state*> pending_;
  mutable stage_state* first_stage_ = nullptr;
  mutable std::vector<index_t> counts_;
};

}  // namespace hull::cuda
