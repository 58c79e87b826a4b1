"""Labels in native space: 14 class scores of 256 x 256 x 160 to labels of 512 x 512 x 128."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Activationsd, AsDiscreted, Compose, EnsureTyped, Invertd, Orientationd, Spacingd
from torch import Tensor
from torch.nn import functional

from custom.data.phantoms.ct import generate_ct
from custom.resampling import image_to_native, labels_to_native
from custom.transforms import NativeLabelsd

from .measure import Measured, Row, alone, compare, forget_peak, give_back, in_child, peak_mib, take_turns

SHAPE, CLASSES = (512, 512, 128), 14
FIELD, GRID_VOXELS = (384.0, 384.0, 320.0), (2.0, 2.0, 0.8)  # mm in all; the grid's voxels, in voxels of the file
THEIRS = "MONAI's softmax, Invertd and argmax, as in the zoo"
Shape = tuple[int, ...]
Labelling = Callable[[], Tensor]  # (1, H, W, D) of the file, again at every call


def measure(pairs: int) -> list[Row]:
    """Time and memory of both ways, and how many labels differ from those of dense interpolation."""
    measured = take_turns({"ours": partial(in_child, ours), THEIRS: partial(in_child, baseline)}, pairs, warm_up=False)
    exact = in_child(differences)
    return [
        compare("labels in native space: time", "s", "s", measured, THEIRS, "times >= 8"),
        compare("labels in native space: extra memory", "extra MiB", "MiB", measured, THEIRS, "times >= 50"),
        alone("labels in native space: share of cells with several classes", "%", [exact["mixed %"]]),
        alone("labels in native space: voxels unlike dense interpolation", "voxels", [exact["different"]], "ours <= 0"),
    ]


def case(shape: Shape = SHAPE) -> tuple[dict[str, MetaTensor], Compose]:
    """A preprocessed CT, scores that a network might give on its grid, and the preprocessing, for Invertd."""
    spacing = np.divide(FIELD, shape)
    hu, label = generate_ct(0, 0, shape, spacing.tolist())
    affine = np.diag([*spacing, 1.0])
    meta = {"filename_or_obj": "ct.nii.gz", "original_affine": affine, "spatial_shape": np.array(shape)}
    chain = Compose(
        [
            Orientationd("image", axcodes="RAS", labels=None),
            Spacingd("image", pixdim=(spacing * GRID_VOXELS).tolist(), mode="bilinear"),
            EnsureTyped("image", track_meta=True),
        ]
    )
    data = chain({"image": MetaTensor(torch.from_numpy(hu)[None].float(), torch.from_numpy(affine), meta)})
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
    """Of NativeLabelsd, the bundles' post-processing."""
    return timed(our_way())


def baseline() -> Measured:
    """Of MONAI's defaults in the order of the zoo's swin_unetr_btcv_segmentation."""
    return timed(their_way())


def our_way(shape: Shape = SHAPE) -> Labelling:
    """NativeLabelsd on `case`."""
    data, _ = case(shape)
    data["image"].applied_operations = []
    return lambda: NativeLabelsd("pred")(data)["pred"]


def their_way(shape: Shape = SHAPE) -> Labelling:
    """softmax, Invertd and argmax on `case`."""
    data, chain = case(shape)
    post = Compose(
        [
            Activationsd("pred", softmax=True),
            Invertd("pred", chain, orig_keys="image", nearest_interp=False, to_tensor=True),
            AsDiscreted("pred", argmax=True),
        ]
    )
    return lambda: post(data)["pred"]


def timed(work: Labelling) -> Measured:
    """Seconds and the memory beyond what was held before, of a second call."""
    work()
    give_back()
    before = forget_peak()
    start = time.perf_counter()
    work()
    return {"s": time.perf_counter() - start, "extra MiB": peak_mib(before)}


def differences() -> Measured:
    """Voxels whose label is not the one of interpolating every score at every voxel; cells with several classes."""
    data, _ = case()
    logits = data["pred"].as_tensor()
    to_grid = np.linalg.solve(np.asarray(data["image"].affine), np.diag([*np.divide(FIELD, SHAPE), 1.0]))
    sparse, different = labels_to_native(logits, to_grid, SHAPE), 0
    for start in range(0, SHAPE[0], 32):  # rows of the file, because all scores at once would be 2 GB
        shifted = to_grid.copy()
        shifted[:3, 3] += start * to_grid[:3, 0]
        dense = image_to_native(logits, shifted, (32, *SHAPE[1:])).argmax(dim=0)
        different += int((dense != sparse[start : start + 32]).sum())
    winners = logits.argmax(dim=0).float()[None]
    mixed = functional.max_pool3d(winners, 2, 1) != -functional.max_pool3d(-winners, 2, 1)
    return {"different": different, "mixed %": 100 * float(mixed.float().mean())}
