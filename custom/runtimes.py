"""What computes a network's outputs: PyTorch, or, on the CPU, onnxruntime with the network exported to ONNX."""

from __future__ import annotations

import copy
import hashlib
import logging
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import monai
import torch
from torch import Tensor, nn

from . import __version__, networks
from .errors import InputError
from .files import replacing
from .inferers import has_bfloat16
from .networks import UNETR, ViTClassifier
from .networks.pointwise import Pointwise

logger = logging.getLogger(__name__)

TOLERANCE = 1e-3  # largest difference from PyTorch that an export may have, relative to the largest output
PLAIN = (bool, int, float, str, list, tuple, type(None))


class OnnxNetwork(nn.Module):
    """An exported network in onnxruntime on the CPU, with as many threads as PyTorch has; nothing to train.

    `forward` takes and returns what the network does, in single precision, for any batch size.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.session = open_session(path)

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W, D) on any device -> the network's output there."""
        values = image.detach().cpu().float().contiguous().numpy()
        return torch.from_numpy(self.session.run(["pred"], {"image": values})[0]).to(image.device)


def with_runtime(network: nn.Module, runtime: str, cache_dir: str | Path, amp: bool = False) -> nn.Module:
    """The network itself for runtime "torch"; for "onnx" its `OnnxNetwork`, exported to `cache_dir` on first use.

    With `amp`, a network that AutocastInferer will run in bfloat16 keeps its weights so (`keep_bfloat16`).

    Raises:
        InputError: the runtime is unknown, its packages are missing, or it cannot run this kind of network.
    """
    if runtime not in ("torch", "onnx"):
        raise InputError(f"runtime '{runtime}' is unknown; use 'torch' or 'onnx'")
    if runtime == "torch":
        return keep_bfloat16(network) if amp and has_bfloat16(next(network.parameters()).device) else network
    if not isinstance(network, UNETR | ViTClassifier):
        raise InputError(f"runtime 'onnx' cannot run a {type(network).__name__}; use runtime 'torch'")
    require_packages("onnxruntime")
    path = Path(cache_dir) / f"{type(network).__name__.lower()}_{network_digest(network)[:24]}.onnx"
    if path.is_file():
        try:
            return OnnxNetwork(path)
        except Exception as error:  # onnxruntime has a kind of its own for each damage
            logger.warning(f"{path} cannot be read ({type(error).__name__}) and is made again")
    logger.info(f"exporting the network to {path}, once")
    export_onnx(network, path)
    return OnnxNetwork(path)


def keep_bfloat16(network: nn.Module) -> nn.Module:
    """Store in bfloat16, in place, the weights that autocast would cast at every use: equal outputs in less memory.

    From then on the network runs under bfloat16 autocast only.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d | Pointwise):
            module.to(torch.bfloat16)
    return network


def export_onnx(network: UNETR | ViTClassifier, path: str | Path) -> None:
    """Write `network` as one ONNX file with input "image", output "pred", both (batch, ...), single precision.

    The file is compared with PyTorch on noise before it gets its name. Up to 2 GB of weights.

    Raises:
        InputError: packages are missing, the file cannot be written, or its outputs differ from PyTorch's.
    """
    require_packages("onnxruntime", "onnxscript")
    network = copy.deepcopy(network).cpu().eval()
    names: dict[str, Any] = {"input_names": ["image"], "output_names": ["pred"]}
    # Two images: from a single one torch.export would conclude that the batch is always 1.
    program = torch.onnx.export(
        network, (example(network, 2),), **names, dynamic_shapes=({0: "batch"},), dynamo=True, verbose=False
    )
    with replacing(path) as beside:
        program.save(beside, external_data=False)
        check_export(network, beside)


@torch.inference_mode()
def check_export(network: UNETR | ViTClassifier, path: Path) -> None:
    """Raise InputError if the file at `path` does not compute what `network` does."""
    image = example(network, 1)
    expected, found = network(image), OnnxNetwork(path)(image)
    largest = max(expected.abs().max().item(), torch.finfo(torch.float32).tiny)  # a new head gives zeros
    difference = (found - expected).abs().max().item() / largest
    if not difference <= TOLERANCE:
        raise InputError(
            f"the ONNX export differs from PyTorch by {difference:.2g} of the largest output; use runtime 'torch'"
        )


def example(network: UNETR | ViTClassifier, batch: int) -> Tensor:
    """Noise (batch, C, H, W, D) of the size that the network takes; the global generator is left alone."""
    encoder = network.encoder if isinstance(network, UNETR) else network
    channels = encoder.patch_embed.proj.in_channels
    return torch.rand(batch, channels, *encoder.img_size, generator=torch.Generator().manual_seed(0))


def network_digest(network: nn.Module) -> str:
    """64 hexadecimal digits of all that decides a network's outputs: weights, options, code and its versions."""
    digest = hashlib.sha256(repr([__version__, monai.__version__, torch.__version__]).encode())
    for path in sorted(Path(networks.__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    for name, module in network.named_modules():
        options = {key: value for key, value in vars(module).items() if isinstance(value, PLAIN) and key != "training"}
        digest.update(repr((name, type(module).__qualname__, options)).encode())
    for name, tensor in network.state_dict().items():
        digest.update(repr((name, tensor.dtype, tensor.shape)).encode())
        digest.update(tensor.cpu().contiguous().numpy())
    return digest.hexdigest()


def open_session(path: str | Path) -> Any:
    """An onnxruntime session on the CPU, with PyTorch's number of threads."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime reads it when it is imported
    import onnxruntime  # an optional package

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def require_packages(*names: str) -> None:
    """Raise InputError if one of these packages is not installed."""
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise InputError(
            f"runtime 'onnx' needs {' and '.join(missing)}; pip install {' '.join(missing)}, or use runtime 'torch'"
        )
