// gpunet._engine: the training loop for Python. Arrays come in through the buffer protocol; every one is checked.
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include "engine.h"
#include "network.h"
#include "pool.h"

namespace {

using namespace gpunet;

// -- Errors -----------------------------------------------------------------------------------------------------

// A Python exception of that type, thrown through C++ and set where C++ returns to Python.
struct Error {
    PyObject *type;
    std::string message;
};

// Python has set its exception already.
struct PythonError {};

[[noreturn]] void value_error(const std::string &message) { throw Error{PyExc_ValueError, message}; }

// Run `body` and turn what it throws into a Python exception and `failed`.
template <class Result, class Body>
Result guarded(Result failed, Body body) {
    try {
        return body();
    } catch (const Error &error) {
        PyErr_SetString(error.type, error.message.c_str());
    } catch (const PythonError &) {
    } catch (const std::bad_alloc &) {
        PyErr_NoMemory();
    } catch (const std::exception &error) {
        PyErr_SetString(PyExc_RuntimeError, error.what());
    }
    return failed;
}

PyObject *checked(PyObject *object) {
    if (!object) throw PythonError{};
    return object;
}

struct Reference {
    explicit Reference(PyObject *object) : at(object) {}
    Reference(const Reference &) = delete;
    ~Reference() { Py_XDECREF(at); }
    PyObject *at;
};

// -- Arguments --------------------------------------------------------------------------------------------------

// A C-contiguous array that someone else owns.
class Array {
   public:
    Array(PyObject *object, const char *name, bool writable) : name_(name) {
        const int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0);
        if (PyObject_GetBuffer(object, &view_, flags) == 0) return;
        PyErr_Clear();
        throw Error{PyExc_ValueError,
                    std::string(name) + " must be a C-contiguous" + (writable ? " and writable" : "") + " array"};
    }
    Array(const Array &) = delete;
    ~Array() { PyBuffer_Release(&view_); }

    // 'f', 'd', 'B' and 'q' for float32, float64, uint8 and int64; 0 for all else.
    char type() const {
        const char *format = view_.format ? view_.format : "B";
        if (*format == '@' || *format == '=') format++;
        if (std::strlen(format) != 1) return 0;
        switch (*format) {
            case 'f': return view_.itemsize == 4 ? 'f' : 0;
            case 'd': return view_.itemsize == 8 ? 'd' : 0;
            case 'B': return 'B';
            case 'l':
            case 'q': return view_.itemsize == 8 ? 'q' : 0;
            default: return 0;
        }
    }

    void expect_type(char expected, const char *called) const {
        if (type() != expected) throw Error{PyExc_TypeError, std::string(name_) + " must be of dtype " + called};
        if (reinterpret_cast<std::uintptr_t>(view_.buf) % std::uintptr_t(view_.itemsize) != 0)
            value_error(std::string(name_) + " must be aligned, as a copy of it is");
    }

    void expect_shape(const std::vector<int64_t> &shape) const {  // -1: any
        bool fits = view_.ndim == int(shape.size());
        for (size_t i = 0; fits && i < shape.size(); i++) fits = shape[i] < 0 || view_.shape[i] == shape[i];
        if (fits) return;
        std::string expected, got;
        for (int64_t n : shape) expected += (n < 0 ? std::string("any") : std::to_string(n)) + ", ";
        for (int i = 0; i < view_.ndim; i++) got += std::to_string(view_.shape[i]) + ", ";
        value_error(std::string(name_) + " must have shape (" + expected + "), got (" + got + ")");
    }

    int64_t length(int axis) const { return view_.shape[axis]; }
    void *data() const { return view_.buf; }

   private:
    const char *name_;
    Py_buffer view_{};
};

int index_of(const char *name, const std::vector<const char *> &names, const char *what) {
    std::string known;
    for (size_t i = 0; i < names.size(); i++) {
        if (std::strcmp(name, names[i]) == 0) return int(i);
        known += std::string(i ? ", " : "") + names[i];
    }
    value_error(std::string("unknown ") + what + " '" + name + "'; known: " + known);
}

