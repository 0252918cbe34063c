"""Images made to vectors, and what is hidden in training."""

from __future__ import annotations

import pytest
import torch

from clew.errors import ShapeError
from clew.models.build import body
from clew.models.frames import FrameEncoder, Masking


@pytest.mark.parametrize("shape", [(28, 28, 1), (7, 9, 3), (2, 3, 1)])
def test_each_image_is_read_by_itself(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    encoder = FrameEncoder(*shape, 6)
    x = torch.randn(2, 5, shape[0] * shape[1] * shape[2])
    y = encoder(x)
    assert y.shape == (2, 5, 6)
    torch.testing.assert_close(y[1, 3], encoder(x[1, 3]))
    assert encoder(x[:, :0]).shape == (2, 0, 6)


def test_pixels_stand_where_they_should() -> None:
    """A convolution sees neighbours: what is moved by its stride is moved behind it too, but for the edges."""
    encoder = FrameEncoder(16, 16, 1, 4)
    image = torch.zeros(16, 16)
    image[5, 6] = 1.0
    first = encoder.convolutions[0]
    seen = first(image.view(1, 1, 16, 16)) - first(torch.zeros(1, 1, 16, 16))
    places = seen.abs().sum((0, 1)).nonzero()
    assert places.min(0).values.tolist() == [2, 3]


def test_what_is_hidden_is_not_dropped_too() -> None:
    """Dropout stands between layers, and what hides parts of the input is none. Of four steps none is hidden."""
    torch.manual_seed(0)
    stack, x = body("gru", 6, 5, dropout=0.9, front=Masking(6, 3, 0)), torch.randn(8, 4, 6)
    torch.testing.assert_close(stack.train()(x)[0], stack.eval()(x)[0])


def test_masking() -> None:
    torch.manual_seed(0)
    masking, x, lengths = Masking(8, 5, 2), torch.ones(400, 20, 8), torch.randint(1, 21, (400,))
    y, _ = masking(x, lengths=lengths)
    hidden = y == 0
    steps, channels = hidden.all(2).sum(1), hidden.all(1).sum(1)
    assert int(steps.max()) in range(4, 11)  # two spans of five at most
    assert bool((steps <= 2 * (lengths // 5)).all())
    assert int(channels.max()) in range(3, 5)
    assert bool((channels == 0).any())
    assert torch.equal(masking.eval()(x, lengths=lengths)[0], x)
    assert torch.equal(masking.step(x[:, 0], ())[0], x[:, 0])
    with pytest.raises(ShapeError, match="cannot be hidden"):
        Masking(8, 5, 8)
