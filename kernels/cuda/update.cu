// One step of an optimizer over all parameters, in one pass.
//
// w are the parameters, nabla is their gradient, to which penalty * w comes for the first n_weights of them. states is
// (STATES, size): what the optimizer remembers, v0 and v1. c are its coefficients. Above this text stand the type REAL,
// the number STATES and the statements UPDATE, which change w, v0 and v1, given g and c.
extern "C" __global__ void update(
    REAL* parameters, const REAL* nabla, REAL* states, const REAL* c, const REAL penalty, const long long n_weights,
    const long long size) {
    const long long stride = gridDim.x * blockDim.x;
    for (long long i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += stride) {
        REAL w = parameters[i], v0 = states[i];
        REAL v1 = STATES > 1 ? states[size + i] : REAL(0);
        const REAL g = i < n_weights ? nabla[i] + penalty * w : nabla[i];
        UPDATE
        parameters[i] = w;
        states[i] = v0;
        if (STATES > 1) {
            states[size + i] = v1;
        }
    }
}
