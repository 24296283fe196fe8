"""What a person waits for: `coterie --help`, and `predict` of one picture with our own encoder, by the run and by its ONNX file.

python -m benchmarks.latency
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.record import record

HEAVY = ("timm", "accelerate", "matplotlib", "sklearn")
TIMES = 5


def main() -> None:
    program = str(Path(sys.executable).with_name("coterie"))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        rng = np.random.default_rng(0)
        (folder / "one").mkdir()
        Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(folder / "one" / "picture.png")
        np.save(folder / "many.npy", rng.integers(0, 255, (120, 32, 32, 3), np.uint8))
        run = folder / "run"
        subprocess.run([program, "fit", folder / "many.npy", "-o", run, "--clusters", "4", "--preset", "quick"], check=True)
        predict = ["predict", str(run), str(folder / "one"), "-o", str(folder / "out.csv"), "--cache", str(folder / "cache")]
        loads = f"import sys, coterie.cli as c; sys.argv[1:] = {predict!r}\ntry: c.main()\nexcept SystemExit: pass\n"
        found = subprocess.run(
            [sys.executable, "-c", loads + f"print([m for m in {HEAVY} if m in sys.modules])"], capture_output=True, text=True
        )
        heavy = found.stdout.strip().splitlines()[-1]
        subprocess.run([program, "export", run, "--to", "onnx", folder / "model.onnx"], check=True, capture_output=True)
        exported = ["predict", str(folder / "model.onnx"), *predict[2:]]
        for name, words in {"--help": ["--help"], "predict": predict, "predict, ONNX": exported, "import torch": None}.items():
            command = [sys.executable, "-c", "import torch"] if words is None else [program, *words]
            seconds = [timed(command) for _ in range(TIMES)]
            record(
                "latency",
                {"command": name, "best": round(min(seconds), 3), "median": round(sorted(seconds)[TIMES // 2], 3), "heavy": heavy},
            )


def timed(command: list[str]) -> float:
    begun = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
