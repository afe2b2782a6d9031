"""A render on Ray: an idle machine takes the next shard, and the shard of a machine that goes away is made again."""

import functools
import os
import sys

import ray

from torchgenaug import ShardSource, load_synthesizer, render_job, shard_jobs
from torchgenaug.sequence import SyntheticSequence


def build(folder):
    return SyntheticSequence(load_synthesizer(folder), seed=0)


def render(make_sequence, out, count, **options):
    jobs = shard_jobs(make_sequence, out, count, **options)
    task = ray.remote(max_retries=-1)(render_job)  # on GPUs: ray.remote(num_gpus=1, max_retries=-1)
    running = [task.remote(job) for job in jobs]
    while running:  # the first error ends the render; what is complete stays
        done, running = ray.wait(running)
        ray.get(done)
    return ShardSource(out)


if __name__ == "__main__":
    from render_ray import build  # by its module's name: so a process keeps the model from one job to the next

    model, out, count = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]), int(sys.argv[3])
    ray.init()
    print(render(functools.partial(build, model), out, count))
