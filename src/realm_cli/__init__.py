"""realm: train small language models to reason by themselves in a vertical domain (ReaLM, arXiv 2508.12387)."""

__version__ = "0.1.0"
