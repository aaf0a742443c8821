// Column i of out = scale * row index[i] of x: the mini-batch, from data that stays on the device in its own type.
//
// x is (N, n) by rows, out is (n, m) by columns, so that both are read and written along n. A thread takes EACH
// elements, so that as many loads are under way. Above this text stand the type REAL, the type SOURCE of x and the
// numbers BLOCK and EACH.
extern "C" __global__ void gather(
    const SOURCE* x, const long long* index, REAL* out, const REAL scale, const int n, const int size) {
    const int stride = gridDim.x * BLOCK * EACH;
    for (int first = blockIdx.x * BLOCK * EACH + threadIdx.x; first < size; first += stride) {
        REAL value[EACH] = {};
        for (int e = 0; e < EACH; e++) {
            const int i = first + e * BLOCK;
            if (i < size) {
                value[e] = scale * (REAL)x[index[i / n] * n + i % n];
            }
        }
        for (int e = 0; e < EACH; e++) {
            const int i = first + e * BLOCK;
            if (i < size) {
                out[i] = value[e];
            }
        }
    }
}
