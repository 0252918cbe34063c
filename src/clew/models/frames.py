"""What stands between numbers and a recurrence: images made to vectors, one by one, and parts hidden in training.

FrameEncoder   convolutions over the image that each step is (a convolutional front end below a recurrence: Donahue et
               al. 2015, arXiv:1411.4389, section 3)
Masking        steps and channels that are taken away at random in training (Park et al. 2019, arXiv:1904.08779,
               section 2)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clew.cells import Recurrence
from clew.errors import ShapeError
from clew.tree import State

SPANS = 2  # of each kind that are hidden
SMALLEST = 4  # pixels of a side, under which no convolution halves it any more


class FrameEncoder(nn.Module):
    """Images (..., H W C) to vectors (..., width): 3 x 3 convolutions that halve both sides, and a linear map.

    Args:
        height, width, colours: of an image, whose numbers stand row by row, the colours of a pixel side by side.
        output_size: of a vector.
        features: of the first convolution; each further one has twice as many.
    """

    def __init__(self, height: int, width: int, colours: int, output_size: int, features: int = 16) -> None:
        super().__init__()
        self.shape = height, width, colours
        layers: list[nn.Module] = []
        while min(height, width) >= SMALLEST and len(layers) < 6:
            layers += [nn.Conv2d(colours, features, 3, stride=2, padding=1), nn.SiLU()]
            height, width, colours, features = -(-height // 2), -(-width // 2), features, 2 * features
        self.convolutions = nn.Sequential(*layers)
        self.linear = nn.Linear(height * width * colours, output_size)

    def forward(self, x: Tensor) -> Tensor:
        height, width, colours = self.shape
        images = x.reshape(-1, height, width, colours).movedim(-1, 1)
        return self.linear(self.convolutions(images).flatten(1)).reshape(*x.shape[:-1], self.linear.out_features)


class Masking(Recurrence):
    """In training some spans of steps, and of channels, of each row are 0, which is their mean.

    Args:
        size: channels.
        steps: the longest span of steps; at most a fifth of a row is hidden at once.
        channels: the widest span of channels.

    Raises:
        ShapeError: as many channels as there are, or more.
    """

    def __init__(self, size: int, steps: int, channels: int) -> None:
        super().__init__(size, size)
        if not 0 <= channels < size:
            raise ShapeError(f"{channels} of {size} channels cannot be hidden", hint="set train.mask_channels lower")
        self.steps, self.channels = steps, channels

    def init_state(self, batch_size: int, context: State | None = None) -> State:
        return ()

    def step(self, x_BI: Tensor, state: State, context: State | None = None) -> tuple[Tensor, State]:
        return x_BI, ()

    def forward(
        self,
        x_BTI: Tensor,
        state: State | None = None,
        context: State | None = None,
        *,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        if not self.training:
            return x_BTI, ()
        B, T, I = x_BTI.shape
        sizes_B = torch.full((B,), T, device=x_BTI.device) if lengths is None else lengths.to(x_BTI.device)
        for _ in range(SPANS):
            most_B = (sizes_B // 5).clamp(max=self.steps)
            x_BTI = x_BTI.masked_fill(_span(most_B, sizes_B, T)[:, :, None], 0.0)
            wide_B = torch.full_like(sizes_B, self.channels)
            x_BTI = x_BTI.masked_fill(_span(wide_B, torch.full_like(sizes_B, I), I)[:, None], 0.0)
        return x_BTI, ()


def _span(most_B: Tensor, sizes_B: Tensor, places: int) -> Tensor:
    """For each row a span of up to so many places that begins anywhere: (B, places) bool."""
    wide_B = (torch.rand_like(most_B, dtype=torch.float32) * (most_B + 1)).long()
    first_B = (torch.rand_like(most_B, dtype=torch.float32) * (sizes_B - wide_B + 1)).long()
    at = torch.arange(places, device=most_B.device)
    return (at >= first_B[:, None]) & (at < (first_B + wide_B)[:, None])
