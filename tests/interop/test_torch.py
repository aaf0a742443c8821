"""PyTorch's modules and state dicts: they compute the same, come back the same, and what does not fit is named."""

import json

import numpy as np
import pytest

from gpunet import Activation, GpunetError, InputError, Network, mixed
from gpunet.activations import BUILT_IN, from_json, to_json
from gpunet.interop import from_torch, save_torch_state_dict, to_torch, to_torch_state_dict
from gpunet.interop.torch_layers import MODULES

SOFTSIGN = Activation("softsign", lambda z, xp: z / (1 + xp.abs(z)), lambda z, xp: 1 / (1 + xp.abs(z)) ** 2)


@pytest.fixture(scope="module", autouse=True)
def nn(torch):
    return torch.nn


@pytest.fixture(scope="module")
def outputs(torch):
    """What a module makes of rows, as a NumPy array."""

    def outputs(module, X):
        with torch.no_grad():
            return module(torch.from_numpy(X)).numpy()

    return outputs


def small(**options):
    return Network([4, 5, 3], device="cpu", seed=0, **options)


def spec(net):
    return [to_json(f) for f in net.activations]


# -- Out -----------------------------------------------------------------------------------------------------


def test_the_module_computes_the_same(net, rows, torch, outputs, close):
    module = to_torch(net)
    close(outputs(module, rows), net.outputs(rows))
    assert {p.dtype for p in module.parameters()} == {getattr(torch, net.dtype)}


def test_each_activation(activation_net, rows, outputs, close):
    close(outputs(to_torch(activation_net), rows), activation_net.outputs(rows))


def test_every_built_in_activation_has_a_module():
    assert set(BUILT_IN) <= set(MODULES)


def test_the_state_dict(net, rows, nn, torch, outputs, close):
    state = to_torch_state_dict(net)
    L = net.num_layers - 1
    assert list(state) == [f"{2 * l}.{kind}" for l in range(L) for kind in ("weight", "bias")]
    assert {name: value.dtype for name, value in state.items()} == dict.fromkeys(state, getattr(torch, net.dtype))
    own = to_torch(net)
    assert list(own.state_dict()) == list(state)
    assert all(torch.equal(own.state_dict()[name], state[name]) for name in state)
    own.load_state_dict(state)
    # And that of a module written by hand.
    if all(by_name(nn, f.name) for f in net.activations):
        modules = []
        for l, f in enumerate(net.activations):
            modules += [nn.Linear(net.sizes[l], net.sizes[l + 1]), by_name(nn, f.name)]
        by_hand = nn.Sequential(*modules).to(getattr(torch, net.dtype))
        by_hand.load_state_dict(state)
        close(outputs(by_hand, rows * rows.dtype.type(net.input_scale)), net.outputs(rows))


def by_name(nn, name):
    return {
        "sigmoid": nn.Sigmoid(),
        "tanh": nn.Tanh(),
        "relu": nn.ReLU(),
        "linear": nn.Identity(),
        "softmax": nn.Softmax(dim=1),
    }.get(name)


def test_bytes_may_go_in(dtype, outputs, close):
    net = small(input_scale=1 / 255, dtype=dtype)
    X = np.random.default_rng(0).integers(0, 256, (20, 4)).astype(np.uint8)
    close(outputs(to_torch(net), X), net.outputs(X))


def test_the_scale_goes_along_to_another_dtype(torch, outputs):
    net = small(input_scale=1 / 256)
    X = np.random.default_rng(0).normal(size=(20, 4)) * 256
    found = outputs(to_torch(net).double(), X)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, net.outputs(X), atol=1e-6)


def test_no_memory_is_shared(torch):
    net = small()
    module, state = to_torch(net), to_torch_state_dict(net)
    before = [w.copy() for w in net.weights]
    with torch.no_grad():
        module.get_parameter("0.weight").zero_()
    state["2.weight"].zero_()
    assert all(np.array_equal(a, b) for a, b in zip(before, net.weights, strict=True))
    again = from_torch(module, device="cpu")
    again.weights[1][:] = 1
    assert (module.get_parameter("2.weight") != 1).all()


