// A pool that is called with another number of threads each time, and work that its threads share, many short rounds of
// it; for a build with the thread sanitizer.
#include "../../kernels/cpu/pool.h"

#include <cstddef>
#include <cstdio>
#include <vector>

namespace {

using gpunet::Pool;
using gpunet::Team;
#include "../../kernels/cpu/share.h"

bool barriers_hold() {
    constexpr size_t THREADS[] = {2, 8, 1, 3, 6};
    Pool pool;
    for (int call = 0; call < 10000; call++) {
        const size_t threads = THREADS[call % 5];
        std::vector<int> once(threads), twice(threads);
        pool.run(int(threads), [&](Team &team, int i) {
            once[size_t(i)] = call;
            if (team.size > 1) team.barrier(&team);
            twice[size_t(i)] = once[size_t(team.size - 1 - i)] + call;
        });
        for (int value : twice)
            if (value != 2 * call) {
                std::printf("call %d by %zu threads left %d\n", call, threads, value);
                return false;
            }
    }
    return true;
}

// Parts take no time, so that the threads meet where parts are given out.
bool each_piece_is_taken_once(int threads) {
    constexpr int ROUNDS = 20000;
    const auto count = [](int round) { return int64_t(1 + round % 97); };
    Pool pool;
    std::vector<std::vector<int>> times(ROUNDS);
    for (int round = 0; round < ROUNDS; round++) times[size_t(round)].resize(size_t(count(round)));
    pool.run(threads, [&](Team &team, int i) {
        Shared share(team, i);
        for (int round = 0; round < ROUNDS; round++) {
            if (team.size > 1) team.barrier(&team);
            share(count(round), [&](int64_t begin, int64_t end) {
                while (begin < end) times[size_t(round)][size_t(begin++)]++;
            });
        }
    });
    for (int round = 0; round < ROUNDS; round++)
        for (int n : times[size_t(round)])
            if (n != 1) {
                std::printf("round %d by %d threads: a piece of work was taken %d times\n", round, threads, n);
                return false;
            }
    return true;
}

}  // namespace

int main() {
    return barriers_hold() && each_piece_is_taken_once(1) && each_piece_is_taken_once(2) && each_piece_is_taken_once(4)
               ? 0
               : 1;
}
