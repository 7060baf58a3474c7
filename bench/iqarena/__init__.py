"""iqarena: a benchmark of adversarial attacks on no-reference image quality models."""

__version__ = "0.1.0"
