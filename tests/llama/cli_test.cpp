// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <llama/cli.hpp>
#include <new>
#include <stdexcept>

namespace {

template <class Body>
int status(Body&& body) {
  CLI::App app;
  char name[] = "/somewhere/program";
  char* argv[] = {name, nullptr};
  return llama::run(app, 1, argv, body);
}

}  // namespace

TEST_CASE("whatever a program throws, it ends with status 2") {
  CHECK(status([] { return 0; }) == 0);
  CHECK(status([] { return 1; }) == 1);
  CHECK(status([]() -> int { quern::raise(quern::error("program: a sentence")); }) == 2);
  CHECK(status([]() -> int { throw std::bad_alloc(); }) == 2);
  CHECK(status([]() -> int { throw std::length_error("vector"); }) == 2);
  CHECK(status([]() -> int { throw std::runtime_error("anything"); }) == 2);
}

TEST_CASE("rates of nothing are 0") {
  CHECK(llama::rate_of(0, 0) == 0);
  CHECK(llama::rate_of(5, 0) == 0);
  CHECK(llama::rate_of(6, 3) == 2);
}
