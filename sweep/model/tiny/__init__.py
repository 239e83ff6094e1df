"""The embedded model: a small Llama, trained on the micro-world, that ships with the package."""
