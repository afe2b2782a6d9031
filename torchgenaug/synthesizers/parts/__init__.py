"""What several synthesizers share: checks, fingerprints, outputs, where they run, how they are stored."""
