// SPDX-License-Identifier: Apache-2.0
#pragma once
// auto out = quern::atomic_file::create("model.safetensors");
// if (!out) return out.error();
// if (auto r = out->write(bytes); !r) return r.error();
// return out->commit();                      // until here, nobody sees a change

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <quern/core/config.hpp>
#include <quern/core/error.hpp>
#include <span>
#include <string>
#include <utility>

#if defined(__unix__) || defined(__APPLE__)
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#endif

namespace quern::inline v0 {
inline namespace QUERN_BUILD {

/// A file that appears under its name whole or not at all: the bytes go to a new file in the same folder,
/// which commit() flushes to the disk and renames. Readers that have the old file mapped keep the old bytes.
/// Destroyed before commit(), it leaves nothing behind. A link stays one, and what it points to is replaced; a file that
/// is replaced passes on its permissions; a device or a pipe (/dev/null, /dev/stdout) is written as it is.
class atomic_file {
 public:
  atomic_file(atomic_file&& o) noexcept
      : path_(std::move(o.path_)),
        temporary_(std::move(o.temporary_)),
        file_(std::exchange(o.file_, nullptr)),
        written_(o.written_) {}
  atomic_file& operator=(atomic_file&&) = delete;
  ~atomic_file() { discard(); }

  /// @return io_error when the folder of @p path cannot be written, or @p path is a folder or a link to nothing
  static result<atomic_file> create(const std::string& path) {
    std::string target = path;
#if defined(__unix__) || defined(__APPLE__)
    struct stat old {};
    const bool exists = ::stat(path.c_str(), &old) == 0;
    if (exists && S_ISDIR(old.st_mode))
      return io_error("quern::atomic_file: '", path, "' is a folder; give the name of a file");
    if (exists && !S_ISREG(old.st_mode)) {
      std::FILE* const file = std::fopen(path.c_str(), "wb");
      if (file == nullptr) return failed(path, 0, "open");
      return atomic_file(path, {}, file);
    }
    if (struct stat link{}; ::lstat(path.c_str(), &link) == 0 && S_ISLNK(link.st_mode)) {
      const std::unique_ptr<char, decltype(&std::free)> real(::realpath(path.c_str(), nullptr), &std::free);
      if (!real) return io_error("quern::atomic_file: '", path, "' is a link to nothing; remove it");
      target = real.get();
    }
#endif
    // Of a long name a part: names of files end at 255 bytes.
    const std::size_t slash = target.rfind('/') + 1;
    const std::string stem = target.substr(0, slash) + target.substr(slash, 200);
    for (int attempt = 0; attempt < 1000; ++attempt) {
      std::string temporary = stem + ".part" + std::to_string(process()) + "-" + std::to_string(attempt);
      // "x": never write into a file that is already there, which may be another writer's.
      if (std::FILE* file = std::fopen(temporary.c_str(), "wbx")) {
#if defined(__unix__) || defined(__APPLE__)
        if (exists) static_cast<void>(::fchmod(::fileno(file), old.st_mode & 07777));
#endif
        return atomic_file(std::move(target), std::move(temporary), file);
      }
      if (errno != EEXIST) return failed(path, 0, "create");
    }
    return io_error("quern::atomic_file: '", path,
                    "': 1000 unfinished '.part' files lie beside it; remove them");
  }

  /// Appends bytes.
  result<void> write(std::span<const std::byte> bytes) {
    errno = 0;
    if (!bytes.empty() && std::fwrite(bytes.data(), 1, bytes.size(), file_) != bytes.size())
      return failed(path_, written_, "write");
    written_ += bytes.size();
    return {};
  }

  /// Bytes appended so far.
  std::size_t written() const { return written_; }

  /// Makes the file visible under its name, replacing an older one. To be called once, last.
  result<void> commit() {
    if (temporary_.empty()) {  // not a regular file: nothing to rename
      if (std::fclose(std::exchange(file_, nullptr)) != 0) return failed(path_, written_, "write");
      return {};
    }
    bool ok = std::fflush(file_) == 0;
#if defined(__unix__) || defined(__APPLE__)
    ok = ok && ::fsync(::fileno(file_)) == 0;
#endif
    ok = std::fclose(std::exchange(file_, nullptr)) == 0 && ok;
#if defined(_WIN32)
    if (ok) std::remove(path_.c_str());  // rename does not replace there; for a moment neither name exists
#endif
    if (!ok || std::rename(temporary_.c_str(), path_.c_str()) != 0) {
      const auto e = failed(path_, written_, "finish");
      std::remove(temporary_.c_str());
      return e;
    }
#if defined(__unix__) || defined(__APPLE__)
    // The new name is in the folder, which has to reach the disk too; where it cannot, the file is whole.
    const auto slash = path_.rfind('/');
    const std::string folder = slash == std::string::npos ? "." : path_.substr(0, slash + 1);
    if (const int fd = ::open(folder.c_str(), O_RDONLY | O_CLOEXEC); fd >= 0) {
      static_cast<void>(::fsync(fd));
      ::close(fd);
    }
#endif
    return {};
  }

 private:
  atomic_file(std::string path, std::string temporary, std::FILE* file)
      : path_(std::move(path)), temporary_(std::move(temporary)), file_(file) {}
  static io_error failed(const std::string& path, std::size_t offset, const char* what) {
    return io_error("quern::atomic_file: '", path, "' offset ", offset, ": cannot ", what,
                    " the file beside it: ", std::strerror(errno), "; check the folder and the free space");
  }
  static long process() {
#if defined(__unix__) || defined(__APPLE__)
    return static_cast<long>(::getpid());
#else
    return 0;
#endif
  }
  void discard() {
    if (file_ == nullptr) return;
    std::fclose(std::exchange(file_, nullptr));
    if (!temporary_.empty()) std::remove(temporary_.c_str());
  }
  std::string path_, temporary_;
  std::FILE* file_ = nullptr;
  std::size_t written_ = 0;
};

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
