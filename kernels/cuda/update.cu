// One step of an optimizer over all parameters, in one pass.
//
// w are the parameters, nabla is their gradient. For the first n_weights of them, l2 * w + l1 * sign(w) comes to it, and
// the share `decay` of w is taken away. states is (STATES, size): what the optimizer remembers, v0 and v1. c are its
// coefficients. Above this text stand the type REAL, the number STATES and the statements UPDATE, which change w, v0 and
// v1, given g and c.
extern "C" __global__ void update(
    REAL* parameters, const REAL* nabla, REAL* states, const REAL* c, const REAL l2, const REAL l1, const REAL decay,
    const long long n_weights, const long long size) {
    const long long stride = gridDim.x * blockDim.x;
    for (long long i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += stride) {
        REAL w = parameters[i], g = nabla[i];
        REAL v0 = STATES > 0 ? states[i] : REAL(0);
        REAL v1 = STATES > 1 ? states[size + i] : REAL(0);
        if (i < n_weights) {
            g += l2 * w + l1 * (REAL(w > REAL(0)) - REAL(w < REAL(0)));
            w -= decay * w;
        }
        UPDATE
        parameters[i] = w;
        if (STATES > 0) {
            states[i] = v0;
        }
        if (STATES > 1) {
            states[size + i] = v1;
        }
    }
}
