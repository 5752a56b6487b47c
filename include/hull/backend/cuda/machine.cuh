// SPDX-License-Identifier: Apache-2.0
// One GPU as a machine for propagation: the steps of IBP and CROWN, and those of rows with parameters of their own.
#pragma once

#include <algorithm>
#include <span>
#include <type_traits>

#include <hull/backend/cuda/free.cuh>
#include <hull/backend/cuda/steps.cuh>
#include <hull/net/cost.hpp>

namespace hull::cuda {

/// `Member`: what this rank holds of the network and does with the others (shard/member.hpp); by default it is alone.
/// `P`: precision of the products of wide dense stages, and of convolutions: Fp32, Tf32x3 or Fp16x3 (precision.cuh).
template <Network Net, class R, class Member = lone_member<Net>, class P = Fp32>
class machine : public steps<Net, R, Member, P> {
 protected:
  using base = steps<Net, R, Member, P>;
  using base::block;
  using base::device_;
  using base::stream;
  using base::weights_;

 public:
  using precision = P;

  /// Domains that branch and bound splits in one round: few fill no GPU, and where each takes long, many would only let
  /// the attack on what is found wait.
  static constexpr std::size_t domains_at_once =
      std::clamp<std::size_t>((std::size_t{1} << 33) / (multiplications<Net>() + 1), 512, 8192);

  explicit machine(Member member) : base(member) {}

  /// rows.value becomes 1 for neurons that tighter bounds could still help, else 0.
  template <class S>
  void mark_gaining(network_state<Net> const& state, row_block const& rows) const {
    if (rows.count == 0) return;
    mark_gaining_kernel<S>
        <<<blocks_for(rows.count, block), block, 0, stream()>>>(weights_.view(), state.stage[S::number], rows, false);
    check_launch("mark_gaining");
  }

  /// Free columns of stage S, after relax<S>.
  template <class S>
  void collect_free(network_state<Net> const& state, free_columns& f, std::size_t offset) const {
    this->settle();
    auto const& x = *sources<S>(state)[0];
    find_free<S, R>(stream(), weights_.view(), state.stage[S::number], f, x, this->template cost<S>(),
                    this->template constants<S>(), this->list_count());
    f.offset = offset;
    f.count = this->listed();
  }

  /// CROWN's own parameters of one stage for all rows.
  void start_rows(free_columns const& f, free_rows const& parameters, std::size_t rows) const {
    if (f.count * rows == 0) return;
    start_rows_kernel<<<blocks_for(f.count * rows, block), block, 0, stream()>>>(f, parameters, rows);
    check_launch("start_rows");
  }

  /// Row from[i] becomes row i; from[i] >= i, rising.
  void move_rows(row_block const& rows, free_rows const& p, std::span<index_t const> from) const {
    if (from.empty()) return;
    auto* const list = reinterpret_cast<index_t*>(device_.mail());
    device_.write(list, from.data(), from.size());
    auto const move = [&](auto* numbers, std::size_t width) {
      if (width == 0 || numbers == nullptr) return;
      unsigned columns = 1;
      while (columns < std::min<std::size_t>(width, warp)) columns *= 2;
      move_parts_kernel<<<blocks_for(width, columns), list_threads, 0, stream()>>>(numbers, width, columns, list,
                                                                                   static_cast<unsigned>(from.size()));
    };
    move(rows.box, 1);
    move(rows.index, 1);
    move(rows.sign, 1);
    for (float* const array : p.by_parameter()) move(array, p.width);
    move(p.split_count, 1);
    move(p.split_parameter, p.splits);
    for (float* const array : p.by_split()) move(array, p.splits);
    move(reinterpret_cast<index_t*>(p.progress), sizeof(row_progress) / sizeof(index_t));
    check_launch("move_rows");
  }

  /// After an evaluation of rows with `progress`; `final`: that was the last one.
  void note_bounds(row_block const& rows, free_rows const& p, std::size_t patience, bool final) const {
    if (rows.count == 0) return;
    note_bounds_kernel<<<static_cast<unsigned>(rows.count), block, 0, stream()>>>(rows, p, patience, final);
    check_launch("note_bounds");
  }
  /// The same for pairs of rows of hidden neurons. `gains`: after mark_gaining.
  void note_pairs(row_block const& rows, free_rows const& p, std::size_t patience, bool gains) const {
    if (rows.count == 0) return;
    note_pairs_kernel<<<static_cast<unsigned>(rows.count / 2), block, 0, stream()>>>(rows, p, patience, gains);
    check_launch("note_pairs");
  }
  /// Steps of optimised rows after which the host looks which have ended: until then it only gives orders. Rows that
  /// end in between cost what is left of these steps, so fewer where steps are long: where several have more than
  /// `work_at_once` multiplications on their way back.
  static constexpr std::size_t steps_at_once = 8, work_at_once = std::size_t{1} << 35;

  /// Before the first step of optimised rows that have `tables`.
  void begin_climbing(network_state<Net> const& state, free_state<Net> const& free, row_block const& rows) const {
    for_each_stage<1, stage_count<Net> - 1>([&]<std::size_t K> {  // the last one is before no start
      if (K >= rows.start) return;
      climb_table<stage<Net, K>>(stream(), patches<Net>[rows.start][K], state.stage[K], free.stage[K],
                                 rows.tables + climb_table_offset<Net>(rows.start, K));
    });
  }

