// SPDX-License-Identifier: Apache-2.0
#pragma once
// llama::write_text("run.svg", svg).value();

#include <quern/io/atomic_file.hpp>
#include <span>
#include <string>

namespace llama {

/// A whole file, by temporary file and rename. @returns the io_error of quern::atomic_file
inline quern::result<void> write_text(const std::string& path, const std::string& text) {
  auto file = quern::atomic_file::create(path);
  if (!file) return file.error();
  if (auto ok = file->write(std::as_bytes(std::span(text))); !ok) return ok;
  return file->commit();
}

}  // namespace llama