def test_gradients_are_those_of_backpropagation(torch, nn):
    net = Network(
        [4, 5, 3],
        activation=[mixed("sigmoid", {0: "tanh", 2: "linear"}), "softmax"],
        cost="log-likelihood",
        dtype="float64",
        device="cpu",
        seed=1,
        input_scale=0.5,
    )
    X, labels = np.random.default_rng(0).normal(size=(6, 4)), np.array([0, 1, 2, 2, 1, 0])
    module = to_torch(net)
    nn.NLLLoss(reduction="sum")(module(torch.from_numpy(X)).log(), torch.from_numpy(labels)).backward()
    nabla_b, nabla_w = net.backprop(X.T, np.eye(3)[labels].T)
    for l in range(2):
        np.testing.assert_allclose(module.get_parameter(f"{2 * l}.weight").grad, nabla_w[l], rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(
            module.get_parameter(f"{2 * l}.bias").grad, nabla_b[l][:, 0], rtol=1e-10, atol=1e-14
        )


def test_a_module_can_be_pickled_by_its_own_library(torch, tmp_path, outputs):
    net = small(input_scale=0.5, activation=[mixed("tanh", {1: "relu"}), "sigmoid"])
    torch.save(to_torch(net), tmp_path / "module.pt")
    again = torch.load(tmp_path / "module.pt", weights_only=False)
    X = np.ones((2, 4), np.float32)
    np.testing.assert_allclose(outputs(again, X), net.outputs(X), atol=1e-6)


def test_the_file(net, tmp_path, same_parameters):
    from safetensors import safe_open
    from safetensors.torch import load_file

    net.metadata = {"classes": ["a", "ü"]}
    path = tmp_path / "state.safetensors"
    path.write_text("old")
    save_torch_state_dict(net, path)
    with safe_open(path, framework="pt") as file:
        texts = file.metadata()
    assert texts.pop("format") == "pt"
    found = {name: json.loads(text) for name, text in texts.items()}
    assert found == {
        "activations": spec(net),
        "input_scale": net.input_scale,
        "metadata.classes": ["a", "ü"],
    }
    own = [from_json(f, {}) for f in found["activations"]]
    again = from_torch(load_file(path), activations=own, input_scale=found["input_scale"], device="cpu")
    assert same_parameters(again, net)
    assert spec(again) == spec(net)
    assert again.input_scale == net.input_scale


def test_the_file_needs_no_pytorch(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    save_torch_state_dict(small(), tmp_path / "state.safetensors")
    with pytest.raises(GpunetError, match=r"needs torch, which is not installed: pip install 'torch'"):
        to_torch(small())
    with pytest.raises(GpunetError, match="needs torch"):
        to_torch_state_dict(small())
    with pytest.raises(GpunetError, match="needs torch"):
        from_torch(object())


def test_what_can_not_be_exported():
    with pytest.raises(InputError, match="'softsign' is not built in, and PyTorch knows nothing of it"):
        to_torch(small(activation=[SOFTSIGN, "tanh"]))
    assert to_torch_state_dict(small(activation=[SOFTSIGN, "tanh"]))  # has no activations
    net = small()
    net.weights[1][0, 0] = np.inf
    for function in (to_torch, to_torch_state_dict):
        with pytest.raises(InputError, match="layer 2 of the network holds NaN or infinity"):
            function(net)
        with pytest.raises(InputError, match=r"a gpunet\.Network is needed"):
            function(to_torch(small()))


# -- In ------------------------------------------------------------------------------------------------------


def test_it_comes_back_the_same(net, rows, same_parameters):
    for again in (
        from_torch(to_torch(net), cost=net.cost, device="cpu"),
        from_torch(
            to_torch_state_dict(net),
            activations=net.activations,
            cost=net.cost,
            input_scale=net.input_scale,
            device="cpu",
        ),
    ):
        assert same_parameters(again, net)
        assert spec(again) == spec(net)
        assert (again.input_scale, again.cost, again.task) == (net.input_scale, net.cost, net.task)
        assert np.array_equal(again.outputs(rows), net.outputs(rows))


def test_each_activation_comes_back(activation_net):
    again = from_torch(to_torch(activation_net), device="cpu")
    assert spec(again) == spec(activation_net)


@pytest.fixture
def by_hand(nn, torch):
    """A module as people write it, with parts that do nothing when it predicts."""
    torch.manual_seed(0)
    shared = nn.ReLU()
    return nn.Sequential(
        nn.Flatten(),
        nn.Sequential(nn.Linear(4, 6), shared, nn.Dropout(0.5)),
        nn.Linear(6, 5),
        shared,
        nn.Identity(),
        nn.Linear(5, 5),
        shared,  # the same object twice within one Sequential
        nn.Linear(5, 3),
    ).eval()


def test_a_module_by_hand(by_hand, outputs, rows, close):
    net = from_torch(by_hand, dtype="float32", device="cpu")
    assert spec(net) == ["relu", "relu", "relu", "linear"]
    assert net.cost.name == "quadratic"
    X = rows[:, :4].astype(np.float32)
    close(net.outputs(X), outputs(by_hand, X))


@pytest.mark.parametrize(("output", "cost"), [("softmax", "log-likelihood"), ("sigmoid", "cross-entropy")])
def test_logits(by_hand, nn, outputs, rows, close, output, cost):
    net = from_torch(by_hand, output_activation=output, device="cpu")
    assert spec(net) == ["relu", "relu", "relu", output]
    assert (net.cost.name, net.task) == (cost, "classification")
    X = rows[:, :4].astype(np.float32)
    close(net.outputs(X), outputs(nn.Sequential(by_hand, by_name(nn, output)), X))
    net.fit(X, np.arange(len(X)) % 3, epochs=1)  # learns on


def test_one_linear_layer_alone(nn):
    assert from_torch(nn.Linear(4, 3), device="cpu").sizes == [4, 3]


def test_the_default_softplus_is_the_same(nn):
    assert spec(from_torch(nn.Sequential(nn.Linear(2, 3), nn.Softplus()), device="cpu")) == ["softplus"]


def test_a_leaky_relu_of_any_slope(nn):
    net = from_torch(nn.Sequential(nn.Linear(2, 3), nn.LeakyReLU(0.3)), device="cpu")
    assert net.activations[0].alpha == 0.3


def test_options_reach_the_network(nn):
    net = from_torch(nn.Linear(4, 3), cost="quadratic", input_scale=0.5, dtype="float64", device="cpu", seed=2)
    assert (net.input_scale, net.dtype) == (0.5, "float64")


def test_half_precision_is_not_converted_in_silence(nn, torch):
    module = nn.Linear(4, 3).half()
    with pytest.raises(InputError, match=r"parameters are of float16.*pass dtype='float32'"):
        from_torch(module, device="cpu")
    assert from_torch(module, dtype="float32", device="cpu").dtype == "float32"
    with pytest.raises(InputError, match=r"is of bfloat16; convert it before.*float\(\)"):
        from_torch(module.to(torch.bfloat16), dtype="float32", device="cpu")


def state(**changes):
    made = {
        "0.weight": np.ones((5, 4), "f4"),
        "0.bias": np.ones(5, "f4"),
        "2.weight": np.ones((3, 5), "f4"),
        "2.bias": np.ones(3, "f4"),
    } | changes
    return {name: value for name, value in made.items() if value is not None}


def test_a_state_dict_of_arrays_in_any_order():
    named = {}
    for l in range(12):
        named[f"net.fc{l}.weight"], named[f"net.fc{l}.bias"] = np.ones((l + 3, l + 2)), np.zeros(l + 3)
    by_name = dict(sorted(named.items()))
    assert list(by_name).index("net.fc10.bias") < list(by_name).index("net.fc2.bias")
    assert from_torch(by_name, activations="tanh", device="cpu").sizes == list(range(2, 15))


@pytest.mark.parametrize(
    ("given", "fragment"),
    [
        ({}, "the state dict is empty"),
        (state(**{"2.bias": None}), r"has no '2\.bias'\. Every layer of a network has biases; zeros"),
        (state(**{"0.weight": None}), r"has no '0\.weight'\."),
        (state(**{"0.weight": np.ones((5, 4, 3, 3), "f4")}), r"0\.weight has shape \(5, 4, 3, 3\).*convolutions"),
        (state(**{"0.weight": np.ones(5, "f4")}), r"0\.weight has shape \(5,\)"),
        (state(**{"0.weight": np.ones((0, 4), "f4")}), r"0\.weight has shape \(0, 4\)"),
        (state(**{"0.bias": np.ones((5, 1), "f4")}), r"0\.bias has shape \(5, 1\), but .* needs \(5,\)"),
        (state(**{"2.weight": np.ones((3, 6), "f4")}), "0.weight has 5 outputs, but 2.weight takes 6 inputs"),
        (state(**{"1.running_mean": np.ones(5, "f4")}), "has '1.running_mean'; names such as"),
        ({"hidden.weight": 1, "out.weight": 1}, "has 'hidden.weight'; names such as '0.weight'"),
        ({"a0.weight": 1, "b0.weight": 1}, "the order of 'a0.weight' and 'b0.weight' can not be told"),
        ({0: np.ones((3, 4))}, "has 0; names such as"),
        (state(**{"2.bias": np.ones(3, "i4")}), "2.bias must hold floating-point numbers, got dtype int32"),
        (state(**{"2.bias": "text"}), "2.bias must hold floating-point numbers"),
        (state(**{"2.bias": [[1.0], [1.0, 2.0]]}), "2.bias can not be read as an array"),
        (state(**{"2.bias": np.full(3, np.nan, "f4")}), r"biases\[1\] must be finite"),
        (state(**{"2.bias": np.ones(3, "f8")}), "the parameters are of float32 and float64"),
    ],
    ids=range(17),
)
def test_state_dicts_that_do_not_fit(given, fragment):
    with pytest.raises(InputError, match=fragment):
        from_torch(given, activations="tanh", device="cpu")


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ({}, "does not say its activations: pass activations="),
        ({"activations": ["tanh"]}, "2 layers after the input, but activation gave 1"),
        ({"activations": "tahn"}, "Did you mean 'tanh'"),
        ({"activations": "relu", "output_activation": "softmax", "cost": "cross-entropy"}, "cost is for sigmoid"),
        ({"activations": "relu", "input_scale": 0}, "input_scale must be"),
        ({"activations": "relu", "dtype": "float16"}, "unknown dtype"),
    ],
    ids=range(6),
)
def test_arguments_that_do_not_fit(arguments, fragment):
    with pytest.raises(InputError, match=fragment):
        from_torch(state(), device="cpu", **arguments)


