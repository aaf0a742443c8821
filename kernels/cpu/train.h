// Mini-batch gradient descent: what each thread of a team does in one call.
#pragma once

//: Below this share of groups of inputs that are not all zero, the others are skipped.
constexpr double SPARSE = 0.6;
//: A layer with at most so many bytes of weights is shared by examples, which saves waiting for the other threads,
constexpr int64_t SMALL_LAYER_BYTES = 65536;
//: and one with so many, if each thread has many examples.
constexpr int64_t MIDDLE_LAYER_BYTES = 524288;
constexpr int64_t MANY_ROWS = 4 * ROWS;
//: Rows of a panel that a thread takes at least.
constexpr int64_t PART = 8 * ROWS;
//: Rows that are looked at for zeros at the begin of a call, at most.
constexpr int64_t SAMPLE = 64;
//: A mini-batch's inputs of at most so many bytes are fetched ahead into the cache.
constexpr int64_t AHEAD_BYTES = 131072;
//: Examples whose products are summed before they are added to the weights. Where zeros are skipped it is the same
//: number, for the same bits.
constexpr int64_t EXAMPLES_TOGETHER = 256;
static_assert(EXAMPLES_TOGETHER % WORD == 0);
//: Panels of inputs that stay in the second-level cache while the weights pass by.
constexpr int64_t INPUT_PANEL_BYTES = 262144;

// Fetches the next mini-batch's rows into the cache, some at each tile of the gradient: they lie anywhere in memory,
// and all at once they would be waited for.
template <class Real>
class Ahead {
   public:
    void start(const Job &job, const Network<Real> &net, int64_t start, int thread, int threads) {
        const int64_t count = max(0, min(job.batch_size, job.n - start));
        X = (const char *)job.X;
        Y = (const char *)job.Y;
        row_bytes = net.layer[0].n_in * int64_t(job.X_is_uint8 ? 1 : sizeof(Real));
        target_bytes = net.layer[net.layers - 1].n_out * int64_t(job.Y_is_uint8 ? 1 : sizeof(Real));
        next = end = job.order;
        if (count && count * row_bytes <= AHEAD_BYTES) {
            next += start + cut(count, thread, threads);
            end += start + cut(count, thread + 1, threads);
        }
        byte = 0;
        int64_t tiles = 0;
        for (int64_t l = 0; l < net.layers; l++) tiles += net.layer[l].panels * net.layer[l].panels_t;
        lines = (count * (row_bytes / 64 + 1) + tiles - 1) / tiles;
    }

    void fetch() {
        for (int64_t i = 0; i < lines && next < end; i++) {
            __builtin_prefetch(X + *next * row_bytes + byte);
            __asm__ volatile("");  // GCC takes a function that only fetches ahead for one without effect
            byte += 64;
            if (byte < row_bytes) continue;
            __builtin_prefetch(Y + *next++ * target_bytes);
            byte = 0;
        }
    }

   private:
    const char *X = nullptr, *Y = nullptr;
    const int64_t *next = nullptr, *end = nullptr;
    int64_t row_bytes = 0, target_bytes = 0, byte = 0, lines = 0;
};

template <class Real>
class Trainer {
   public:
    Trainer(Network<Real> &network, Job &job, Team &team, int thread)
        : net(network), job(job), team(team), thread(thread), share(team, thread) {}

    void run() {
        choose_sparse();
        gather(0, net.batch[0]);
        barrier();
        for (int64_t number = 0; start < job.n; start += job.batch_size, number++) {
            if (number) add_squares();
            m = min(job.batch_size, job.n - start);
            batch = net.batch[number % 2];
            whole = weigh();
            set_step(job.steps_done + double(number + 1));
            if (sparse) transpose_masks();
            feedforward();
            backpropagate();
            barrier();
            ahead.start(job, net, start + job.batch_size, thread, team.size);
            gradient();
            if (thread == 0) add_costs();
            gather(start + job.batch_size, net.batch[(number + 1) % 2]);
            barrier();
        }
        add_squares();
    }

