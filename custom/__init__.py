"""Self pre-training with masked autoencoders for medical images: everything a bundle config can name."""

__version__ = "0.1.0"
