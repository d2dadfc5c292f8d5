"""The network: what conditioning does, and that shortcuts do not change results."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vrcodec
from vrcodec.bitstream.grid import LATENT_CHANNELS
from vrcodec.codec.codec import Codec
from vrcodec.conditional.dials import ANCHORS
from vrcodec.conditional.film import ConditionedConv, StepTable, interpolate
from vrcodec.model.config import ModelConfig
from vrcodec.model.linear_basis import block_basis
from vrcodec.model.network import CompressionModel

PICTURES = Path(__file__).parent / "pictures"


def photo() -> torch.Tensor:
    with Image.open(PICTURES / "macaw.png") as file:
        array = np.asarray(file.convert("RGB"))
    return torch.from_numpy(array.copy()).permute(2, 0, 1)[None].float() / 255


def test_folded_film_equals_unfolded() -> None:
    torch.manual_seed(0)
    conv = ConditionedConv(6, 10, 4)
    torch.nn.init.normal_(conv.film.weight)
    x, embedding = torch.randn(1, 6, 5, 7), torch.randn(1, 4)
    folded = conv(x, embedding)
    unfolded = conv(x.expand(2, -1, -1, -1), embedding.expand(2, -1))
    torch.testing.assert_close(folded.expand(2, -1, -1, -1), unfolded, rtol=1e-5, atol=1e-5)


def test_without_film_the_steps_alone_follow_the_dial() -> None:
    torch.manual_seed(0)
    model = CompressionModel(ModelConfig(width8=8, width16=8, hyper=8, film_width=0)).eval()
    assert not any("film" in name for name, _ in model.named_parameters())
    model.log_step.initialise(torch.full((LATENT_CHANNELS,), 3.0), torch.zeros(LATENT_CHANNELS))
    x = photo()[..., :128, :128].expand(2, -1, -1, -1)
    with torch.no_grad():
        coarse, fine = model(x, torch.tensor([[0.2], [0.8]])).symbols.abs().sum(dim=(1, 2, 3))
    assert fine > 2 * coarse


def test_configurations_of_older_weights_are_read() -> None:
    values = json.loads(ModelConfig(context_passes=4, context_blocks=0).to_json())
    del values["context_passes"], values["context_blocks"], values["dials"]
    values["lambda_ranges"] = [[0.0006, 0.5]]
    assert ModelConfig.from_json(json.dumps(values)) == ModelConfig()
    for name, wrong in (("context_passes", 3), ("film_width", -1), ("film_width", 5000)):
        with pytest.raises(ValueError):
            ModelConfig.from_json(json.dumps(values | {name: wrong}))
    two = ModelConfig.from_json(
        json.dumps(values | {"lambda_ranges": [[0.0006, 0.5], [0.1, 10.0]]})
    )
    assert two.dials.names == ("quality", "ms-ssim-weight")
    assert two.lambda_ranges == ((0.0006, 0.5), (0.1, 10.0))
    assert ModelConfig.from_json(two.to_json()) == two
    with pytest.raises(ValueError):
        ModelConfig.from_json(json.dumps(values | json.loads(two.to_json())))


def test_batches_condition_each_picture_on_its_own_quality() -> None:
    model = vrcodec.load_model()
    x = photo()[..., :128, :128].expand(2, -1, -1, -1)
    with torch.no_grad():
        both = model(x, torch.tensor([[0.2], [0.8]]))
        alone = model(x[:1], torch.tensor([[0.8]]))
        others = [dial.default for dial in model.config.dials][1:]
        full = model(x[:1], torch.tensor([[0.8, *others]]))
    assert both.bpp[0] < 0.7 * both.bpp[1]
    torch.testing.assert_close(both.x_hat[1:], alone.x_hat, rtol=1e-3, atol=2e-3)
    torch.testing.assert_close(alone.x_hat, full.x_hat)


def test_forward_agrees_with_the_codec() -> None:
    """The float view's rate and reconstruction are those of real files."""
    codec, x = Codec(device="cpu"), photo()
    with Image.open(PICTURES / "macaw.png") as file:
        data = codec.encode(file.convert("RGB"), 0.5)
    with torch.no_grad():
        out = vrcodec.load_model()(x, torch.tensor([[0.5]]))
    assert out.bpp.item() * x[0, 0].numel() / 8 == pytest.approx(len(data), rel=0.05)
    decoded = torch.from_numpy(np.array(codec.decode(data))).permute(2, 0, 1) / 255
    # Half of it is the rounding to 8 bits; the rest are symbols, one in a thousand, that the dead
    # zone draws elsewhere, since its scales are not rounded to those of the tables.
    assert (out.x_hat[0].clamp(0, 1) - decoded).abs().mean() < 2.5e-3


def test_steps_fall_with_quality_whatever_the_parameters() -> None:
    torch.manual_seed(0)
    table = StepTable(1, 50)
    torch.nn.init.normal_(table.values, std=5)
    values = table(torch.linspace(0, 1, 101)[:, None])
    assert (values.diff(dim=0) <= 1e-5).all()
    assert (values[-1] < values[0]).all()


def test_interpolation_hits_the_anchors() -> None:
    anchors = torch.randn(1, ANCHORS, 3)
    at = torch.linspace(0, 1, ANCHORS)[:, None]
    torch.testing.assert_close(interpolate(anchors, at), anchors[0])
    halfway = interpolate(anchors, torch.tensor([[0.5 / (ANCHORS - 1)]]))
    torch.testing.assert_close(halfway, anchors[0, :2].mean(0, keepdim=True))


@pytest.mark.parametrize("size", [8, 16])
def test_basis_is_orthonormal(size: int) -> None:
    basis = torch.from_numpy(block_basis(size))
    torch.testing.assert_close(basis @ basis.T, torch.eye(3 * size * size), rtol=0, atol=1e-5)


@pytest.mark.parametrize("passes", [1, 2, 4])
def test_context_passes_cover_every_symbol_once(passes: int) -> None:
    config = ModelConfig(width8=8, width16=8, hyper=8, context_passes=passes)
    context = CompressionModel(config).context
    assert len(context.masks(5, 7)) == passes
    masks = torch.stack(context.masks(5, 7)).sum(dim=0)
    assert masks.shape == (1, context.core, 5, 7)
    assert (masks == 1).all()
    assert context.core < LATENT_CHANNELS
