// out = g * f'(z), the Hadamard product of BP2; out may be g.
//
// s is what f' is computed from, z or a. Above this text stand the type REAL and the expression F_PRIME(s).
extern "C" __global__ void hadamard_prime(const REAL* g, const REAL* s, REAL* out, const int size) {
    const int stride = gridDim.x * blockDim.x;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += stride) {
        out[i] = g[i] * F_PRIME(s[i]);
    }
}
