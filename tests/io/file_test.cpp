// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <quern/io/atomic_file.hpp>
#include <quern/io/mapped_file.hpp>

#include "support.hpp"

using io_test::as_text;
using io_test::fails_with;

namespace {
std::span<const std::byte> bytes_of(std::string_view s) {
  return std::as_bytes(std::span(s.data(), s.size()));
}
}  // namespace

TEST_CASE("mapped_file: what is written is what is mapped") {
  io_test::temporary_folder folder;
  const std::string path = folder / "f";
  std::string text(100'000, 'x');
  text[99'999] = 'y';
  auto out = quern::atomic_file::create(path);
  REQUIRE(out);
  for (std::size_t i = 0; i < text.size(); i += 1000) CHECK(out->write(bytes_of(text).subspan(i, 1000)));
  CHECK(out->written() == text.size());
  CHECK_FALSE(std::filesystem::exists(path));  // not before commit
  CHECK(out->commit());
  CHECK(folder.files() == 1);
  auto in = quern::mapped_file::open(path);
  REQUIRE(in);
  CHECK(as_text(in->bytes()) == text);
  CHECK(reinterpret_cast<std::uintptr_t>(in->bytes().data()) % 64 == 0);

  // Replacing the file leaves the mapping of the old one alone.
  auto again = quern::atomic_file::create(path);
  REQUIRE(again);
  CHECK(again->write(bytes_of("new")));
  CHECK(again->commit());
  CHECK(as_text(in->bytes()) == text);
  CHECK(io_test::slurp(path) == "new");

  quern::mapped_file moved = std::move(*in);
  CHECK(as_text(moved.bytes()) == text);
}

TEST_CASE("mapped_file: an empty file has no bytes") {
  io_test::temporary_folder folder;
  std::ofstream(folder / "empty").flush();
  auto in = quern::mapped_file::open(folder / "empty");
  REQUIRE(in);
  CHECK(in->bytes().empty());
}

TEST_CASE("mapped_file: missing files, folders and pipes are errors, and none of them waits") {
  io_test::temporary_folder folder;
  CHECK(fails_with(quern::mapped_file::open(folder / "missing"), "missing", "No such file"));
  CHECK_FALSE(quern::mapped_file::open(folder / "."));
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
#if defined(__unix__)
  CHECK(fails_with(quern::mapped_file::open(folder / "pipe"), "not a regular file"));
#endif
}

TEST_CASE("atomic_file: without commit nothing remains and the old file stands") {
  io_test::temporary_folder folder;
  const std::string path = folder / "f";
  std::ofstream(path) << "old";
  {
    auto out = quern::atomic_file::create(path);
    REQUIRE(out);
    CHECK(out->write(bytes_of("half")));
    CHECK(folder.files() == 2);
  }
  CHECK(folder.files() == 1);
  CHECK(io_test::slurp(path) == "old");
}

TEST_CASE("atomic_file: two writers of one name do not meet; the last to commit stands") {
  io_test::temporary_folder folder;
  const std::string path = folder / "f";
  auto a = quern::atomic_file::create(path), b = quern::atomic_file::create(path);
  REQUIRE(a);
  REQUIRE(b);
  CHECK(a->write(bytes_of("aaaa")));
  CHECK(b->write(bytes_of("bb")));
  CHECK(b->commit());
  CHECK(io_test::slurp(path) == "bb");
  CHECK(a->commit());
  CHECK(io_test::slurp(path) == "aaaa");
  CHECK(folder.files() == 1);
}

TEST_CASE("atomic_file: errors name the file and leave nothing") {
  io_test::temporary_folder folder;
  CHECK(fails_with(quern::atomic_file::create(folder / "none/f"), "none/f", "No such file"));
  // A folder of that name cannot be replaced by a file.
  std::filesystem::create_directories(folder / "taken/inside");
  CHECK(fails_with(quern::atomic_file::create(folder / "taken"), "taken", "is a folder"));
  auto out = quern::atomic_file::create(folder / "later");
  REQUIRE(out);
  std::filesystem::create_directories(folder / "later/inside");
  CHECK(fails_with(out->commit(), "later", "finish"));
  CHECK(folder.files() == 2);
}

TEST_CASE("atomic_file: what is no plain file of its own stays what it is") {
  io_test::temporary_folder folder;
  const auto write = [&](const std::string& name, std::string_view text) {
    auto out = quern::atomic_file::create(name);
    REQUIRE_MESSAGE(out, out.error().what());
    CHECK(out->write(bytes_of(text)));
    CHECK(out->commit());
  };
  std::ofstream(folder / "file") << "old";
  REQUIRE(::chmod((folder / "file").c_str(), 0640) == 0);
  std::filesystem::create_symlink("file", folder / "link");
  write(folder / "link", "new");
  CHECK(std::filesystem::is_symlink(folder / "link"));
  CHECK(io_test::slurp(folder / "file") == "new");
  struct stat now {};
  REQUIRE(::stat((folder / "file").c_str(), &now) == 0);
  CHECK((now.st_mode & 0777) == 0640);
  std::filesystem::create_symlink("nothing", folder / "dangling");
  CHECK(fails_with(quern::atomic_file::create(folder / "dangling"), "dangling", "link to nothing"));
  // A pipe, and so a device, is written, not replaced.
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  const int reader = ::open((folder / "pipe").c_str(), O_RDONLY | O_NONBLOCK);
  REQUIRE(reader >= 0);
  write(folder / "pipe", "through");
  char text[16] = {};
  CHECK(::read(reader, text, sizeof text) == 7);
  ::close(reader);
  CHECK(std::filesystem::is_fifo(folder / "pipe"));
  // As long as a name may be; what is written beside it has a longer suffix.
  const std::string longest = folder / std::string(255, 'n').c_str();
  write(longest, "long");
  CHECK(io_test::slurp(longest) == "long");
  CHECK(folder.files() == 5);
}