// Call use(item) for each item of a sequence.
template <class Use>
void for_items(PyObject *sequence, const char *name, Use use) {
    const Py_ssize_t n = PySequence_Check(sequence) ? PySequence_Size(sequence) : -1;
    if (n < 0) {
        PyErr_Clear();
        throw Error{PyExc_TypeError, std::string(name) + " must be a sequence"};
    }
    for (Py_ssize_t i = 0; i < n; i++) use(Reference(checked(PySequence_GetItem(sequence, i))).at);
}

std::string text(PyObject *object, const char *name) {
    Py_ssize_t size = 0;
    const char *utf8 = PyUnicode_Check(object) ? PyUnicode_AsUTF8AndSize(object, &size) : nullptr;
    if (!utf8) {
        PyErr_Clear();
        throw Error{PyExc_TypeError, std::string(name) + " must be a string"};
    }
    return utf8;
}

// -- The engine -------------------------------------------------------------------------------------------------

const std::vector<const char *> ACTIVATIONS = {"sigmoid", "tanh", "relu", "linear", "softmax"};
const std::vector<const char *> COSTS = {"quadratic", "cross-entropy", "log-likelihood"};
const std::vector<const char *> RULES = {"sgd", "momentum", "nesterov", "adam"};
const int STATES_OF_RULE[] = {0, 1, 1, 2};

constexpr int64_t MOST_NEURONS = (int64_t(1) << 31) - 1;
constexpr int MOST_THREADS = 1024;

std::vector<const InstructionSet *> usable_instruction_sets() {
    std::vector<const InstructionSet *> usable;
    for (const InstructionSet *each : {
#if defined(__x86_64__)
             &avx512, &avx2,
#endif
             &baseline})
        if (each->usable()) usable.push_back(each);
    return usable;
}

// What does not depend on the type of the numbers.
class Engine {
   public:
    explicit Engine(const InstructionSet &instruction_set) : instruction_set(instruction_set) {}
    virtual ~Engine() = default;
    virtual void load(PyObject *parameters, PyObject *states) = 0;
    virtual void store(PyObject *parameters, PyObject *states) = 0;
    virtual void steps(const Array &X, const Array &Y, const Array *weights, const Array *uniform, const Array &order,
                       Job &job, int threads) = 0;
    const InstructionSet &instruction_set;
    std::atomic<long> busy{0};  // the process in which a call is running
};

template <class Real>
class EngineOf : public Engine {
   public:
    EngineOf(const InstructionSet &set, const std::vector<int64_t> &sizes, const std::vector<Activation> &activations,
             Cost cost, double floor, const std::vector<double> &dropout)
        : Engine(set), n_in_(sizes.front()), n_out_(sizes.back()),
          memory_(sizes, activations, cost, floor, dropout, set.vector_bytes) {}

    void load(PyObject *parameters, PyObject *states) override {
        std::vector<std::unique_ptr<Array>> views;
        const Real *from = view(parameters, "parameters", false, views);
        std::vector<const Real *> of_states;
        for_items(states, "states",
                  [&](PyObject *state) { of_states.push_back(view(state, "a state", false, views)); });
        if (of_states.size() > MOST_STATES) value_error("states must be 0, 1 or 2 arrays");
        memory_.load(from, of_states);
    }

    void store(PyObject *parameters, PyObject *states) override {
        expect_loaded();
        std::vector<std::unique_ptr<Array>> views;
        Real *to = view(parameters, "parameters", true, views);
        std::vector<Real *> of_states;
        for_items(states, "states",
                  [&](PyObject *state) { of_states.push_back(view(state, "a state", true, views)); });
        if (int(of_states.size()) != memory_.states())
            value_error("states must be " + std::to_string(memory_.states()) + " arrays, as many as were loaded");
        memory_.store(to, of_states);
    }

