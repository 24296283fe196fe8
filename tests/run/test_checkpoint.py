"""State on disk: what goes in comes out, or an InputError names the file."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save as to_bytes
from torch import nn
from torch.optim import SGD, Adam

from coterie.errors import InputError
from coterie.run import checkpoint, disk


def equal(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and list(one) == list(other) and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return isinstance(other, list) and len(one) == len(other) and all(map(equal, one, other))
    return type(one) is type(other) and one == other


STATES = {
    "nothing": {},
    "plain": {"a": 1, "b": 2.5, "c": True, "d": None, "e": "text with é and \n", "f": [1, [2, {"g": "h"}]], "i": float("inf")},
    "keys that look alike": {0: "zero", "0": "text"},
    "a dict with our own words": {"tensor": 1, "dict": [1, 2], "list": {"list": [3]}},
    "a tensor alone": torch.arange(5),
    "empty tensors": {"a": torch.zeros(0), "b": torch.zeros(3, 0, 2), "c": torch.tensor(7)},
    "types": {str(t): torch.arange(4).to(t) for t in (torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.uint8, torch.bool)},
    "no finite numbers": {"x": torch.tensor([float("inf"), -0.0, 1e-45])},
    "strides": {"t": torch.arange(12.0).view(3, 4).T, "part": torch.arange(12)[3:7], "wide": torch.ones(1, 3).expand(5, 3)},
    "channels last": torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last),
}


@pytest.mark.parametrize("name", STATES)
def test_what_goes_in_comes_out(tmp_path, name):
    checkpoint.save(tmp_path / "s.safetensors", STATES[name])
    assert equal(STATES[name], checkpoint.load(tmp_path / "s.safetensors"))


def test_shared_memory_is_no_bond_afterwards(tmp_path):
    base = torch.arange(6.0)
    checkpoint.save(tmp_path / "s", {"a": base, "b": base.view(2, 3)})
    back = checkpoint.load(tmp_path / "s")
    back["a"].zero_()
    assert torch.equal(back["b"], base.view(2, 3))


@pytest.mark.parametrize("make", [lambda w: Adam(w, lr=0.1, amsgrad=True), lambda w: SGD(w, lr=0.1, momentum=0.9, nesterov=True)])
def test_an_optimizer_goes_on_with_the_same_bits(tmp_path, make):
    def train(network, optimizer, steps):
        for step in range(steps):
            optimizer.zero_grad()
            network(torch.randn(4, 3, generator=torch.Generator().manual_seed(step))).square().sum().backward()
            optimizer.step()

    def fresh():
        network = nn.Linear(3, 2)
        with torch.no_grad():
            network.weight.fill_(0.5), network.bias.zero_()
        return network, make(network.parameters())

    one, other = fresh(), fresh()
    train(*one, 3)
    checkpoint.save(tmp_path / "s", {"network": one[0].state_dict(), "optimizer": one[1].state_dict()})
    back = checkpoint.load(tmp_path / "s")
    assert set(back["optimizer"]["state"]) == {0, 1}, "integer keys stay integers"
    other[0].load_state_dict(back["network"]), other[1].load_state_dict(back["optimizer"])
    for pair in (one, other):
        train(*pair, 2)
    assert torch.equal(one[0].weight, other[0].weight)


def test_what_has_no_place_in_a_file_is_refused(tmp_path):
    with pytest.raises(AssertionError, match="object"):
        checkpoint.save(tmp_path / "s", {"x": object()})
    assert not (tmp_path / "s").exists()


# ---- damage


def test_every_cut_is_noticed(tmp_path):
    path = tmp_path / "state.safetensors"
    checkpoint.save(path, {"w": torch.arange(8.0), "n": 3})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="state.safetensors"):
            checkpoint.load(path)


def test_every_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "state.safetensors"
    checkpoint.save(path, {"w": torch.arange(8.0), "n": 3, "k": torch.tensor([1], dtype=torch.int16)})
    whole = path.read_bytes()
    for at in range(len(whole)):
        for bit in {at % 8, 5}:  # 5: upper to lower case
            damaged = bytearray(whole)
            damaged[at] ^= 1 << bit
            path.write_bytes(damaged)
            try:
                back = checkpoint.load(path)
            except InputError as error:
                assert "state.safetensors" in str(error)
            else:  # a blank more or less between the words of the header changes nothing
                assert equal(back, {"w": torch.arange(8.0), "n": 3, "k": torch.tensor([1], dtype=torch.int16)}), (at, bit)


@pytest.mark.parametrize(
    "header", [{}, {"format": "2"}, {"format": "1"}, {"format": "1", "tree": "{}"}, {"format": "1", "tree": "no json", "checksum": "0"}]
)
def test_a_file_of_someone_else_is_refused(tmp_path, header):
    (tmp_path / "x.safetensors").write_bytes(to_bytes({"a": torch.ones(2)}, header))
    with pytest.raises(InputError, match="x.safetensors"):
        checkpoint.load(tmp_path / "x.safetensors")


def test_absent_is_not_damaged(tmp_path):
    with pytest.raises(FileNotFoundError):
        checkpoint.load(tmp_path / "nothing")
    assert checkpoint.load_latest(tmp_path / "nothing") is None


def test_the_previous_is_used_when_the_newest_is_damaged(tmp_path):
    path = tmp_path / "s"
    for epoch in (1, 2, 3):
        checkpoint.save(path, {"epoch": epoch})
    assert checkpoint.load_latest(path) == {"epoch": 3}
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert checkpoint.load_latest(path) == {"epoch": 2}
    path.unlink()
    assert checkpoint.load_latest(path) == {"epoch": 2}, "the moment between the two renames"
    checkpoint.save(path, {"epoch": 4})
    assert checkpoint.load_latest(path) == {"epoch": 4}


def test_both_damaged_is_said(tmp_path):
    path = tmp_path / "s.safetensors"
    for epoch in (1, 2):
        checkpoint.save(path, {"epoch": epoch})
    for name in ("s.safetensors", "s.safetensors.previous"):
        (tmp_path / name).write_bytes(b"rubbish")
    with pytest.raises(InputError, match=r"s\.safetensors\.previous"):
        checkpoint.load_latest(path)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "s"
    checkpoint.save(path, {"epoch": 1})

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(path, {"epoch": 2})
    monkeypatch.undo()
    assert checkpoint.load(path) == {"epoch": 1}
    checkpoint.save(path, {"epoch": 3})
    assert checkpoint.load(path) == {"epoch": 3} and checkpoint.load_latest(path) == {"epoch": 3}


def test_a_process_killed_while_it_writes_leaves_a_whole_file(tmp_path):
    code = (
        "import os, sys, torch\nfrom coterie.run import checkpoint\nfrom pathlib import Path\npath = Path(sys.argv[1])\n"
        "checkpoint.save(path, {'epoch': 1})\nreplace = os.replace\n"
        "def die(a, b):\n    replace(a, b)\n    os._exit(9)\nos.replace = die\ncheckpoint.save(path, {'epoch': 2})"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "s")]).returncode == 9
    assert checkpoint.load_latest(tmp_path / "s") in ({"epoch": 1}, {"epoch": 2})


@pytest.mark.parametrize("way", ["write", "write_atomically"])
def test_content_and_names_are_on_the_disk_before_anybody_sees_them(tmp_path, monkeypatch, way):
    did = []
    fsync, replace = os.fsync, os.replace

    def synced(handle):
        did.append(f"sync {os.path.basename(os.readlink(f'/proc/self/fd/{handle}'))}")
        return fsync(handle)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", lambda a, b: (did.append(f"replace {os.path.basename(a)}"), replace(a, b))[1])
    path = tmp_path / "new" / "s"
    disk.write(path, b"x") if way == "write" else disk.write_atomically(path, lambda new: new.write_bytes(b"x"))
    assert path.read_bytes() == b"x" and did[0] == f"sync {tmp_path.name}", "the name of the new folder"
    file = did[2].removeprefix("replace ")
    assert did[1:] == [f"sync {file}", f"replace {file}", "sync new"]


def test_a_file_system_that_cannot_sync_folders_is_no_error(tmp_path, monkeypatch):
    def fsync(handle):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "fsync", fsync)
    disk.sync(tmp_path)


# ---- one writer


def test_one_writer_at_a_time_across_processes(tmp_path):
    pytest.importorskip("fcntl")
    code = (
        "import sys\nfrom pathlib import Path\nfrom coterie.run import checkpoint\n"
        "with checkpoint.locked(Path(sys.argv[1])):\n    print('mine', flush=True)\n    sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "mine\n"
        with pytest.raises(InputError, match="another process"), checkpoint.locked(tmp_path):
            pass
        other.kill()
    with checkpoint.locked(tmp_path):
        pass
    with checkpoint.locked(tmp_path), pytest.raises(InputError), checkpoint.locked(tmp_path):
        pass


# ---- fingerprints


def test_fingerprint_sees_every_change():
    x = torch.arange(6.0)
    layer = nn.Linear(2, 2)
    seen = [
        checkpoint.fingerprint(*values)
        for values in [
            (),
            (x,),
            (x + 1,),
            (x.view(2, 3),),
            (x.double(),),
            (x, 1),
            (x, 1.0),
            (x, "1"),
            (x, None),
            ([x],),
            (x, x),
            (layer,),
            (1, 2),
            (12,),
        ]
    ]
    assert len(set(seen)) == len(seen) and all(len(one) == 32 for one in seen)
    with torch.no_grad():
        layer.weight[0, 0] += 1
    assert checkpoint.fingerprint(layer) not in seen
    assert checkpoint.fingerprint(x.clone()) == checkpoint.fingerprint(x)


def test_a_state_is_readable_by_others(tmp_path):
    """safetensors and json only, so that a run can be read without Coterie."""
    from safetensors import safe_open

    checkpoint.save(tmp_path / "s", {"w": torch.ones(2), "k": 3})
    with safe_open(tmp_path / "s", framework="pt") as file:
        assert json.loads(file.metadata()["tree"]) == {"dict": [["w", {"tensor": "00000"}], ["k", 3]]}