   private:
    Network<Real> &net;
    Job &job;
    Team &team;
    const int thread;
    Shared share;
    int64_t start = 0, m = 0; // where in the order this mini-batch begins, and its examples
    Batch<Real> batch{};
    double whole = 0;         // what those weigh together
    bool sparse = false;      // whether layer 1 skips zeros
    bool complete = false;    // whether all threads' work so far is done
    bool own_rows = false;    // whether this thread itself has computed all there is of its examples
    Step<Real> step{};
    Ahead<Real> ahead;

    static constexpr int64_t N = NR<Real>;

    void barrier() {
        if (team.size > 1) team.barrier(&team);
    }

    int64_t first_row() const { return cut(m, thread, team.size); }
    int64_t last_row() const { return cut(m, thread + 1, team.size); }

    bool by_examples(const Layer<Real> &layer) const {
        const int64_t bytes = layer.n_in * layer.n_out * int64_t(sizeof(Real));
        return bytes <= (m >= MANY_ROWS * team.size ? MIDDLE_LAYER_BYTES : SMALL_LAYER_BYTES);
    }

    // What the mini-batch's examples weigh together; infinity for nothing, which leaves nothing of what it divides.
    // Each thread adds all of them, in the same order.
    double weigh() const {
        if (!job.weights) return double(m);
        double sum = 0;
        for (int64_t i = 0; i < m; i++) sum += double(batch.weights[i]);
        return sum != 0 ? sum : __builtin_inf();
    }

    // t: the number of this step, from 1. Adam's powers are computed anew, so that the bits do not depend on how the
    // steps are cut into calls.
    void set_step(double t) {
        step.rule = job.rule;
        step.error_scale = Real((job.rule == SGD ? -job.eta : 1.0) / double(m));
        const double l2 = job.l2 + job.alpha / whole;
        step.l2 = Real(l2);
        step.l1 = Real(job.l1);
        step.decay = Real(job.decay);
        step.share = Real(job.eta * l2 + job.decay);
        step.amount = Real(job.eta * job.l1);
        step.eta = Real(job.eta);
        step.mu = Real(job.mu);
        step.new1 = Real(1 - job.beta1);
        step.old2 = Real(job.beta2);
        step.new2 = Real(1 - job.beta2);
        step.epsilon = Real(job.epsilon);
        if (job.rule != ADAM) return;
        step.eta_t = Real(job.eta / (1 - __builtin_pow(job.beta1, t)));
        const double scale2 = 1 / __builtin_sqrt(1 - __builtin_pow(job.beta2, t));
        step.scale2 = Real(scale2);
        if (job.epsilon_hat) step.epsilon = Real(job.epsilon * scale2);
    }

    // -- The mini-batch ---------------------------------------------------------------------------------------

    void gather(int64_t begin, Batch<Real> &to) {
        const int64_t count = max(0, min(job.batch_size, job.n - begin));
        const int64_t i0 = cut(count, thread, team.size), i1 = cut(count, thread + 1, team.size);
        for (int64_t i = i0; i < i1; i++) {
            const int64_t row = job.order[begin + i];
            if (job.X_is_uint8)
                gather_inputs((const uint8_t *)job.X, row, to, i);
            else
                gather_inputs((const Real *)job.X, row, to, i);
            const int64_t n_out = net.layer[net.layers - 1].n_out;
            if (job.Y_is_uint8)
                copy_row((const uint8_t *)job.Y + row * n_out, n_out, Real(1), to.y, i);
            else
                copy_row((const Real *)job.Y + row * n_out, n_out, Real(1), to.y, i);
            if (job.weights) to.weights[i] = ((const Real *)job.weights)[row];
        }
        drop(0, begin, count, to.x, to.x, 0, net.layer[0].panels_t, i0, i1);
    }

