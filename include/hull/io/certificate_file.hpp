// SPDX-License-Identifier: Apache-2.0
// Certificates as files: gzip, and inside
//
//   8 bytes   "hullcert"
//   u32       version, 1
//   u32, bytes  length of the version of hull that wrote it, that version
//   u64 u64   hash of the model, hash of the specification's text
//   u32       sets of hints, each:  u32 parameters, each: u32 node, u32 element
//                                   u32 rows, each: u32 node, u32 element, u8 upper, u32 slopes, f32...
//   u32       disjuncts, each:      u32 number of its hints or 2^32 - 1, then its tree from the root, children behind
//                                   their parent, the first with all its descendants before the second:
//     u8 1    leaf          u32 constraint, u32 slopes, f32..., u32 multipliers, f32...
//     u8 2    input split   u32 coordinate, f64 plane
//     u8 3    kink split    u32 node, u32 element
//   u64       hash of all bytes before it
// All numbers are little-endian, hashes are FNV-1a. docs/certificates.md says what they mean.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>
#include <zlib.h>

#include <hull/core/config.hpp>
#include <hull/core/error.hpp>
#include <hull/io/emit.hpp>
#include <hull/io/file.hpp>
#include <hull/io/model.hpp>
#include <hull/search/certificate.hpp>

namespace hull::io {

/// What a certificate file says it is about.
struct certificate_subject final {
  std::uint64_t model = 0;
  std::uint64_t specification = 0;

