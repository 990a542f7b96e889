// SPDX-License-Identifier: Apache-2.0
double mixed_native();
double mixed_generic();

int main() { return mixed_native() == mixed_generic() ? 0 : 1; }
