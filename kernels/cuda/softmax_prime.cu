// out = a * (g - sum of g * a), the product of g with the Jacobian of a softmax layer; out may be g.
//
// All are (n, m) by columns. A warp takes a column: threadIdx.x is the lane, threadIdx.y the warp in the block. Above
// this text stands the type REAL.
#define EVERY_LANE 0xffffffffu

extern "C" __global__ void softmax_prime(const REAL* g, const REAL* a, REAL* out, const int n, const int m) {
    const int warps = gridDim.x * blockDim.y;
    for (int column = blockIdx.x * blockDim.y + threadIdx.y; column < m; column += warps) {
        const int first = column * n;
        REAL product = 0;
        for (int j = threadIdx.x; j < n; j += 32) {
            product += g[first + j] * a[first + j];
        }
        for (int step = 16; step > 0; step /= 2) {
            product += __shfl_xor_sync(EVERY_LANE, product, step);
        }
        for (int j = threadIdx.x; j < n; j += 32) {
            out[first + j] = a[first + j] * (g[first + j] - product);
        }
    }
}