    template <class Source>
    void gather_inputs(const Source *X, int64_t row, Batch<Real> &to, int64_t i) {
        const int64_t n = net.layer[0].n_in;
        copy_row(X + row * n, n, Real(job.input_scale), to.x, i);
        if (sparse) mark_groups(X + row * n, n, to.masks + i * net.words);
    }

    template <class Source>
    void copy_row(const Source *from, int64_t n, Real scale, Real *to, int64_t i) {
        to += i * N;
        for (; n >= N; n -= N, from += N, to += net.batch_stride)
            for (int j = 0; j < N; j++) to[j] = Real(from[j]) * scale;
        for (int64_t j = 0; j < n; j++) to[j] = Real(from[j]) * scale;
    }

    // Dropout of the inputs of layer l, or of the errors that go back to them: rows [i0, i1) of panels [p0, p1) in the
    // mini-batch of `count` examples that begins at `begin`. What is dropped from a mini-batch's inputs is multiplied
    // as what it is now, 0: which of them are skipped goes by the data alone.
    void drop(int64_t l, int64_t begin, int64_t count, const Real *from, Real *to, int64_t p0, int64_t p1, int64_t i0,
              int64_t i1) const {
        const Layer<Real> &layer = net.layer[l];
        if (layer.dropout == 0) return;
        const float rate = float(layer.dropout), *uniform = job.uniform + begin * net.draws + count * layer.draws;
        const Real factor = Real(1 / (1 - layer.dropout));
        for (int64_t p = p0; p < p1; p++)
            for (int64_t i = i0; i < i1; i++) {
                const int64_t at = p * net.batch_stride + i * N;
                drop_row(uniform + i * layer.n_in + p * N, rate, factor, min(N, layer.n_in - p * N), from + at, to + at);
            }
    }

    // By vectors: compilers do not see that a comparison of floats can choose doubles side by side.
    static void drop_row(const float *uniform, float rate, Real factor, int64_t n, const Real *from, Real *to) {
        typedef float Unaligned __attribute__((vector_size(sizeof(float) * LANES<Real>), may_alias, aligned(4)));
        if (n == N)
            for (int j = 0; j < N; j += LANES<Real>) {
                const Vector<Real> u = __builtin_convertvector(*(const Unaligned *)(uniform + j), Vector<Real>);
                store(to + j, load(from + j) * (u >= Real(rate) ? all(factor) : Vector<Real>{}));
            }
        else
            for (int64_t j = 0; j < n; j++) to[j] = from[j] * (uniform[j] >= rate ? factor : Real(0));
    }

    // Every thread decides alike, from rows spread over the call.
    void choose_sparse() {
        const int64_t n = net.layer[0].n_in, looks = min(SAMPLE, job.n);
        int64_t groups = 0;
        for (int64_t i = 0; i < looks; i++) {
            const int64_t row = job.order[cut(job.n, i, looks)];
            groups += job.X_is_uint8 ? count_groups((const uint8_t *)job.X + row * n, n)
                                     : count_groups((const Real *)job.X + row * n, n);
        }
        sparse = double(groups) < SPARSE * double((n + GROUP - 1) / GROUP) * double(looks);
    }

    // Which examples have a group, from which groups an example has. No two threads write to one word.
    void transpose_masks() {
        for (int64_t word = cut(net.words, thread, team.size); word < cut(net.words, thread + 1, team.size); word++)
            for (int64_t block = 0; block * WORD < m; block++) {
                uint32_t examples[WORD] = {};
                for (int64_t i = block * WORD; i < min(m, (block + 1) * WORD); i++)
                    for (int g = 0; g < WORD; g++)
                        examples[g] |= (batch.masks[i * net.words + word] >> g & 1) << i % WORD;
                for (int g = 0; g < WORD; g++)
                    net.examples[(word * WORD + g) * net.example_words + block] = examples[g];
            }
    }

    // -- Equation (25) ----------------------------------------------------------------------------------------

    const Real *inputs(int64_t l) const { return l == 0 ? batch.x : net.layer[l].x; }

