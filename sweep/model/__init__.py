"""Load a causal language model; its blocks and prunable linears; the embedded tiny model."""
