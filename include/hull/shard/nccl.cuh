// SPDX-License-Identifier: Apache-2.0
// Ranks with a GPU each: NCCL. This header and nccl_parts.cuh are the only ones that need nccl.h.
//
// NCCL has to be told by others who takes part, and does not say who failed. So it starts from another communicator of
// the same ranks (Rendezvous, Mpi) and asks that one, while it waits, whether all are well. What may block in NCCL
// (start, first connections, end) runs on a thread of its own, which is left behind if a rank is lost; then streams are
// polled, and a wait that cannot end is left by ncclCommAbort. (Nonblocking communicators start a thread for every
// operation: 0.1 ms each, where all ranks wait for the slowest.)
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <cuda_runtime.h>
#include <exception>
#include <future>
#include <memory>
#include <nccl.h>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <hull/core/error.hpp>
#include <hull/propagate/share.hpp>
#include <hull/shard/any_communicator.hpp>
#include <hull/shard/communicator.hpp>
#include <hull/shard/launch.hpp>
#include <hull/shard/lost_rank.hpp>
#include <hull/shard/nccl_parts.cuh>
#include <hull/shard/nccl_start.cuh>
#include <hull/shard/rank_on_host.hpp>

namespace hull {

class Nccl final {
 public:
  /// Joins the ranks of `launcher`, which is borrowed; all ranks do so together. Takes the device whose number is the
  /// rank's among those of its host (LOCAL_RANK as launchers set it, else by host name) modulo the number of devices,
  /// and makes it the current device of this thread. Throws hull::error (fault::device) if there is no device, if two
  /// ranks would share one, or if NCCL fails; the others' collectives then throw, too.
  template <Communicator C>
  explicit Nccl(C& launcher) : Nccl(std::make_shared<AnyCommunicator>(launcher), front) {
    try {
      setenv("NCCL_NVLS_ENABLE", "0", 0);     // NVLink multicast: only if the user asks for it
      setenv("NCCL_BUFFSIZE", "1048576", 0);  // of a connection and channel; NCCL's own choice takes gigabytes in all
      std::size_t const counted = rank_on_host(launcher);
      std::size_t local = told_local_rank().value_or(counted);
      if constexpr (requires { launcher.local_rank(); }) local = launcher.local_rank();
      auto const taken = detail::take_device(local);
      device_ = taken.number;
      auto const ids = detail::exchange_ids(*launcher_, taken);
      start(ids[0]);
      background_ = std::unique_ptr<Nccl>(new Nccl(launcher_, back));
      background_->device_ = device_;
      background_->failed_ = failed_;
      background_->start(ids[1]);
    } catch (std::exception const& e) {
      launcher_->fail(e.what());
      throw;
    }
  }
  Nccl(Nccl const&) = delete;
  Nccl& operator=(Nccl const&) = delete;

  /// Waits until all ranks come here, unless one is lost or an exception is on its way.
  ~Nccl() {
    bool const over = !comm_ || !broken_.empty() || (background_ && !background_->comm_) ||
                      std::uncaught_exceptions() > started_with_ || !launcher_->lost().empty();
    if (over) {  // kernels may wait for a rank that is gone: nothing is freed before they end
      if (background_) background_->comm_.reset();
      comm_.reset();
      return;
    }
    background_.reset();
    cudaSetDevice(device_);
    try {
      expect_success(attended("end",
                              [comm = comm_.release()] {
                                ncclResult_t const found = ncclCommFinalize(comm);
                                return found == ncclSuccess ? ncclCommDestroy(comm) : found;
                              }),
                     "end");
    } catch (error const&) {  // it has told the others
    }
  }

  [[nodiscard]] std::size_t rank() const { return rank_; }
  [[nodiscard]] std::size_t size() const { return size_; }

  /// Number of the device; threads that compute with it make it current themselves.
  [[nodiscard]] int device() const { return device_; }

  // Host memory. What is small is read and written by the device where it lies, the rest goes through a buffer of
  // staging_bytes on each side.