    void feedforward() {
        complete = true;
        own_rows = false;
        for (int64_t l = 0; l < net.layers; l++) {
            Layer<Real> &layer = net.layer[l];
            const Real *a = inputs(l);
            const auto hand_on = [&](int64_t p0, int64_t p1, int64_t i0, int64_t i1) {
                if (l + 1 < net.layers) drop(l + 1, start, m, layer.a, net.layer[l + 1].x, p0, p1, i0, i1);
            };
            share_panels(layer.panels, by_examples(layer), [&](int64_t p0, int64_t p1, int64_t i0, int64_t i1) {
                if (l == 0 && sparse)
                    sparse_product<Real>({a, net.batch_stride}, batch.masks, net.words, {layer.w, layer.panel_stride},
                                         layer.n_out, layer.b, layer.a, net.batch_stride, p0, p1, i0, i1);
                else
                    product<Real>({a, net.batch_stride}, layer.n_in, {layer.w, layer.panel_stride}, layer.n_out,
                                  layer.b, layer.a, net.batch_stride, p0, p1, i0, i1);
                for (int64_t p = p0; p < p1; p++)
                    activate(layer.activation, layer.a + p * net.batch_stride + i0 * N, (i1 - i0) * N);
                if (layer.activation != SOFTMAX) hand_on(p0, p1, i0, i1);
            });
            if (layer.activation == SOFTMAX)
                by_rows([&](int64_t i) {
                    softmax(i, layer.n_out, net.batch_stride, layer.a);
                    hand_on(0, layer.panels, i, i + 1);
                });
        }
    }

    // -- BP1 and BP2 ------------------------------------------------------------------------------------------

    void backpropagate() {
        Layer<Real> &output = net.layer[net.layers - 1];
        by_rows([&](int64_t i) {
            net.costs[i] = output_error(net.cost, output.activation, i, output.n_out, net.batch_stride, output.a,
                                        batch.y, step.error_scale, net.floor, output.delta);
        });
        if (job.weights)
            by_rows([&](int64_t i) {
                const double weight = double(batch.weights[i]), fraction = double(m) * weight / whole;
                net.costs[i] *= job.scaled ? fraction : weight;
                multiply_row(i, output.n_out, net.batch_stride, Real(fraction), output.delta);
            });
        for (int64_t l = net.layers - 1; l > 0; l--) {
            Layer<Real> &following = net.layer[l], &layer = net.layer[l - 1];
            share_panels(layer.panels, by_examples(following), [&](int64_t p0, int64_t p1, int64_t i0, int64_t i1) {
                product<Real>({following.delta, net.batch_stride}, following.n_out,
                              {following.w_t, following.panel_stride_t}, layer.n_out, nullptr, layer.delta,
                              net.batch_stride, p0, p1, i0, i1);
                drop(l, start, m, layer.delta, layer.delta, p0, p1, i0, i1);
                for (int64_t p = p0; p < p1; p++) {
                    const int64_t at = p * net.batch_stride + i0 * N;
                    hadamard_prime(layer.activation, layer.delta + at, layer.a + at, (i1 - i0) * N);
                }
            });
            if (layer.activation == SOFTMAX)
                by_rows([&](int64_t i) { softmax_prime(i, layer.n_out, net.batch_stride, layer.delta, layer.a); });
        }
    }

    // Call f(p0, p1, i0, i1) for this thread's parts of (panels, m): whole examples if `rows`.
    template <class F>
    void share_panels(int64_t panels, bool rows, F f) {
        if (!complete && !(rows && own_rows)) barrier();
        complete = false;
        own_rows = rows;
        if (rows) {
            f(0, panels, first_row(), last_row());
            return;
        }
        const int64_t parts = (m + PART - 1) / PART;  // of each panel
        share(panels * parts, [&](int64_t at, int64_t end) {
            while (at < end) {
                const int64_t p = at / parts, part = at % parts;
                if (part == 0 && end - at >= parts) {
                    const int64_t count = (end - at) / parts;
                    f(p, p + count, 0, m);
                    at += count * parts;
                } else {
                    const int64_t last = min(part + end - at, parts);
                    f(p, p + 1, part * PART, min(last * PART, m));
                    at += last - part;
                }
            }
        });
    }

