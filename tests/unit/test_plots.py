"""The pictures: what they show, that every text is whole and alone in its place, and that nothing global changes."""

import subprocess
import sys
from itertools import combinations

import extras
import numpy as np
import pytest

import gpunet
from gpunet import drawing, plots
from gpunet.errors import GpunetError, InputError
from gpunet.plots import network, report
from gpunet.preprocessing import Preprocessing
from gpunet.training.history import Epoch, History, LayerFacts

matplotlib = extras.need("matplotlib")
FORMATS = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}


@pytest.fixture(autouse=True)
def _few_dots(monkeypatch):
    monkeypatch.setattr(drawing, "_DPI", 40)


def history(epochs=5, layers=0, validation=True, task="classification", decay=1.0, idle=("saturated",)):
    """A training as it could have been, its numbers of several magnitudes."""

    def facts(n, l):
        shares = {name: (n + l) / (epochs + layers) for i, name in enumerate(idle) if (l + i) % len(idle) == 0}
        return LayerFacts(10.0**-l / (n + 1), 10.0 ** -(l + 1) / (n + 2), 5.0 + n * l, **shares)

    def epoch(n):
        measured = (1.2 / (n + 1) + 0.1, 1 - 0.5 / (n + 2)) if validation else ()
        by_layer = tuple(facts(n, l) for l in range(layers)) if layers else None
        return Epoch(n, 1.0 / (n + 1), 0.5, 2000.0, *measured, eta=0.3 * decay**n, layers=by_layer)

    return History("cpu", "numpy on cpu", "compiled", "adam", 0.3, 10, [epoch(n) for n in range(epochs)], task=task)


def shown(figure):
    """Every text that the figure shows, with its box."""
    figure.draw_without_rendering()
    hidden = set()
    for axes in figure.findobj(matplotlib.axes.Axes):
        for axis in (axes.xaxis, axes.yaxis):
            drawn = axis._update_ticks() if axes.axison else []
            ticks = {tick for tick in (*axis.majorTicks, *axis.minorTicks) if tick not in drawn}
            hidden |= {label for tick in ticks for label in (tick.label1, tick.label2)}
            if not axes.axison:
                hidden |= {axis.label, axis.offsetText}
    texts = (text for text in figure.findobj(matplotlib.text.Text) if text not in hidden)
    return [(t.get_text(), t.get_window_extent()) for t in texts if t.get_visible() and t.get_text().strip()]


def assert_readable(figure):
    """No text leaves the figure or meets another one, and none is tiny."""
    page = figure.bbox
    texts = shown(figure)
    assert texts
    for text, box in texts:
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= page.x1 + 1 and box.y1 <= page.y1 + 1
        assert inside, f"{text!r} leaves the page: {box}"
    for (one, a), (other, b) in combinations(texts, 2):
        width = min(a.x1, b.x1) - max(a.x0, b.x0)
        height = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert width < 1 or height < 1, f"{one!r} and {other!r} overlap by {width:.0f} x {height:.0f} points"
    sizes = [text.get_fontsize() for text in figure.findobj(matplotlib.text.Text) if text.get_text().strip()]
    assert min(sizes) >= 6


def titles(figure):
    return [axes.get_title() for axes in figure.findobj(matplotlib.axes.Axes) if axes.get_title()]


def axes_of(figure, title):
    (found,) = [axes for axes in figure.findobj(matplotlib.axes.Axes) if axes.get_title() == title]
    return found


# -- The course of a training --------------------------------------------------------------------------------------

HISTORIES = {
    "one epoch": {"epochs": 1, "layers": 3},
    "one epoch, nothing else": {"epochs": 1, "validation": False},
    "no validation": {"validation": False},
    "3 layers": {"layers": 3},
    "12 layers of two kinds": {"layers": 12, "epochs": 40, "idle": ("saturated", "dead"), "decay": 0.8},
    "schedule": {"decay": 0.9},
    "regression": {"task": "regression", "layers": 2, "idle": ()},
    "unknown task": {"task": None},
    "300 epochs": {"epochs": 300, "layers": 2},
}


@pytest.mark.parametrize("options", HISTORIES.values(), ids=HISTORIES)
def test_every_text_of_a_training_is_readable(options):
    assert_readable(plots.training_curves(history(**options)))


