"""btmd: fine-tune a language model on your own workstation, and trust the outcome."""

__version__ = "0.1.0"