def modules_that_do_not_fit(nn):
    class MLP(nn.Module):
        pass

    class Own(nn.Linear):
        pass

    l1, l2 = nn.Linear(4, 5), nn.Linear(5, 3)
    s = nn.Sequential
    return {
        r"0 has no bias.*zeros": s(nn.Linear(4, 3, bias=False)),
        r"1 is BatchNorm1d; what can be taken over is .*Sigmoid, Tanh": s(l1, nn.BatchNorm1d(5), l2),
        r"0 is Conv2d": s(nn.Conv2d(1, 2, 3), l1),
        r"the module is MLP; .*its forward computes can not be seen: pass its state_dict": MLP(),
        r"0 is Own; .*can not be seen": s(Own(4, 3)),
        r"1 is LogSoftmax; .*output_activation='softmax'": s(l1, nn.LogSoftmax(dim=1)),
        r"1, Softmax\(dim=0\), is not gpunet's softmax: dim would have to be -1": s(l1, nn.Softmax(dim=0)),
        r"1, GELU\(approximate='none'\), is not gpunet's gelu: approximate would .* 'tanh'": s(l1, nn.GELU()),
        r"1, LeakyReLU\(negative_slope=1.5\), .*alpha of leaky_relu must be a number between 0 and 1": s(
            l1, nn.LeakyReLU(1.5)
        ),
        r"2, Tanh\(\), is the second activation after 0": s(l1, nn.ReLU(), nn.Tanh()),
        r"0, Tanh\(\), stands before the first Linear": s(nn.Tanh(), l1),
        r"1 is Flatten": s(l1, nn.Flatten(), l2),
        r"0 is Flatten": s(nn.Flatten(0, 1), l1),
        r"has no Linear layer": s(nn.Identity()),
        r"0\.weight has 5 outputs, but 1\.weight takes 4": s(l1, nn.Linear(4, 3)),
        r"1\.0 is Hardtanh": s(l1, s(nn.Hardtanh())),
    }


def test_modules_that_do_not_fit(nn):
    for fragment, module in modules_that_do_not_fit(nn).items():
        with pytest.raises(InputError, match=fragment):
            from_torch(module, device="cpu")


def test_what_a_module_says_itself_is_not_said_again(nn):
    with pytest.raises(InputError, match="a module says its activations itself"):
        from_torch(nn.Linear(4, 3), activations="tanh")
    with pytest.raises(InputError, match=r"last layer has an activation, tanh; leave out `output_activation`"):
        from_torch(nn.Sequential(nn.Linear(4, 3), nn.Tanh()), output_activation="softmax")
    with pytest.raises(InputError, match=r"input scale of its own, 0\.5; leave out"):
        from_torch(to_torch(small(input_scale=0.5)), input_scale=0.5)


@pytest.mark.parametrize("thing", ["model.pt", None, 5, [1, 2]])
def test_what_is_no_module(thing):
    with pytest.raises(InputError, match=r"a torch\.nn\.Sequential or a state dict is needed, got"):
        from_torch(thing)