    void steps(const Array &X, const Array &Y, const Array *weights, const Array *uniform, const Array &order, Job &job,
               int threads) override {
        expect_loaded();
        const int needed = STATES_OF_RULE[job.rule];
        if (memory_.states() < needed)
            value_error(std::string("rule ") + RULES[job.rule] + " needs " + std::to_string(needed) +
                        " states; load(parameters, states) sets them");
        job.X_is_uint8 = X.type() == 'B';
        job.Y_is_uint8 = Y.type() == 'B';
        if (!job.X_is_uint8) X.expect_type(TYPE, "uint8 or the engine's");
        if (!job.Y_is_uint8) Y.expect_type(TYPE, "uint8 or the engine's");
        X.expect_shape({-1, n_in_});
        Y.expect_shape({X.length(0), n_out_});
        const int64_t examples = X.length(0);
        job.X = X.data();
        job.Y = Y.data();
        if (weights) {
            weights->expect_type(TYPE, "the engine's");
            weights->expect_shape({examples, 1});
            job.weights = weights->data();
        }
        job.order = static_cast<const int64_t *>(order.data());
        job.n = order.length(0);
        const int64_t draws = memory_.network.draws;
        if (uniform) {
            uniform->expect_type('f', "float32");
            uniform->expect_shape({job.n * draws});
            job.uniform = static_cast<const float *>(uniform->data());
        } else if (draws) {
            value_error("dropout takes " + std::to_string(draws) + " numbers for each row of order, in uniform");
        }
        if (job.n == 0) return;
        for (int64_t i = 0; i < job.n; i++)
            if (job.order[i] < 0 || job.order[i] >= examples)
                throw Error{PyExc_IndexError, "order[" + std::to_string(i) + "] is " + std::to_string(job.order[i]) +
                                                  ", not a row of the " + std::to_string(examples)};
        if (job.batch_size > job.n) job.batch_size = job.n;
        memory_.reserve(job.batch_size, threads);
        pool_.run(threads, [&](Team &team, int thread) {
            if constexpr (sizeof(Real) == 4)
                instruction_set.train_float(memory_.network, job, team, thread);
            else
                instruction_set.train_double(memory_.network, job, team, thread);
        });
    }

   private:
    static constexpr char TYPE = sizeof(Real) == 4 ? 'f' : 'd';
    const int64_t n_in_, n_out_;
    NetworkMemory<Real> memory_;
    Pool pool_;

    void expect_loaded() const {
        if (memory_.states() < 0) throw Error{PyExc_RuntimeError, "no parameters are loaded; call load() first"};
    }

    Real *view(PyObject *object, const char *name, bool writable, std::vector<std::unique_ptr<Array>> &views) {
        views.push_back(std::make_unique<Array>(object, name, writable));
        views.back()->expect_type(TYPE, sizeof(Real) == 4 ? "float32" : "float64");
        views.back()->expect_shape({memory_.parameters()});
        return static_cast<Real *>(views.back()->data());
    }
};

std::vector<double> numbers(PyObject *sequence, const char *name) {
    std::vector<double> given;
    for_items(sequence, name, [&](PyObject *item) {
        given.push_back(PyFloat_AsDouble(item));
        if (PyErr_Occurred()) throw PythonError{};
    });
    return given;
}

