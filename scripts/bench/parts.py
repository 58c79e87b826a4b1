"""What the parts of the benchmark measure, in words for the report, in its order."""

from __future__ import annotations

from typing import NamedTuple


class Part(NamedTuple):
    """title: of its section. what: what is measured, and on what. minutes: about, on two cores. missed: why a target
    that is not reached was not."""

    title: str
    what: str
    minutes: int
    missed: str = ""


PARTS = {
    "mae": Part(
        "Pre-training step",
        "ViT-B with its decoder on two generated crops of 96^3, patches of 16, three quarters masked: "
        "forward, backward and AdamW. The share is the rate of forward and backward, counted in FLOPs, of "
        "that of a product of matrices of its size.",
        3,
    ),
    "unetr": Part(
        "Fine-tuning step",
        "UNETR with ViT-B, 14 classes, on one crop of 96^3: forward, Dice and cross-entropy, backward and AdamW.",
        8,
    ),
    "sample": Part(
        "Crops for pre-training",
        "From a generated CT of 512 x 512 x 150 on disk to a crop of 96^3 ready for the network: CPU time of "
        "all threads, memory beyond the page cache, and the first build of the cache.",
        4,
    ),
    "native": Part(
        "Labels in native space",
        "Scores of 14 classes on 256 x 256 x 160 voxels to labels of the file's 512 x 512 x 128. Labels are "
        "compared with those of dense interpolation; only cells of the coarse grid that hold several classes "
        "have to be interpolated at all.",
        3,
    ),
    "segment": Part(
        "Segmenting a CT",
        "A generated CT of 512 x 512 x 128, file to file, as a command, with a ViT-B UNETR that computes what "
        "the shipped small one does (its weights, widened). Dice is between the labels of both ways on that "
        "CT, of the organs that these weights find. Overlap 0.25 makes fewer windows and is compared with "
        "MONAI's default, 0.5, all the same.",
        40,
        "Time: of what is gained, the network in bfloat16 gives the ratio of the section below, fewer windows "
        "(those that touch the body) and all around them the rest; more would need faster convolutions, or "
        "fewer windows, which cost Dice (docs of unetr_btcv). Dice of both outputs: the shipped weights, trained "
        "for six minutes, give other labels wherever windows lie elsewhere.",
    ),
    "window": Part(
        "One window of ViT-B UNETR",
        "96^3 in the network alone, random weights, and which operations its time goes to.",
        2,
    ),
    "long": Part(
        "Long scans",
        "Peak memory of the same command, with the shipped small network, for scans of 128, 512 and 1024 "
        "slices; the input and the labels of a further slice are 0.75 MiB.",
        25,
    ),
    "radiographs": Part(
        "Chest X-rays",
        "Generated X-rays of 1024 x 1024 as PNG into the network at 224, by the loader of vit_cxr14's "
        "pre-training, with 0 and 2 worker processes.",
        4,
    ),
    "start": Part(
        "Start",
        "`python -m monai.bundle run` of inference on a small volume, from the start of the process to the "
        "first window in the network. The baseline is a config as in the zoo with a small UNet, which imports "
        "and builds less than a UNETR; a tenth more is allowed.",
        3,
    ),
    "runtimes": Part(
        "Number types and runtimes",
        "One window or image through the shipped networks, which are small, on the CPU.",
        3,
    ),
    "gpu": Part(
        "GPU",
        "Pre-training, fine-tuning and inference of ViT-B on a GPU.",
        10,
    ),
}
