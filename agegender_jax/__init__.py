"""Age and gender prediction from face images in JAX and Flax (arXiv 2010.03791)."""

__version__ = "0.1.0"
