"""The training that all references share: FixMatch's, as SPICE's third stage has it, from random weights or from an encoder."""

import torch
from torch import Tensor, nn
from torch.optim import SGD

from benchmarks.references.losses import LOSSES, Batch
from coterie import augment
from coterie.images import Images
from coterie.learning.schedule import fixmatch_cosine, set_rate
from coterie.methods.spice import Config
from coterie.networks.encoder import EncoderSpec, build, colour_statistics, features
from coterie.networks.teacher import follow, teacher_of
from coterie.run import Run

RAMP = 0.4  # of the training, until a consistency loss has its whole weight (Oliver et al. 2018)


def learn(method: str, images: Images, labels_N: Tensor, config: Config, epochs: int, run: Run) -> nn.Sequential:
    """The running average of an encoder and a linear classifier, trained on `images` with the labels that are not -1.

    Batches, optimiser, rate, decay and average are those of SPICE's joint stage in `config`, for every reference, whatever its own paper
    took: so they differ in their loss alone. `supervised` goes through the labelled images as often as the others do.
    """
    encoder = run.new("encoder", build, EncoderSpec(config.encoder, config.image_size))
    encoder.standardise(*colour_statistics(images))
    student = nn.Sequential(encoder, run.new("classifier", nn.Linear, encoder.n_features, config.n_clusters))
    teacher = teacher_of(student)
    weights = [w for w in student.parameters() if w.ndim > 1], [w for w in student.parameters() if w.ndim <= 1]
    groups = [{"params": weights[0], "weight_decay": config.joint_decay}, {"params": weights[1]}]
    optimizer = SGD(groups, lr=config.joint_rate, momentum=0.9, nesterov=True)
    weak, strong = augment.fixmatch_weak(config.augment), augment.fixmatch_strong(config.augment)
    known, batch_size = (labels_N >= 0).nonzero().flatten(), run.devices.share(config.joint_batch * config.joint_ratio, len(images))
    steps, decay = len(images) // batch_size, 1 - 1 / (1 + config.average_epochs * (len(images) // batch_size))

    def predict(*views: Tensor) -> tuple[Tensor, ...]:
        with run.autocast():
            logits = student(torch.cat(views)).float()
        return logits.split([len(view) for view in views])

    for epoch in run.epochs("learn", epochs, student=student, teacher=teacher, optimizer=optimizer):
        student.train()
        rng, order = run.rng("learn", epoch), run.rng("learn-order", epoch)
        total = torch.zeros((), device=run.devices.device)
        for step, unlabelled in enumerate(run.batches(images, batch_size, order, drop_last=True)):
            done = run.done(epoch + step / steps, epochs)
            set_rate(optimizer, fixmatch_cosine(done, config.joint_rate))
            taught = run.place(images).batch(known[torch.randint(len(known), (config.joint_batch,), generator=rng)])
            labels_B = labels_N[taught.index_B.cpu()].to(run.devices.device)
            ramp = min(1.0, done / RAMP)
            batch = Batch(taught.pixels_B3HW, labels_B, unlabelled.pixels_B3HW, predict, teacher, weak, strong, ramp, rng)
            loss = LOSSES[method](batch)
            run.step(loss, optimizer)
            follow(teacher, student, decay)
            total += loss.detach()
        run.log(loss=total / (step + 1))
    return teacher  # type: ignore[return-value]


def classes(network: nn.Sequential, images: Images, run: Run) -> Tensor:
    """The most probable class of each image, (N,)."""
    encoder, classifier = network.children()
    with torch.no_grad():
        found: Tensor = classifier(features(encoder, images, run)).argmax(-1).cpu()
    return found