  void all_gather(std::byte const* part, std::byte* all, std::size_t bytes) {
    use_device();
    if (bytes * size_ <= small_bytes) {
      std::byte* const own = pinned_.get() + rank_ * bytes;
      std::memcpy(own, part, bytes);
      all_gather_device(own, pinned_.get(), bytes, stream_.get());
      finish(stream_.get());
      std::memcpy(all, pinned_.get(), bytes * size_);
      return;
    }
    std::size_t const most = staging_bytes / size_;
    for (std::size_t done = 0; done < bytes; done += most) {
      std::size_t const now = std::min(most, bytes - done);
      std::byte* const own = staged_.get() + rank_ * now;
      std::memcpy(pinned_.get(), part + done, now);
      check(cudaMemcpyAsync(own, pinned_.get(), now, cudaMemcpyHostToDevice, stream_.get()), "write");
      all_gather_device(own, staged_.get(), now, stream_.get());
      check(cudaMemcpyAsync(pinned_.get(), staged_.get(), now * size_, cudaMemcpyDeviceToHost, stream_.get()), "read");
      finish(stream_.get());
      for (std::size_t r = 0; r < size_; ++r) std::memcpy(all + r * bytes + done, pinned_.get() + r * now, now);
    }
  }

  void sum(float* values, std::size_t count) { add_on_device(values, count); }
  void sum(double* values, std::size_t count) { add_on_device(values, count); }

  [[nodiscard]] unsigned any(unsigned bits) { return gathered_bits(*this, bits); }

  void fail(std::string const& why) {
    if (broken_.empty()) broken_ = why;
    *failed_ = true;
    launcher_->fail(why);
  }

  [[nodiscard]] std::string lost() const { return launcher_->lost(); }

  /// With an ncclComm_t and a stream of its own, which goes before others. Not two first sums at a time.
  [[nodiscard]] Nccl& background() { return background_ ? *background_ : *this; }

  // Device memory: see DeviceCommunicator.

  /// In place where part == all + rank * bytes. Receives (P - 1) bytes parts.
  void all_gather_device(std::byte const* part, std::byte* all, std::size_t bytes, cudaStream_t stream) {
    together("all_gather", [&] { return ncclAllGather(part, all, bytes, ncclInt8, comm_.get(), stream); });
  }

  /// Each rank adds up its part of the values, in the order of ranks, so that all get the same bits. Receives
  /// 2 (P - 1) / P of the values.
  void sum_device(float* values, std::size_t count, cudaStream_t stream) { add(values, count, ncclFloat32, stream); }
  void sum_device(double* values, std::size_t count, cudaStream_t stream) { add(values, count, ncclFloat64, stream); }

  void finish(cudaStream_t stream) {
    for (std::size_t looks = 0;; ++looks) {
      cudaError_t const found = cudaStreamQuery(stream);
      if (found == cudaSuccess) return;
      if (found != cudaErrorNotReady) check(found, "a kernel");
      cudaGetLastError();  // else the next check of a launch would take it for an error
      if (looks % looks_between_checks == looks_between_checks - 1) look_after_others();
      std::this_thread::yield();
    }
  }

 private:
  using clock = std::chrono::steady_clock;
  enum place { front, back };
  static constexpr std::size_t staging_bytes = std::size_t{4} << 20;
  static constexpr std::size_t small_bytes = std::size_t{64} << 10;
  static constexpr int most_blocks = 16;  // of NCCL's kernels: more take memory and processors, and are hardly faster
  static constexpr std::size_t looks_between_checks = 256;  // asking NCCL and the launcher costs more than the stream

  Nccl(std::shared_ptr<AnyCommunicator> launcher, place where)
      : launcher_(std::move(launcher)), rank_(launcher_->rank()), size_(launcher_->size()), where_(where) {}

  void start(ncclUniqueId const& id) {
    int least = 0, greatest = 0;
    check(cudaDeviceGetStreamPriorityRange(&least, &greatest), "priorities");
    cudaStream_t stream = nullptr;
    check(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, where_ == back ? greatest : 0), "stream");
    stream_.reset(stream);
    cudaEvent_t event = nullptr;
    check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "event");
    parts_read_.reset(event);
    for (auto const& [block, bytes] : {std::pair(&staged_, staging_bytes), std::pair(&parts_, sum_bytes_)}) {
      void* memory = nullptr;
      check(cudaMalloc(&memory, bytes), "device memory for messages");
      block->reset(static_cast<std::byte*>(memory));
    }
    void* memory = nullptr;
    check(cudaMallocHost(&memory, staging_bytes), "page-locked memory for messages");
    pinned_.reset(static_cast<std::byte*>(memory));

