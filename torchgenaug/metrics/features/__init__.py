"""Maps from images to feature vectors: the protocol `Features` and its implementations."""
