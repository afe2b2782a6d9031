"""One short module per family of generative models: its networks, losses and sampling settings."""