std::unique_ptr<Engine> make_engine(PyObject *sizes_, PyObject *activations_, const char *cost_, const char *dtype,
                                    const char *instruction_set, double floor, PyObject *dropout_) {
    std::vector<int64_t> sizes;
    for_items(sizes_, "sizes", [&](PyObject *item) {
        const long long n = PyLong_AsLongLong(item);
        if (n == -1 && PyErr_Occurred()) throw PythonError{};
        if (n < 1 || n > MOST_NEURONS) value_error("sizes must be positive and below 2**31");
        sizes.push_back(n);
    });
    if (sizes.size() < 2) value_error("sizes must name at least two layers");
    std::vector<Activation> activations;
    for_items(activations_, "activations", [&](PyObject *item) {
        activations.push_back(Activation(index_of(text(item, "an activation").c_str(), ACTIVATIONS, "activation")));
    });
    if (activations.size() != sizes.size() - 1) value_error("activations must have one for each layer but the input");
    const Cost cost = Cost(index_of(cost_, COSTS, "cost"));
    if ((cost == CROSS_ENTROPY && activations.back() != SIGMOID) ||
        (cost == LOG_LIKELIHOOD && activations.back() != SOFTMAX))
        value_error("cross-entropy goes with sigmoid outputs, log-likelihood with softmax outputs");
    if (!(floor >= 0 && floor < 1)) value_error("floor must be at least 0 and below 1");
    const std::vector<double> dropout = dropout_ ? numbers(dropout_, "dropout") : std::vector<double>();
    if (dropout.size() > activations.size()) value_error("dropout must have no share for the output layer");
    for (double share : dropout)
        if (!(share >= 0 && share < 1)) value_error("each share of dropout must be at least 0 and below 1");
    const auto usable = usable_instruction_sets();
    const InstructionSet *set = usable.front();
    if (instruction_set) {
        std::vector<const char *> names;
        for (const InstructionSet *each : usable) names.push_back(each->name);
        set = usable[size_t(index_of(instruction_set, names, "instruction set"))];
    }
    if (index_of(dtype, {"float32", "float64"}, "dtype") == 0)
        return std::make_unique<EngineOf<float>>(*set, sizes, activations, cost, floor, dropout);
    return std::make_unique<EngineOf<double>>(*set, sizes, activations, cost, floor, dropout);
}

void set_penalty(Job &job, PyObject *penalty) {
    const std::vector<double> given = numbers(penalty, "penalty");
    if (given.size() != 3) value_error("penalty must be (l2, l1, decay), got " + std::to_string(given.size()) + " numbers");
    job.l2 = given[0];
    job.l1 = given[1];
    job.decay = given[2];
}

void set_alpha(Job &job, PyObject *alpha) {
    if (alpha == Py_None) return;
    job.alpha = PyFloat_AsDouble(alpha);
    if (PyErr_Occurred()) throw PythonError{};
    job.scaled = true;
}

// The rule's coefficients: sgd (eta,), momentum and nesterov (eta, mu), adam (eta, beta1, beta2, epsilon, whether that
// is the one added before the root's correction, steps done).
void set_coefficients(Job &job, PyObject *coefficients) {
    const std::vector<double> given = numbers(coefficients, "coefficients");
    const size_t needed = job.rule == SGD ? 1 : job.rule == ADAM ? 6 : 2;
    if (given.size() != needed)
        value_error(std::string("rule ") + RULES[job.rule] + " takes " + std::to_string(needed) + " coefficients, got " +
                    std::to_string(given.size()));
    job.eta = given[0];
    if (job.rule == MOMENTUM || job.rule == NESTEROV) job.mu = given[1];
    if (job.rule != ADAM) return;
    job.beta1 = given[1];
    job.beta2 = given[2];
    job.epsilon = given[3];
    job.epsilon_hat = given[4] != 0;
    job.steps_done = given[5];
}

// -- The Python class -------------------------------------------------------------------------------------------

struct EngineObject {
    PyObject_HEAD
    Engine *engine;
};

// An engine that no other thread uses, for as long as this lives.
class Turn {
   public:
    explicit Turn(PyObject *self) : engine(*reinterpret_cast<EngineObject *>(self)->engine) {
        // A child that was forked during a call has none of its parent's threads: the call will never end there.
        long before = engine.busy.load();
        if (before == process() || !engine.busy.compare_exchange_strong(before, process()))
            throw Error{PyExc_RuntimeError, "this engine is at work in another thread"};
    }
    Turn(const Turn &) = delete;
    ~Turn() { engine.busy = 0; }

