"""A study or two for each kind of task: ``torchgenaug demo --task classification``, and its likes."""

from torchgenaug.tasks.run import TASKS, run_task

__all__ = ["TASKS", "run_task"]
