// SPDX-License-Identifier: Apache-2.0
#pragma once
// Inference on the GPU (needs nvcc --expt-relaxed-constexpr): quern.hpp, and packed matrices on the device.
//   auto d = quern::cuda::upload(w, stream);
//   quern::cuda::workspace work(stream);
//   quern::multiply(d, x, y, work, stream);   // x: span2<const quern::f16>, y: span2<float>, device memory
// On the CPU, a .cu file can multiply with isa::scalar only: nvcc does not know the vector instructions of one function.
// Let a .cpp file do the rest.

#include <quern/kernel/cuda/multiply.cuh>
#include <quern/quern.hpp>
