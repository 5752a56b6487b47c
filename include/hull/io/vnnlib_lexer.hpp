// SPDX-License-Identifier: Apache-2.0
// The tokens of a VNN-LIB file, and the messages that point into it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <hull/core/error.hpp>
#include <hull/io/vnnlib_number.hpp>

namespace hull::io::vnnlib {

enum class token_kind : std::uint8_t { open, close, symbol, number, quoted, end };

struct token {
  token_kind kind = token_kind::end;
  std::string_view text;
  std::size_t position = 0;  // byte in the file

  [[nodiscard]] bool is(std::string_view symbol) const { return kind == token_kind::symbol && text == symbol; }
};

/// Cuts VNN-LIB text into tokens, one ahead. Borrows the text. Cost: linear.
class lexer {
 public:
  lexer(std::string_view text, std::string_view source) : text_(text), source_(source) {
    if (text_.substr(0, 3) == "\xef\xbb\xbf") at_ = 3;  // the mark that some editors put before UTF-8
    ahead_ = scan();
  }

  [[nodiscard]] token const& peek() const { return ahead_; }

  token next() {
    auto const current = ahead_;
    if (current.kind != token_kind::end) ahead_ = scan();
    return current;
  }

  /// Takes the next token if it is a closing parenthesis.
  bool take_close() {
    bool const found = ahead_.kind == token_kind::close;
    if (found) next();
    return found;
  }

  token expect(token_kind kind, std::string_view what) {
    if (ahead_.kind != kind) fail_found(ahead_, what);
    return next();
  }

  void expect_close() { expect(token_kind::close, "')'"); }

  /// Throws "file:line:column: sentence". Lines and columns (in bytes) count from 1.
  [[noreturn]] void fail(std::size_t position, std::string_view sentence) const {
    auto const before = text_.substr(0, position);
    auto const line = 1 + std::count(before.begin(), before.end(), '\n');
    auto const column = position - (before.rfind('\n') + 1) + 1;  // npos + 1 is 0
    throw error(source_ + ":" + std::to_string(line) + ":" + std::to_string(column) + ": " + std::string(sentence));
  }

  [[noreturn]] void fail_found(token const& found, std::string_view expected) const {
    fail(found.position, "found " + describe(found) + ", expected " + std::string(expected));
  }

 private:
  static constexpr std::size_t longest_number = 1024;

  static std::string describe(token const& found) {
    constexpr std::size_t shown = 40;
    if (found.kind == token_kind::end) return "the end of the file";
    auto text = "'" + std::string(found.text.substr(0, shown)) + (found.text.size() > shown ? "...'" : "'");
    for (auto& c : text) {  // a quoted token may hold line breaks
      if (c < ' ' || c > '~') c = '?';
    }
    return text;
  }

  static bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f' || c == '\v'; }
  static bool ends_symbol(char c) { return is_space(c) || c == '(' || c == ')' || c == ';' || c == '"' || c == '|'; }

  void skip_blanks() {
    while (at_ < text_.size()) {
      if (text_[at_] == ';') {
        at_ = std::min(text_.find('\n', at_), text_.size());
      } else if (is_space(text_[at_])) {
        ++at_;
      } else {
        return;
      }
    }
  }

  token scan() {
    skip_blanks();
    if (at_ == text_.size()) return {token_kind::end, {}, at_};
    switch (text_[at_]) {
      case '(':
        return cut(token_kind::open, 1);
      case ')':
        return cut(token_kind::close, 1);
      case '"':
      case '|':
        return scan_quoted();
      default:
        return scan_word();
    }
  }

  token scan_quoted() {
    auto const end = text_.find(text_[at_], at_ + 1);
    if (end == std::string_view::npos) {
      fail(at_, "found a quotation that does not end, expected a second " + std::string(1, text_[at_]));
    }
    return cut(token_kind::quoted, end + 1 - at_);
  }

  token scan_word() {
    auto end = at_;
    for (; end < text_.size() && !ends_symbol(text_[end]); ++end) {
      if (text_[end] <= ' ' || text_[end] > '~') {
        fail(end,
             "found byte " + std::to_string(static_cast<unsigned char>(text_[end])) + ", expected printable ASCII");
      }
    }
    auto const word = cut(token_kind::symbol, end - at_);
    return starts_number(word.text) ? as_number(word) : word;
  }

  static bool starts_number(std::string_view word) {
    if (word.front() == '+' || word.front() == '-') word.remove_prefix(1);
    return !word.empty() && (is_digit(word.front()) || word.front() == '.');
  }

  [[nodiscard]] token as_number(token word) const {
    if (word.text.size() > longest_number) {
      fail(word.position, "found a number of " + std::to_string(word.text.size()) + " characters, expected at most " +
                              std::to_string(longest_number));
    }
    word.kind = token_kind::number;
    return word;
  }

  token cut(token_kind kind, std::size_t length) {
    token const result{kind, text_.substr(at_, length), at_};
    at_ += length;
    return result;
  }

  std::string_view text_;
  std::string source_;
  std::size_t at_ = 0;
  token ahead_;
};

}  // namespace hull::io::vnnlib
