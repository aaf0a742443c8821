    // sum[r][c] of each thread: the products LEFT(i, s) RIGHT(s, j) added up over s < S, for i < I and j < J.
    //
    // A block of 16 x 16 threads takes 16 R rows i from `top` on and 16 R columns j from `side` on, DEPTH terms at a
    // time through shared memory; the thread (x, y) has rows top + y + 16 r and columns side + x + 16 c. To read memory
    // along its rows, LEFT_ALONG_S and RIGHT_ALONG_S say in which direction a matrix lies. Every sum is added up in the
    // same order whatever R is.
    __shared__ REAL left_tile[DEPTH][16 * R + 1];
    __shared__ REAL right_tile[DEPTH][16 * R + 1];
    const int top = blockIdx.y * 16 * R, side = blockIdx.x * 16 * R;
    REAL sum[R][R] = {};
    for (int start = 0; start < S; start += DEPTH) {
        for (int e = threadIdx.y * 16 + threadIdx.x; e < DEPTH * 16 * R; e += 256) {
            const int left_s = LEFT_ALONG_S ? e % DEPTH : e / (16 * R), i = LEFT_ALONG_S ? e / DEPTH : e % (16 * R);
            const int right_s = RIGHT_ALONG_S ? e % DEPTH : e / (16 * R), j = RIGHT_ALONG_S ? e / DEPTH : e % (16 * R);
            left_tile[left_s][i] = start + left_s < S && top + i < I ? LEFT(top + i, start + left_s) : REAL(0);
            right_tile[right_s][j] = start + right_s < S && side + j < J ? RIGHT(start + right_s, side + j) : REAL(0);
        }
        __syncthreads();
        for (int s = 0; s < DEPTH; s++) {
            for (int r = 0; r < R; r++) {
                for (int c = 0; c < R; c++) {
                    sum[r][c] += left_tile[s][threadIdx.y + 16 * r] * right_tile[s][threadIdx.x + 16 * c];
                }
            }
        }
        __syncthreads();
    }
