// SPDX-License-Identifier: Apache-2.0
#pragma once
// const quern::gguf_value* v = file.find_value("tokenizer.ggml.tokens");
// if (v != nullptr && v->is_array_of(quern::gguf_value_type::string))
//   for (std::string_view token : v->strings()) ...       // in place, no copies

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <quern/core/config.hpp>
#include <quern/io/byte_reader.hpp>
#include <quern/io/gguf_types.hpp>
#include <span>
#include <string_view>
#include <type_traits>

namespace quern::inline v0 {
inline namespace QUERN_BUILD {

/// The strings of an array, read in place and in order: each is a u64 length and its bytes.
class gguf_strings {
 public:
  class iterator {
   public:
    using value_type = std::string_view;
    using difference_type = std::ptrdiff_t;
    using iterator_category = std::input_iterator_tag;
    using pointer = void;
    using reference = std::string_view;

    iterator() = default;
    explicit iterator(const std::byte* at) : at_(at) {}
    std::string_view operator*() const { return {reinterpret_cast<const char*>(at_ + 8), size()}; }
    iterator& operator++() {
      at_ += 8 + size();
      return *this;
    }
    iterator operator++(int) {
      iterator old = *this;
      ++*this;
      return old;
    }
    friend bool operator==(iterator, iterator) = default;

   private:
    std::size_t size() const { return static_cast<std::size_t>(byte_reader::load<std::uint64_t>(at_)); }
    const std::byte* at_ = nullptr;
  };

  gguf_strings() = default;
  /// @param bytes  @p count strings whose lengths have been checked
  gguf_strings(std::span<const std::byte> bytes, std::size_t count) : bytes_(bytes), count_(count) {}
  std::size_t size() const { return count_; }
  iterator begin() const { return iterator(bytes_.data()); }
  iterator end() const { return iterator(bytes_.data() + bytes_.size()); }

 private:
  std::span<const std::byte> bytes_;
  std::size_t count_ = 0;
};

/// One metadata value of a GGUF file: a view of checked bytes, valid as long as the file object.
struct gguf_value {
  std::string_view key;
  gguf_value_type type = gguf_value_type::u8;  ///< of the value, or of the elements of an array
  bool is_array = false;
  std::size_t count = 1;             ///< elements
  std::span<const std::byte> bytes;  ///< the elements; a string's are its characters

  bool is_array_of(gguf_value_type element) const { return is_array && type == element; }

  /// Element @p i < count as a T. False, leaving out alone, for strings and where T cannot hold the value
  /// exactly: a negative number is no std::uint32_t, 0.5 is no int. A float is taken from either float type.
  template <class T>
  bool number(std::size_t i, T& out) const;

  /// The elements of a string array; empty for other values.
  gguf_strings strings() const {
    return is_array_of(gguf_value_type::string) ? gguf_strings(bytes, count) : gguf_strings();
  }
};

namespace detail {

template <class T, class From>
bool convert_exactly(From value, T& out) {
  if constexpr (std::is_same_v<T, bool>) {
    if (value != From{0} && value != From{1}) return false;
    out = value == From{1};
    return true;
  } else if constexpr (std::is_floating_point_v<From> != std::is_floating_point_v<T>) {
    return false;
  } else {
    if constexpr (std::is_integral_v<T>) {
      if (value < From{0}) {
        if (std::is_unsigned_v<T> ||
            static_cast<std::int64_t>(value) < static_cast<std::int64_t>(std::numeric_limits<T>::min()))
          return false;
      } else if (static_cast<std::uint64_t>(value) >
                 static_cast<std::uint64_t>(std::numeric_limits<T>::max())) {
        return false;
      }
    }
    out = static_cast<T>(value);
    return true;
  }
}

}  // namespace detail

template <class T>
bool gguf_value::number(std::size_t i, T& out) const {
  static_assert(std::is_arithmetic_v<T>, "quern::gguf_value::number: T must be a number or bool");
  const std::byte* at = bytes.data() + i * bytes_of(type);
  const auto take = [&]<class From>(From) {
    return detail::convert_exactly(byte_reader::load<From>(at), out);
  };
  const bool is_bool = type == gguf_value_type::boolean;
  if (is_bool != std::is_same_v<T, bool>) return false;
  switch (type) {
    case gguf_value_type::u8:
    case gguf_value_type::boolean:
      return take(std::uint8_t{});
    case gguf_value_type::i8:
      return take(std::int8_t{});
    case gguf_value_type::u16:
      return take(std::uint16_t{});
    case gguf_value_type::i16:
      return take(std::int16_t{});
    case gguf_value_type::u32:
      return take(std::uint32_t{});
    case gguf_value_type::i32:
      return take(std::int32_t{});
    case gguf_value_type::u64:
      return take(std::uint64_t{});
    case gguf_value_type::i64:
      return take(std::int64_t{});
    case gguf_value_type::f32:
      return take(float{});
    case gguf_value_type::f64:
      return take(double{});
    case gguf_value_type::string:
    case gguf_value_type::array:
      break;
  }
  return false;
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