  /// relax_rows with parameters: from a[S], which is kept, to `moved`, both [rows, live].
  template <class S>
  void relax_free_rows(network_state<Net> const& state, free_columns const& f, row_block const& rows,
                       free_rows const& parameters, coefficient_views<Net> const& a, float* moved,
                       bool counts = true) const {
    if (rows.count == 0) return;
    auto const& s = state.stage[S::number];
    if (base::template are_patches<S>(rows)) {
      return patch_relax_free<R>(stream(), patches<Net>[rows.start][S::number], rows, s, f, parameters,
                                 table_of<S>(rows), a[S::number], moved);
    }
    if constexpr (hull::detail::has_kink<S>()) {
      relax_free_rows_kernel<R::outward><<<static_cast<unsigned>(rows.count), row_threads, 0, stream()>>>(
          rows, s, f, parameters, a[S::number], moved, counts);
      check_launch("relax_free_rows");
    } else {
      cuda::relax_rows<R, false>(stream(), rows, s, a[S::number], moved, false, counts);
    }
  }

  /// Deviations of the head of stage S from those of its operands.
  template <class S>
  void points(network_state<Net> const& state, row_block const& rows, coefficient_views<Net> const& d, float* head,
              [[maybe_unused]] float* scratch) const {
    auto const& y = state.stage[S::number];
    auto const x = sources<S>(state);
    auto const in = targets<S>(d);
    if constexpr (HeadOf<typename S::head, linear_head>) {
      weights_.template each_block<S::info.head>(way::forward, [&](column_block const& w) {
        row_range const mine = this->template live_in<S>(w, *x[0]);
        if (mine.size() == 0 && w.first > 0) return;
        base::sizes::template precision_of<S>::multiply(
            device_, {in[0] + mine.first, x[0]->live_count}, rows.count, mine.size(),
            base::template live_weights<S, true>(w, y, *x[0], mine), y.live_count, this->template largest_weight<S>(),
            head, y.live_count, w.first == 0, scratch);
      });
    }
    if constexpr (HeadOf<typename S::head, conv_head>) {
      this->template with_filters<S>(way::forward, [&](conv_weights const& w) {
        if (base::template are_patches<S>(rows)) {
          patch_product<conv_numbers::floats>(stream(), patch_step_of<S>(w, rows.start, false, 1), w.weight, rows,
                                              in[0], scratch, y, head);
        } else {
          conv_points(stream(), w, rows.count, *x[0], in[0], y, head, scratch);
        }
      });
    }
    if (rows.count == 0) return;
    [[maybe_unused]] unsigned const blocks = static_cast<unsigned>(rows.count);
    if constexpr (HeadOf<typename S::head, sparse_head>) {
      sparse_points_kernel<S><<<blocks, block, 0, stream()>>>(by_value<S>(x), by_value<S>(in), y, head);
    }
    if constexpr (HeadOf<typename S::head, max_head>) {
      max_points_kernel<<<blocks, block, 0, stream()>>>(rows, *x[0], in[0], y, head);
    }
    check_launch("points");
  }

  /// Coefficients of the input become the deviation of each row's minimising corner.
  void minimise(network_state<Net> const& state, row_block const& rows, coefficient_views<Net> const& a) const {
    auto const& s = state.stage[0];
    if (rows.count * s.live_count == 0) return;
    if (base::template are_patches<stage<Net, 0>>(rows)) {
      return patch_minimise(stream(), patches<Net>[rows.start][0], rows, s, a[0]);
    }
    minimise_rows_kernel<<<blocks_for(rows.count * s.live_count, block), block, 0, stream()>>>(s, rows.count, a[0]);
    check_launch("minimise");
  }

  /// Deviations of the outputs of stage S from those of its head; parameters climb.
  template <class S>
  void climb(network_state<Net> const& state, free_columns const& f, row_block const& rows, free_rows const& parameters,
             adam_step const& adam, coefficient_views<Net> const& a, float* head) const {
    auto const& s = state.stage[S::number];
    if (rows.count * s.live_count == 0) return;
    if (base::template are_patches<S>(rows)) {
      return patch_climb(stream(), patches<Net>[rows.start][S::number], rows, f, parameters, adam, table_of<S>(rows),
                         a[S::number], head);
    }
    if constexpr (hull::detail::has_kink<S>()) {
      climb_rows_kernel<<<static_cast<unsigned>(rows.count), row_threads, 0, stream()>>>(rows, s, f, parameters, adam,
                                                                                         a[S::number], head);
    } else {
      follow_rows_kernel<<<blocks_for(rows.count * s.live_count, block), block, 0, stream()>>>(s, rows.count,
                                                                                               a[S::number], head);
    }
    check_launch("climb");
  }

 private:
  template <class S>
  [[nodiscard]] static climb_line const* table_of(row_block const& rows) {
    return reinterpret_cast<climb_line const*>(rows.tables + climb_table_offset<Net>(rows.start, S::number));
  }
};

}  // namespace hull::cuda
