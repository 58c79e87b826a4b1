"""Labels in native space: 14 class scores of 256 x 256 x 160 to labels of 512 x 512 x 128."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Activationsd, AsDiscreted, Compose, EnsureTyped, Invertd, Orientationd, Spacingd
from torch import Tensor
from torch.nn import functional

from custom.data.phantoms.ct import generate_ct
from custom.resampling import image_to_native, labels_to_native
from custom.transforms import NativeLabelsd

from .measure import Measured, Row, alone, compare, forget_peak, in_child, peak_mib, take_turns

SHAPE, SPACING, GRID_SPACING, CLASSES = (512, 512, 128), (0.75, 0.75, 2.5), (1.5, 1.5, 2.0), 14


def measure(pairs: int) -> list[Row]:
    """Time and memory of both ways, and how many labels differ from those of dense interpolation."""
    measured = take_turns(lambda: in_child(ours), lambda: in_child(baseline), pairs, warm_up=False)
    exact = in_child(differences)
    return [
        compare("labels in native space: time", "s", "s", measured, ">= 8"),
        compare("labels in native space: extra memory", "extra MiB", "MiB", measured, ">= 50"),
        alone("labels in native space: share of cells with several classes", "%", [exact["mixed %"]]),
        alone("labels in native space: voxels unlike dense interpolation", "voxels", [exact["different"]], "0"),
    ]


def case() -> tuple[dict[str, MetaTensor], Compose]:
    """A preprocessed CT, scores that a network might give on its grid, and the preprocessing, for Invertd."""
    hu, label = generate_ct(0, 0, SHAPE, SPACING)
    affine = torch.diag(torch.tensor([*SPACING, 1.0], dtype=torch.float64))
    meta = {"filename_or_obj": "ct.nii.gz", "original_affine": affine.numpy(), "spatial_shape": np.array(SHAPE)}
    chain = Compose(
        [
            Orientationd("image", axcodes="RAS", labels=None),
            Spacingd("image", pixdim=GRID_SPACING, mode="bilinear"),
            EnsureTyped("image", track_meta=True),
        ]
    )
    data = chain({"image": MetaTensor(torch.from_numpy(hu)[None].float(), affine, meta)})
    return data | {"pred": MetaTensor(scores(label, data["image"].shape[1:]), meta=data["image"].meta)}, chain


def scores(label: np.ndarray, grid: tuple[int, ...]) -> Tensor:
    """(14, *grid) float32: smoothed indicators of the true classes with noise."""
    near = functional.interpolate(torch.from_numpy(label)[None, None].float(), size=tuple(grid))[0, 0].long()
    result = torch.empty(CLASSES, *grid)
    generator = torch.Generator().manual_seed(0)
    for index in range(CLASSES):
        indicator = functional.avg_pool3d((near == index).float()[None, None], 3, 1, 1)[0, 0]
        result[index] = 10 * indicator + 0.5 * torch.randn(indicator.shape, generator=generator)
    return result


def ours() -> Measured:
    """NativeLabelsd, the bundles' post-processing."""
    data, _ = case()
    data["image"].applied_operations = []
    return timed(lambda: NativeLabelsd("pred")(data))


def baseline() -> Measured:
    """softmax, Invertd, argmax with MONAI's defaults, the order of the zoo's swin_unetr_btcv_segmentation."""
    data, chain = case()
    post = Compose(
        [
            Activationsd("pred", softmax=True),
            Invertd("pred", chain, orig_keys="image", nearest_interp=False, to_tensor=True),
            AsDiscreted("pred", argmax=True),
        ]
    )
    return timed(lambda: post(data))


def timed(work: Callable[[], object]) -> Measured:
    """Seconds and the memory beyond what was held before."""
    before = forget_peak()
    start = time.perf_counter()
    work()
    return {"s": time.perf_counter() - start, "extra MiB": peak_mib(before)}


def differences() -> Measured:
    """Voxels whose label is not the one of interpolating every score at every voxel; cells with several classes."""
    data, _ = case()
    logits = data["pred"].as_tensor()
    to_grid = np.linalg.solve(np.asarray(data["image"].affine), np.diag([*SPACING, 1.0]))
    sparse, different = labels_to_native(logits, to_grid, SHAPE), 0
    for start in range(0, SHAPE[0], 32):  # rows of the file, because all scores at once would be 2 GB
        shifted = to_grid.copy()
        shifted[:3, 3] += start * to_grid[:3, 0]
        dense = image_to_native(logits, shifted, (32, *SHAPE[1:])).argmax(dim=0)
        different += int((dense != sparse[start : start + 32]).sum())
    winners = logits.argmax(dim=0).float()[None]
    mixed = functional.max_pool3d(winners, 2, 1) != -functional.max_pool3d(-winners, 2, 1)
    return {"different": different, "mixed %": 100 * float(mixed.float().mean())}
