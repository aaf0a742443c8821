"""`gpunet export`: a model for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gpunet import checks, model_file
from gpunet.errors import InputError
from gpunet.interop.onnx import INPUT_DTYPES, to_onnx
from gpunet.interop.torch import save_torch_state_dict
from gpunet.network import Network


def export(
    model: Annotated[Path, typer.Argument(help="A model that `gpunet train` or `Network.save` wrote.")],
    output: Annotated[
        Path, typer.Argument(metavar="OUT", help="OUT.onnx, or OUT.safetensors for a PyTorch state dict.")
    ],
    dtype: Annotated[
        str | None, typer.Option(help="ONNX: float32 or float64, in which it computes. Default: the model's.")
    ] = None,
    input_dtype: Annotated[
        str | None, typer.Option(help="ONNX: float32, float64 or uint8, which the inputs are of. Default: --dtype.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")] = False,
) -> None:
    """Write a model as ONNX, or its parameters under the names that PyTorch gives them."""
    output = output.expanduser()
    try:
        kind = _kind(output)
        if kind != ".onnx" and (dtype, input_dtype) != (None, None):
            raise InputError("--dtype and --input-dtype are for ONNX files.")
        if dtype is not None:
            checks.one_of(dtype, ("float32", "float64"), "--dtype")
        if input_dtype is not None:
            checks.one_of(input_dtype, INPUT_DTYPES, "--input-dtype")
        model_file.check_replaceable(output)
    except InputError as error:
        raise typer.BadParameter(str(error)) from error
    except OSError as error:
        raise typer.BadParameter(f"{output}: {error.strerror}.") from error
    if output.exists() and model.exists() and output.samefile(model):
        raise typer.BadParameter(f"{output} is the model itself; name another file.")
    if output.exists() and not force:
        raise typer.BadParameter(f"{output} exists; name another file, or pass --force to replace it.")
    net = Network.load(model, device="cpu")
    if kind == ".onnx":
        to_onnx(net, output, dtype=dtype, input_dtype=input_dtype)
    else:
        save_torch_state_dict(net, output)
        if net.input_scale != 1.0:
            typer.echo(f"note: inputs are to be multiplied by {net.input_scale!r} before the first layer", err=True)
        if net.metadata.get("preprocessing") is not None:
            typer.echo("note: inputs are a table's columns after gpunet's preprocessing, not as they stand", err=True)
    typer.echo(f"saved {output}", err=True)


def _kind(output: Path) -> str:
    suffix = output.suffix.lower()
    if suffix in (".pt", ".pth", ".bin", ".pkl"):
        raise InputError(
            f"{output}: such files are pickles, which can run code when they are loaded, and gpunet writes none. "
            f"{output.with_suffix('.safetensors')} is for PyTorch too: safetensors.torch.load_file reads it."
        )
    if suffix not in (".onnx", ".safetensors"):
        raise InputError(f"{output}: the name must end in .onnx, or in .safetensors for a PyTorch state dict.")
    return suffix
