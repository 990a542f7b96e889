// SPDX-License-Identifier: Apache-2.0
#pragma once
// std::string text = llama::read_text("text.txt").value();
// llama::write_text("run.svg", svg).value();

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <quern/io/atomic_file.hpp>
#include <span>
#include <string>
#include <system_error>

namespace llama {

/// A whole file as bytes, or what a pipe gives to its end. @returns io_error that names it, also for a folder
inline quern::result<std::string> read_text(const std::string& path) {
  const auto failed = [&](const char* what, const char* mend) {
    return quern::io_error("'", path, "' cannot be ", what, ": ", std::strerror(errno), "; ", mend);
  };
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), &std::fclose);
  if (!file) return failed("opened", "check the name");
  std::string text;
  char piece[1 << 14];
  while (const std::size_t n = std::fread(piece, 1, sizeof piece, file.get())) text.append(piece, n);
  if (std::ferror(file.get()) != 0) return failed("read", "name a file of text");
  return text;
}

/// A whole file, by temporary file and rename. @returns the io_error of quern::atomic_file
inline quern::result<void> write_text(const std::string& path, const std::string& text) {
  auto file = quern::atomic_file::create(path);
  if (!file) return file.error();
  if (auto ok = file->write(std::as_bytes(std::span(text))); !ok) return ok;
  return file->commit();
}

/// Whether there is something of that name. @returns io_error where the system does not say, as for a name that is too
/// long or a folder that may not be searched: what is there must not be made anew
inline quern::result<bool> is_there(const std::string& path) {
  std::error_code problem;
  const bool found = std::filesystem::exists(path, problem);
  if (problem)
    return quern::io_error("'", path, "' cannot be looked for: ", problem.message(),
                           "; check the name and the rights of its folder");
  return found;
}

}  // namespace llama
