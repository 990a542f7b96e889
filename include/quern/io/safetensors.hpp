// SPDX-License-Identifier: Apache-2.0
#pragma once
// auto file = quern::safetensors_file::open("model.safetensors");
// if (!file) return file.error();
// const quern::tensor_info* w = file->find("model.norm.weight");
// if (w != nullptr) use(w->type, w->shape, file->data(*w));       // bytes of the mapped file, not a copy

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <quern/core/config.hpp>
#include <quern/core/error.hpp>
#include <quern/io/byte_reader.hpp>
#include <quern/io/mapped_file.hpp>
#include <quern/io/name_index.hpp>
#include <quern/io/safetensors_header.hpp>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace quern::inline v0 {
inline namespace QUERN_BUILD {

/// A safetensors file, read in place. Everything that the header claims has been checked when it exists:
/// tensors lie side by side without holes or overlaps, and dtype x shape is the size of each.
class safetensors_file {
 public:
  /// Maps @p path and checks its header. @return io_error with file, offset and field
  static result<safetensors_file> open(const std::string& path, const safetensors_options& options = {}) {
    auto mapped = mapped_file::open(path);
    if (!mapped) return mapped.error();
    auto out = parse(mapped->bytes(), path, options);
    if (out) out->mapped_ = std::move(*mapped);
    return out;
  }

  /// The same for bytes in memory, which must outlive the object; @p name is for errors.
  static result<safetensors_file> parse(std::span<const std::byte> bytes, const std::string& name,
                                        const safetensors_options& options = {}) {
    byte_reader in("quern::safetensors", name, bytes);
    const auto length = in.number<std::uint64_t>("header length");
    if (length > options.limits.header)
      in.fail(0, "header length", "is ", length, "; at most ", options.limits.header, " bytes are accepted");
    const auto json = in.bytes(length, "header");
    if (!in.ok()) return in.error();
    auto header = parse_safetensors_header(name, json, options);
    if (!header) return header.error();
    safetensors_file out;
    out.name_ = name;
    out.bytes_ = bytes;
    out.tensors_ = std::move(header->tensors);
    out.metadata_ = std::move(header->metadata);
    out.check(in, options);
    if (!in.ok()) return in.error();
    return {std::move(out)};  // nvcc does not move what it converts
  }

  /// What open() or parse() was given: for errors.
  const std::string& name() const { return name_; }
  /// All tensors, in the order of their data.
  std::span<const tensor_info> tensors() const { return tensors_; }
  /// The tensor of that name, or null. O(log n).
  const tensor_info* find(std::string_view name) const {
    const std::size_t at = index_.find(name);
    return at == name_index::none ? nullptr : &tensors_[at];
  }
  /// The bytes of a tensor of this file. Writers other than safetensors_writer need not align them.
  std::span<const std::byte> data(const tensor_info& t) const { return bytes_.subspan(t.offset, t.bytes); }

  /// Every `__metadata__` entry, sorted by key.
  std::span<const std::pair<std::string, std::string>> metadata() const { return metadata_; }
  /// The value of a `__metadata__` key, or null. O(log n).
  const std::string* metadata(std::string_view key) const {
    const auto at = std::lower_bound(metadata_.begin(), metadata_.end(), key,
                                     [](const auto& entry, std::string_view k) { return entry.first < k; });
    return at == metadata_.end() || at->first != key ? nullptr : &at->second;
  }

 private:
  safetensors_file() = default;

  /// What the header's entries must be to each other and to the file. @p in stands at the first data byte.
  bool check(byte_reader& in, const safetensors_options& options) {
    drop_duplicates(in, options.strict);
    std::sort(tensors_.begin(), tensors_.end(), [](const tensor_info& a, const tensor_info& b) {
      return std::pair(a.offset, a.bytes) < std::pair(b.offset, b.bytes);
    });
    std::size_t end = 0;
    for (tensor_info& t : tensors_) {
      if (t.offset != end)
        return in.fail(in.offset() + end, "data_offsets", "'", t.name, "' begins at ", t.offset,
                       " of the data, but the tensor before it ends at ", end);
      if (t.bytes > in.remaining() - end)
        return in.fail(in.offset() + end, "data_offsets", "'", t.name, "' needs ", t.bytes,
                       " bytes and the file has ", in.remaining() - end,
                       " left; it is truncated, fetch it again");
      end += t.bytes;
      t.offset += in.offset();
    }
    if (options.strict && end != in.remaining())
      return in.fail(
          in.offset() + end, "data", "has ", in.remaining() - end,
          " bytes after the last tensor; read it with strict = false if they are known to be idle");
    for (std::size_t i = 0; i < tensors_.size(); ++i) index_.add(tensors_[i].name, i);
    index_.sort();
    return true;
  }

  /// Equal names, of tensors and of metadata: an error if @p strict, else the last one counts.
  void drop_duplicates(byte_reader& in, bool strict) {
    const auto unique = [&](auto& entries, const char* field, auto name) {
      std::stable_sort(entries.begin(), entries.end(),
                       [&](const auto& a, const auto& b) { return name(a) < name(b); });
      std::size_t kept = 0;
      for (std::size_t i = 0; i < entries.size(); ++i) {
        if (i + 1 < entries.size() && name(entries[i]) == name(entries[i + 1])) {
          if (strict) in.fail(8, field, "'", name(entries[i]), "' is given twice");
          continue;
        }
        if (kept != i) entries[kept] = std::move(entries[i]);
        ++kept;
      }
      entries.resize(kept);
    };
    unique(tensors_, "name", [](const tensor_info& t) -> const std::string& { return t.name; });
    unique(metadata_, "__metadata__ key", [](const auto& m) -> const std::string& { return m.first; });
  }

  std::string name_;
  mapped_file mapped_;
  std::span<const std::byte> bytes_;
  std::vector<tensor_info> tensors_;
  std::vector<std::pair<std::string, std::string>> metadata_;
  name_index index_;
};

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
