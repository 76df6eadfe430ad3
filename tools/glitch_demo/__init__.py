"""A self-contained demonstration: real photographs and pocket checkpoints trained on them."""
