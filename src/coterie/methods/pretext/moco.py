"""MoCo v2 (He et al. 2020, Chen et al. 2020): a query finds its key, made by a slow copy of the network, among a queue of earlier keys.

An image's own key of an epoch before may still be in the queue, in small sets mostly: it is no negative of its query. The slow copy runs on
its own batch-norm statistics (coterie.networks.teacher) in place of the shuffled batch norm of several devices.
Shapes: B batch, D projection, M queue.
"""

import torch
from torch import Generator, Tensor, nn

from coterie import augment
from coterie.images import Batch, Images
from coterie.learning.losses import info_nce
from coterie.methods.pretext import PretextConfig
from coterie.methods.pretext.loop import descend
from coterie.networks.bank import Queue
from coterie.networks.heads import Projector
from coterie.networks.teacher import follow, teacher_of
from coterie.run import Run
from coterie.run.devices import unwrap


def train(encoder: nn.Module, images: Images, config: PretextConfig, run: Run) -> None:
    """Trains `encoder` in place."""
    projector = run.new("projector", Projector, unwrap(encoder).n_features, config.projection)
    student = nn.Sequential(encoder, projector)
    teacher = teacher_of(student)
    queue = Queue(min(config.queue, len(images)), config.projection, run.rng("queue")).to(run.devices.device)
    view = augment.pretext(config.augment, config.view_size)

    def loss(batch: Batch, rng: Generator) -> Tensor:
        follow(teacher, student, config.momentum)
        query_view, key_view = view(batch.pixels_B3HW, rng), view(batch.pixels_B3HW, rng)
        with run.autocast():
            query_BD = student(query_view)
            with torch.no_grad():
                key_BD = teacher(key_view)
        index_B = batch.index_B.to(key_BD.device)
        rows_MD, own_BM = queue.rows_MD.clone(), queue.ids_M == index_B[:, None]  # keys of the image itself, from epochs before
        queue.push(run.gather(index_B), run.gather(key_BD))
        return info_nce(query_BD, key_BD, rows_MD, config.pretext_temperature, own_BM)

    descend(loss, images, config, run, {"encoder": encoder, "projector": projector}, {"teacher": teacher, "queue": queue})