def test_the_panels_are_those_that_there_is_something_to_draw_for():
    lengths = ["length of the errors", "length of the gradients", "length of the weights"]
    assert titles(plots.training_curves(history(validation=False))) == ["cost"]
    assert titles(plots.training_curves(history(5))) == ["cost", "best: 91.67 % in epoch 4"]
    assert titles(plots.training_curves(history(5, task="regression"))) == ["cost", "best: 0.9167 in epoch 4"]
    there = history(5)
    there.best_epoch = 2
    kept = 100 * there.epochs[2].validation_score
    assert titles(plots.training_curves(there)) == ["cost", f"kept: {kept:.2f} % in epoch 2"]
    assert titles(plots.training_curves(history(decay=0.9)))[2] == "learning rate"
    assert titles(plots.training_curves(history(layers=2)))[2:] == [*lengths, "saturated neurons"]
    assert titles(plots.training_curves(history(layers=2, idle=())))[2:] == lengths
    assert titles(plots.training_curves(history(layers=2, idle=("dead",))))[-1] == "dead neurons"
    both = plots.training_curves(history(layers=2, idle=("saturated", "dead")))
    assert titles(both)[-1] == "saturated or dead neurons (hollow)"


def test_the_lines_are_the_historys_numbers():
    there = history(5, layers=3, idle=("saturated", "dead"), decay=0.5)
    figure = plots.training_curves(there)

    def lines(title):
        return [list(line.get_ydata()) for line in axes_of(figure, title).lines]

    assert lines("cost") == [there.cost, there.validation_cost]
    assert lines("best: 91.67 % in epoch 4") == [[100 * score for score in there.validation_score]]
    assert lines("learning rate") == [there.etas]
    for title, name in (("errors", "delta_norm"), ("gradients", "gradient_norm"), ("weights", "weight_norm")):
        by_layer = [[getattr(epoch.layers[l], name) for epoch in there.epochs] for l in range(3)]
        assert lines(f"length of the {title}") == by_layer
    idle = [
        *([100 * epoch.layers[l].saturated for epoch in there.epochs] for l in (0, 2)),
        [100 * epoch.layers[1].dead for epoch in there.epochs],
    ]
    assert lines("saturated or dead neurons (hollow)") == idle
    assert axes_of(figure, "length of the errors").get_yscale() == "log"
    assert axes_of(figure, "length of the weights").get_yscale() == "linear"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["layer 1", "layer 2", "layer 3"]


def test_no_two_layers_look_the_same():
    figure = plots.training_curves(history(layers=12))
    lines = axes_of(figure, "length of the errors").lines
    assert len({line.get_color() for line in lines}) == 12
    assert len({(line.get_marker(), str(line._unscaled_dash_pattern)) for line in lines}) == 12  # without colour too
    cost = axes_of(figure, "cost").lines
    assert cost[0].get_marker() != cost[1].get_marker()


def test_numbers_that_are_not_finite_are_left_out():
    there = history(3, layers=1)
    strange = Epoch(
        3, float("inf"), 1.0, 1.0, float("nan"), 0.5, layers=(LayerFacts(0.0, float("nan"), float("inf")),)
    )
    there.epochs.append(strange)
    figure = plots.training_curves(there)
    assert_readable(figure)
    assert list(np.isnan(axes_of(figure, "cost").lines[0].get_ydata())) == [False, False, False, True]


def test_r_squared_far_below_zero_does_not_press_the_rest_together():
    there = history(0, task="regression")
    there.epochs += [Epoch(n, 1.0, 1.0, 1.0, 1.0, score) for n, score in enumerate((-500.0, 0.2, 0.9))]
    low, high = axes_of(plots.training_curves(there), "best: 0.9000 in epoch 2").get_ylim()
    assert low == -1
    assert high > 0.9


def test_plot_is_the_methods_picture(tmp_path):
    figure = history().plot(tmp_path / "run.png")
    assert isinstance(figure, matplotlib.figure.Figure)
    assert (tmp_path / "run.png").read_bytes().startswith(FORMATS["png"])
    assert titles(figure) == titles(plots.training_curves(history()))


def test_an_optimizer_without_a_learning_rate():
    there = history(0)
    there.eta = None
    there.epochs.append(Epoch(0, 1.0, 1.0, 1.0))
    figure = plots.training_curves(there)
    assert titles(figure) == ["cost"]
    assert figure.get_suptitle() == "adam, mini-batch 10, numpy on cpu"


