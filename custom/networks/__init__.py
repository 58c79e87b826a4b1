"""The networks of the paper, in its order: tokens, masking, Vision Transformer, masked autoencoder, UNETR."""

from .mae import MAE, MaskedPretraining
from .unetr import UNETR
from .vit import ViT, ViTClassifier

__all__ = ["MAE", "UNETR", "MaskedPretraining", "ViT", "ViTClassifier"]
