// SPDX-License-Identifier: Apache-2.0
// What every file of this backend needs: errors, one device with one stream, and its small change: counters on the
// device and a page-locked buffer on the host through which numbers come and go.
#pragma once

#ifndef __CUDACC__
#error "hull: backend/cuda needs nvcc; a host compiler takes backend/cpu"
#endif

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <cuda_runtime.h>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <hull/core/error.hpp>
#include <hull/propagate/state.hpp>

namespace hull::cuda {

/// What a user of a program without code for this device can do about it.
[[nodiscard]] inline std::string no_code_advice() {
  int number = 0, major = 0, minor = 0;
  cudaGetDevice(&number);
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, number);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, number);
  return "; it was not compiled for compute capability " + std::to_string(major) + "." + std::to_string(minor) +
         ", which CMAKE_CUDA_ARCHITECTURES or HULL_CUDA_ARCH has to name";
}

/// Throws hull::error (fault::device) that names what failed. What ends one call and not the context is forgotten: else
/// the check of the next launch would find it again.
inline void check(cudaError_t found, char const* what) {
  if (found == cudaSuccess) return;
  cudaGetLastError();
  bool const no_code = found == cudaErrorNoKernelImageForDevice || found == cudaErrorInvalidDeviceFunction;
  throw error(std::string("CUDA: ") + what + ": " + cudaGetErrorString(found) + (no_code ? no_code_advice() : ""),
              fault::device);
}

/// After a launch: bad configurations, and kernels that were not compiled for this device. Kernels fail later, and then
/// device::finish() tells; with CUDA_LAUNCH_BLOCKING=1 they do here, under their name.
inline void check_launch(char const* kernel) { check(cudaGetLastError(), kernel); }

inline constexpr unsigned warp = 32;

/// Blocks of `size` threads for `count` threads, at least one.
[[nodiscard]] constexpr unsigned blocks_for(std::size_t count, std::size_t size) {
  return static_cast<unsigned>(std::max<std::size_t>(1, (count + size - 1) / size));
}

[[nodiscard]] inline std::size_t processors_of_device() {
  int number = 0, count = 0;
  check(cudaGetDevice(&number), "current device");
  check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, number), "multiprocessors");
  return static_cast<std::size_t>(count);
}

/// What the driver has given out of the current device's memory, to whomever; 0 without a device.
[[nodiscard]] inline std::size_t driver_bytes() {
  std::size_t free = 0, total = 0;
  if (cudaMemGetInfo(&free, &total) == cudaSuccess) return total - free;
  cudaGetLastError();  // else the next check would find it again; a machine says what is wrong with the device
  return 0;
}

/// Lets a kernel take this much dynamic shared memory on the current device; to be called before each launch. Throws
/// hull::error where the device has less. What was allowed is kept by address, not in a variable beside the launch: a
/// template's kernel exists once in each translation unit, such a variable once in the program.
template <class Kernel>
void allow_shared(Kernel* kernel, std::size_t bytes) {
  thread_local std::vector<std::pair<void const*, int>> allowed;
  int number = 0;
  check(cudaGetDevice(&number), "current device");
  std::pair<void const*, int> const here(reinterpret_cast<void const*>(kernel), number);
  if (std::find(allowed.begin(), allowed.end(), here) != allowed.end()) return;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
        "shared memory of a block");
  allowed.push_back(here);
}

/// Frees memory of the device.
struct device_free final {
  void operator()(void* block) const { cudaFree(block); }
};
struct pinned_free final {
  void operator()(void* block) const { cudaFreeHost(block); }
};

template <class T>
using device_block = std::unique_ptr<T[], device_free>;

/// Memory of the device for `count` objects. Throws hull::error if there is not so much.
template <class T>
[[nodiscard]] device_block<T> allocate(std::size_t count) {
  void* block = nullptr;
  std::size_t const bytes = std::max<std::size_t>(1, count) * sizeof(T);
  check(cudaMalloc(&block, bytes), (std::to_string(bytes >> 20) + " MiB of device memory").c_str());
  return device_block<T>(static_cast<T*>(block));
}

/// A point in the work of a stream that others wait for.
class event final {
 public:
  event() { check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "event"); }
  event(event const&) = delete;
  event& operator=(event const&) = delete;
  ~event() { cudaEventDestroy(event_); }

  void record(cudaStream_t stream) const { check(cudaEventRecord(event_, stream), "event"); }
  /// What `stream` gets to do from now on waits for what was recorded last, if anything was.
  void awaited_by(cudaStream_t stream) const { check(cudaStreamWaitEvent(stream, event_), "event"); }

 private:
  cudaEvent_t event_ = nullptr;
};

/// A stream whose work goes before that of others.
class urgent_stream final {
 public:
  urgent_stream() {
    int least = 0, greatest = 0;
    check(cudaDeviceGetStreamPriorityRange(&least, &greatest), "priorities");
    check(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, greatest), "stream");
  }
  urgent_stream(urgent_stream const&) = delete;
  urgent_stream& operator=(urgent_stream const&) = delete;
  ~urgent_stream() { cudaStreamDestroy(stream_); }

  [[nodiscard]] cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

