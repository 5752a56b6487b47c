// SPDX-License-Identifier: Apache-2.0
// A machine whose memory the host cannot see, as a device's: it is closed except while a step of the machine runs. Code
// that reads it any other way ends in a segmentation fault here, where there need not be a GPU.
#pragma once

#include <cstddef>
#include <span>
#include <stdexcept>
#include <sys/mman.h>
#include <utility>
#include <vector>

#include <hull/backend/cpu/machine.hpp>

namespace hull::reference {

/// Pages that are open for as long as somebody asks for them.
class guarded_block final {
 public:
  guarded_block() = default;
  guarded_block(guarded_block const&) = delete;
  guarded_block& operator=(guarded_block const&) = delete;
  ~guarded_block() { release(); }

  void resize(std::size_t bytes) {
    release();
    bytes_ = (bytes + 4095) / 4096 * 4096;
    at_ = mmap(nullptr, bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at_ == MAP_FAILED) throw std::runtime_error("mmap failed");
  }
  [[nodiscard]] std::byte* data() const { return static_cast<std::byte*>(at_); }
  [[nodiscard]] std::size_t size() const { return bytes_; }

  class open final {
   public:
    explicit open(guarded_block& block) : block_(&block) { block_->set(PROT_READ | PROT_WRITE); }
    open(open const&) = delete;
    open& operator=(open const&) = delete;
    ~open() { block_->set(PROT_NONE); }

   private:
    guarded_block* block_;
  };

 private:
  void set(int protection) const {
    if (bytes_ > 0) mprotect(at_, bytes_, protection);
  }
  void release() {
    if (bytes_ > 0) munmap(at_, bytes_);
    bytes_ = 0;
  }

  void* at_ = nullptr;
  std::size_t bytes_ = 0;
};

template <Network Net, class R, class Member = lone_member<Net>>
class guarded_machine final : public cpu::machine<Net, R, Member> {
  using base = cpu::machine<Net, R, Member>;

 public:
  using base::base;

  void reserve(std::size_t bytes) {
    if (bytes > block_.size()) block_.resize(bytes);
    memory_ = arena(block_.data(), block_.size());
  }
  [[nodiscard]] arena& memory() { return memory_; }

  // bounds are those of machines that look after every step
  static constexpr std::size_t steps_at_once = 4;

  // the host gets copies
  [[nodiscard]] double const* bounds(row_block const& rows) const {
    guarded_block::open const now(block_);
    bounds_.assign(rows.bound, rows.bound + rows.count);
    return bounds_.data();
  }
  [[nodiscard]] float const* fetch(float const* from, std::size_t count, std::vector<float>& buffer) const {
    guarded_block::open const now(block_);
    buffer.assign(from, from + count);
    return buffer.data();
  }
  template <class T, class F>
  void read_rows(float const* from, std::size_t width, std::span<index_t const> rows, F&& f) const {
    std::vector<float> copy(width);
    index_t const first = 0;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      read(copy.data(), from + rows[i] * width, width);
      base::template read_rows<T>(copy.data(), width, {&first, 1}, [&](std::size_t, T const* row) { f(i, row); });
    }
  }

#define HULL_TEST_CALL(name)                            \
  template <class... Arguments>                         \
  decltype(auto) name(Arguments&&... all) const {       \
    guarded_block::open const now(block_);              \
    return base::name(std::forward<Arguments>(all)...); \
  }
#define HULL_TEST_STEP(name)                                        \
  template <class S, class... Arguments>                            \
  decltype(auto) name(Arguments&&... all) const {                   \
    guarded_block::open const now(block_);                          \
    return base::template name<S>(std::forward<Arguments>(all)...); \
  }
  HULL_TEST_CALL(read)
  HULL_TEST_CALL(write)
  HULL_TEST_CALL(clear)
  HULL_TEST_CALL(write_rows)
  HULL_TEST_CALL(score_rows)
  HULL_TEST_CALL(start_rows)
  HULL_TEST_CALL(move_rows)
  HULL_TEST_CALL(note_bounds)
  HULL_TEST_CALL(note_pairs)
  HULL_TEST_CALL(load_boxes)
  HULL_TEST_CALL(seed_forms)
  HULL_TEST_CALL(bound_by_intervals)
  HULL_TEST_CALL(minimise)
  HULL_TEST_STEP(forward)
  HULL_TEST_STEP(find_candidates)
  HULL_TEST_STEP(list_gaining)
  HULL_TEST_STEP(seed_candidates)
  HULL_TEST_STEP(seed_nearer)
  HULL_TEST_STEP(seed_opposite)
  HULL_TEST_STEP(seed_neurons)
  HULL_TEST_STEP(name_rows)
  HULL_TEST_STEP(mark_gaining)
  HULL_TEST_STEP(refine)
  HULL_TEST_STEP(refine_nearer)
  HULL_TEST_STEP(gather_candidates)
  HULL_TEST_STEP(relax)
  HULL_TEST_STEP(relax_rows)
  HULL_TEST_STEP(backward)
  HULL_TEST_STEP(step_back)
  HULL_TEST_STEP(collect_free)
  HULL_TEST_STEP(relax_free_rows)
  HULL_TEST_STEP(points)
  HULL_TEST_STEP(climb)
  HULL_TEST_STEP(narrow)
  HULL_TEST_STEP(keep)
  HULL_TEST_STEP(head_bounds)
#undef HULL_TEST_CALL
#undef HULL_TEST_STEP

 private:
  mutable guarded_block block_;
  arena memory_;
  mutable std::vector<double> bounds_;
};

/// For on<> (shard/on.hpp): as a GPU with its host beside it.
struct guarded_backend final {
  template <Network Net, class R, class Member>
  using machine = guarded_machine<Net, R, Member>;
  template <Network Net, class R, class Member>
  using host_machine = cpu::machine<Net, R, Member>;
};

}  // namespace hull::reference
