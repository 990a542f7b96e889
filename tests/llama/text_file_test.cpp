// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <fstream>
#include <llama/text_ids.hpp>
#include <string>

#include "scratch_folder.hpp"

namespace {

template <class T>
bool fails_with(const quern::result<T>& r, const std::string& part) {
  return !r && std::string(r.error().what()).find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a text is read whole, and what is no file of text is named") {
  const scratch_folder folder;
  const std::string path = folder.file("text");
  std::string text;
  for (int i = 0; i < 100'000; ++i) text += static_cast<char>(i % 256);
  llama::write_text(path, text).value();
  CHECK(llama::read_text(path).value() == text);
  CHECK(llama::read_text("/dev/null").value().empty());
  CHECK(fails_with(llama::read_text(folder.file("absent")), "absent' cannot be opened"));
  CHECK(fails_with(llama::read_text(folder.path.string()), "'" + folder.path.string() + "' cannot be read"));
  CHECK(llama::read_ids(path, llama::tokenizer::bytes()).value().size() == text.size());
  CHECK(fails_with(llama::read_ids(folder.path.string(), llama::tokenizer::bytes()), "cannot be read"));
}

TEST_CASE("what cannot be looked for is an error, not absent") {
  const scratch_folder folder;
  CHECK(llama::is_there(folder.path.string()).value());
  CHECK_FALSE(llama::is_there(folder.file("absent")).value());
  CHECK(fails_with(llama::is_there(folder.file(std::string(300, 'a').c_str())), "cannot be looked for"));
}