/// The current device, a stream of its own, and the way to and from it. Not copied; a machine has one.
class device final {
 public:
  static constexpr std::size_t mail_bytes = std::size_t{1} << 20;
  static constexpr std::size_t staged_bytes = 4 * mail_bytes;  // on their way to the device, while the host goes on

  /// `counters`: how many there will be. Throws hull::error if there is no device that can run this program.
  explicit device(std::size_t counters) {
    int count = 0;
    cudaError_t const found = cudaGetDeviceCount(&count);
    if (found != cudaSuccess || count == 0) {
      throw error(std::string("CUDA: no device: ") + cudaGetErrorString(found), fault::device);
    }
    int number = 0, major = 0;
    check(cudaGetDevice(&number), "current device");
    check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, number), "compute capability");
    if (major < 8) {
      throw error("CUDA: compute capability " + std::to_string(major) + ".x; 8.0 is the least", fault::device);
    }
    processors_ = processors_of_device();
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream");
    counters_ = allocate<index_t>(counters);
    mail_ = allocate<std::byte>(mail_bytes);
    void* block = nullptr;
    check(cudaMallocHost(&block, mail_bytes + staged_bytes), "page-locked memory");
    pinned_.reset(static_cast<std::byte*>(block));
  }
  device(device const&) = delete;
  device& operator=(device const&) = delete;
  ~device() {
    cudaStreamSynchronize(stream_);
    cudaStreamDestroy(stream_);
  }

  [[nodiscard]] cudaStream_t stream() const { return stream_; }
  [[nodiscard]] std::size_t processors() const { return processors_; }

  /// Waits for all work. Throws hull::error if a kernel failed.
  void finish() const {
    if (wait_) {
      wait_(stream_);
    } else {
      check(cudaStreamSynchronize(stream_), "a kernel");
    }
  }
  /// From now on work is waited for like this: collectives with a rank that is gone never end.
  void wait_by(std::function<void(cudaStream_t)> wait) { wait_ = std::move(wait); }

  /// Counter number i, on the device. They lie side by side.
  [[nodiscard]] index_t* counter(std::size_t i) const { return counters_.get() + i; }

  /// Copies to the host and waits: after it, all earlier work is done.
  template <class T>
  void read(T* to, T const* from, std::size_t count) const {
    for (std::size_t done = 0; done < count; done += mail_bytes / sizeof(T)) {
      std::size_t const now = std::min(mail_bytes / sizeof(T), count - done);
      std::memcpy(to + done, receive(from + done, now), now * sizeof(T));
    }
  }
  /// The same for at most mail_bytes, which the next reader overwrites.
  template <class T>
  [[nodiscard]] T const* receive(T const* from, std::size_t count) const {
    check(cudaMemcpyAsync(pinned_.get(), from, count * sizeof(T), cudaMemcpyDeviceToHost, stream_), "read");
    finish();
    written_ = 0;
    return reinterpret_cast<T const*>(pinned_.get());
  }
  /// Copies to the device; when it returns, `from` may change, though the copy may still be under way.
  template <class T>
  void write(T* to, T const* from, std::size_t count) const {
    for (std::size_t done = 0; done < count;) {
      std::byte* const place = stage(sizeof(T));
      // one piece is filled while another travels
      std::size_t const now =
          std::min({(staged_bytes - written_) / sizeof(T), mail_bytes / 2 / sizeof(T), count - done});
      std::memcpy(place, from + done, now * sizeof(T));
      send(to + done, now * sizeof(T));
      done += now;
    }
  }
  /// Page-locked room for `bytes` <= staged_bytes, to be filled and sent: spares a copy where numbers come from many
  /// places. Waits if earlier copies still read all of it.
  [[nodiscard]] std::byte* stage(std::size_t bytes) const {
    if (staged_bytes - written_ < bytes) {
      finish();
      written_ = 0;
    }
    return pinned_.get() + mail_bytes + written_;
  }
  /// Copies what stage() has been filled with to the device. As write().
  void send(void* to, std::size_t bytes) const {
    std::byte const* const place = pinned_.get() + mail_bytes + written_;
    check(cudaMemcpyAsync(to, place, bytes, cudaMemcpyHostToDevice, stream_), "write");
    written_ = std::min(written_ + (bytes + 63) / 64 * 64, staged_bytes);
  }
  template <class T>
  void clear(T* to, std::size_t count) const {
    if (count > 0) check(cudaMemsetAsync(to, 0, count * sizeof(T), stream_), "clear");
  }

  /// Room on the device for numbers that one kernel reads. The next user overwrites it.
  [[nodiscard]] std::byte* mail() const { return mail_.get(); }

 private:
  cudaStream_t stream_ = nullptr;
  std::function<void(cudaStream_t)> wait_;
  std::size_t processors_ = 0;
  device_block<index_t> counters_;
  device_block<std::byte> mail_;
  std::unique_ptr<std::byte, pinned_free> pinned_;  // mail_bytes for what is read, staged_bytes for what is written
  mutable std::size_t written_ = 0;                 // bytes of the latter which copies may still read
};

}  // namespace hull::cuda
