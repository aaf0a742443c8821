// out = g * f'(z), the Hadamard product of BP2; out may be g.
//
// s is what f' is computed from, z or a. A thread takes EACH elements, so that as many loads are under way. Above this
// text stand the type REAL, the numbers BLOCK and EACH and the expression F_PRIME(s).
extern "C" __global__ void hadamard_prime(const REAL* g, const REAL* s, REAL* out, const int size) {
    const int stride = gridDim.x * BLOCK * EACH;
    for (int first = blockIdx.x * BLOCK * EACH + threadIdx.x; first < size; first += stride) {
        REAL product[EACH] = {};
        for (int e = 0; e < EACH; e++) {
            const int i = first + e * BLOCK;
            if (i < size) {
                product[e] = g[i] * F_PRIME(s[i]);
            }
        }
        for (int e = 0; e < EACH; e++) {
            const int i = first + e * BLOCK;
            if (i < size) {
                out[i] = product[e];
            }
        }
    }
}
