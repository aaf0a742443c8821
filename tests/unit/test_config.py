"""What show_config tells."""

import importlib
import json
import logging

import numpy as np

import gpunet
from gpunet.config import config

selection = importlib.import_module("gpunet.backends.select")  # its function has the same name


def test_config_is_plain_and_complete():
    found = config()
    json.dumps(found, allow_nan=False)
    assert set(found) >= {"gpunet", "python", "platform", "packages", "blas", "device", "why_not_cuda"}
    assert found["gpunet"] == gpunet.__version__
    assert found["packages"]["numpy"] == np.__version__
    assert (found["why_not_cuda"] is None) == ("cuda" in found["device"])


def test_show_config_prints_it(capsys):
    assert gpunet.show_config() is None
    out = capsys.readouterr().out
    found = config()
    assert f"gpunet {gpunet.__version__}" in out
    assert f"numpy {np.__version__}" in out
    assert found["device"] in out
    assert (found["why_not_cuda"] or "device") in out
    assert "None" not in out


def test_config_gives_the_reason_why_there_is_no_gpu(monkeypatch, capsys):
    monkeypatch.setattr("gpunet.config.why_not_cuda", lambda: "the moon is full")
    assert config()["device"] == "numpy on cpu"
    assert config()["why_not_cuda"] == "the moon is full"
    gpunet.show_config()
    assert "the moon is full" in capsys.readouterr().out


def test_config_tells_of_the_compiled_engine(monkeypatch, capsys):
    found = config()
    assert (found["engine"] is None) == (found["why_no_engine"] is not None)
    monkeypatch.setattr("gpunet.backends.compiled.why_not_compiled", lambda: "nobody compiled it")
    assert config()["engine"] is None
    gpunet.show_config()
    assert "NumPy, because nobody compiled it" in capsys.readouterr().out


def test_packages_that_are_not_there_are_none(monkeypatch, capsys):
    monkeypatch.setattr("gpunet.config._PACKAGES", ("numpy", "no-such-package-anywhere"))
    assert config()["packages"] == {"numpy": np.__version__, "no-such-package-anywhere": None}
    gpunet.show_config()
    assert "no-such-package" not in capsys.readouterr().out


def test_auto_says_once_why_it_takes_the_cpu(monkeypatch, caplog):
    monkeypatch.setattr(selection, "why_not_cuda", lambda: "of this very test")
    with caplog.at_level(logging.WARNING, "gpunet"):
        assert selection.select("auto").device == "cpu"
        assert selection.select("auto").device == "cpu"
    messages = [record.getMessage() for record in caplog.records]
    assert [m for m in messages if "of this very test" in m] == [
        "gpunet: computing on the CPU, because of this very test"
    ]
