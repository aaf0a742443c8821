// exp, tanh, sigma and log of a vector, to a few units in the last place; NaN in, NaN out.
#pragma once

template <class Real>
struct Format;

template <>
struct Format<float> {
    static constexpr int mantissa = 23;
    static constexpr uint32_t one = 0x3F800000, fraction = 0x007FFFFF, exponent_as_number = 0x4B000000;
    static constexpr float round = 12582912.0f;               // 1.5 * 2^23: added, it leaves an integer in the low bits
    static constexpr float exponent_offset = 8388608.0f + 127.0f;  // 2^23 and the bias of the exponent
    static constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;  // high has 9 bits: n * high is exact
    static constexpr float least = -87.3f, most = 88.3f;      // where 2^n is a normal number
    static constexpr int exp_terms = 7, log_terms = 5;
};

template <>
struct Format<double> {
    static constexpr int mantissa = 52;
    static constexpr uint64_t one = 0x3FF0000000000000, fraction = 0x000FFFFFFFFFFFFF,
                             exponent_as_number = 0x4330000000000000;
    static constexpr double round = 6755399441055744.0;       // 1.5 * 2^52
    static constexpr double exponent_offset = 4503599627370496.0 + 1023.0;
    static constexpr double ln2_high = 0x1.62e42feep-1, ln2_low = 0x1.a39ef35793c76p-33;  // high has 32 bits
    static constexpr double least = -708.0, most = 709.0;
    static constexpr int exp_terms = 13, log_terms = 11;
};

// x = n ln 2 + r with |r| <= ln(2) / 2; `power` is 2^n and `less_one` e^r - 1, which is accurate also where it is small.
template <class Real>
struct Exponential {
    Vector<Real> power, less_one;
};

template <class Real>
INLINE Exponential<Real> exponential(Vector<Real> x) {
    typedef Format<Real> F;
    const Vector<Real> shifted = x * Real(1.4426950408889634) + F::round;
    const Vector<Real> n = shifted - F::round;
    Vector<Real> r = x - n * F::ln2_high;
    r = r - n * F::ln2_low;
    Real factor[F::exp_terms + 1] = {1, 1};
    for (int k = 2; k <= F::exp_terms; k++) factor[k] = factor[k - 1] * k;  // k!, exact
    Vector<Real> p = all(1 / factor[F::exp_terms]);
#pragma GCC unroll 16
    for (int k = F::exp_terms - 1; k >= 2; k--) p = p * r + 1 / factor[k];
    const Unsigned<Real> exponent = ((Unsigned<Real>)shifted << F::mantissa) + F::one;
    return {number<Real>(exponent), r + r * r * p};
}

template <class Real>
INLINE Vector<Real> exp(Vector<Real> x) {
    typedef Format<Real> F;
    const Exponential<Real> e = exponential<Real>(x);
    Vector<Real> result = e.power + e.power * e.less_one;
    result = x < F::least ? all(Real(0)) : result;
    return x > F::most ? all(Real(__builtin_inf())) : result;
}

template <class Real>
INLINE Vector<Real> sigmoid(Vector<Real> z) {
    return Real(1) / (Real(1) + exp<Real>(-z));
}

// (e^2|z| - 1) / (e^2|z| + 1), with the sign of z.
template <class Real>
INLINE Vector<Real> tanh(Vector<Real> z) {
    Vector<Real> x = z < Real(0) ? Real(-2) * z : Real(2) * z;
    x = x > Real(60) ? all(Real(60)) : x;  // where tanh is 1 in either type
    const Exponential<Real> e = exponential<Real>(x);
    const Vector<Real> less_one = e.power * e.less_one + (e.power - Real(1));
    const Vector<Real> result = less_one / (less_one + Real(2));
    return z < Real(0) ? -result : result;
}

// For x of at least the smallest normal number: x = 2^n m with m in [sqrt(1/2), sqrt(2)), ln m = 2 artanh(s).
template <class Real>
INLINE Vector<Real> log(Vector<Real> x) {
    typedef Format<Real> F;
    const Unsigned<Real> bits = (Unsigned<Real>)x;
    Vector<Real> n = number<Real>((bits >> F::mantissa) | F::exponent_as_number) - F::exponent_offset;
    Vector<Real> m = number<Real>((bits & F::fraction) | F::one);
    const Bits<Real> large = m > Real(1.4142135623730951);
    m = large ? m * Real(0.5) : m;
    n = large ? n + Real(1) : n;
    const Vector<Real> f = m - Real(1), s = f / (f + Real(2)), s2 = s * s;
    Vector<Real> p = all(Real(1) / (2 * F::log_terms - 1));
#pragma GCC unroll 16
    for (int k = F::log_terms - 2; k >= 1; k--) p = p * s2 + Real(1) / (2 * k + 1);
    // 2 artanh(s) = f - s f + 2 s^3 (1/3 + s^2/5 + ...): the leading term is exact.
    const Vector<Real> tail = n * F::ln2_low - (s * f - Real(2) * s * s2 * p);
    const Vector<Real> result = n * F::ln2_high + (f + tail);
    return x < Real(__builtin_inf()) ? result : x;  // NaN and infinity as they are
}
