// Vectors of 32 bytes, 16 registers.
#include <cstddef>

#include "engine.h"

#if defined(__x86_64__)

// All that the code below is compiled for: a virtual machine may hide any of it.
static bool usable() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
           __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
}

#define VECTOR_BYTES 32
#define ROWS 6

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,bmi,bmi2,popcnt"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,bmi,bmi2,popcnt")
#endif
namespace gpunet::with_avx2 {
#include "instruction_set.h"
}
#if defined(__clang__)
#pragma clang attribute pop
#endif

extern const gpunet::InstructionSet gpunet::avx2 = {"avx2", VECTOR_BYTES, usable, gpunet::with_avx2::train<float>,
                                                    gpunet::with_avx2::train<double>};

#endif