    Engine &engine;
};

PyObject *engine_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    return guarded<PyObject *>(nullptr, [&]() -> PyObject * {
        static const char *names[] = {"sizes", "activations", "cost", "dtype", "instruction_set", "floor", "dropout",
                                      nullptr};
        PyObject *sizes, *activations, *dropout = nullptr;
        const char *cost, *dtype, *instruction_set = nullptr;
        double floor = 0;
        if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOss|zdO:Engine", const_cast<char **>(names), &sizes,
                                         &activations, &cost, &dtype, &instruction_set, &floor, &dropout))
            throw PythonError{};
        std::unique_ptr<Engine> engine = make_engine(sizes, activations, cost, dtype, instruction_set, floor, dropout);
        const auto allocate = reinterpret_cast<allocfunc>(PyType_GetSlot(type, Py_tp_alloc));
        PyObject *self = checked(allocate(type, 0));
        reinterpret_cast<EngineObject *>(self)->engine = engine.release();
        return self;
    });
}

void engine_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    delete reinterpret_cast<EngineObject *>(self)->engine;
    reinterpret_cast<freefunc>(PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

PyObject *engine_load(PyObject *self, PyObject *args) {
    return guarded<PyObject *>(nullptr, [&]() -> PyObject * {
        PyObject *parameters, *states;
        if (!PyArg_ParseTuple(args, "OO:load", &parameters, &states)) throw PythonError{};
        Turn(self).engine.load(parameters, states);
        Py_RETURN_NONE;
    });
}

PyObject *engine_store(PyObject *self, PyObject *args) {
    return guarded<PyObject *>(nullptr, [&]() -> PyObject * {
        PyObject *parameters, *states;
        if (!PyArg_ParseTuple(args, "OO:store", &parameters, &states)) throw PythonError{};
        Turn(self).engine.store(parameters, states);
        Py_RETURN_NONE;
    });
}

// Lets other Python threads run, for as long as it lives.
class WithoutGIL {
   public:
    WithoutGIL() : state_(PyEval_SaveThread()) {}
    WithoutGIL(const WithoutGIL &) = delete;
    ~WithoutGIL() { PyEval_RestoreThread(state_); }

   private:
    PyThreadState *const state_;
};

PyObject *engine_steps(PyObject *self, PyObject *args, PyObject *kwargs) {
    return guarded<PyObject *>(nullptr, [&]() -> PyObject * {
        static const char *names[] = {"X", "Y", "order", "batch_size", "rule", "coefficients", "penalty", "input_scale",
                                      "threads", "sums", "alpha", "weights", "uniform", nullptr};
        PyObject *X, *Y, *order, *coefficients, *penalty = nullptr;
        PyObject *alpha = Py_None, *weights = Py_None, *uniform = Py_None;
        long long batch_size;
        const char *rule;
        int threads = 1;
        Job job{};
        job.input_scale = 1.0;
        if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOLsO|Odi(dd)OOO:steps", const_cast<char **>(names), &X, &Y, &order,
                                         &batch_size, &rule, &coefficients, &penalty, &job.input_scale, &threads,
                                         &job.total, &job.squares, &alpha, &weights, &uniform))
            throw PythonError{};
        const Turn turn(self);
        if (batch_size < 1) value_error("batch_size must be at least 1");
        if (threads < 1 || threads > MOST_THREADS) value_error("threads must be 1 to " + std::to_string(MOST_THREADS));
        job.batch_size = batch_size;
        job.rule = Rule(index_of(rule, RULES, "rule"));
        set_coefficients(job, coefficients);
        if (penalty) set_penalty(job, penalty);
        set_alpha(job, alpha);
        const Array inputs(X, "X", false), targets(Y, "Y", false), rows(order, "order", false);
        rows.expect_type('q', "int64");
        rows.expect_shape({-1});
        std::optional<Array> of_examples, drawn;
        if (weights != Py_None) of_examples.emplace(weights, "weights", false);
        if (uniform != Py_None) drawn.emplace(uniform, "uniform", false);
        {
            const WithoutGIL without;
            turn.engine.steps(inputs, targets, of_examples ? &*of_examples : nullptr, drawn ? &*drawn : nullptr, rows,
                              job, threads);
        }
        return Py_BuildValue("(dd)", job.total, job.squares);
    });
}

