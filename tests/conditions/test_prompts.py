from __future__ import annotations

import pickle

import pytest
import torch

from torchgenaug import FieldSpec, FunctionSynthesizer, Prompts, ShardSource, SyntheticSequence, render_shards
from torchgenaug.errors import ConfigurationError

TEXTS = ["axial T1, healthy", "axial T1, lesion", "axial T2"]


def embeddings():
    torch.manual_seed(0)
    return torch.randn(3, 4, 6)


def test_each_text_has_its_share_and_its_embedding():
    prompts = Prompts(TEXTS, embeddings(), weights=[2, 1, 1])
    batch = prompts(range(40))
    assert batch["prompt"].bincount().tolist() == [20, 10, 10]
    assert torch.equal(batch["prompt_embeds"], embeddings()[batch["prompt"]])
    assert prompts.texts[2] == "axial T2"


def paint(seeds, conditions):
    return {"image": conditions["prompt_embeds"][:, None] * 1.0}


def test_rendered_with_the_sample(tmp_path):
    model = FunctionSynthesizer(paint, {"image": FieldSpec((1, 4, 6))}, fingerprint="paint")
    sequence = SyntheticSequence(model, Prompts(TEXTS, embeddings()))
    render_shards(sequence, tmp_path / "s", 6, batch_size=3, shard_size=6)
    source = ShardSource(tmp_path / "s")
    assert source.column("prompt").bincount().tolist() == [2, 2, 2]
    assert source.fields["prompt_embeds"].kind == "scalar"


def test_the_given_tensor_may_change():
    given = embeddings()
    prompts = Prompts(TEXTS, given)
    before = prompts([0])["prompt_embeds"].clone()
    given.zero_()
    assert torch.equal(prompts([0])["prompt_embeds"], before)


def test_fingerprint_and_pickle():
    made = [
        Prompts(TEXTS, embeddings()),
        Prompts(TEXTS[::-1], embeddings()),
        Prompts(TEXTS, embeddings() + 1),
        Prompts(TEXTS, embeddings(), weights=[1, 2, 3]),
        Prompts(TEXTS, embeddings(), seed=2),
    ]
    assert len({one.fingerprint for one in made}) == 5
    copy = pickle.loads(pickle.dumps(made[0]))
    assert copy.fingerprint == made[0].fingerprint
    assert torch.equal(copy([5])["prompt_embeds"], made[0]([5])["prompt_embeds"])


@pytest.mark.parametrize(
    ("texts", "tensor", "message"),
    [
        ([], embeddings(), "list of prompts"),
        ("abc", embeddings(), "list of prompts"),
        (["a", "", "b"], embeddings(), "none empty"),
        (TEXTS, embeddings()[:2], r"\(3, tokens, dim\), got torch.float32 \(2, 4, 6\)"),
        (TEXTS, embeddings().long(), "floating point"),
        (TEXTS, embeddings() / 0, "finite"),
        (TEXTS, [[1.0]], "got no tensor"),
    ],
)
def test_bad_arguments(texts, tensor, message):
    with pytest.raises(ConfigurationError, match=message):
        Prompts(texts, tensor)
