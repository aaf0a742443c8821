// How a step moves parameters: each rule is one loop over n of them, their gradients, and what the rule remembers of
// each. l2 and decay pull the weights towards 0; for the biases they are 0.
//
// BP2 to BP4 are linear in the output's error, so that a factor there scales all gradients for nothing: 1 / m makes
// them the mini-batch's mean, -eta / m what gradient descent adds to the parameters as it is.
#pragma once

template <class Real>
struct Step {
    Rule rule;
    Real error_scale, eta, mu;
    // Adam's: 1 - beta1, beta2, 1 - beta2, epsilon, eta / (1 - beta1^t) and 1 / sqrt(1 - beta2^t)
    Real new1, old2, new2, epsilon, eta_t, scale2;
    // The weights' penalties: l2 w + l1 sign(w) of the gradient, and the share of w that goes whatever the gradient is
    Real l2, l1, decay;
    // and what of them gradient descent takes from w: share w + amount sign(w)
    Real share, amount;
};

template <class Real>
INLINE Real sign(Real x) {
    return Real(x > 0) - Real(x < 0);
}

template <class Real>
static void shrink(Real share, Real amount, int64_t n, Real *w) {
    if (amount == 0)
        for (int64_t i = 0; i < n; i++) w[i] -= share * w[i];
    else
        for (int64_t i = 0; i < n; i++) w[i] -= share * w[i] + amount * sign(w[i]);
}

// Of the first n columns of a tile.
template <class Real>
static double sum_of_squares(int64_t rows, int64_t n, const Real *w) {
    Vector<Real> total0{}, total1{};
    const auto real0 = columns<Real>(0, n), real1 = columns<Real>(LANES<Real>, n);
    for (int64_t r = 0; r < rows; r++, w += NR<Real>) {
        const Vector<Real> w0 = real0 ? load(w) : Vector<Real>{}, w1 = real1 ? load(w + LANES<Real>) : Vector<Real>{};
        total0 += w0 * w0;
        total1 += w1 * w1;
    }
    return double(sum<Real>(total0 + total1));
}

template <class Real>
static void add_l1(Real l1, int64_t n, const Real *__restrict w, Real *__restrict g) {
    for (int64_t i = 0; i < n; i++) g[i] += l1 * sign(w[i]);
}

template <class Real>
static void momentum(const Step<Real> &s, Real l2, Real decay, int64_t n, Real *__restrict w, const Real *__restrict g,
                     Real *__restrict velocity) {
    for (int64_t i = 0; i < n; i++) {
        velocity[i] = s.mu * velocity[i] - s.eta * (g[i] + l2 * w[i]);
        w[i] = w[i] - decay * w[i] + velocity[i];
    }
}

template <class Real>
static void nesterov(const Step<Real> &s, Real l2, Real decay, int64_t n, Real *__restrict w, const Real *__restrict g,
                     Real *__restrict velocity) {
    for (int64_t i = 0; i < n; i++) {
        const Real move = s.eta * (g[i] + l2 * w[i]);
        velocity[i] = s.mu * velocity[i] - move;
        w[i] = w[i] - decay * w[i] + (s.mu * velocity[i] - move);
    }
}

template <class Real>
static void adam(const Step<Real> &s, Real l2, Real decay, int64_t n, Real *__restrict w, const Real *__restrict g,
                 Real *__restrict mean, Real *__restrict square) {
    for (int64_t i = 0; i < n; i++) {
        const Real gradient = g[i] + l2 * w[i];
        mean[i] += (gradient - mean[i]) * s.new1;
        square[i] = square[i] * s.old2 + gradient * gradient * s.new2;
        const Real root = sizeof(Real) == 4 ? Real(__builtin_sqrtf(float(square[i]))) : Real(__builtin_sqrt(square[i]));
        w[i] = w[i] - decay * w[i] - s.eta_t * mean[i] / (root * s.scale2 + s.epsilon);
    }
}

// For all rules but gradient descent.
template <class Real>
static void update(const Step<Real> &s, Real l2, Real decay, int64_t n, Real *w, const Real *g, Real *state0,
                   Real *state1) {
    if (s.rule == MOMENTUM) momentum(s, l2, decay, n, w, g, state0);
    if (s.rule == NESTEROV) nesterov(s, l2, decay, n, w, g, state0);
    if (s.rule == ADAM) adam(s, l2, decay, n, w, g, state0, state1);
}
