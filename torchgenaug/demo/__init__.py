"""The main job on real brain MR, in minutes, on a laptop: ``torchgenaug demo``."""
