"""What is said of what was found."""

from __future__ import annotations

import math

from clew import config
from clew.diagnose.capacity import Capacity
from clew.diagnose.examine import Examined
from clew.diagnose.gates import Gate, Layer
from clew.diagnose.information import Dependency
from clew.diagnose.looking import Looked
from clew.diagnose.remarks import remarks
from clew.diagnose.spectra import Spectrum


def fading(rate: float, steps: int = 200) -> list[float]:
    return [rate**k for k in range(steps)]


def reaching(steps: float) -> Dependency:
    return Dependency([0.1], 0.0, 0.1, math.log(100) / steps)


def layer(**changes: object) -> Layer:
    usual = Layer("1 lstm", [Gate("keep", 0.5, 0.0, 0.0)], [3.0], 0, 10, [1.0] * 20, 0.0, Spectrum([-0.1], 0.9, 10))
    return usual._replace(**changes)


def said(found: Examined | None = None, log: tuple = (), metrics: dict | None = None, **sections: dict) -> list[str]:
    ranked = remarks(found, config.build(sections), list(log), metrics or {})
    assert [r.weight for r in ranked] == sorted((r.weight for r in ranked), reverse=True)
    return [" | ".join([remark.text, *remark.changes]) for remark in ranked]


def test_gradients_that_vanish_before_the_data_do() -> None:
    found = Examined(200, {"1": fading(0.85)}, {"1": fading(0.8)}, dependency=reaching(120))
    (first, *_) = said(found, model={"cell": "elman"})
    assert first.startswith("gradients vanish after 20 steps")
    assert "the data carry information to 120 steps" in first
    assert first.endswith("model.cell=lstm")
    assert said(found, model={"cell": "gru"})[0].endswith("model.cell_options.forget_bias=3")
    options = {"cell": "elman", "cell_options": {"nonlinearity": "relu"}}
    assert said(found, model=options)[0].endswith("model.cell_options={} | model.cell=lstm")
    assert not any("vanish" in text for text in said(found._replace(at_start={"1": fading(0.99)})))


def test_a_window_that_is_too_short() -> None:
    found = Examined(200, {"1": fading(0.99)}, {"1": fading(0.99)}, dependency=reaching(100))
    assert any("train.window=128" in text for text in said(found, train={"window": 16}))
    assert not any("train.window" in text for text in said(found, train={"window": 128}))


def test_layers() -> None:
    def of(**changes: object) -> str:
        return " ".join(said(Examined(10, layers=[layer(**changes)])))

    assert of() == ""
    assert "gate 'input' is shut 95%" in of(gates=[Gate("input", 0.0, 0.95, 0.0)])
    assert of(gates=[Gate("keep", 1.0, 0.0, 0.97)]) == ""
    assert "3 of 10 units do not move" in of(dead=3)
    assert "chaotic" in of(spectrum=Spectrum([0.2], 1.2, 10))
    assert "grows by 50%" in of(drift=0.5)


def test_attention_and_context() -> None:
    assert "95%" in said(Examined(0, looked=Looked(0.95, [], [], None)))[0]
    short = Looked(None, [], [], Capacity(4, 2, 20.0))
    assert said(Examined(0, looked=short))[0].endswith("model.attention=additive")


def test_learning_and_worth() -> None:
    def log(*losses: float) -> tuple:
        return tuple({"step": i, "loss": 1.0, "valid": {"loss": loss}} for i, loss in enumerate(losses))

    assert "by heart" in said(log=log(3.0, 1.0, 2.0, 3.0, 4.0, 5.0))[0]
    assert "still getting better" in said(log=log(5, 4, 3, 2, 1), train={"steps": 50})[0]
    assert "train.steps=100" in said(log=log(5, 4, 3, 2, 1), train={"steps": 50})[0]
    assert said(log=log(2, 1, 1.01, 1, 1.01, 1.02)) == []
    assert "by heart" in said(log=log(0.0, 0.0, 0.1, 0.1, 0.1))[0]
    assert "still getting better" in said(log=log(-1, -2, -3, -4, -5))[0]
    naive = {"metrics": {"mae": 2.0}, "baseline": {"seasonal_naive": {"mae": 1.0}}}
    assert "does not beat seasonal naive" in said(metrics=naive)[0]
    tied = {"metrics": {"exact": 0.0, "cer": 0.2}, "baseline": {"commonest": {"exact": 0.0, "cer": 0.8}}}
    assert said(metrics=tied) == []
    good = {"metrics": {"accuracy": 0.9}, "baseline": {"majority": {"accuracy": 0.5}}}
    assert said(metrics=good) == []
