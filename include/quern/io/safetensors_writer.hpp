// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::safetensors_writer out;
// out.metadata("quern.version", "1");
// out.add("w.codes", quern::dtype::u8, {rows, row_bytes}, codes);     // a span that outlives write()
// if (auto r = out.write("model.safetensors"); !r) return r.error();

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <quern/core/config.hpp>
#include <quern/core/error.hpp>
#include <quern/io/atomic_file.hpp>
#include <quern/io/name_index.hpp>
#include <quern/io/safetensors_header.hpp>
#include <quern/io/utf8.hpp>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace quern::inline v0 {
inline namespace QUERN_BUILD {

/// Collects tensors and writes them as one safetensors file, by temporary file and rename.
/// Every tensor whose size is a multiple of 64 bytes begins at a multiple of 64 bytes of the file, so that
/// packed matrices are multiplied where they are mapped: spaces pad the header to such a boundary, those
/// tensors come first in the order of their adding, and the others follow, widest dtype first, then by name.
class safetensors_writer {
 public:
  static constexpr std::size_t alignment = 64;
  /// Appends exactly the bytes of its tensor to the file; may be called once per write().
  using producer = std::function<result<void>(atomic_file&)>;

  /// Adds an entry of `__metadata__`.
  void metadata(std::string key, std::string value) {
    metadata_.emplace_back(std::move(key), std::move(value));
  }
  /// Adds a tensor. @p data, row-major and little-endian, must stay as it is until write() returns.
  void add(std::string name, dtype type, std::vector<std::size_t> shape, std::span<const std::byte> data) {
    entries_.push_back({{std::move(name), type, std::move(shape), 0, data.size()}, data, {}});
  }
  /// Adds a tensor whose bytes are made while they are written, for models larger than memory.
  void add(std::string name, dtype type, std::vector<std::size_t> shape, producer produce) {
    std::size_t bytes = 0;
    if (!tensor_bytes(type, shape, bytes)) bytes = ~std::size_t{0};  // write() reports it
    entries_.push_back({{std::move(name), type, std::move(shape), 0, bytes}, {}, std::move(produce)});
  }

  /// Writes everything to @p path.
  /// @return io_error for a name given twice or not UTF-8, for a size that is not that of dtype and shape,
  ///         for a producer's own error, and for what the system refuses; then @p path is as it was
  result<void> write(const std::string& path) const {
    std::vector<const entry*> order;
    for (const entry& e : entries_) order.push_back(&e);
    const auto rest = std::stable_partition(order.begin(), order.end(),
                                            [](const entry* e) { return e->info.bytes % alignment == 0; });
    std::sort(rest, order.end(), [](const entry* a, const entry* b) {
      const unsigned x = bits_of(a->info.type), y = bits_of(b->info.type);
      return x != y ? x > y : a->info.name < b->info.name;
    });
    if (auto r = check(path); !r) return r;
    const std::string header = header_of(order);
    if (header.size() > read_limits{}.header)
      return io_error("quern::safetensors_writer: '", path, "' offset 8 (header): has ", header.size(),
                      " bytes, readers take ", read_limits{}.header, "; write several files");
    auto file = atomic_file::create(path);
    if (!file) return file.error();
    std::byte length[8];
    for (unsigned i = 0; i < 8; ++i) length[i] = static_cast<std::byte>(header.size() >> 8 * i & 0xff);
    if (auto r = file->write(length); !r) return r;
    if (auto r = file->write(std::as_bytes(std::span(header))); !r) return r;
    for (const entry* e : order) {
      const std::size_t begin = file->written();
      if (auto r = e->produce ? e->produce(*file) : file->write(e->data); !r) return r;
      if (file->written() - begin != e->info.bytes)
        return io_error("quern::safetensors_writer: '", path, "' offset ", begin, " ('", e->info.name,
                        "'): its producer wrote ", file->written() - begin, " bytes; its shape needs ",
                        e->info.bytes);
    }
    return file->commit();
  }

 private:
  struct entry {
    tensor_info info;
    std::span<const std::byte> data;
    producer produce;
  };

  result<void> check(const std::string& path) const {
    const auto bad = [&](const std::string& name, const auto&... why) {
      return io_error("quern::safetensors_writer: '", path, "' ('", name, "'): ", why...);
    };
    name_index names, keys;
    std::uint64_t total = 0;
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      const tensor_info& t = entries_[i].info;
      if (utf8_prefix(t.name) != t.name.size()) return bad(t.name, "the name is not UTF-8");
      if (t.name == "__metadata__") return bad(t.name, "the format keeps this name for itself");
      std::size_t bytes = 0;
      if (!tensor_bytes(t.type, t.shape, bytes))
        return bad(t.name, "the shape has more bytes than memory, or not a whole number of them");
      if (bytes != t.bytes) return bad(t.name, "has ", t.bytes, " bytes; dtype and shape need ", bytes);
      if (!checked_add(total, bytes, total)) return bad(t.name, "makes the file larger than 2^64 bytes");
      names.add(t.name, i);
    }
    if (const auto twice = names.sort()) return bad(entries_[*twice].info.name, "is added twice");
    for (std::size_t i = 0; i < metadata_.size(); ++i) {
      const auto& [key, value] = metadata_[i];
      if (utf8_prefix(key) != key.size() || utf8_prefix(value) != value.size())
        return bad(key, "this entry of __metadata__ is not UTF-8");
      keys.add(key, i);
    }
    if (const auto twice = keys.sort()) return bad(metadata_[*twice].first, "is in __metadata__ twice");
    return {};
  }

  std::string header_of(const std::vector<const entry*>& order) const {
    std::string out = "{";
    const auto comma = [&] {
      if (out.size() > 1) out += ',';
    };
    if (!metadata_.empty()) {
      out += "\"__metadata__\":{";
      for (std::size_t i = 0; i < metadata_.size(); ++i) {
        if (i != 0) out += ',';
        append_quoted(out, metadata_[i].first);
        out += ':';
        append_quoted(out, metadata_[i].second);
      }
      out += '}';
    }
    std::size_t begin = 0;
    for (const entry* e : order) {
      comma();
      append_quoted(out, e->info.name);
      out += std::string(":{\"dtype\":\"") + name_of(e->info.type) + "\",\"shape\":[";
      for (std::size_t i = 0; i < e->info.shape.size(); ++i)
        out.append(i == 0 ? "" : ",").append(std::to_string(e->info.shape[i]));
      out.append("],\"data_offsets\":[").append(std::to_string(begin)).append(",");
      out.append(std::to_string(begin + e->info.bytes)).append("]}");
      begin += e->info.bytes;
    }
    out += '}';
    out.append((alignment - (8 + out.size()) % alignment) % alignment, ' ');
    return out;
  }

  static void append_quoted(std::string& out, const std::string& text) {
    constexpr char digits[] = "0123456789abcdef";
    out += '"';
    for (const char c : text) {
      const auto byte = static_cast<unsigned char>(c);
      if (byte < 0x20) {
        out += "\\u00";
        out += digits[byte >> 4];
        out += digits[byte & 15];
      } else {
        if (c == '"' || c == '\\') out += '\\';
        out += c;
      }
    }
    out += '"';
  }

  std::vector<entry> entries_;
  std::vector<std::pair<std::string, std::string>> metadata_;
};

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
