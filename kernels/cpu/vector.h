// Vectors of the instruction set, as GCC's and Clang's vector extension has them.
#pragma once

template <class Real, int LANES>
struct VectorOf {
    typedef Real type __attribute__((vector_size(sizeof(Real) * LANES), may_alias));
};

template <class Real>
struct BitsOf;
template <>
struct BitsOf<float> {
    typedef int32_t type;
    typedef uint32_t unsigned_type;  // whose overflow is defined
};
template <>
struct BitsOf<double> {
    typedef int64_t type;
    typedef uint64_t unsigned_type;
};

template <class Real>
constexpr int LANES = VECTOR_BYTES / sizeof(Real);
//: Columns of a panel.
template <class Real>
constexpr int NR = 2 * LANES<Real>;

template <class Real>
using Vector = typename VectorOf<Real, LANES<Real>>::type;
//: What a comparison gives: all bits of a lane or none.
template <class Real>
using Bits = typename VectorOf<typename BitsOf<Real>::type, LANES<Real>>::type;
//: Of a vector's bits, to compute with.
template <class Real>
using Unsigned = typename VectorOf<typename BitsOf<Real>::unsigned_type, LANES<Real>>::type;

#define INLINE static inline __attribute__((always_inline))
#define INLINE_MEMBER inline __attribute__((always_inline))

template <class Real>
INLINE Vector<Real> load(const Real *p) {
    return *(const Vector<Real> *)p;
}
template <class Real>
INLINE void store(Real *p, Vector<Real> x) {
    *(Vector<Real> *)p = x;
}
template <class Real>
INLINE Vector<Real> all(Real x) {
    return x - Vector<Real>{};
}
template <class Real>
INLINE Vector<Real> number(Unsigned<Real> bits) {
    return (Vector<Real>)bits;
}
INLINE int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t max(int64_t a, int64_t b) { return a > b ? a : b; }

// The lanes of a vector that are columns of the layer, when its first is column j of n.
template <class Real>
INLINE Bits<Real> columns(int64_t j, int64_t n) {
    Bits<Real> lane{};
    for (int i = 0; i < LANES<Real>; i++) lane[i] = i;
    return lane < (typename BitsOf<Real>::type)min(max(n - j, 0), LANES<Real>);
}

template <class Real>
INLINE Real sum(Vector<Real> x) {
    Real total = 0;
    for (int i = 0; i < LANES<Real>; i++) total += x[i];
    return total;
}

// The numbers of a and b in turn, those of their first halves or of their second.
template <class Real, bool SECOND>
INLINE Vector<Real> interleave(Vector<Real> a, Vector<Real> b) {
    constexpr int BEGIN = SECOND ? LANES<Real> / 2 : 0;
#if defined(__clang__)
    Vector<Real> both;
    for (int i = 0; i < LANES<Real> / 2; i++) both[2 * i] = a[BEGIN + i], both[2 * i + 1] = b[BEGIN + i];
    return both;
#else
    Bits<Real> from{};
    for (int i = 0; i < LANES<Real> / 2; i++) from[2 * i] = BEGIN + i, from[2 * i + 1] = LANES<Real> + BEGIN + i;
    return __builtin_shuffle(a, b, from);
#endif
}

// Transpose a square of LANES rows and columns between panels: log2(LANES) perfect shuffles of its rows.
template <class Real>
static void transpose_square(const Real *from, Real *to) {
    constexpr int L = LANES<Real>;
    Vector<Real> rows[L], next[L];
#pragma GCC unroll 16
    for (int i = 0; i < L; i++) rows[i] = load(from + i * NR<Real>);
#pragma GCC unroll 4
    for (int step = 1; step < L; step *= 2) {
#pragma GCC unroll 8
        for (int i = 0; i < L / 2; i++) {
            next[2 * i] = interleave<Real, false>(rows[i], rows[i + L / 2]);
            next[2 * i + 1] = interleave<Real, true>(rows[i], rows[i + L / 2]);
        }
#pragma GCC unroll 16
        for (int i = 0; i < L; i++) rows[i] = next[i];
    }
#pragma GCC unroll 16
    for (int i = 0; i < L; i++) store(to + i * NR<Real>, rows[i]);
}
