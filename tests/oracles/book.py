"""The book's network.py in Python 3, one example at a time, and the textbook's f, f', C and dC/da.

Written from the chapter and from nothing in gpunet: naive, float64, no attention to overflow.
"""

import numpy as np


class Elementwise:
    """An activation a_j = f(z_j)."""

    def __init__(self, f, prime):
        self.f, self.prime = f, prime

    def jacobian(self, z):
        """Sigma'(z), the diagonal matrix of equation (33)."""
        return np.diag(self.prime(z)[:, 0])

    def error(self, g, z):
        return g * self.prime(z)


class WholeLayer:
    """An activation in which every a_j depends on every z_k."""

    def __init__(self, f, jacobian):
        self.f, self.jacobian = f, jacobian

    def error(self, g, z):
        return self.jacobian(z).T @ g


class CostFunction:
    def __init__(self, value, prime):
        self.value, self.prime = value, prime


def sigmoid(z):
    return 1.0 / (1.0 + np.exp(-z))


def sigmoid_prime(z):
    return sigmoid(z) * (1 - sigmoid(z))


def softmax(z):
    return np.exp(z) / np.sum(np.exp(z))


def softmax_jacobian(z):
    """Entry (j, k) is da_j/dz_k."""
    a, n = softmax(z)[:, 0], len(z)
    return np.array([[a[j] * ((j == k) - a[k]) for k in range(n)] for j in range(n)])


def halfway(z):
    """A function into (0, 1) that is no sigmoid."""
    return 0.5 + z / (2 * (1 + np.abs(z)))


def halfway_prime(z):
    return 1 / (2 * (1 + np.abs(z)) ** 2)


def row_by_row(default, others):
    """A layer with one elementwise activation and other ones for some of its neurons."""

    def of(role):
        def value(z):
            return np.array([[getattr(others.get(j, default), role)(z[j, 0])] for j in range(len(z))])

        return value

    return Elementwise(of("f"), of("prime"))


SIGMOID = Elementwise(sigmoid, sigmoid_prime)
TANH = Elementwise(np.tanh, lambda z: 1 / np.cosh(z) ** 2)
RELU = Elementwise(lambda z: z * (z > 0), lambda z: 1.0 * (z > 0))
LEAKY_RELU = Elementwise(lambda z: np.where(z > 0, z, 0.01 * z), lambda z: np.where(z > 0, 1.0, 0.01))
LEAKIER_RELU = Elementwise(lambda z: np.where(z > 0, z, 0.3 * z), lambda z: np.where(z > 0, 1.0, 0.3))
ELU = Elementwise(lambda z: np.where(z > 0, z, np.exp(z) - 1), lambda z: np.where(z > 0, 1.0, np.exp(z)))
GELU = Elementwise(
    lambda z: 0.5 * z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3))),
    lambda z: (
        0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))
        + 0.5 * z * np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * z**2)
        / np.cosh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)) ** 2
    ),
)  # fmt: skip
SILU = Elementwise(lambda z: z * sigmoid(z), lambda z: sigmoid(z) + z * sigmoid_prime(z))
SOFTPLUS = Elementwise(lambda z: np.log(1 + np.exp(z)), sigmoid)
HARD_SIGMOID = Elementwise(lambda z: np.clip(z / 6 + 0.5, 0, 1), lambda z: (np.abs(z) < 3) / 6)
EXP = Elementwise(np.exp, np.exp)
LINEAR = Elementwise(lambda z: z, lambda z: 0 * z + 1.0)
SOFTMAX = WholeLayer(softmax, softmax_jacobian)
HALFWAY = Elementwise(halfway, halfway_prime)

