// How a step moves parameters: each rule is one loop over n of them, their gradients summed over the mini-batch, and
// what the rule remembers of each. `mean` is 1 / m; weights decay by l2, biases have l2 = 0.
#pragma once

template <class Real>
struct Step {
    Rule rule;
    Real mean, eta, mu;
    // Adam's: 1 - beta1, beta2, 1 - beta2, epsilon, eta / (1 - beta1^t) and 1 / sqrt(1 - beta2^t)
    Real new1, old2, new2, epsilon, eta_t, scale2;
};

template <class Real>
static void sgd(const Step<Real> &s, Real l2, int64_t n, Real *__restrict w, const Real *__restrict g) {
    for (int64_t i = 0; i < n; i++) w[i] -= s.eta * (g[i] * s.mean + l2 * w[i]);
}

template <class Real>
static void momentum(const Step<Real> &s, Real l2, int64_t n, Real *__restrict w, const Real *__restrict g,
                     Real *__restrict velocity) {
    for (int64_t i = 0; i < n; i++) {
        velocity[i] = s.mu * velocity[i] - s.eta * (g[i] * s.mean + l2 * w[i]);
        w[i] += velocity[i];
    }
}

template <class Real>
static void nesterov(const Step<Real> &s, Real l2, int64_t n, Real *__restrict w, const Real *__restrict g,
                     Real *__restrict velocity) {
    for (int64_t i = 0; i < n; i++) {
        const Real move = s.eta * (g[i] * s.mean + l2 * w[i]);
        velocity[i] = s.mu * velocity[i] - move;
        w[i] += s.mu * velocity[i] - move;
    }
}

template <class Real>
static void adam(const Step<Real> &s, Real l2, int64_t n, Real *__restrict w, const Real *__restrict g,
                 Real *__restrict mean, Real *__restrict square) {
    for (int64_t i = 0; i < n; i++) {
        const Real gradient = g[i] * s.mean + l2 * w[i];
        mean[i] += (gradient - mean[i]) * s.new1;
        square[i] = square[i] * s.old2 + gradient * gradient * s.new2;
        const Real root = sizeof(Real) == 4 ? Real(__builtin_sqrtf(float(square[i]))) : Real(__builtin_sqrt(square[i]));
        w[i] -= s.eta_t * mean[i] / (root * s.scale2 + s.epsilon);
    }
}

template <class Real>
static void update(const Step<Real> &s, Real l2, int64_t n, Real *w, const Real *g, Real *state0, Real *state1) {
    switch (s.rule) {
        case SGD: sgd(s, l2, n, w, g); break;
        case MOMENTUM: momentum(s, l2, n, w, g, state0); break;
        case NESTEROV: nesterov(s, l2, n, w, g, state0); break;
        case ADAM: adam(s, l2, n, w, g, state0, state1); break;
    }
}
