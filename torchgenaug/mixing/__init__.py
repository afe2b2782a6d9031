"""Mixes real and synthetic: `SyntheticMixDataset` (sample by sample), `SyntheticMixLoader` (batch by batch)."""
