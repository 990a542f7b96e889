// SPDX-License-Identifier: Apache-2.0
#include <filesystem>
#include <llama/check_files.hpp>
#include <quern/core/error.hpp>
#include <quern/io/atomic_file.hpp>
#include <system_error>

namespace llama {
namespace {

namespace fs = std::filesystem;

template <class... Why>
[[noreturn]] void refuse(const named_file& f, const Why&... why) {
  quern::raise(quern::io_error("llama::check_files: '", f.path, "' (", f.option, "): ", why...));
}

/// One file under two names, by links too, or one name for a file that is not there yet.
bool same_file(const std::string& a, const std::string& b) {
  std::error_code problem;
  if (fs::equivalent(a, b, problem)) return true;
  // Of a name that is not there, weakly_canonical() leaves a relative one relative.
  const auto whole = [&](const std::string& path) {
    return fs::weakly_canonical(fs::absolute(path, problem), problem);
  };
  const fs::path one = whole(a);
  return !one.empty() && one == whole(b);
}

}  // namespace

void check_files(const std::vector<named_file>& inputs, const std::vector<named_file>& outputs) {
  for (auto f = outputs.begin(); f != outputs.end(); ++f) {
    if (f->path.empty()) continue;
    std::error_code problem;
    const fs::file_status is = fs::status(f->path, problem);
    if (is.type() == fs::file_type::none)
      refuse(*f, "cannot be looked for: ", problem.message(), "; check the name");
    if (fs::is_directory(is)) refuse(*f, "is a folder; add the name of a file");
    if (fs::exists(is) && !fs::is_regular_file(is)) continue;  // /dev/null holds nothing, a pipe waits
    for (const named_file& in : inputs)
      if (!in.path.empty() && same_file(in.path, f->path))
        refuse(*f, "is the file of ", in.option, ", which it would replace; give another name");
    for (auto before = outputs.begin(); before != f; ++before)
      if (!before->path.empty() && same_file(before->path, f->path))
        refuse(*f, "is the file of ", before->option, ", too; give one of them another name");
    if (f->fresh && fs::exists(is) && fs::file_size(f->path, problem) != 0)
      refuse(*f, "is there already; go on from it with --resume, remove it or give another name");
    // What will happen in the end, but for the rename.
    if (const auto probe = quern::atomic_file::create(f->path); !probe) refuse(*f, probe.error().what());
  }
}

}  // namespace llama
