// SPDX-License-Identifier: Apache-2.0
#pragma once
// std::vector<std::int32_t> ids = llama::read_ids("text.txt", words).value();

#include <llama/text_file.hpp>
#include <llama/tokenizer.hpp>

namespace llama {

/// tokenizer::encode for programs that report what they find in a text. @param name  of the text, for the error
/// @returns io_error with the first byte that the vocabulary lacks: encode drops it, and figures would be of another text
inline quern::result<std::vector<std::int32_t>> encode_whole(const tokenizer& words, std::string_view text,
                                                             const std::string& name,
                                                             bool parse_control = false) {
  if (!words.covers(text))
    for (std::size_t i = 0; i < text.size(); ++i)
      if (!words.covers(text.substr(i, 1)))
        return quern::io_error("'", name, "' offset ", i, ": the model's vocabulary lacks byte ",
                               static_cast<unsigned>(static_cast<unsigned char>(text[i])),
                               "; take it out of the text");
  return words.encode(text, parse_control);
}

/// The ids of a file of text. @returns io_error where it cannot be read, or of encode_whole
inline quern::result<std::vector<std::int32_t>> read_ids(const std::string& path, const tokenizer& words) {
  const auto text = read_text(path);
  if (!text) return text.error();
  return encode_whole(words, *text, path);
}

}  // namespace llama