    // Call f(i) for this thread's examples, when all of their columns are there.
    template <class F>
    void by_rows(F f) {
        if (!complete && !own_rows) barrier();
        complete = false;
        own_rows = true;
        for (int64_t i = first_row(); i < last_row(); i++) f(i);
    }

    // -- BP3, BP4 and the step --------------------------------------------------------------------------------

    void gradient() {
        int64_t tiles = 0;
        for (int64_t l = 0; l < net.layers; l++) tiles += tiles_of(net.layer[l]);
        share(tiles, [&](int64_t begin, int64_t end) {
            for (int64_t l = 0; l < net.layers; l++) {
                const Layer<Real> &layer = net.layer[l];
                const int64_t count = tiles_of(layer);
                update_layer(layer, inputs(l), l == 0 && sparse, max(begin, 0), min(end, count));
                begin -= count;
                end -= count;
            }
        });
    }

    static int64_t tiles_of(const Layer<Real> &layer) { return layer.panels * layer.panels_t; }

    // Update the tiles [begin, end), a panel of inputs after the other.
    void update_layer(const Layer<Real> &layer, const Real *a, bool skip_zeros, int64_t begin, int64_t end) {
        if (begin >= end) return;
        const int64_t last = (end - 1) / layer.panels;
        const int64_t together = max(1, INPUT_PANEL_BYTES / (m * N * int64_t(sizeof(Real))));
        for (int64_t group = begin / layer.panels; group <= last; group += together)
            for (int64_t p = 0; p < layer.panels; p++)
                for (int64_t q = group; q <= min(group + together - 1, last); q++)
                    if (begin <= q * layer.panels + p && q * layer.panels + p < end) {
                        ahead.fetch();
                        update_tile(layer, a, skip_zeros, p, q);
                    }
    }

    // The weights of neurons p * N ... for inputs q * N ...
    void update_tile(const Layer<Real> &layer, const Real *a, bool skip_zeros, int64_t p, int64_t q) {
        const Real *delta = layer.delta + p * net.batch_stride;
        const int64_t rows = min(N, layer.n_in - q * N), at = p * layer.panel_stride + q * N * N;
        const int width = width_of<Real>(p * N, layer.n_out);
        Real *w = layer.w + at;
        if (job.alpha != 0)
            layer.squares[q * layer.panels + p] = sum_of_squares<Real>(rows, min(N, layer.n_out - p * N), w);
        a += q * net.batch_stride;
        const bool descent = step.rule == SGD;
        Real *to = descent ? w : net.scratch + thread * net.scratch_stride;
        if (!descent) clear(to, rows * N);
        if (descent && (step.share != 0 || step.amount != 0)) shrink(step.share, step.amount, rows * N, w);
        Real *w_t = layer.w_t ? layer.w_t + q * layer.panel_stride_t + p * N * N : nullptr;
        if (skip_zeros) add_sparse(a, delta, width, q, rows, to);
        add_dense(a, delta, width, skip_zeros ? rows / GROUP * GROUP : 0, rows, to, w_t);
        if (!descent) {
            if (step.l1 != 0) add_l1<Real>(step.l1, rows * N, w, to);
            update<Real>(step, step.l2, step.decay, rows * N, w, to, state(layer.state_w[0], at),
                         state(layer.state_w[1], at));
        }
        if (w_t) transpose(w, rows, min(N, layer.n_out - p * N), w_t);
        if (q == 0) update_biases(layer, delta, p);
    }

    static Real *state(Real *states, int64_t at) { return states ? states + at : nullptr; }

    static void clear(Real *x, int64_t n) {
        for (int64_t i = 0; i < n; i++) x[i] = 0;
    }

