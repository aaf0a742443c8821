// out[i, j, k] = delta[j, i] * a[k, i], BP4 for each example: the batched outer products.
//
// delta is (J, m) and a is (K, m) by columns, out is (m, J, K) by rows: row r of out, of m J in all, is delta[r] times
// column r / J of a. threadIdx.y picks the row, threadIdx.x goes along k. Above this text stands the type REAL.
extern "C" __global__ void outer_batch(
    const REAL* delta, const REAL* a, REAL* out, const int J, const int K, const int rows) {
    const int stride = gridDim.x * blockDim.y;
    for (int r = blockIdx.x * blockDim.y + threadIdx.y; r < rows; r += stride) {
        const REAL d = delta[r];
        const REAL* column = a + (long long)(r / J) * K;
        REAL* row = out + (long long)r * K;
        for (int k = threadIdx.x; k < K; k += blockDim.x) {
            row[k] = d * column[k];
        }
    }
}