def test_nothing_to_draw():
    with pytest.raises(InputError, match="no epochs yet"):
        history(0).plot()


# -- Networks ------------------------------------------------------------------------------------------------------


def net_of(*sizes, **options):
    return gpunet.Network(list(sizes), device="cpu", seed=0, **options)


@pytest.mark.parametrize(("neurons", "shape"), [(1, None), (3, (14, 56)), (30, None), (300, (56, 14))])
def test_first_layer_weights(neurons, shape):
    net = net_of(784, neurons, 2)
    figure = plots.first_layer_weights(net, shape)
    assert_readable(figure)
    (image,) = figure.axes[0].images
    sheet = np.asarray(image.get_array().filled(np.nan))
    drawn = min(neurons, network.MOST_IMAGES)
    assert np.isfinite(sheet).sum() == 784 * drawn
    rows, columns = shape or (28, 28)
    top = network._cell((rows, columns))[0] - rows
    np.testing.assert_array_equal(sheet[top : top + rows, :columns], net.weights[0][0].reshape(rows, columns))
    assert image.norm.vmin == -image.norm.vmax
    words = titles(figure)[0]
    assert words == ("weights of layer 1, neurons 1 to 64 of 300" if neurons == 300 else "weights of layer 1")


@pytest.mark.parametrize(
    ("n_in", "shape", "message"),
    [
        (10, None, r"10 inputs are no square image; pass shape=\(rows, columns\)"),
        (784, (28, 29), r"an image of shape \(28, 29\) has 812 numbers; the network takes 784"),
        (784, 28, r"shape must be \(rows, columns\)"),
        (784, (28, 28, 1), r"shape must be \(rows, columns\)"),
        (784, (-28, -28), "a side of shape must be a whole number of at least 1"),
    ],
)
def test_inputs_that_are_no_image(n_in, shape, message):
    with pytest.raises(InputError, match=message):
        plots.first_layer_weights(net_of(n_in, 3, 2), shape)


def classified(n, examples=600):
    """A network of n classes that hands its input through, and data that it has right but for every seventh."""
    net = net_of(max(n, 2), max(n, 2), activation="softmax", cost="log-likelihood")
    net.weights, net.biases = [np.eye(max(n, 2))], [np.zeros((max(n, 2), 1))]
    y = np.arange(examples) % n
    says = np.where(np.arange(examples) % 7 == 3, (y + 1) % n, y)
    return net, np.eye(n)[says], y, says


LONG = "a species with a very long name "


@pytest.mark.parametrize(("n", "name"), [(2, LONG), (3, ""), (10, ""), (12, LONG), (20, ""), (40, LONG), (100, "")])
def test_confusion_matrix(n, name):
    net, X, y, says = classified(n)
    names = [f"{name}{i}" for i in range(n)]
    figure = plots.confusion_matrix(net, X, y, names if name else None)
    assert_readable(figure)
    counts = np.zeros((n, n), dtype=int)
    for true, said in zip(y, says, strict=True):
        counts[true, said] += 1
    matrix, told = network.count_classes(net, X, y, names)
    np.testing.assert_array_equal(matrix, counts)
    assert told == names
    right = int((y == says).sum())
    assert titles(figure) == [f"{right} of 600 right, {right / 6:.2f} %"]
    shares = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(shares, 100 * counts / counts.sum(axis=1, keepdims=True))
    numbers = [text.get_text() for text in figure.axes[0].texts]
    assert numbers == ([str(c) for c in counts.ravel() if c] if n <= 20 else [])
    if n <= 40:  # names that are cut stay apart
        labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
        assert len(set(labels)) == n


def test_one_hot_rows_and_classes_that_never_came():
    net, X, y, _ = classified(4)
    matrix, _ = network.count_classes(net, X[y < 2], np.eye(4)[y[y < 2]], None)
    assert matrix.shape == (4, 4)
    assert matrix[2:].sum() == 0
    assert_readable(plots.confusion_matrix(net, X[y < 2], y[y < 2]))


