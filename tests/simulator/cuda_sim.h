// Enough of CUDA C++ to compile a kernel for the CPU; cuda_sim.cpp runs it. compiler.py puts this before a kernel's text.
#pragma once
#pragma GCC system_header
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <type_traits>
#include <utility>

// The entry looks a kernel up by its plain name, which finds it only if it is extern "C" and __global__.
#define __global__ __attribute__((visibility("default"), noinline))
#define __device__ __attribute__((unused))
#define __constant__ __attribute__((unused))
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(n) alignas(n)
#define __launch_bounds__(...)
// One section holds all of it, to be poisoned before each block; `used` keeps the optimiser from assuming its contents.
#define __shared__ static __attribute__((used, section("sim_block")))

#pragma GCC visibility push(hidden)

struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x = 1, y = 1, z = 1; };
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

#define SIM_VECTORS(T, name)                                                                          \
    struct alignas(2 * sizeof(T)) name##2 { T x, y; };                                                \
    struct name##3 { T x, y, z; };                                                                    \
    struct alignas(16) name##4 { T x, y, z, w; };                                                     \
    inline name##2 make_##name##2(T x, T y) { return {x, y}; }                                        \
    inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }                                \
    inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
SIM_VECTORS(float, float)
SIM_VECTORS(double, double)
SIM_VECTORS(int, int)
struct alignas(4) uchar4 { unsigned char x, y, z, w; };

namespace sim {

// -- The kernel as the simulator calls it ---------------------------------------------------------------------------

/// What Python checks an argument against.
struct Parameter {
    bool pointer, constant;
    char kind;
    int bytes, lanes;
};
struct Kernel {
    void (*call)(void** arguments);
    int count;
    const Parameter* parameters;
};

template <class T> struct Element { typedef T type; };
#define SIM_ELEMENT(T, V) template <> struct Element<V> { typedef T type; };
SIM_ELEMENT(float, float2) SIM_ELEMENT(float, float4) SIM_ELEMENT(double, double2) SIM_ELEMENT(int, int2)
SIM_ELEMENT(int, int4) SIM_ELEMENT(unsigned char, uchar4)

template <class P> constexpr Parameter describe() {
    typedef std::remove_pointer_t<P> V;
    typedef std::remove_const_t<V> W;
    typedef typename Element<W>::type T;
    const char kind = std::is_same<T, bool>::value         ? 'b'
                      : std::is_floating_point<T>::value   ? 'f'
                      : !std::is_integral<T>::value        ? '?'
                      : std::is_signed<T>::value           ? 'i'
                                                           : 'u';
    return {std::is_pointer<P>::value, std::is_const<V>::value, kind, int(sizeof(T)), int(sizeof(W) / sizeof(T))};
}

template <auto kernel> struct Entry;
template <class... P, void (*kernel)(P...)> struct Entry<kernel> {
    template <size_t... i> static void call(void** arguments, std::index_sequence<i...>) {
        kernel(*static_cast<std::remove_const_t<P>*>(arguments[i])...);
    }
    static void call(void** arguments) { call(arguments, std::index_sequence_for<P...>()); }
    static constexpr int count = sizeof...(P);
    static constexpr Parameter parameters[] = {describe<P>()..., {}};
};

// -- Waiting --------------------------------------------------------------------------------------------------------

void barrier(int line);
/// Hand 8 bytes to the lanes that wait in the same line, and take those of lane `source`.
uint64_t exchange(const char* what, int line, unsigned mask, uint64_t value, int source);
int lane();
/// The first lane of the group of so many that this one is in.
int group(int width);

template <class T> static T exchange_number(const char* what, int line, unsigned mask, T value, int source) {
    static_assert(std::is_arithmetic<T>::value && sizeof(T) <= 8, "a shuffle moves one number");
    uint64_t bytes = 0;
    memcpy(&bytes, &value, sizeof value);
    bytes = exchange(what, line, mask, bytes, source);
    memcpy(&value, &bytes, sizeof value);
    return value;
}
template <class T> static T shfl(int line, unsigned mask, T value, int source, int width = warpSize) {
    return exchange_number("__shfl_sync", line, mask, value, group(width) + (source & (width - 1)));
}
template <class T> static T shfl_up(int line, unsigned mask, T value, unsigned by, int width = warpSize) {
    const int from = lane() - int(by & 31);
    return exchange_number("__shfl_up_sync", line, mask, value, from < group(width) ? lane() : from);
}
template <class T> static T shfl_down(int line, unsigned mask, T value, unsigned by, int width = warpSize) {
    const int from = lane() + int(by & 31);
    return exchange_number("__shfl_down_sync", line, mask, value, from >= group(width) + width ? lane() : from);
}
template <class T> static T shfl_xor(int line, unsigned mask, T value, int by, int width = warpSize) {
    const int from = lane() ^ (by & 31);
    return exchange_number("__shfl_xor_sync", line, mask, value, from >= group(width) + width ? lane() : from);
}
struct SyncWarp {
    int line;
    void operator()(unsigned mask = ~0u) const { exchange("__syncwarp", line, mask, 0, 0); }
};

}  // namespace sim

extern const sim::Kernel sim_kernel;  // SIM_ENTRY defines it

#pragma GCC visibility pop

#define __syncthreads() sim::barrier(__LINE__)
#define __syncwarp sim::SyncWarp{__LINE__}
#define __shfl_sync(...) sim::shfl(__LINE__, __VA_ARGS__)
#define __shfl_up_sync(...) sim::shfl_up(__LINE__, __VA_ARGS__)
#define __shfl_down_sync(...) sim::shfl_down(__LINE__, __VA_ARGS__)
#define __shfl_xor_sync(...) sim::shfl_xor(__LINE__, __VA_ARGS__)

template <class T> static T atomicAdd(T* to, std::common_type_t<T> value) {
    const T old = *to;
    *to += value;
    return old;
}
template <class T> static T __ldg(const T* from) { return *from; }
static inline void __threadfence() {}
template <class T> static constexpr T min(T a, T b) { return b < a ? b : a; }
template <class T> static constexpr T max(T a, T b) { return a < b ? b : a; }
static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
static inline float rsqrt(float x) { return rsqrtf(x); }
static inline double rsqrt(double x) { return 1.0 / sqrt(x); }

#define SIM_ENTRY(name)                                                                                              \
    const sim::Kernel sim_kernel = {sim::Entry<name>::call, sim::Entry<name>::count, sim::Entry<name>::parameters};

// NVRTC has none of these without headers.
#undef INFINITY
#undef NAN
#undef HUGE_VAL
#undef HUGE_VALF
#undef M_PI
#undef M_E
#ifndef SIM_RUNTIME
#pragma GCC poison std int8_t uint8_t int16_t uint16_t int32_t uint32_t int64_t uint64_t uintptr_t
#endif
