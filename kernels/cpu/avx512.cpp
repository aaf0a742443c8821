// Vectors of 64 bytes, 32 registers.
#include <cstddef>

#include "engine.h"

#if defined(__x86_64__)

// All that the code below is compiled for: a virtual machine may hide any of it.
static bool usable() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
           __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
}

#define VECTOR_BYTES 64
#define ROWS 12

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma,bmi,bmi2,popcnt"))), \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,fma,bmi,bmi2,popcnt,prefer-vector-width=512")
#endif
namespace gpunet::with_avx512 {
#include "instruction_set.h"
}
#if defined(__clang__)
#pragma clang attribute pop
#endif

extern const gpunet::InstructionSet gpunet::avx512 = {"avx512", VECTOR_BYTES, usable, gpunet::with_avx512::train<float>,
                                                      gpunet::with_avx512::train<double>};

#endif
