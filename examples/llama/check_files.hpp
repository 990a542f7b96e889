// SPDX-License-Identifier: Apache-2.0
#pragma once
// llama::check_files({{"MODEL", model}, {"--text", text}}, {{"-o", out}, {"--log", log, !resume}});

#include <string>
#include <vector>

namespace llama {

/// A file that a program was told to read or to write; an empty path: it was not.
struct named_file {
  std::string option;  ///< that names it: "--json"
  std::string path;
  /// Of an output: refused where it is there, since a run of hours may be in it. Empty files pass.
  bool fresh = false;
};

/// What a program reads and writes, looked at before it does anything: hours of work must not end in a name that
/// cannot be written, or in the place of the model they began with. Leaves no file behind; looks at no device or pipe.
/// @throws io_error that names the options, for an output that is the file of an input or of another output, that is
/// a folder, that cannot be written, or that is there and must be fresh
void check_files(const std::vector<named_file>& inputs, const std::vector<named_file>& outputs);

}  // namespace llama
