"""One process against two (gloo, CPU): the blocks give the same result, and the ranks of a fit do not drift apart."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from coterie.run import checkpoint
from coterie.run.files import read_json_lines, read_table

pytestmark = pytest.mark.multi
N = 37  # odd, so that the last rank's part is shorter


@pytest.fixture(scope="module")
def folder(tmp_path_factory, drawn, all_end_well):
    """What one process and then two wrote."""
    folder = tmp_path_factory.mktemp("ranks")
    np.save(folder / "pictures.npy", drawn(N, size=16))
    np.save(folder / "rows.npy", np.random.default_rng(0).normal(size=(101, 5)).astype(np.float32))
    for world in (1, 2):
        all_end_well("rank.py", world, folder)
    return folder


def said(folder: Path, rank: int, world: int) -> dict:
    return json.loads((folder / f"said-{rank}of{world}.json").read_text())


def blocks(folder: Path, rank: int, world: int) -> dict[str, torch.Tensor]:
    return checkpoint.load(folder / f"blocks-{rank}of{world}.safetensors")


def test_there_were_two(folder):
    assert [said(folder, rank, 2)["world"] for rank in (0, 1)] == [2, 2] and [said(folder, rank, 2)["rank"] for rank in (0, 1)] == [0, 1]


def test_collectives(folder):
    for rank in (0, 1):
        told = said(folder, rank, 2)
        assert told["sum"] == 3 and told["broadcast"] == 5 and told["gathered"] == [[0, 7], [1, 7]]


@pytest.mark.parametrize("rank", [0, 1])
def test_features_are_those_of_one_rank(folder, rank):
    one, two = blocks(folder, 0, 1), blocks(folder, rank, 2)
    assert two["features"].shape == (N, 128)
    torch.testing.assert_close(two["features"], one["features"], rtol=1e-6, atol=1e-7)
    assert torch.equal(two["kept"], two["features"])


@pytest.mark.parametrize("rank", [0, 1])
def test_kmeans_is_that_of_one_rank(folder, rank):
    one, two = blocks(folder, 0, 1), blocks(folder, rank, 2)
    for name in ("labels", "wide", "wide sizes"):
        assert torch.equal(two[name], one[name]), name
    torch.testing.assert_close(two["centroids"], one["centroids"], rtol=0, atol=1e-5)


def test_each_image_is_seen_by_one_rank(folder):
    parts = [said(folder, rank, 2)["order"] for rank in (0, 1)]
    assert sorted(parts[0] + parts[1]) == list(range(N)) and sorted(said(folder, 0, 1)["order"]) == list(range(N))


@pytest.mark.parametrize("name", ["fit", "hurried", "labelled", "purified"])
def test_both_ranks_of_a_fit_end_with_the_same_weights(folder, name):
    """Also under a time budget, where each rank has a clock of its own."""
    zero, one = (checkpoint.load(folder / f"{name}-{rank}.safetensors") for rank in (0, 1))
    assert zero.keys() == one.keys() and any(key.startswith("encoder.") for key in zero)
    for key in zero:
        assert torch.equal(zero[key], one[key]), f"{key} differs between the ranks"


def test_a_fit_on_two_ranks_is_whole_and_written_once(folder):
    table = read_table(folder / "fit" / "assignments.parquet")
    assert len(table) == N and not (folder / "fit" / "work").exists()
    epochs = [(row["stage"], row["epoch"]) for row in read_json_lines(folder / "fit" / "history.jsonl") if row["stage"] != "note"]
    assert epochs == [("pretext", 0), ("pretext", 1), ("clustering", 0), ("clustering", 1)]


@pytest.mark.parametrize("name", ["v1", "v2"])
def test_both_ranks_of_deepcluster_end_alike_and_begin_as_one(folder, name):
    """Weights and result are the same on both; the first clustering, before anything is learned, is that of one rank."""
    zero, one = (checkpoint.load(folder / f"{name}-{rank}of2.safetensors") for rank in (0, 1))
    assert zero.keys() == one.keys() and all(torch.equal(zero[key], one[key]) for key in zero)
    alone, together = (
        [row for row in read_json_lines(folder / f"{name}-{world}" / "history.jsonl") if row["stage"] == "deep clustering"]
        for world in (1, 2)
    )
    assert alone[0]["sizes"] == together[0]["sizes"] and len(alone) == len(together) == 2
    assert sum(together[1]["sizes"]) == (N if name == "v1" else 32), "version 2 left out who was in no whole batch of 8 on either rank"
    assert zero["p"].shape == (N, 4)


def test_a_baseline_on_two_ranks_is_that_of_one(folder):
    assert said(folder, 0, 2)["sizes"] == said(folder, 1, 2)["sizes"] == said(folder, 0, 1)["sizes"] == said(folder, 1, 2)["again"]
