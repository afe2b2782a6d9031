from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

# A shell ignores Ctrl-C in what it runs in the background, and so does all that starts from there: tests that send it
# to a process of theirs would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("default", deadline=None, max_examples=40, derandomize=True)
settings.load_profile("default")


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """More threads than cores make everything slower and change the last bits of results."""
    torch.set_num_threads(1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """GPU tests skip by themselves; long ones run when they are asked for with -m slow."""
    no_gpu = pytest.mark.skip(reason="needs a CUDA device")
    long = pytest.mark.skip(reason="minutes long; run with -m slow")
    for item in items:
        # By marker: the keywords of a test hold the names of its folders too, that of the checkout among them.
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(no_gpu)
        if item.get_closest_marker("slow") and "slow" not in config.getoption("-m"):
            item.add_marker(long)


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Names of functions and objects, not addresses, which differ between the processes of pytest-xdist."""
    if callable(val) or " at 0x" in repr(val):
        return getattr(val, "__name__", argname)
    return None


@pytest.fixture(autouse=True, scope="session")
def own_secret(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests make no secret for pseudonyms in the home of whoever runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHGENAUG_SECRET_FILE", str(tmp_path_factory.mktemp("secret") / "secret"))
        yield