    auto const state = std::make_shared<ncclComm_t>(nullptr);
    ncclResult_t const found = attended(
        "start",
        [=, stream = stream_.get(), values = reinterpret_cast<float*>(staged_.get()), rank = static_cast<int>(rank_),
         size = static_cast<int>(size_), device = device_] {
          cudaSetDevice(device);
          ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
          config.maxCTAs = most_blocks;
          ncclResult_t result = ncclCommInitRankConfig(state.get(), size, id, rank, &config);
          for (int const count : {1, static_cast<int>(staging_bytes / sizeof(float)) / size}) {
            if (result != ncclSuccess) break;
            result = ncclAllGather(values + rank * count, values, static_cast<std::size_t>(count), ncclFloat32, *state,
                                   stream);
          }
          return result;
        },
        10 * patience());
    comm_.reset(*state);
    expect_success(found, "start");
    finish(stream_.get());
  }

  /// Connects all pairs, as only sums need. Takes memory: no collectives of another thread should be under way.
  void connect_pairs() {
    if (std::exchange(pairs_connected_, true) || size_ == 1) return;
    expect_success(
        attended("connections for sums",
                 [comm = comm_.get(), stream = stream_.get(), rank = static_cast<int>(rank_),
                  values = reinterpret_cast<float*>(parts_.get()), size = static_cast<int>(size_), device = device_] {
                   cudaSetDevice(device);
                   ncclGroupStart();
                   for (int r = 0; r < size; ++r) {
                     if (r == rank) continue;
                     ncclSend(values + rank, 1, ncclFloat32, r, comm, stream);
                     ncclRecv(values + size + r, 1, ncclFloat32, r, comm, stream);
                   }
                   return ncclGroupEnd();
                 }),
        "connections for sums");
  }

  /// Runs `calls`, which may wait for other ranks inside NCCL, on a thread of its own. Throws hull::error, and leaves
  /// the thread behind with all that it uses, if a rank is lost, or after `limit` seconds (0: none).
  template <class Calls>
  ncclResult_t attended(char const* what, Calls calls, double limit = 0) {
    std::packaged_task<ncclResult_t()> task(std::move(calls));
    auto result = task.get_future();
    std::thread(std::move(task)).detach();
    auto const begin = clock::now();
    while (result.wait_for(std::chrono::milliseconds(1)) != std::future_status::ready) {
      std::string const why = launcher_->lost();
      bool const late = limit > 0 && std::chrono::duration<double>(clock::now() - begin).count() > limit;
      if (why.empty() && !late) continue;
      static_cast<void>(stream_.release());
      static_cast<void>(staged_.release());
      static_cast<void>(parts_.release());
      if (!why.empty()) give_up(why);
      give_up_here(std::string("NCCL: ") + what + ": ranks have not connected for " +
                   std::to_string(static_cast<long>(limit)) + " seconds");
    }
    return result.get();
  }

  void use_device() {
    if (!broken_.empty()) throw error(broken_, fault::device);
    check(cudaSetDevice(device_), "device");
  }

  template <class T>
  void add_on_device(T* values, std::size_t count) {
    use_device();
    if (count * sizeof(T) <= small_bytes) {
      auto* const here = reinterpret_cast<T*>(pinned_.get());
      std::copy_n(values, count, here);
      sum_device(here, count, stream_.get());
      finish(stream_.get());
      std::copy_n(here, count, values);
      return;
    }
    std::size_t const most = staging_bytes / sizeof(T);
    auto* const staged = reinterpret_cast<T*>(staged_.get());
    for (std::size_t done = 0; done < count; done += most) {
      std::size_t const now = std::min(most, count - done), bytes = now * sizeof(T);
      std::memcpy(pinned_.get(), values + done, bytes);
      check(cudaMemcpyAsync(staged, pinned_.get(), bytes, cudaMemcpyHostToDevice, stream_.get()), "write");
      sum_device(staged, now, stream_.get());
      check(cudaMemcpyAsync(pinned_.get(), staged, bytes, cudaMemcpyDeviceToHost, stream_.get()), "read");
      finish(stream_.get());
      std::memcpy(values + done, pinned_.get(), bytes);
    }
  }

  template <class T>
  void add(T* values, std::size_t count, ncclDataType_t type, cudaStream_t stream) {
    use_device();
    connect_pairs();
    check(cudaStreamWaitEvent(stream, parts_read_.get()), "sum");  // of an earlier sum, on whatever stream
    auto* const parts = reinterpret_cast<T*>(parts_.get());
    std::size_t const most = sum_bytes_ / sizeof(T) / size_ * size_;
    for (std::size_t done = 0; done < count; done += most) {
      std::size_t const now = std::min(most, count - done);
      T* const at = values + done;
      row_range const mine = share_of(now, rank_, size_);
      exchange(
          type, stream,
          [&](std::size_t r) { return std::pair(at + share_of(now, r, size_).first, share_of(now, r, size_).size()); },
          [&](std::size_t r) { return std::pair(parts + r * mine.size(), mine.size()); });
      if (mine.size() > 0) {
        constexpr unsigned threads = 256;
        auto const blocks = static_cast<unsigned>(std::min<std::size_t>(1024, (mine.size() + threads - 1) / threads));
        detail::add_in_order_kernel<<<blocks, threads, 0, stream>>>(at + mine.first, parts, mine.size(), rank_, size_);
        check(cudaGetLastError(), "sum");
      }
      exchange(
          type, stream, [&](std::size_t) { return std::pair(at + mine.first, mine.size()); },
          [&](std::size_t r) { return std::pair(at + share_of(now, r, size_).first, share_of(now, r, size_).size()); });
    }
    check(cudaEventRecord(parts_read_.get(), stream), "sum");
  }

  /// Sends to[r] to every other rank and receives from[r]: pairs of a pointer and a count.
  template <class To, class From>
  void exchange(ncclDataType_t type, cudaStream_t stream, To&& to, From&& from) {
    together("sum", [&] {
      ncclResult_t found = ncclSuccess;
      for (std::size_t r = 0; r < size_ && found == ncclSuccess; ++r) {
        auto const [out, sent] = to(r);
        auto const [in, received] = from(r);
        int const other = static_cast<int>(r);
        if (r == rank_) continue;
        if (sent > 0) found = ncclSend(out, sent, type, other, comm_.get(), stream);
        if (found == ncclSuccess && received > 0) found = ncclRecv(in, received, type, other, comm_.get(), stream);
      }
      return found;
    });
  }

  /// Enqueues what `calls` asks of NCCL as one operation.
  template <class Calls>
  void together(char const* what, Calls&& calls) {
    use_device();
    expect_success(ncclGroupStart(), what);
    ncclResult_t const asked = calls();
    ncclResult_t const enqueued = ncclGroupEnd();
    expect_success(asked == ncclSuccess ? enqueued : asked, what);
  }

  void look_after_others() {
    if (std::string const why = launcher_->lost(); !why.empty()) give_up(why);
    if (*failed_) give_up(broken_.empty() ? "another collective of this rank has failed" : broken_);
    for (Nccl* one : {this, background_.get()}) {  // streams wait for each other
      if (one == nullptr || !one->comm_) continue;
      ncclResult_t state = ncclSuccess;
      expect_success(ncclCommGetAsyncError(one->comm_.get(), &state), "asynchronous error");
      expect_success(state, "asynchronous error");
    }
  }

  void expect_success(ncclResult_t found, char const* what) {
    if (found == ncclSuccess || found == ncclInProgress) return;
    bool const may_be_others = found == ncclRemoteError || found == ncclSystemError || found == ncclInternalError;
    char const* const detail = ncclGetLastError(comm_.get());
    std::string const why = std::string("NCCL: ") + what + ": " + ncclGetErrorString(found) +
                            (detail == nullptr || *detail == '\0' ? "" : std::string("; ") + detail);
    auto const end = clock::now() + std::chrono::duration<double>(may_be_others ? patience() : 0);
    for (; clock::now() < end; std::this_thread::sleep_for(std::chrono::milliseconds(10))) {
      if (std::string const lost = launcher_->lost(); !lost.empty()) give_up(lost);
    }
    give_up_here(why);
  }

  void check(cudaError_t found, char const* what) {
    if (found == cudaSuccess) return;
    give_up_here(std::string("CUDA: ") + what + ": " + cudaGetErrorString(found));
  }

  /// This rank is the one that failed.
  [[noreturn]] void give_up_here(std::string const& why) {
    launcher_->fail(why);
    give_up("rank " + std::to_string(rank_) + ": " + why);
  }
  [[noreturn]] void give_up(std::string const& why) {
    broken_ = why;
    *failed_ = true;
    comm_.reset();  // ends its kernels, which may wait for a rank that is gone
    throw error(why, fault::device);
  }

  std::shared_ptr<AnyCommunicator> launcher_;
  std::size_t rank_, size_;
  place where_;
  std::size_t sum_bytes_ = where_ == front ? std::size_t{16} << 20 : staging_bytes;  // of values added up at a time
  int device_ = 0;
  int started_with_ = std::uncaught_exceptions();
  std::string broken_;  // why it cannot be used any more
  std::shared_ptr<std::atomic<bool>> failed_ = std::make_shared<std::atomic<bool>>(false);  // this rank, with whichever
  bool pairs_connected_ = false;
  detail::nccl_stream stream_;
  detail::nccl_event parts_read_;
  detail::nccl_memory staged_, parts_;
  detail::nccl_pinned pinned_;
  detail::nccl_comm comm_;
  std::unique_ptr<Nccl> background_;
};

static_assert(Communicator<Nccl> && DeviceCommunicator<Nccl, cudaStream_t>);

}  // namespace hull