    // The whole groups among the `rows` inputs from q * N on, where they are not zero.
    void add_sparse(const Real *a, const Real *delta, int width, int64_t q, int64_t rows, Real *to) {
        for (int64_t r = 0; r + GROUP <= rows; r += GROUP) {
            const uint32_t *examples = net.examples + (q * N + r) / GROUP * net.example_words;
            for (int64_t i = 0; i < m; i += EXAMPLES_TOGETHER) {
                const int64_t words = (min(EXAMPLES_TOGETHER, m - i) + WORD - 1) / WORD;
                uint32_t any = 0;
                for (int64_t word = 0; word < words; word++) any |= examples[word];
                if (any) sparse_outer_products_of<Real>[width](a + i * N + r, examples, words, delta + i * N, to + r * N);
                examples += words;
            }
        }
    }

    // The rows [from, rows), block by block. Many examples leave time to fetch what is going to be written.
    void add_dense(const Real *a, const Real *delta, int width, int64_t from, int64_t rows, Real *to, Real *w_t) {
        const int64_t blocks = (rows - from + ROWS - 1) / ROWS;
        for (int64_t i = 0; i < m; i += EXAMPLES_TOGETHER)
            for (int64_t block = 0; block < blocks; block++) {
                const int64_t r = from + cut(rows - from, block, blocks);
                const int64_t count = from + cut(rows - from, block + 1, blocks) - r;
                if (i == 0 && m >= MANY_ROWS) {
                    fetch(to + r * N, count * N);
                    if (w_t) fetch(w_t + r * N, count * N);
                }
                outer_products_of<Real>[width][count - 1](a + i * N + r, min(EXAMPLES_TOGETHER, m - i), delta + i * N,
                                                          to + r * N);
            }
    }

    INLINE void fetch(Real *x, int64_t n) {
        for (int64_t i = 0; i < n; i += LINE / sizeof(Real)) __builtin_prefetch(x + i, 1);
    }

    static void transpose(const Real *w, int64_t rows, int64_t columns, Real *to) {
        for (int64_t j = 0; j < columns; j += LANES<Real>)
            for (int64_t k = 0; k < rows; k += LANES<Real>)
                if (j + LANES<Real> <= columns && k + LANES<Real> <= rows)
                    transpose_square<Real>(w + k * N + j, to + j * N + k);
                else
                    for (int64_t i = j; i < min(j + LANES<Real>, columns); i++)
                        for (int64_t r = k; r < min(k + LANES<Real>, rows); r++) to[i * N + r] = w[r * N + i];
    }

    void update_biases(const Layer<Real> &layer, const Real *delta, int64_t p) {
        Real *b = layer.b + p * N;
        alignas(64) Real g[N];
        Vector<Real> sum0{}, sum1{};
        for (int64_t i = 0; i < m; i++) {
            sum0 += load(delta + i * N);
            sum1 += load(delta + i * N + LANES<Real>);
        }
        store(g, sum0);
        store(g + LANES<Real>, sum1);
        if (step.rule == SGD)
            for (int j = 0; j < N; j++) b[j] += g[j];
        else
            update<Real>(step, Real(0), Real(0), N, b, g, state(layer.state_b[0], p * N), state(layer.state_b[1], p * N));
    }

    void add_costs() {
        for (int64_t i = 0; i < m; i++) job.total += net.costs[i];
    }

    // Of the step before, which all threads have ended; none is at the next one's yet, which this one has to reach.
    void add_squares() {
        if (job.alpha == 0 || thread != 0) return;
        const double scale = double(m) / whole;
        for (int64_t l = 0; l < net.layers; l++)
            for (int64_t tile = 0; tile < tiles_of(net.layer[l]); tile++)
                job.squares += scale * net.layer[l].squares[tile];
    }
};

template <class Real>
static void train(Network<Real> &network, Job &job, Team &team, int thread) {
    const unsigned mode = flush_denormals();
    Trainer<Real>(network, job, team, thread).run();
    restore_denormals(mode);
}
