"""``python -m torchgenaug`` is ``torchgenaug``."""

from torchgenaug.cli import main

main()
