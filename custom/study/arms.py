"""What is compared with what: the arms of a comparison."""

ARMS = {
    "scratch": "from scratch",
    "self": "self pre-trained",
    "scratch_long": "from scratch, same compute",
    "broken": "pre-trained on shuffled patches",
    "pixels": "pixels, no network",
    "identity": "from scratch, no transformer",
    "given": "weights from elsewhere",
}
PROBE = "probe_"  # begins the name of an arm's frozen encoder
PRETRAINED = ("self", "broken")
DEFAULT_ARMS = ("scratch", "self", "scratch_long", "broken", "pixels")
