// Activations, costs and errors of a batch that lies in panels.
#pragma once

// f(z), for what works by element.
template <class Real, Activation ACTIVATION>
INLINE Vector<Real> function(Vector<Real> z) {
    if constexpr (ACTIVATION == SIGMOID) return sigmoid<Real>(z);
    if constexpr (ACTIVATION == TANH) return tanh<Real>(z);
    return z < Real(0) ? Vector<Real>{} : z;  // ReLU; lets NaN through
}

template <class Real, Activation ACTIVATION>
static void apply(Real *z, int64_t n) {
    for (int64_t i = 0; i < n; i += LANES<Real>) store(z + i, function<Real, ACTIVATION>(load(z + i)));
}

// a = f(z) in place, for n numbers, n a multiple of a panel's columns.
template <class Real>
static void activate(Activation activation, Real *z, int64_t n) {
    switch (activation) {
        case SIGMOID: apply<Real, SIGMOID>(z, n); break;
        case TANH: apply<Real, TANH>(z, n); break;
        case RELU: apply<Real, RELU>(z, n); break;
        case LINEAR:
        case SOFTMAX: break;  // softmax needs a whole row, see below
    }
}

// f'(z) from a = f(z), for what works by element.
template <class Real>
INLINE Vector<Real> derivative(Activation activation, Vector<Real> a) {
    switch (activation) {
        case SIGMOID: return a * (Real(1) - a);
        case TANH: return Real(1) - a * a;
        case RELU: return a > Real(0) ? all(Real(1)) : a;
        default: return all(Real(1));
    }
}

// delta *= f'(z)
template <class Real>
static void hadamard_prime(Activation activation, Real *delta, const Real *a, int64_t n) {
    if (activation == LINEAR || activation == SOFTMAX) return;
    for (int64_t i = 0; i < n; i += LANES<Real>)
        store(delta + i, load(delta + i) * derivative<Real>(activation, load(a + i)));
}

// Call f(offset, j) for each vector of row i of a batch: where it lies, and its first column.
template <class Real, class F>
INLINE void for_row(int64_t i, int64_t n, int64_t stride, F f) {
    for (int64_t j = 0; j < n; j += LANES<Real>) f(j / NR<Real> * stride + i * NR<Real> + j % NR<Real>, j);
}

template <class Real>
INLINE Real row_sum(int64_t i, int64_t n, int64_t stride, const Real *x, const Real *y) {
    Vector<Real> total{};
    for_row<Real>(i, n, stride, [&](int64_t at, int64_t j) {
        total += columns<Real>(j, n) ? load(x + at) * load(y + at) : Vector<Real>{};
    });
    return sum<Real>(total);
}

template <class Real>
static void multiply_row(int64_t i, int64_t n, int64_t stride, Real factor, Real *x) {
    for_row<Real>(i, n, stride, [&](int64_t at, int64_t) { store(x + at, load(x + at) * factor); });
}

// exp(z_j) / sum_k exp(z_k) over row i, shifted by the largest z.
template <class Real>
static void softmax(int64_t i, int64_t n, int64_t stride, Real *a) {
    typedef Vector<Real> V;
    V largest = all(Real(-__builtin_inf())), total{};
    for_row<Real>(i, n, stride, [&](int64_t at, int64_t j) {
        const V z = load(a + at);
        largest = (columns<Real>(j, n) & (z > largest)) ? z : largest;
    });
    Real shift = largest[0];
    for (int lane = 1; lane < LANES<Real>; lane++) shift = largest[lane] > shift ? largest[lane] : shift;
    for_row<Real>(i, n, stride, [&](int64_t at, int64_t j) {
        const V e = columns<Real>(j, n) ? exp<Real>(load(a + at) - shift) : V{};
        total += e;
        store(a + at, e);
    });
    const Real whole = sum<Real>(total);
    for_row<Real>(i, n, stride, [&](int64_t at, int64_t) { store(a + at, load(a + at) / whole); });
}

// delta = a * (delta - sum_k delta_k a_k): the product with softmax's Jacobian, over row i.
template <class Real>
static void softmax_prime(int64_t i, int64_t n, int64_t stride, Real *delta, const Real *a) {
    const Real inner = row_sum(i, n, stride, delta, a);
    for_row<Real>(i, n, stride, [&](int64_t at, int64_t) {
        store(delta + at, load(a + at) * (load(delta + at) - inner));
    });
}

template <class Real>
INLINE Vector<Real> safe_log(Vector<Real> x, Real floor) {
    return log<Real>(x < floor ? all(floor) : x);
}

// The cost of row i; its delta, BP1, times `scale`, with zeros in the padding.
template <class Real>
static double output_error(Cost cost, Activation activation, int64_t i, int64_t n, int64_t stride, const Real *a,
                           const Real *y, Real scale, Real floor, Real *delta) {
    typedef Vector<Real> V;
    V total{};
    Real whole = 1;
    if (cost == LOG_LIKELIHOOD) {
        V targets{};
        for_row<Real>(i, n, stride, [&](int64_t at, int64_t) { targets += load(y + at); });
        whole = sum<Real>(targets);
    }
    for_row<Real>(i, n, stride, [&](int64_t at, int64_t j) {
        const V aj = load(a + at), yj = load(y + at);
        const Bits<Real> real = columns<Real>(j, n);
        V error = aj - yj, c;
        switch (cost) {
            case QUADRATIC:
                c = Real(0.5) * error * error;
                error *= derivative<Real>(activation, aj);
                break;
            case CROSS_ENTROPY:
                c = -(yj * safe_log<Real>(aj, floor) + (Real(1) - yj) * safe_log<Real>(Real(1) - aj, floor));
                break;
            default:
                c = -(yj * safe_log<Real>(aj, floor));
                error = aj * whole - yj;
        }
        total += real ? c : V{};
        store(delta + at, real ? error * scale : V{});
    });
    if (cost == QUADRATIC && activation == SOFTMAX) softmax_prime(i, n, stride, delta, a);
    return double(sum<Real>(total));
}
