"""Where in a picture its cluster is seen: attention maps (Niu, Shan, Wang: SPICE, 2022, sec. IV-F1 and fig. 5b).

Shapes: N images, P pictures, D feature, h x w places of a convolutional map.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coterie.images import Images
from coterie.networks.encoder import Encoder
from coterie.run.devices import unwrap

LARGEST = 32  # places on a side that are kept; finer maps are averaged down
SAME = 0.99  # cosine from which the mean of the maps counts as the feature
BATCH = 16


def attention(maps_PDhw: Tensor, centroids_PD: Tensor) -> Tensor:
    """Cosine of the feature at each place with the picture's centroid; below 0 is 0, then stretched to [0, 1] for each picture.

    float32 (P, h, w); all 0 where every place is alike.
    """
    cosine_Phw = F.cosine_similarity(maps_PDhw.float(), centroids_PD.float()[:, :, None, None], dim=1).clamp(min=0)
    low, high = cosine_Phw.amin((1, 2), keepdim=True), cosine_Phw.amax((1, 2), keepdim=True)
    return (cosine_Phw - low) / (high - low).clamp(min=1e-6)


def attention_maps(encoder: nn.Module, images: Images, ids: list[int], labels_N: Tensor, features_ND: Tensor) -> Tensor | None:
    """Maps of the images `ids`, uint8 (P, h, w) with at most 32 places on a side; None where the encoder has none, or a single place.

    A picture's centroid is the mean of the unit features of its cluster. Where the features are not the global mean of the maps, as when
    a network goes on after it, a place and a centroid cannot be compared, and there are no maps either.
    """
    encoder = unwrap(encoder)
    if not ids or not isinstance(encoder, Encoder) or images.kind == "features":
        return None
    was_training, device = encoder.training, encoder.mean.device
    features_ND, labels_N = F.normalize(features_ND.cpu().float()), labels_N.cpu()
    centroids = {label: features_ND[labels_N == label].mean(0) for label in set(labels_N[ids].tolist())}
    encoder.eval()
    found = []
    try:
        with torch.inference_mode():
            for batch in images.batches(BATCH, ids=ids):
                maps_BDhw = encoder.maps(batch.pixels_B3HW.to(device))
                if maps_BDhw is None or not _are_features(maps_BDhw, features_ND[batch.index_B]):
                    return None
                centroids_BD = torch.stack([centroids[int(label)] for label in labels_N[batch.index_B]])
                found.append(attention(_coarse(maps_BDhw.float()), centroids_BD.to(device)).cpu())
    finally:
        encoder.train(was_training)
    return (torch.cat(found) * 255).round().to(torch.uint8)


def _are_features(maps_BDhw: Tensor, features_BD: Tensor) -> bool:
    """Several places, whose mean is the feature; the median forgives a picture without any."""
    if maps_BDhw[0, 0].numel() < 2:
        return False
    means_BD = maps_BDhw.float().mean((2, 3)).cpu()
    return means_BD.shape == features_BD.shape and float(F.cosine_similarity(means_BD, features_BD).median()) > SAME


def _coarse(maps_BDhw: Tensor) -> Tensor:
    height, width = (min(LARGEST, side) for side in maps_BDhw.shape[2:])
    return F.adaptive_avg_pool2d(maps_BDhw, (height, width))