  [[nodiscard]] friend bool operator==(certificate_subject const&, certificate_subject const&) = default;
};

namespace certificate_format {

static_assert(std::endian::native == std::endian::little, "hull: certificates are written as memory holds them");

inline constexpr std::string_view magic = "hullcert";
inline constexpr std::uint32_t version = 1;
inline constexpr std::uint64_t largest = std::uint64_t{2} << 30;  // bytes, unpacked

[[nodiscard]] inline std::uint64_t fnv(std::string_view bytes, std::uint64_t hash = 0xcbf29ce484222325u) {
  for (char const c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

class writer final {
 public:
  template <class Number>
  void put(Number x) {
    bytes_.append(reinterpret_cast<char const*>(&x), sizeof x);
  }
  void count(std::size_t n) { put(static_cast<std::uint32_t>(n)); }
  void text(std::string_view t) { bytes_.append(t); }
  void floats(std::vector<float> const& values) {
    count(values.size());
    for (float const x : values) put(x);
  }
  [[nodiscard]] std::string const& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

/// Every read is checked, and nothing is allocated that the rest of the file could not fill.
class reader final {
 public:
  reader(std::string_view bytes, std::string source) : bytes_(bytes), source_(std::move(source)) {}

  [[noreturn]] void refuse(std::string const& sentence) const { throw error(source_ + ": " + sentence); }

  [[nodiscard]] std::string_view text(std::size_t n) {
    if (n > bytes_.size()) refuse("ends too early; it is damaged");
    auto const part = bytes_.substr(0, n);
    bytes_.remove_prefix(n);
    return part;
  }
  template <class Number>
  [[nodiscard]] Number number() {
    Number x{};
    std::memcpy(&x, text(sizeof x).data(), sizeof x);
    return x;
  }
  /// A count of things that take at least `each` bytes.
  [[nodiscard]] std::size_t count(std::size_t each) {
    auto const n = number<std::uint32_t>();
    if (n > bytes_.size() / each) refuse("ends too early; it is damaged");
    return n;
  }
  [[nodiscard]] std::vector<float> floats() {
    std::vector<float> values(count(sizeof(float)));
    for (float& x : values) x = number<float>();
    return values;
  }
  [[nodiscard]] bool at_end() const { return bytes_.empty(); }

 private:
  std::string_view bytes_;
  std::string source_;
};

inline void put_tree(writer& out, proof_tree const& tree) {
  std::vector<std::uint32_t> open{proof_tree::root};
  while (!open.empty()) {
    proof_node const& node = tree.nodes()[open.back()];
    open.pop_back();
    expect(node.what != proof_node::kind::open, "hull::io: a certificate has a part without proof");
    out.put(static_cast<std::uint8_t>(node.what));
    out.put(node.number);
    if (node.what == proof_node::kind::refuted) {
      out.floats(node.alpha);
      out.floats(node.beta);
      continue;
    }
    if (node.what == proof_node::kind::input_split) {
      out.put(node.plane);
    } else {
      out.put(node.element);
    }
    open.push_back(node.children + 1);
    open.push_back(node.children);
  }
}

[[nodiscard]] inline proof_tree get_tree(reader& in) {
  proof_tree tree;
  std::vector<std::uint32_t> open{proof_tree::root};
  while (!open.empty()) {
    std::uint32_t const at = open.back();
    open.pop_back();
    auto const what = in.number<std::uint8_t>();
    auto const number = in.number<std::uint32_t>();
    std::uint32_t children = 0;
    switch (static_cast<proof_node::kind>(what)) {
      case proof_node::kind::refuted: {
        auto const alpha = in.floats(), beta = in.floats();
        tree.refute(at, number, alpha, beta);
        continue;
      }
      case proof_node::kind::input_split:
        children = tree.split_input(at, number, in.number<double>());
        break;
      case proof_node::kind::kink_split:
        children = tree.split_kink(at, {number, in.number<std::uint32_t>()});
        break;
      default:
        in.refuse("has a node of a kind that is not known; it is damaged");
    }
    open.push_back(children + 1);
    open.push_back(children);
  }
  return tree;
}

[[nodiscard]] inline std::string gzip(std::string const& bytes) {
  z_stream stream{};
  constexpr int gzip_header = 16 + MAX_WBITS;
  expect(deflateInit2(&stream, 6, Z_DEFLATED, gzip_header, 9, Z_DEFAULT_STRATEGY) == Z_OK, "zlib: cannot be started");
  std::string packed, room(std::size_t{1} << 18, '\0');
  std::string_view rest = bytes;
  for (int status = Z_OK; status != Z_STREAM_END;) {
    auto const part = rest.substr(0, std::size_t{1} << 30);
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(part.data()));
    stream.avail_in = static_cast<uInt>(part.size());
    stream.next_out = reinterpret_cast<Bytef*>(room.data());
    stream.avail_out = static_cast<uInt>(room.size());
    status = deflate(&stream, part.size() == rest.size() ? Z_FINISH : Z_NO_FLUSH);
    rest.remove_prefix(part.size() - stream.avail_in);
    packed.append(room, 0, room.size() - stream.avail_out);
  }
  deflateEnd(&stream);
  return packed;
}

}  // namespace certificate_format

/// Of the architecture and every number of the model; of the text of the specification.
[[nodiscard]] inline certificate_subject subject_of(model const& m, std::string_view specification_text) {
  using namespace certificate_format;
  writer all;
  all.text(emit_header(m));
  for (auto const& [name, t] : m.parameters) {
    all.count(name.size());
    all.text(name);
    all.put(static_cast<std::uint8_t>(t.rounded));
    all.count(t.shape.size());
    for (auto const d : t.shape) all.put(static_cast<std::uint64_t>(d));
    all.floats(t.values);
  }
  return {fnv(all.bytes()), fnv(specification_text)};
}

/// The content of a certificate file, not packed. Throws hull::error if a tree is not complete.
[[nodiscard]] inline std::string certificate_bytes(certificate const& proof, certificate_subject const& subject) {
  using namespace certificate_format;
  writer out;
  out.text(magic);
  out.put(version);
  out.count(hull::version.size());
  out.text(hull::version);
  out.put(subject.model);
  out.put(subject.specification);
  out.count(proof.hints.size());
  for (proof_hints const& hints : proof.hints) {
    out.count(hints.parameters.size());
    for (kink const& k : hints.parameters) {
      out.put(k.node);
      out.put(k.element);
    }
    out.count(hints.rows.size());
    for (hint_row const& row : hints.rows) {
      out.put(row.node);
      out.put(row.element);
      out.put(static_cast<std::uint8_t>(row.upper));
      out.floats(row.alpha);
    }
  }
  out.count(proof.disjuncts.size());
  for (disjunct_proof const& one : proof.disjuncts) {
    out.put(one.hints);
    put_tree(out, one.tree);
  }
  out.put(fnv(out.bytes()));
  return out.bytes();
}

/// Throws hull::error, with `source` in front, unless the bytes hold one whole certificate about `subject`. That all
/// numbers in it make sense is for the checker to see.
[[nodiscard]] inline certificate read_certificate(std::string_view bytes, std::string const& source,
                                                  certificate_subject const& subject) {
  using namespace certificate_format;
  reader in(bytes, source);
  if (in.text(std::min(magic.size(), bytes.size())) != magic) in.refuse("is not a certificate of hull");
  auto const found = in.number<std::uint32_t>();
  if (found != version) in.refuse("has version " + std::to_string(found) + ", expected " + std::to_string(version));
  if (bytes.size() < magic.size() + 12) in.refuse("ends too early; it is damaged");
  auto const body = bytes.substr(0, bytes.size() - sizeof(std::uint64_t));
  std::uint64_t sum = 0;
  std::memcpy(&sum, bytes.data() + body.size(), sizeof sum);
  if (sum != fnv(body)) in.refuse("does not add up to its own sum; it is damaged");
  static_cast<void>(in.text(in.count(1)));
  certificate_subject about;
  about.model = in.number<std::uint64_t>();
  about.specification = in.number<std::uint64_t>();
  if (about.model != subject.model) in.refuse("is about another model");
  if (about.specification != subject.specification) in.refuse("is about another specification");
  certificate proof;
  proof.hints.resize(in.count(8));
  for (proof_hints& hints : proof.hints) {
    hints.parameters.resize(in.count(8));
    for (kink& k : hints.parameters) {
      k.node = in.number<std::uint32_t>();
      k.element = in.number<std::uint32_t>();
    }
    hints.rows.resize(in.count(13));
    for (hint_row& row : hints.rows) {
      row.node = in.number<std::uint32_t>();
      row.element = in.number<std::uint32_t>();
      auto const side = in.number<std::uint8_t>();
      if (side > 1) in.refuse("has a row for neither side; it is damaged");
      row.upper = side == 1;
      row.alpha = in.floats();
    }
  }
  proof.disjuncts.resize(in.count(9));
  for (disjunct_proof& one : proof.disjuncts) {
    one.hints = in.number<std::uint32_t>();
    one.tree = get_tree(in);
  }
  static_cast<void>(in.number<std::uint64_t>());
  if (!in.at_end()) in.refuse("goes on after its end; it is damaged");
  return proof;
}

/// Written under another name first, so that nobody ever reads half of it.
inline void save_certificate(std::filesystem::path const& path, certificate const& proof,
                             certificate_subject const& subject) {
  auto part = path;
  part += ".part";
  std::ofstream out(part, std::ios::binary | std::ios::trunc);
  expect(out.is_open(), path.string() + ": cannot be written");
  out << certificate_format::gzip(certificate_bytes(proof, subject));
  out.close();
  expect(out.good(), path.string() + ": cannot be written");
  std::error_code failure;
  std::filesystem::rename(part, path, failure);
  expect(!failure, path.string() + ": cannot be written: " + failure.message());
}

[[nodiscard]] inline certificate load_certificate(std::filesystem::path const& path,
                                                  certificate_subject const& subject) {
  return read_certificate(read_file(path, certificate_format::largest), path.string(), subject);
}

}  // namespace hull::io
