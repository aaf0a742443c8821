// Vectors of 16 bytes, which every CPU of the architecture has: SSE2 on x86-64 and NEON on AArch64, else what the
// compiler makes of them.
#include <cstddef>

#include "engine.h"

static bool usable() { return true; }

#define VECTOR_BYTES 16
#if defined(__aarch64__)
#define NAME "neon"
#define ROWS 12
#else
#define NAME "baseline"
#define ROWS 6
#endif

namespace gpunet::with_baseline {
#include "instruction_set.h"
}

extern const gpunet::InstructionSet gpunet::baseline = {NAME, VECTOR_BYTES, usable,
                                                        gpunet::with_baseline::train<float>,
                                                        gpunet::with_baseline::train<double>};
