"""Writes one shard: `writer`, and the thread that writes while the model computes (`background`)."""
