// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <llama/option_range.hpp>
#include <string>

namespace {

/// What a program says of one option given on its command line; empty where it takes it.
template <class T>
std::string said(const CLI::Validator& check, const std::string& given, T& value) {
  CLI::App app;
  app.add_option("--x", value)->check(check);
  try {
    app.parse("--x=" + given);
  } catch (const CLI::ParseError& e) {
    return e.what();
  }
  return {};
}

}  // namespace

TEST_CASE("real options are finite numbers of their range") {
  double value = 7;
  for (const char* bad : {"nan", "-nan", "NaN", "inf", "-inf", "1e999", "1e-999", "-0.1", "1.1", "-1", "1x",
                          "x", "0x1", "1,5"}) {
    INFO(bad);
    const std::string why = said(llama::finite(0, 1), bad, value);
    CHECK(why.find("--x") != std::string::npos);
    CHECK(why.find(std::string("'") + bad + "' is not a number 0..1") != std::string::npos);
    CHECK(value == 7);
  }
  CHECK(said(llama::finite(0, 1), "0", value).empty());
  CHECK(value == 0);
  CHECK(said(llama::finite(0, 1), "1", value).empty());
  CHECK(said(llama::finite(0, 1), "2.5e-1", value).empty());
  CHECK(value == 0.25);
  CHECK(said(llama::finite(-2, 1), "-1.5", value).empty());
  CHECK(value == -1.5);
}

TEST_CASE("whole options are plain digits of their range") {
  std::size_t value = 7;
  for (const char* bad :
       {"-1", "-18446744073709551615", "+3", "3", "101", "18446744073709551615", "18446744073709551621",
        "99999999999999999999999", "4.0", "5e0", "010", "0x5", "x", "5x"}) {
    INFO(bad);
    const std::string why = said(llama::count(4, 100), bad, value);
    CHECK(why.find("--x") != std::string::npos);
    CHECK(why.find(std::string("'") + bad + "' is not a whole number 4..100") != std::string::npos);
    CHECK(value == 7);
  }
  for (const std::size_t good : {4, 10, 100}) {
    CHECK(said(llama::count(4, 100), std::to_string(good), value).empty());
    CHECK(value == good);
  }
  CHECK(said(llama::count(0, 100), "0", value).empty());
  CHECK(value == 0);
  CHECK(said(llama::any_seed(), "18446744073709551615", value).empty());
  CHECK(value == 18446744073709551615u);
  CHECK_FALSE(said(llama::any_seed(), "18446744073709551616", value).empty());
  CHECK_FALSE(said(llama::any_seed(), "-1", value).empty());
}
