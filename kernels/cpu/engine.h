// What the driver (module.cpp, network.cpp, pool.cpp) and the code compiled per instruction set (train.h) share: plain
// data, no inline functions, so that no unit compiled for a newer CPU can hand its copy of one to the others.
//
// A batch lies in memory as panels: panel p holds the columns [p*NR, (p+1)*NR) of all its rows, row by row, where NR
// is two vectors of the instruction set. Weights lie the same way as the transpose of the book's w, so that row k of
// a panel holds the NR neurons' weights for input k. What lies beyond the last column is padding: it is computed
// with where that is cheaper than to leave it out, and never read into a result.
#pragma once

#include <cstdint>

namespace gpunet {

enum Activation : int { SIGMOID, TANH, RELU, LINEAR, SOFTMAX };
enum Cost : int { QUADRATIC, CROSS_ENTROPY, LOG_LIKELIHOOD };
enum Rule : int { SGD, MOMENTUM, NESTEROV, ADAM };

constexpr int MOST_STATES = 2;
//: Inputs are looked at for zeros in groups of so many neighbours.
constexpr int GROUP = 4;
//: Groups, or examples, whose bits share one word of a mask.
constexpr int WORD = 32;

// One layer's parameters and what a mini-batch leaves in it.
template <class Real>
struct Layer {
    int64_t n_in, n_out;
    int64_t panels, panel_stride;         // of w, by n_out; the stride is from panel to panel, in numbers
    int64_t panels_t, panel_stride_t;     // of w_t, by n_in
    Activation activation;
    Real *w, *w_t, *b;                    // w_t is the transpose of w, for BP2; null in layer 1, which has no BP2
    Real *state_w[MOST_STATES], *state_b[MOST_STATES];
    double dropout;                       // the share of the inputs that is dropped, or 0
    int64_t draws;                        // numbers that dropout takes for an example before it comes to this layer
    Real *x;                              // (batch, n_in): the inputs, which without dropout are a of the layer before;
                                          // null in layer 1, whose inputs are the mini-batch's
    Real *a, *delta;                      // (batch, n_out)
    double *squares;                      // (panels_t, panels): the sum of w^2 in each tile, if it is asked for
};

// A gathered mini-batch.
template <class Real>
struct Batch {
    Real *x, *y;
    uint32_t *masks;                      // (batch, words): which groups of an example's inputs are not all zero
    Real *weights;                        // (batch,): of the examples, if they have any
};

template <class Real>
struct Network {
    int64_t layers;                       // without the input
    Layer<Real> *layer;
    Cost cost;
    Real floor;                           // what logarithms in the cost take smaller numbers for
    int64_t batch_capacity, batch_stride; // of every batch, from panel to panel, in numbers
    int64_t words;                        // of an example's mask
    int64_t draws;                        // numbers that dropout takes for an example
    Batch<Real> batch[2];                 // one is trained on while the next is gathered
    int64_t example_words;                // of a group's mask
    uint32_t *examples;                   // (groups, example_words): which examples have a group: masks transposed
    double *costs;                        // (batch,)
    Real *scratch;                        // (threads, scratch_stride): a tile of the gradient
    int64_t scratch_stride;
};

// The threads that work on one call; `barrier` returns when all of them have called it. `taken` counts what is taken
// of the work at hand, which is shared by who comes first; in turn with that of the next.
struct Team {
    int size;
    void (*barrier)(Team *);
    int64_t taken[2];
};

// What one call of `steps` trains on.
struct Job {
    const void *X, *Y;
    bool X_is_uint8, Y_is_uint8;
    const void *weights;                  // of the examples, in the network's type; null: each weighs 1
    const float *uniform;                 // for dropout: numbers from 0 to 1, (m, n_in) of each layer that has it, one
                                          // layer after the other, mini-batch by mini-batch
    const int64_t *order;
    int64_t n, batch_size;
    Rule rule;
    double eta, mu, beta1, beta2, epsilon, steps_done;
    bool epsilon_hat;                     // whether epsilon is added before the root's correction
    double l2, l1, decay, input_scale;
    double alpha;                         // alpha / (what the mini-batch's examples weigh together) is added to l2
    bool scaled;                          // whether weights count in `total` scaled, so that they add up to m
    double total;                         // in and out: the sum of the costs so far, each times its weight,
    double squares;                       // and of m / (what they weigh) * all w^2 before each step, if there is an alpha
};

// The code for one instruction set.
struct InstructionSet {
    const char *name;
    int vector_bytes;
    bool (*usable)();
    void (*train_float)(Network<float> &, Job &, Team &, int thread);
    void (*train_double)(Network<double> &, Job &, Team &, int thread);
};

extern const InstructionSet avx512, avx2, baseline;

}  // namespace gpunet
