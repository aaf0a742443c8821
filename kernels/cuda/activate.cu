// a = f(z + b), equation (25); z becomes z + b, unless a is z.
//
// z and a are (n, m) by columns, b is (n, 1): element i belongs to row i % n. A thread takes EACH elements, so that as
// many loads are under way. Above this text stand the type REAL, the numbers BLOCK and EACH and the expression F(z).
extern "C" __global__ void activate(REAL* z, const REAL* b, REAL* a, const int n, const int size) {
    const int stride = gridDim.x * BLOCK * EACH;
    for (int first = blockIdx.x * BLOCK * EACH + threadIdx.x; first < size; first += stride) {
        REAL s[EACH] = {};
        for (int e = 0; e < EACH; e++) {
            const int i = first + e * BLOCK;
            if (i < size) {
                s[e] = z[i] + b[i % n];
            }
        }
        for (int e = 0; e < EACH; e++) {
            const int i = first + e * BLOCK;
            if (i < size) {
                z[i] = s[e];
                a[i] = F(s[e]);
            }
        }
    }
}
