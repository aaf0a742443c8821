// Column i of out = scale * row index[i] of x: the mini-batch, from data that stays on the device in its own type.
//
// x is (N, n) by rows, out is (n, m) by columns, so that both are read and written along n. Above this text stand the
// type REAL and the type SOURCE of x.
extern "C" __global__ void gather(
    const SOURCE* x, const long long* index, REAL* out, const REAL scale, const int n, const int size) {
    const int stride = gridDim.x * blockDim.x;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += stride) {
        out[i] = scale * (REAL)x[index[i / n] * n + i % n];
    }
}
