"""Grey, then the two Sobel filters, fixed: DeepCluster's networks look at edges, not at colours (its sec. 3.3)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS = 2  # across and down


class Sobel(nn.Module):
    """Images (B, 3, H, W) -> slopes of the grey image (B, 2, H, W): bright on the left, bright above; zeros beyond the border."""

    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        across = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])
        filters = torch.stack([across, across.T])[:, None]
        self.register_buffer("filters", filters, persistent=False)  # constants: no part of what is learned or saved

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x.mean(1, keepdim=True), self.filters.to(x.dtype), padding=1)
