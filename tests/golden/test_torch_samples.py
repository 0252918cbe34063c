"""Torch's own samples for its recurrent modules, as they ship in the installed wheel, run on the drop-ins."""

import copy

import pytest
import torch
from torch.nn.utils.rnn import PackedSequence
from torch.testing._internal.common_modules import ModuleInfo, module_db

from clew import nn

NAMES = ("RNN", "GRU", "LSTM", "RNNCell", "GRUCell", "LSTMCell")
INFOS: dict[str, ModuleInfo] = {info.name.removeprefix("nn."): info for info in module_db}
DTYPES = (torch.float32, torch.float64)
VALID, INVALID = 87, 58  # what torch 2.13 ships


def leaves(value) -> list[torch.Tensor]:
    if isinstance(value, PackedSequence):
        return [value.data]
    if isinstance(value, torch.Tensor):
        return [value]
    return [leaf for part in value or () for leaf in leaves(part)]


def fresh(value):
    """A copy whose floating tensors require gradients."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone().requires_grad_(value.is_floating_point())
    if isinstance(value, PackedSequence):
        return value._replace(data=fresh(value.data))
    if isinstance(value, tuple | list):
        return type(value)(fresh(part) for part in value)
    return copy.deepcopy(value)


def samples(name: str, dtype: torch.dtype, training: bool):
    info = INFOS[name]
    return info.module_inputs_func(info, device="cpu", dtype=dtype, requires_grad=True, training=training)


def run(module, sample):
    args, kwargs = [fresh(a) for a in sample.args], {k: fresh(v) for k, v in sample.kwargs.items()}
    torch.manual_seed(3)  # should a sample ever have dropout
    out = leaves(module(*args, **kwargs))
    mixer = torch.Generator().manual_seed(1)
    mixed = [o * torch.randn(o.shape, generator=mixer, dtype=torch.float64).to(o.dtype) for o in out]
    loss = torch.stack([m.sum() for m in mixed]).sum()
    wanted = [*leaves(args), *leaves(list(kwargs.values())), *module.parameters()]
    grads = torch.autograd.grad(loss, wanted, allow_unused=True)
    return out, [torch.zeros_like(w) if g is None else g for g, w in zip(grads, wanted, strict=True)]


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_outputs_and_gradients_are_torchs(name: str, dtype: torch.dtype, training: bool) -> None:
    rtol = 1e-10 if dtype == torch.float64 else 1e-5
    for sample in samples(name, dtype, training):
        args, kwargs = sample.constructor_input.args, sample.constructor_input.kwargs
        theirs = getattr(torch.nn, name)(*args, **kwargs).to(dtype).train(training)
        ours = getattr(nn, name)(*args, **kwargs).to(dtype).train(training)
        ours.load_state_dict(theirs.state_dict(), strict=True)
        theirs.load_state_dict(ours.state_dict(), strict=True)
        assert repr(ours) == repr(theirs)
        for a, b in zip(run(ours, sample.forward_input), run(theirs, sample.forward_input), strict=True):
            torch.testing.assert_close(a, b, rtol=rtol, atol=rtol)


def errors(name: str, dtype: torch.dtype = torch.float64):
    info = INFOS[name]
    assert info.module_error_inputs_func is not None
    return info.module_error_inputs_func(info, device="cpu", dtype=dtype, requires_grad=False, training=True)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", [n for n in NAMES if INFOS[n].module_error_inputs_func is not None])
def test_errors_are_torchs(name: str, dtype: torch.dtype) -> None:
    for error in errors(name, dtype):
        sample = error.module_error_input
        args, kwargs = sample.constructor_input.args, sample.constructor_input.kwargs
        if error.error_on.name == "CONSTRUCTION_ERROR":
            with pytest.raises(error.error_type, match=error.error_regex):
                getattr(nn, name)(*args, **kwargs)
        else:
            module = getattr(nn, name)(*args, **kwargs).to(dtype)
            with pytest.raises(error.error_type, match=error.error_regex):
                module(*sample.forward_input.args, **sample.forward_input.kwargs)


def test_every_sample_is_run() -> None:
    assert sum(len(list(samples(name, torch.float64, True))) for name in NAMES) >= VALID
    assert sum(len(list(errors(n))) for n in NAMES if INFOS[n].module_error_inputs_func is not None) >= INVALID
