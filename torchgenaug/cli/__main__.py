"""``python -m torchgenaug.cli`` is ``torchgenaug``."""

from torchgenaug.cli import main

main()
