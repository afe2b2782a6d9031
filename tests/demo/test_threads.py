from __future__ import annotations

import pytest
import torch

from torchgenaug.demo.threads import torch_threads


@pytest.mark.parametrize("error", [None, ValueError])
def test_the_number_of_threads_comes_back(error):
    before = torch.get_num_threads()
    try:
        with torch_threads(before + 1):
            assert torch.get_num_threads() == before + 1
            if error is not None:
                raise error
    except ValueError:
        pass
    assert torch.get_num_threads() == before
