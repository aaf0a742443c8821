// a = f(z + b), equation (25); z becomes z + b, unless a is z.
//
// z and a are (n, m) by columns, b is (n, 1): element i belongs to row i % n. Above this text stand the type REAL
// and the activation's expression F(z).
extern "C" __global__ void activate(REAL* z, const REAL* b, REAL* a, const int n, const int size) {
    const int stride = gridDim.x * blockDim.x;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += stride) {
        const REAL s = z[i] + b[i % n];
        z[i] = s;
        a[i] = F(s);
    }
}
