// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::byte_reader in("quern::gguf", path, bytes);
// const auto version = in.number<std::uint32_t>("version");
// if (version != 3) in.fail(in.offset() - 4, "version", "is ", version, "; convert the file to version 3");
// if (!in.ok()) return in.error();

#include <bit>
#include <cstddef>
#include <cstdint>
#include <quern/core/config.hpp>
#include <quern/core/error.hpp>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

namespace quern::inline v0 {
inline namespace QUERN_BUILD {

/// Sizes beyond which a reader refuses a file. They bound work and memory; every size is also checked against
/// the bytes that are really there. The header's limit is that of the safetensors reference.
struct read_limits {
  std::uint64_t header = 100'000'000;            ///< bytes of a JSON header
  std::uint64_t string = 64u << 20;              ///< bytes of one string
  std::uint64_t array = std::uint64_t{1} << 27;  ///< elements of one array
  std::uint64_t entries = 1'000'000;             ///< tensors, and likewise metadata entries, of a file
  std::uint64_t alignment = 1u << 20;            ///< bytes to which a file may ask its data to be aligned
};

/// out = a + b; false, leaving out alone, where that does not fit.
constexpr bool checked_add(std::uint64_t a, std::uint64_t b, std::uint64_t& out) {
  if (a > ~std::uint64_t{0} - b) return false;
  out = a + b;
  return true;
}

/// out = a * b; false, leaving out alone, where that does not fit.
constexpr bool checked_mul(std::uint64_t a, std::uint64_t b, std::uint64_t& out) {
  if (b != 0 && a > ~std::uint64_t{0} / b) return false;
  out = a * b;
  return true;
}

/// Little-endian reads from bytes that nobody vouches for. Every read is checked against what remains. The
/// first failure is kept; from then on all reads give zero or nothing, so that a parser asks ok() where it
/// branches, loops or allocates rather than after every field.
class byte_reader {
 public:
  /// @param format  how errors begin, for instance "quern::gguf"; must outlive the reader
  /// @param file    what the bytes are called in errors
  byte_reader(const char* format, std::string file, std::span<const std::byte> bytes)
      : format_(format), file_(std::move(file)), bytes_(bytes) {}

  bool ok() const { return ok_; }
  /// The first failure; only when ok() is false.
  const quern::error& error() const { return error_; }
  std::size_t offset() const { return offset_; }
  std::size_t remaining() const { return bytes_.size() - offset_; }

  /// Says which element later errors are about, as in "tensor 12"; a null @p what ends that.
  void scope(const char* what, std::uint64_t index = 0) {
    scope_ = what;
    index_ = index;
  }

  /// Keeps the sentence "format: 'file' offset AT (scope FIELD): WHY" unless something failed before.
  /// @return false, so that a check reads `return good || in.fail(...)`
  template <class... Why>
  bool fail(std::size_t at, const char* field, const Why&... why) {
    if (!ok_) return false;
    ok_ = false;
    if (scope_ != nullptr)
      error_ = io_error(format_, ": '", file_, "' offset ", at, " (", scope_, " ", index_, ", ", field,
                        "): ", why...);
    else
      error_ = io_error(format_, ": '", file_, "' offset ", at, " (", field, "): ", why...);
    return false;
  }

  /// The next @p count bytes, in place; empty after a failure.
  std::span<const std::byte> bytes(std::uint64_t count, const char* field) {
    if (!ok_) return {};
    if (count > remaining()) {
      fail(offset_, field, "needs ", count, " bytes and the file has ", remaining(),
           " left; it is truncated or damaged, fetch it again");
      return {};
    }
    const auto out = bytes_.subspan(offset_, static_cast<std::size_t>(count));
    offset_ += out.size();
    return out;
  }

  /// The next integer or floating-point number.
  template <class T>
  requires(std::is_arithmetic_v<T> && !std::is_same_v<T, bool>) T number(const char* field) {
    const auto raw = bytes(sizeof(T), field);
    return raw.empty() ? T{} : load<T>(raw.data());
  }

  /// A u64 length and that many bytes, in place.
  std::string_view text(std::uint64_t limit, const char* field) {
    const std::size_t at = offset_;
    const auto length = number<std::uint64_t>(field);
    if (length > limit)
      fail(at, field, "is a string of ", length, " bytes; at most ", limit, " are accepted");
    const auto raw = bytes(length, field);
    return {reinterpret_cast<const char*>(raw.data()), raw.size()};
  }

  /// The little-endian number at @p at, which need not be aligned.
  template <class T>
  static T load(const std::byte* at) {
    using word = std::conditional_t<
        sizeof(T) == 1, std::uint8_t,
        std::conditional_t<sizeof(T) == 2, std::uint16_t,
                           std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>>>;
    word w = 0;
    for (std::size_t i = 0; i < sizeof(T); ++i)
      w = static_cast<word>(w | static_cast<word>(static_cast<word>(at[i]) << 8 * i));
    return std::bit_cast<T>(w);
  }

 private:
  const char* format_;
  std::string file_;
  std::span<const std::byte> bytes_;
  std::size_t offset_ = 0;
  const char* scope_ = nullptr;
  std::uint64_t index_ = 0;
  bool ok_ = true;
  quern::error error_;
};

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