QUADRATIC = CostFunction(lambda a, y: 0.5 * np.sum((a - y) ** 2), lambda a, y: a - y)
CROSS_ENTROPY = CostFunction(
    lambda a, y: np.sum(-y * np.log(a) - (1 - y) * np.log(1 - a)), lambda a, y: -y / a + (1 - y) / (1 - a)
)
LOG_LIKELIHOOD = CostFunction(lambda a, y: -np.sum(y * np.log(a)), lambda a, y: -y / a)
HUBER = CostFunction(
    lambda a, y: np.sum(np.where(np.abs(a - y) <= 0.4, 0.5 * (a - y) ** 2, 0.4 * (np.abs(a - y) - 0.2))),
    lambda a, y: np.where(np.abs(a - y) <= 0.4, a - y, 0.4 * np.sign(a - y)),
)
ABSOLUTE = CostFunction(lambda a, y: np.sum(np.abs(a - y)), lambda a, y: np.where(a > y, 1.0, -1.0))
QUANTILE = CostFunction(
    lambda a, y: np.sum(np.where(y > a, 0.8 * (y - a), 0.2 * (a - y))), lambda a, y: np.where(y > a, -0.8, 0.2)
)
POISSON = CostFunction(
    lambda a, y: np.sum(np.where(y > 0, y * np.log(np.where(y > 0, y, 1) / a), 0) - y + a), lambda a, y: 1 - y / a
)
HINGE = CostFunction(
    lambda a, y: np.sum(np.maximum(0, 1 - (2 * y - 1) * a)),
    lambda a, y: np.where((2 * y - 1) * a < 1, 1 - 2 * y, 0.0),
)
QUARTIC = CostFunction(lambda a, y: np.sum((a - y) ** 4), lambda a, y: 4 * (a - y) ** 3)


class Network:
    """The book's class, with the activations and the cost as arguments."""

    def __init__(self, weights, biases, activations, cost):
        self.weights = [np.array(w, dtype=float) for w in weights]
        self.biases = [np.array(b, dtype=float) for b in biases]
        self.activations = activations
        self.cost = cost
        self.num_layers = len(weights) + 1

    def feedforward(self, a):
        for b, w, f in zip(self.biases, self.weights, self.activations, strict=True):
            a = f.f(np.dot(w, a) + b)
        return a

    def total_cost(self, data):
        return sum(self.cost.value(self.feedforward(x), y) for x, y in data)

    def SGD(self, training_data, orders, mini_batch_size, eta):
        """Train one epoch for each order of the examples in `orders`."""
        for order in orders:
            shuffled = [training_data[i] for i in order]
            for k in range(0, len(shuffled), mini_batch_size):
                self.update_mini_batch(shuffled[k : k + mini_batch_size], eta)

    def update_mini_batch(self, mini_batch, eta):
        nabla_b, nabla_w = self.gradient(mini_batch)
        self.weights = [w - (eta / len(mini_batch)) * nw for w, nw in zip(self.weights, nabla_w, strict=True)]
        self.biases = [b - (eta / len(mini_batch)) * nb for b, nb in zip(self.biases, nabla_b, strict=True)]

    def gradient(self, mini_batch):
        """The gradients of single examples, added up."""
        nabla_b = [np.zeros(b.shape) for b in self.biases]
        nabla_w = [np.zeros(w.shape) for w in self.weights]
        for x, y in mini_batch:
            delta_nabla_b, delta_nabla_w = self.backprop(x, y)
            nabla_b = [nb + dnb for nb, dnb in zip(nabla_b, delta_nabla_b, strict=True)]
            nabla_w = [nw + dnw for nw, dnw in zip(nabla_w, delta_nabla_w, strict=True)]
        return nabla_b, nabla_w

    def backprop(self, x, y):
        nabla_b = [np.zeros(b.shape) for b in self.biases]
        nabla_w = [np.zeros(w.shape) for w in self.weights]
        activations, zs = self.intermediate(x)
        delta = self.activations[-1].error(self.cost.prime(activations[-1], y), zs[-1])
        nabla_b[-1] = delta
        nabla_w[-1] = np.dot(delta, activations[-2].T)
        for l in range(2, self.num_layers):
            delta = self.activations[-l].error(np.dot(self.weights[-l + 1].T, delta), zs[-l])
            nabla_b[-l] = delta
            nabla_w[-l] = np.dot(delta, activations[-l - 1].T)
        return nabla_b, nabla_w

    def intermediate(self, x):
        """All a (with the input) and all z (without)."""
        activations, zs = [x], []
        for b, w, f in zip(self.biases, self.weights, self.activations, strict=True):
            zs.append(np.dot(w, activations[-1]) + b)
            activations.append(f.f(zs[-1]))
        return activations, zs


def pairs(x, y):
    """The columns of x and y as the book's list of (x, y) tuples."""
    return [(x[:, [i]], y[:, [i]]) for i in range(x.shape[1])]