def test_a_single_output_is_two_classes():
    net = net_of(1, 1)
    net.weights, net.biases = [np.array([[10.0]])], [np.array([[-5.0]])]
    X, y = np.array([[0.0], [1.0], [1.0]]), np.array([0, 1, 0])
    matrix, names = network.count_classes(net, X, y, None)
    np.testing.assert_array_equal(matrix, [[1, 1], [0, 1]])
    assert names == ["0", "1"]
    np.testing.assert_array_equal(network.count_classes(net, X, y[:, None], None)[0], matrix)


def test_what_makes_no_confusion_matrix():
    net, X, y, _ = classified(3)
    with pytest.raises(InputError, match="class_names has 2 names for the network's 3 classes"):
        plots.confusion_matrix(net, X, y, ["ant", "bee"])
    with pytest.raises(InputError, match=r"y must have a label or a row of 3 outputs for each of the 600 examples"):
        plots.confusion_matrix(net, X, y[:-1])
    with pytest.raises(InputError, match="has the label 3"):
        plots.confusion_matrix(net, X, y + 1)
    linear = net_of(3, 2, output_activation="linear")
    with pytest.raises(InputError, match="this network predicts numbers"):
        plots.confusion_matrix(linear, X, y)


# -- Learning rates ------------------------------------------------------------------------------------------------


def test_learning_rate_finder():
    etas = np.geomspace(1e-4, 10, 50)
    costs = 2 - np.tanh(10 * etas) + np.where(etas > 2, 1e6, 0.0)
    costs[-2:] = np.nan, np.inf
    figure = plots.learning_rate_finder(etas, costs, 0.25)
    assert_readable(figure)
    (axes,) = figure.axes
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), etas[:-2])
    assert axes.get_ylim()[1] < 10  # what follows the divergence does not hide the rest
    assert list(axes.lines[1].get_xdata()) == [0.25, 0.25]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["suggested: η = 0.25"]
    assert axes.get_xscale() == "log"
    assert plots.learning_rate_finder(list(etas), list(costs)).axes[0].get_legend() is None


@pytest.mark.parametrize(
    ("etas", "costs", "suggestion", "message"),
    [
        ([1.0], [1.0, 2.0], None, r"of one length, got shapes \(1,\) and \(2,\)"),
        ([1.0], [np.nan], None, "no finite cost"),
        ([], [], None, "no finite cost"),
        ([1.0], ["low"], None, "costs must hold"),
        ([1.0], [1.0], -1.0, "suggestion must be a finite number above 0"),
    ],
)
def test_what_is_no_search(etas, costs, suggestion, message):
    with pytest.raises(InputError, match=message):
        plots.learning_rate_finder(etas, costs, suggestion)


# -- One page ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "n"), [("one epoch", 2), ("no validation", 10), ("3 layers", 40)])
def test_the_page_of_classes(name, n):
    net, X, y, _ = classified(n)
    there = history(**HISTORIES[name])
    figure = plots.training_report(there, net, X, y, [f"class {i}" for i in range(n)])
    assert_readable(figure)
    *course, last = titles(figure)
    assert course == titles(plots.training_curves(there))
    assert "of 600 right" in last


def test_the_page_of_a_deep_network_of_images():
    net = net_of(784, *[30] * 11, 10, activation=["relu"] * 5 + ["tanh"] * 3 + ["sigmoid"] * 4)
    X, y = np.random.default_rng(0).random((50, 784)), np.arange(50) % 10
    figure = plots.training_report(history(40, 12, idle=("saturated", "dead"), decay=0.9), net, X, y)
    assert_readable(figure)
    assert "weights of layer 1" in titles(figure)
    first = figure.get_suptitle().splitlines()[0]
    assert first == "[784, 11×30, 10], 5×relu, 3×tanh, 4×sigmoid, quadratic cost, 33,160 parameters"


def test_the_page_of_numbers():
    net = net_of(2, 2, output_activation="linear")
    net.weights, net.biases = [np.eye(2)], [np.zeros((2, 1))]
    X = np.random.default_rng(0).normal(size=(50, 2))
    figure = plots.training_report(history(task="regression"), net, X, X)
    assert_readable(figure)
    points = axes_of(figure, "R² 1.0000").lines[0]
    np.testing.assert_array_equal(points.get_xdata(), X.ravel())
    np.testing.assert_allclose(points.get_ydata(), X.ravel(), rtol=1e-6)


