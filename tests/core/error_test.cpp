// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <quern/core/error.hpp>
#include <string>

namespace {
std::string text_of(const quern::error& e) { return e.what(); }
}  // namespace

TEST_CASE("error: numbers and strings become one sentence") {
  CHECK(text_of(quern::error("a ", 3, " b ", -4LL, " c ", 0.5, " d ", std::string("e"))) ==
        "a 3 b -4 c 0.5 d e");
}

TEST_CASE("error: a name from a file may be long, and may not speak to the terminal") {
  const std::string name(3000, 'n');
  const std::string text = text_of(quern::error("'", name, "' and '", name, "': why; what to do"));
  CHECK(text.size() < 600);
  CHECK(text.find("nnn...nnn") != std::string::npos);
  CHECK(text.ends_with("': why; what to do"));
  CHECK(text_of(quern::error("'", std::string("\x1b]0;a\a\0b\x7f", 9), "'")) ==
        "'\\x1b]0;a\\x07\\x00b\\x7f'");
  CHECK(text_of(quern::error(std::string("k\xc3\xb6rner"))) == "k\xc3\xb6rner");  // UTF-8 stays
  // What does not fit is cut off.
  const std::string part(200, 'x');
  CHECK(text_of(quern::error(part, part, part, part, part, part, part)).size() < 1024);
}

TEST_CASE("error: one kind is made of another by copying its sentence") {
  const quern::shape_error shape("s ", 1);
  const quern::io_error file("f ", 2);
  const quern::error plain(shape);
  CHECK(text_of(plain) == "s 1");
  CHECK(text_of(quern::error(file)) == "f 2");
  CHECK(text_of(quern::shape_error(file)) == "f 2");
  CHECK(text_of(quern::io_error(shape)) == "s 1");
  CHECK(text_of(quern::io_error(plain)) == "s 1");
  quern::shape_error copy(shape);  // not const: a copy all the same
  CHECK(text_of(quern::shape_error(copy)) == "s 1");
}
