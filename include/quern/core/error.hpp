// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::require(x.size() == w.cols(), "quern::f: x.size() must equal W.cols");   // throws shape_error
// quern::result<int> r = quern::io_error("quern::gguf: '", path, "' offset ", 8, " (version): must be 3");
// if (!r) puts(r.error().what());   // or r.value(), which throws the same error

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <quern/core/config.hpp>
#include <type_traits>
#include <utility>

namespace quern::inline v0 {

inline namespace QUERN_BUILD {

/// Joins the parts of an error's text [capacity]. Here and not in `error`, which all units share: converting
/// a number is code that depends on -m flags.
class sentence {
 public:
  static constexpr int capacity = 1024;
  explicit sentence(char* text) : text_(text) {}
  template <class... Parts>
  void join(const Parts&... parts) {
    (append(parts), ...);
  }

 private:
  static constexpr int longest = 240;  // bytes of one string
  void append(const char* s) {
    while (*s != 0 && size_ + 1 < capacity) text_[size_++] = *s++;
    text_[size_] = 0;
  }
  template <class T>
  requires(std::is_arithmetic_v<T>) void append(T v) {
    char digits[40];
    if constexpr (std::is_floating_point_v<T>)
      std::snprintf(digits, sizeof digits, "%.6g", static_cast<double>(v));
    else if constexpr (std::is_signed_v<T>)
      std::snprintf(digits, sizeof digits, "%lld", static_cast<long long>(v));
    else
      std::snprintf(digits, sizeof digits, "%llu", static_cast<unsigned long long>(v));
    append(static_cast<const char*>(digits));
  }
  void append_byte(char c) {
    const unsigned char byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte != 0x7f) {
      const char text[2] = {c, 0};
      return append(text);
    }
    char text[8];
    std::snprintf(text, sizeof text, "\\x%02x", byte);
    append(static_cast<const char*>(text));
  }
  template <class S>
  requires requires(const S& s) { s.c_str(); }
  void append(const S& s) {
    const char* const text = s.c_str();
    int size = 0;
    if constexpr (requires { s.size(); })
      size = s.size() > 1u << 30 ? 1 << 30 : static_cast<int>(s.size());  // zero bytes are bytes
    else
      while (text[size] != 0) ++size;
    const int kept = size <= longest ? size : longest / 2;
    for (int i = 0; i < kept; ++i) append_byte(text[i]);
    if (kept == size) return;
    append("...");
    for (int i = size - longest / 2; i < size; ++i) append_byte(text[i]);
  }
  char* text_;
  int size_ = 0;
};

}  // namespace QUERN_BUILD

/// Every error of the library: one sentence that starts with the entity and ends with what to do.
/// The text lives inside the object, so that making an error cannot fail. Strings may come from a hostile
/// file: of long ones the middle is left out, so that the reason is still read, and control characters are
/// written as \\xNN.
class error : public std::exception {
 public:
  error() = default;
  /// Joins strings, integers and floating-point numbers into one sentence. An error is no part: it is copied.
  template <class... Parts>
  requires(sizeof...(Parts) > 0 && !(std::is_base_of_v<error, Parts> || ...))  //
      [[gnu::always_inline]] explicit error(const Parts&... parts) {
    sentence(text_).join(parts...);
  }
  const char* what() const noexcept override { return text_; }

 private:
  char text_[sentence::capacity] = {};
};

/// A shape, length, mask or number that the caller must mend; thrown before anything is written.
class shape_error : public error {
 public:
  shape_error() = default;
  template <class... Parts>
  requires(sizeof...(Parts) > 0 && !(std::is_base_of_v<error, Parts> || ...))  //
      [[gnu::always_inline]] explicit shape_error(const Parts&... parts)
      : error(parts...) {}
  [[gnu::always_inline]] explicit shape_error(const error& e) : error(e) {}
};

/// A file that cannot be read or written; names the file, the byte offset and the field.
class io_error : public error {
 public:
  io_error() = default;
  template <class... Parts>
  requires(sizeof...(Parts) > 0 && !(std::is_base_of_v<error, Parts> || ...))  //
      [[gnu::always_inline]] explicit io_error(const Parts&... parts)
      : error(parts...) {}
  [[gnu::always_inline]] explicit io_error(const error& e) : error(e) {}
};

inline namespace QUERN_BUILD {

/// The single throw site. Without exceptions it prints the sentence and aborts.
template <class E>
[[noreturn]] void raise(const E& e) {
#if defined(__cpp_exceptions)
  throw e;
#else
  std::fprintf(stderr, "%s\n", e.what());
  std::abort();
#endif
}

/// Throws shape_error made of @p parts unless @p condition holds.
template <class... Parts>
void require(bool condition, const Parts&... parts) {
  if (!condition) [[unlikely]]
    raise(shape_error(parts...));
}

}  // namespace QUERN_BUILD

/// A value or the error that stands in its place. Readers of files return it; nothing in `io` throws or
/// aborts. `value` looks whether there is a value; `*` and `->` do not (as of std::optional): ask first.
template <class T>
class [[nodiscard]] result {
 public:
  [[gnu::always_inline]] result(T value)  // NOLINT(google-explicit-constructor)
      : ok_(true) {
    new (&value_) T(std::move(value));
  }
  [[gnu::always_inline]] result(const quern::error& e)  // NOLINT(google-explicit-constructor)
      : ok_(false) {
    new (&error_) quern::error(e);
  }
  result(const result&) = delete;
  result& operator=(const result&) = delete;
  [[gnu::always_inline]] result(result&& other) noexcept : ok_(other.ok_) {
    if (ok_)
      new (&value_) T(std::move(other.value_));
    else
      new (&error_) quern::error(other.error_);
  }
  ~result() {
    if (ok_)
      value_.~T();
    else
      error_.~error();
  }
  explicit operator bool() const { return ok_; }
  bool has_value() const { return ok_; }
  /// The value; raises the error when there is none.
  [[gnu::always_inline]] T& value() & {
    check();
    return value_;
  }
  [[gnu::always_inline]] const T& value() const& {
    check();
    return value_;
  }
  /// By value, so that `for (x : f().value())` does not dangle.
  [[gnu::always_inline]] T value() && {
    check();
    return std::move(value_);
  }
  T& operator*() { return value_; }
  const T& operator*() const { return value_; }
  T* operator->() { return &value_; }
  const T* operator->() const { return &value_; }
  /// The error; only when has_value() is false.
  const quern::error& error() const { return error_; }

 private:
  [[gnu::always_inline]] void check() const {
    if (!ok_) [[unlikely]]
      raise(error_);
  }
  union {
    T value_;
    quern::error error_;
  };
  bool ok_;
};

/// Success, or the error.
template <>
class [[nodiscard]] result<void> {
 public:
  result() = default;
  [[gnu::always_inline]] result(const quern::error& e)  // NOLINT(google-explicit-constructor)
      : error_(e), ok_(false) {}
  explicit operator bool() const { return ok_; }
  bool has_value() const { return ok_; }
  [[gnu::always_inline]] void value() const {
    if (!ok_) [[unlikely]]
      raise(error_);
  }
  const quern::error& error() const { return error_; }

 private:
  quern::error error_;
  bool ok_ = true;
};

}  // namespace quern::inline v0
