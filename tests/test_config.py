"""Configurations of models: what they mean, and that nothing else passes for one."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrcodec.conditional.dials import Dial, Dials
from vrcodec.model.config import MAX_TEXT, ModelConfig
from vrcodec.model.network import CompressionModel

OLD = (
    '{"analysis_blocks": [1, 1], "context_width": 8, "core": 8, "film_width": 8, "hyper": 8, '
    '"hyper_width": 8, "lambda_ranges": [[0.0006, 0.5]], "learned_linear": false, '
    '"synthesis_blocks": [1, 1], "width16": 8, "width8": 8}'
)


def changed(**changes: object) -> str:
    return json.dumps(json.loads(ModelConfig().to_json()) | changes)


def dial(**changes: object) -> list[dict[str, object]]:
    return [{"name": "quality", "low": 0.001, "high": 0.1, "default": 0.5} | changes]


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    few, width = st.integers(0, 3), st.integers(1, 20)
    extra = draw(st.lists(st.sampled_from(["tune", "ms-ssim-weight", "x2"]), unique=True))
    dials = [Dial("quality", 0.001, 1.0), *(Dial(name, 0.5, 7.0, 0.25) for name in extra)]
    return ModelConfig(
        dials=Dials(tuple(dials)),
        width8=draw(width),
        width16=draw(width),
        analysis_blocks=(draw(few), draw(few)),
        synthesis_blocks=(draw(few), draw(few)),
        core=4 * draw(st.integers(1, 191)),
        hyper=draw(width),
        hyper_width=draw(width),
        context_width=draw(width),
        context_blocks=draw(few),
        context_passes=draw(st.sampled_from([1, 2, 4])),
        film_width=draw(st.integers(0, 9)),
        dead_zone=draw(st.sampled_from([(0.0, 0.0), (0.25, 3.0)])),
        learned_linear=draw(st.booleans()),
    )


@given(configs())
@settings(max_examples=10, deadline=None)
def test_parameters_are_counted_without_a_model(config: ModelConfig) -> None:
    import torch

    with torch.device("meta"):
        model = CompressionModel(config)
    assert config.parameters == sum(p.numel() for p in model.parameters())


@given(configs())
@settings(max_examples=30)
def test_text_and_back(config: ModelConfig) -> None:
    assert ModelConfig.from_json(config.to_json()) == config


def test_dials_are_written_as_what_they_are() -> None:
    config = ModelConfig(dials=Dials((Dial("quality", 0.001, 0.5), Dial("tune", 0.1, 10.0, 0.0))))
    assert json.loads(config.to_json())["dials"] == [
        {"name": "quality", "low": 0.001, "high": 0.5, "default": 0.5},
        {"name": "tune", "low": 0.1, "high": 10.0, "default": 0.0},
    ]


def test_ranges_of_older_weights_are_dials() -> None:
    (quality,) = ModelConfig.from_json(OLD).dials
    assert quality == Dial("quality", 0.0006, 0.5)
    two = OLD.replace("[[0.0006, 0.5]]", "[[0.0006, 0.5], [0.1, 10.0]]")
    assert ModelConfig.from_json(two).dials.names == ("quality", "ms-ssim-weight")
    with pytest.raises(ValueError, match="3 loss coefficients without names"):
        ModelConfig.from_json(OLD.replace("[[0.0006, 0.5]]", "[[1, 2], [1, 2], [1, 2]]"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value"),
        ("[]", "no JSON object"),
        ("7", "no JSON object"),
        ('"dials"', "no JSON object"),
        ("[" * 60_000 + "]" * 5_000, "nested too deeply"),
        ('{"core":' * 8000, "nested too deeply"),
        (" " * (MAX_TEXT + 1), "65,537 characters"),
        ('{"core": ' + "1" * 5000 + "}", "integer"),
        ('{"core": 1, "core": 2}', "a name twice"),
        (changed(width8=float("inf")), "Infinity is no number"),
        (changed(width8=float("nan")), "NaN is no number"),
        (changed(width8=8.0), "width8 = 8.0"),
        (changed(width8=True), "width8 = True"),
        (changed(width8="8"), "width8 = '8'"),
        (changed(width8=None), "width8 = None"),
        (changed(width8=0), "width8 = 0"),
        (changed(width8=-1), "width8 = -1"),
        (changed(width8=10**400), "width8 = 1000"),
        (changed(width8=2048, width16=2048, analysis_blocks=[64, 64]), "parameters"),
        (changed(context_blocks=65), "context_blocks = 65"),
        (changed(context_blocks=1e400), "Infinity"),
        (changed(width16=2048, synthesis_blocks=[64, 0]), "parameters"),
        (changed(context_passes=3), "context_passes"),
        (changed(core=7), "core"),
        (changed(core=768), "core = 768 is not in 4 to 764"),
        (changed(film_width=2049), "film_width"),
        (changed(learned_linear=1), "learned_linear = 1"),
        (changed(analysis_blocks=[1]), "analysis_blocks"),
        (changed(analysis_blocks=[1, 2, 3]), "analysis_blocks"),
        (changed(analysis_blocks={"0": 1}), "analysis_blocks"),
        (changed(analysis_blocks=[1, 65]), "analysis_blocks = 65"),
        (changed(analysis_blocks=[1, 1.5]), "analysis_blocks"),
        (changed(**{"new\n\x1b[2J": 1}), r"missing or unknown: 'new\\n\\x1b\[2J'"),
        (changed(**{"k" * 60_000: 1}), "missing or unknown: 'kkk"),
        ('{"core": 8}', "lambda_ranges = None"),
        (OLD.replace("film", "firm"), "missing or unknown: 'film_width', 'firm_width'"),
        (OLD.replace("[[0.0006, 0.5]]", "[[0.5]]"), "lambda_ranges"),
        (OLD.replace("[[0.0006, 0.5]]", "[[0.5, 1e400]]"), "high = inf"),
        (changed(lambda_ranges=[[1, 2]]), "missing or unknown: 'lambda_ranges'"),
        (changed(dials=[]), "dials"),
        (changed(dials=dial() * 9), "dials"),
        (changed(dials=dial() * 2), "two dials of one name"),
        (changed(dials={"quality": 1}), "dials"),
        (changed(dials=["quality"]), "dial 'quality'"),
        (changed(dials=dial(name="tune")), "first dial"),
        (changed(dials=dial() + dial(name="Q\n")), "dial named"),
        (changed(dials=dial() + dial(name="")), "dial named"),
        (changed(dials=dial() + dial(name="ü")), "dial named"),
        (changed(dials=dial(name=["quality"])), "dial named"),
        (changed(dials=dial(more=1)), "dial {"),
        (changed(dials=dial(low=0)), "low"),
        (changed(dials=dial(low=-1.0)), "low"),
        (changed(dials=dial(low=1e-300)), "not within"),
        (changed(dials=dial(high=1e300)), "high"),
        (changed(dials=dial(low=0.1)), "low"),
        (changed(dials=dial(high=10**400)), "high"),
        (changed(dials=dial(high="1")), "high"),
        (changed(dials=dial(default=1.5)), "default"),
        (changed(dials=dial()).replace("0.1,", "1e400,"), "high = inf"),
    ],
    ids=lambda part: part[:24] if isinstance(part, str) else "",
)
def test_hostile_texts(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        ModelConfig.from_json(text)
    assert str(caught.value).startswith("not a model configuration: ")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 300


@pytest.mark.slow
@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=9), inner),
    ),
    st.sampled_from(sorted(json.loads(ModelConfig().to_json()))),
)
def test_any_value_is_taken_or_refused(value: object, name: str) -> None:
    try:
        config = ModelConfig.from_json(changed(**{name: value}))
    except ValueError as error:
        assert str(error).isprintable() and len(str(error)) < 400
    else:
        assert json.loads(config.to_json())[name] == value