PyObject *engine_instruction_set(PyObject *self, void *) {
    return PyUnicode_FromString(reinterpret_cast<EngineObject *>(self)->engine->instruction_set.name);
}

PyObject *instruction_sets(PyObject *, PyObject *) {
    return guarded<PyObject *>(nullptr, [&]() -> PyObject * {
        const auto usable = usable_instruction_sets();
        PyObject *names = checked(PyTuple_New(Py_ssize_t(usable.size())));
        for (size_t i = 0; i < usable.size(); i++)
            PyTuple_SetItem(names, Py_ssize_t(i), PyUnicode_FromString(usable[i]->name));
        return names;
    });
}

PyMethodDef engine_methods[] = {
    {"load", engine_load, METH_VARARGS,
     "load(parameters, states): copy flat arrays of all weights and then all biases into the engine."},
    {"store", engine_store, METH_VARARGS, "store(parameters, states): copy them from the engine into flat arrays."},
    {"steps", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(engine_steps)), METH_VARARGS | METH_KEYWORDS,
     "steps(X, Y, order, batch_size, rule, coefficients, penalty=(0.0, 0.0, 0.0), input_scale=1.0, threads=1,\n"
     "sums=(0.0, 0.0), alpha=None, weights=None, uniform=None): train on the rows in `order`, mini-batch by mini-batch;\n"
     "return `sums` with what was added: the examples' costs, each as its mini-batch met it, and with an alpha the\n"
     "squares of w before each step. The penalty is (l2, l1, decay); alpha over what the mini-batch's examples weigh is\n"
     "added to l2. uniform are dropout's random numbers."},
    {nullptr, nullptr, 0, nullptr},
};

PyGetSetDef engine_attributes[] = {
    {"instruction_set", engine_instruction_set, nullptr, "The instruction set that it was made for.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyType_Slot engine_slots[] = {
    {Py_tp_doc, const_cast<char *>(
                    "Engine(sizes, activations, cost, dtype, instruction_set=None, floor=0.0, dropout=()): a network in\n"
                    "the CPU's memory, trained by compiled mini-batch gradient descent. The cost's logarithms take what\n"
                    "is smaller than floor for floor; dropout has the share of each layer but the output.")},
    {Py_tp_new, reinterpret_cast<void *>(engine_new)},
    {Py_tp_dealloc, reinterpret_cast<void *>(engine_dealloc)},
    {Py_tp_methods, engine_methods},
    {Py_tp_getset, engine_attributes},
    {0, nullptr},
};

PyType_Spec engine_spec = {"gpunet._engine.Engine", sizeof(EngineObject), 0, Py_TPFLAGS_DEFAULT, engine_slots};

PyMethodDef module_functions[] = {
    {"instruction_sets", instruction_sets, METH_NOARGS,
     "instruction_sets(): the instruction sets that this CPU has and the engine is compiled for, the best first."},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT, "gpunet._engine", "gpunet's compiled training loop for CPUs.", -1, module_functions,
    nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__engine() {
    PyObject *module = PyModule_Create(&module_definition);
    if (!module) return nullptr;
    PyObject *type = PyType_FromSpec(&engine_spec);
    if (!type || PyModule_AddObjectRef(module, "Engine", type) < 0) {
        Py_XDECREF(type);
        Py_DECREF(module);
        return nullptr;
    }
    Py_DECREF(type);
    return module;
}