def test_numbers_of_a_table_are_in_their_own_unit():
    rng = np.random.default_rng(0)
    table = {"area": rng.uniform(30, 120, 50), "rent in $ a_month": rng.uniform(300, 1200, 50)}
    prepared = Preprocessing.fit(table, target="rent in $ a_month")
    net = net_of(1, 1, output_activation="linear")
    net.metadata["preprocessing"] = prepared.to_json()
    X, y = prepared.inputs(table), prepared.targets(table)
    figure = plots.training_report(history(task="regression"), net, X, y)
    assert_readable(figure)
    axes = axes_of(figure, f"R² {net.score(X, y):.4f}")
    assert axes.get_xlabel() == "rent in …a_month"
    assert axes.get_ylabel() == "rent in …a_month, predicted"
    np.testing.assert_allclose(axes.lines[0].get_xdata(), table["rent in $ a_month"], rtol=1e-5)
    np.testing.assert_allclose(axes.lines[0].get_ydata(), prepared.predictions(net.outputs(X)), rtol=1e-6)


def test_a_name_is_no_formula():
    """Which two dollars would make of it."""
    net, X, y, _ = classified(3)
    assert_readable(plots.confusion_matrix(net, X, y, ["$5_$", "$_$", "a"]))
    prepared = Preprocessing.fit({"x": [1.0, 2.0], "$_$": [1.5, 2.5]}, target="$_$")
    net = net_of(1, 1, output_activation="linear")
    net.metadata["preprocessing"] = prepared.to_json()
    assert_readable(plots.training_report(history(task="regression"), net, [[1.0], [2.0]], [[-1.0], [1.0]]))


def test_a_very_long_description_stays_on_the_page():
    net = net_of(*range(3, 60))
    figure = plots.training_report(history(), net, np.ones((4, 3)), np.arange(4))
    assert len(figure.get_suptitle().splitlines()[0]) <= report._LONGEST_LINE
    assert_readable(figure)


# -- Files and installations ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [*FORMATS, "PNG"])
def test_save(tmp_path, suffix):
    net, X, y, _ = classified(3)
    path = tmp_path / f"page.{suffix}"
    path.write_text("before")
    plots.save(path, history(), net, X, y, ["ant", "bee", "cat"])
    assert path.read_bytes().startswith(FORMATS[suffix.lower()])
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("page", r"no picture format ends in ''; such as .png, .svg or .pdf"),
        ("page.txt", "no picture format ends in '.txt'"),
        ("none/page.png", "there is no folder .*none; make it first"),
        ("folder.png", "is a folder; name a file in it"),
    ],
)
def test_where_no_picture_can_be(tmp_path, name, message):
    (tmp_path / "folder.png").mkdir()
    for write in (
        history().plot,
        lambda path: plots.check_path(path, "--plot"),
        lambda p: plots.save(p, *[None] * 4),
    ):
        with pytest.raises(InputError, match=message):
            write(tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == ["folder.png"]


def test_without_matplotlib(monkeypatch, tmp_path):
    net, X, y, _ = classified(16)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for draw in (
        lambda: history().plot(),
        lambda: history().plot(tmp_path / "run.png"),
        lambda: plots.first_layer_weights(net),
        lambda: plots.confusion_matrix(net, X, y),
        lambda: plots.learning_rate_finder([1.0], [1.0]),
        lambda: plots.training_report(history(), net, X, y),
        lambda: plots.check_path("run.png"),
    ):
        with pytest.raises(
            GpunetError, match=r"needs matplotlib, which is not installed: pip install 'gpunet\[plot\]'"
        ):
            draw()


def test_nothing_of_the_programs_matplotlib_changes(tmp_path):
    before = dict(matplotlib.rcParams)
    net, X, y, _ = classified(3)
    plots.save(tmp_path / "page.png", history(layers=3), net, X, y)
    assert dict(matplotlib.rcParams) == before


def test_no_pyplot_and_no_display(tmp_path):
    program = (
        "import sys, gpunet; assert 'matplotlib' not in sys.modules; gpunet.plots; "
        "assert 'matplotlib' not in sys.modules\n"
        f"gpunet.plots.learning_rate_finder([1, 2], [2, 1]).savefig({str(tmp_path / 'p.png')!r})\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert run.stdout == "False\n"
    assert (tmp_path / "p.png").exists()
