"""How fast a plain CPU sees photographs with EfficientNet-Lite0, and what haste costs: `python -m benchmarks.encoding [--draws 5]`.

Each way of running the same weights, at 160, 192 and 224 px, takes turns with the network as timm makes it; a pair a row, the ratio is
that of their images a second, pictures ready in memory. Then 1,500 photographs (the classes of Caltech-101 on which settings were chosen,
0 to 49 in alphabetical order) are seen in the ways that change the numbers; `acc` is what SCAN makes of draws of ten classes, the mean;
`worst` the worst of them; `cosine`, of 64 photographs, the mean with features of timm's network. Labels are read afterwards, to score.
The ways:

    timm            as it comes; channels_last: in that order of memory; folded: normalisations in the convolutions, too
    kept            folded, and the process keeps memory it has freed (what a fit does); the others give it back, as processes do
    bf16            folded, under autocast;  compiled: folded, by torch.compile
    onnxruntime, onnxruntime int8   exported, and quantised statically on 64 photographs (pip install onnx onnxscript onnxruntime)
"""

import argparse
import ctypes
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.photos import unpacked
from benchmarks.record import record
from coterie.evaluate.metrics import accuracy
from coterie.images import Images, open_images
from coterie.images.collection import open_rows
from coterie.methods import scan
from coterie.networks.encoder import EncoderSpec, build
from coterie.networks.folding import folded
from coterie.networks.weights import load_pretrained
from coterie.run import Run, machine
from coterie.run.devices import Devices

See = Callable[[Tensor], Tensor]
BATCH, SECONDS = 32, 2.0
OTHERS = ("folded", "bf16", "onnxruntime int8")  # numbers; those of folded are timm's but for rounding


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--px", type=int, nargs="+", default=[160, 192, 224])
    parser.add_argument("--ways", nargs="+", default=list(WAYS))
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--draws", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, torch.inference_mode():
        photos = unpacked(Path(temporary), range(50))
        for px in options.px:
            images = open_images(photos, px, Path(temporary) / "cache")
            kinds = np.unique([Path(path).parts[-2] for path in images.paths], return_inverse=True)[1]
            network = build(EncoderSpec("lite0", px)).eval()
            load_pretrained(network)
            ready = next(images.batches(64)).pixels_B3HW
            for way in options.ways:
                see = WAYS[way](network, ready, Path(temporary))
                cosine = nn.functional.cosine_similarity(see(ready).float(), network(ready)).mean()
                found = seen(see, images) if way in OTHERS else None
                accs = [] if found is None else [drawn(found, kinds, draw) for draw in range(options.draws)]
                scores = {"acc": round(float(np.mean(accs)), 4), "worst": round(min(accs), 4)} if accs else {"acc": "", "worst": ""}
                batch = ready[:BATCH]
                for pair in range(options.pairs):
                    ours, other = rate(see, batch), rate(network, batch)
                    row = {"px": px, "way": way, "threads": torch.get_num_threads(), "pair": pair, "images_per_second": round(ours, 1)}
                    row |= {"timm": round(other, 1), "ratio": round(ours / other, 3), "cosine": round(float(cosine), 5)}
                    record("encoding", row | {"draws": len(accs)} | scores)
                    print(row, accs, flush=True)


def seen(see: See, images: Images) -> Tensor:
    return torch.cat([see(batch.pixels_B3HW).float() for batch in images.batches(BATCH)])


def rate(see: See, batch: Tensor) -> float:
    """Images a second over some seconds, after one batch."""
    see(batch)
    count, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < SECONDS:
        see(batch)
        count += len(batch)
    return count / (time.perf_counter() - begun)


def drawn(features_ND: Tensor, kinds: np.ndarray, draw: int) -> float:
    """ACC of SCAN on ten classes."""
    chosen = np.isin(kinds, np.random.default_rng(draw).choice(50, 10, replace=False))
    rows, run = open_rows(features_ND.numpy()[chosen]), Run(devices=Devices("cpu", "fp32"), seed=draw)
    config = scan.Config(n_clusters=10, encoder="precomputed", pretext="frozen")
    with torch.inference_mode(False), torch.enable_grad():
        labels_N = scan.fit(rows, config, run).p_NK.argmax(1).numpy()
    run.close()
    return float(accuracy(np.unique(kinds[chosen], return_inverse=True)[1], labels_N))


def kept(network: nn.Module) -> See:
    """Folded, and memory is kept while it sees."""
    see = in_order(quick(network))

    def keeping(batch: Tensor) -> Tensor:
        machine.keep_memory()
        try:
            return see(batch)
        finally:
            give_back()

    return keeping


def give_back() -> None:
    """Freed memory goes back from 128 KiB on, glibc's values at the start of a process. It no longer adapts them then, so `timm` beside
    `kept` is a little slower than in a process of its own."""
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(machine.MMAP, 128 << 10)
    mallopt(machine.TRIM, 128 << 10)


def quick(network: nn.Module) -> nn.Module:
    return folded(network).to(memory_format=torch.channels_last)


def in_order(network: nn.Module) -> See:
    return lambda batch: network(batch.contiguous(memory_format=torch.channels_last))


def bf16(network: nn.Module, ready: Tensor, place: Path) -> See:
    see = in_order(quick(network))

    def cast(batch: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return see(batch)

    return cast


def onnx(network: nn.Module, ready: Tensor, place: Path, int8: bool = False) -> See:
    import onnxruntime

    file = place / f"lite0-{ready.shape[-1]}.onnx"
    with torch.inference_mode(False):
        torch.onnx.export(folded(network), (ready[:2].clone(),), file, input_names=["x"], dynamic_shapes=[{0: torch.export.Dim.DYNAMIC}])
    if int8:
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quant_pre_process, quantize_static

        class Some(CalibrationDataReader):
            rest = iter([{"x": part.numpy()} for part in ready.split(16)])

            def get_next(self) -> dict[str, np.ndarray] | None:
                return next(self.rest, None)

        quant_pre_process(file, file)
        quantize_static(file, file, Some(), quant_format=QuantFormat.QDQ, per_channel=True, weight_type=QuantType.QInt8)
    session = onnxruntime.InferenceSession(str(file))
    name = session.get_inputs()[0].name
    return lambda batch: torch.from_numpy(session.run(None, {name: batch.contiguous().numpy()})[0])


WAYS: dict[str, Callable[[nn.Module, Tensor, Path], See]] = {
    "timm": lambda network, ready, place: network,
    "channels_last": lambda network, ready, place: in_order(build_again(network).to(memory_format=torch.channels_last)),
    "folded": lambda network, ready, place: in_order(quick(network)),
    "kept": lambda network, ready, place: kept(network),
    "bf16": bf16,
    "compiled": lambda network, ready, place: torch.compile(in_order(quick(network))),
    "onnxruntime": onnx,
    "onnxruntime int8": lambda network, ready, place: onnx(network, ready, place, True),
}


def build_again(network: nn.Module) -> nn.Module:
    again = build(network.spec).eval()
    again.load_state_dict(network.state_dict())
    return again


if __name__ == "__main__":
    main()
