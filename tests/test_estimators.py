"""The estimators keep scikit-learn's conventions, and what the contract promises of them."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import estimator_checks_generator

from coterie import KMeans, open_images
from coterie import load as load_run
from coterie.errors import InputError
from coterie.estimators import (
    AND,
    CC,
    DEC,
    IDEC,
    IDFD,
    IIC,
    IR,
    IS,
    OF_METHOD,
    PCP,
    PICA,
    SCAN,
    SPICE,
    TEMI,
    TURTLE,
    Agglomerative,
    DeepCluster,
    GaussianMixture,
    SeLa,
    Spectral,
)  # fmt: skip
from coterie.evaluate import metrics

TINY = {
    SCAN: {"image_size": 16, "pretext_epochs": 4, "cluster_epochs": 3, "cluster_steps": 10, "selflabel_epochs": 0, "n_heads": 3},
    SPICE: {"image_size": 16, "pretext_epochs": 4, "head_epochs": 3, "head_steps": 4, "joint_epochs": 0, "n_heads": 6},
    TEMI: {"image_size": 16, "pretext_epochs": 4, "n_heads": 2, "epochs": 2},
    TURTLE: {"image_size": 16, "pretext_epochs": 4, "n_heads": 2, "epochs": 2},
    DeepCluster: {"image_size": 16, "epochs": 3, "batch": 32, "restarts": 2, "final": "k-means"},
    PCP: {"image_size": 16, "epochs": 4, "batch": 16},
    IR: {"image_size": 16, "pretext_epochs": 4, "pretext_batch": 16},
    IIC: {"image_size": 16, "epochs": 30, "pretext_batch": 60},
    CC: {"image_size": 16, "epochs": 20, "pretext_batch": 60},
    DEC: {"image_size": 16, "epochs": 10, "sharpen_epochs": 3, "pretext_batch": 60},
    IDEC: {"image_size": 16, "epochs": 10, "sharpen_epochs": 3, "pretext_batch": 60},
    PICA: {"image_size": 16, "epochs": 20, "pretext_batch": 60},
    SeLa: {"image_size": 16, "epochs": 10, "pretext_batch": 30, "n_heads": 2},
    Spectral: {"image_size": 16},
    Agglomerative: {"image_size": 16},
    GaussianMixture: {"image_size": 16, "restarts": 2},
    KMeans: {"image_size": 16, "restarts": 2},
}
SHORT = {  # where it does not matter how good a fit is
    SCAN: TINY[SCAN] | {"pretext_epochs": 1, "cluster_epochs": 1, "cluster_steps": 3},
    SPICE: TINY[SPICE] | {"pretext_epochs": 1, "head_epochs": 1, "head_steps": 1, "head_repeats": 2, "n_heads": 3},
    TEMI: TINY[TEMI] | {"pretext_epochs": 1, "epochs": 1},
    TURTLE: TINY[TURTLE] | {"pretext_epochs": 1, "epochs": 1},
    DeepCluster: TINY[DeepCluster] | {"epochs": 1, "restarts": 1},
    PCP: TINY[PCP] | {"epochs": 2},
    IR: TINY[IR] | {"pretext_epochs": 1},
    IIC: TINY[IIC] | {"epochs": 1},
    CC: TINY[CC] | {"epochs": 1},
    DEC: TINY[DEC] | {"epochs": 1},
    IDEC: TINY[IDEC] | {"epochs": 1},
    PICA: TINY[PICA] | {"epochs": 1},
    SeLa: TINY[SeLa] | {"epochs": 1},
    Spectral: TINY[Spectral],
    Agglomerative: TINY[Agglomerative],
    GaussianMixture: TINY[GaussianMixture] | {"restarts": 1},
    KMeans: TINY[KMeans],
}
HEADS_ONLY = {
    SCAN: {"cluster_epochs": 1, "cluster_steps": 3, "n_heads": 1, "selflabel_epochs": 0},
    SPICE: {"head_epochs": 3, "head_steps": 2, "head_repeats": 2, "n_heads": 6},
    TEMI: {"epochs": 1, "steps": 3, "n_heads": 1},
    TURTLE: {"epochs": 1, "steps": 3, "n_heads": 1},
    DeepCluster: {"epochs": 0, "restarts": 1},
    Spectral: {},
    Agglomerative: {},
    GaussianMixture: {"restarts": 1},
    KMeans: {"restarts": 1},
}


def make(kind, n_clusters: int = 4, settings=TINY, **more):
    return kind(n_clusters, preset="quick", settings=settings[kind], device="cpu", precision="fp32", threads=1, **more)


@pytest.fixture(scope="module", params=list(TINY), ids=lambda kind: kind.__name__)
def fitted(request, drawn):
    return make(request.param).fit(drawn(80))


# ---- scikit-learn's own checks, on features, which are the 2-D arrays these checks know

CANNOT_PASS: dict[str, str] = {}  # check -> reason; every one passes at present


@pytest.mark.parametrize(
    "estimator, check",
    [
        pair
        for kind in HEADS_ONLY
        for pair in estimator_checks_generator(
            kind(2, encoder="precomputed", settings=HEADS_ONLY[kind], device="cpu", precision="fp32", threads=1),
            mark="xfail",
            expected_failed_checks=CANNOT_PASS,
        )
    ],
    ids=lambda one: getattr(one, "func", one).__name__ if callable(one) else type(one).__name__,
)
def test_scikit_learn(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


def test_every_estimator_is_checked():
    assert set(OF_METHOD.values()) == set(TINY) | {IS, AND, IDFD}, "which differ from IR by their names alone"
    assert set(TINY) == set(HEADS_ONLY) | {PCP, IR, IIC, CC, PICA, SeLa, DEC, IDEC}, "which take no features"


@pytest.mark.parametrize("kind", [PCP, IR, IS, AND, IDFD, IIC, CC, PICA, SeLa, DEC, IDEC])
def test_who_trains_the_encoder_refuses_features(kind):
    with pytest.raises(InputError, match="precomputed"):
        kind(2, encoder="precomputed").fit(np.eye(8))


# ---- what a fit gives


def test_fitted_attributes(fitted):
    assert fitted.labels_.shape == (80,) and fitted.labels_.dtype == np.int64
    assert fitted.probabilities_.shape == (80, 4) and fitted.probabilities_.dtype == np.float32
    np.testing.assert_allclose(fitted.probabilities_.sum(1), 1, atol=1e-5)
    assert np.array_equal(fitted.probabilities_.argmax(1), fitted.labels_)
    assert fitted.n_clusters_ == 4 and fitted.n_images_ == 80 and isinstance(fitted.health_, list) and fitted.verdict_.endswith(".")
    assert all({"stage"} <= set(row) for row in fitted.history_)
    assert fitted.features_.shape[0] == 80
    np.testing.assert_allclose(np.linalg.norm(fitted.features_.astype(float), axis=1), 1, atol=1e-2)


def test_predicts_what_it_fitted(fitted, drawn):
    assert (fitted.predict(drawn(80)) == fitted.labels_).mean() > 0.98
    np.testing.assert_allclose(fitted.predict_proba(drawn(80)), fitted.probabilities_, atol=1e-3)
    one = fitted.predict_proba(drawn(80)[:1])
    np.testing.assert_allclose(one, fitted.probabilities_[:1], atol=1e-3)
    z = fitted.transform(drawn(80))
    assert z.dtype == np.float32
    np.testing.assert_allclose(z / np.linalg.norm(z, axis=1, keepdims=True), fitted.features_.astype(np.float32), atol=2e-3)


def test_what_fits_nowhere_is_farther(fitted, drawn):
    """Pictures of the four kinds, and plain ones of a single colour."""
    known, strange = drawn(40, seed=5), np.broadcast_to(np.arange(0, 250, 25, dtype=np.uint8)[:, None, None, None], (10, 24, 24, 3))
    far = fitted.novelty(np.concatenate([known, strange]))
    assert far.shape == (50,) and far.dtype == np.float32 and np.median(far[40:]) > np.quantile(far[:40], 0.9)
    np.testing.assert_allclose(fitted.novelty(known[:1]), far[:1], atol=1e-2)


def test_score_is_accuracy_of_the_prediction(fitted, drawn):
    new, truth = drawn(40, seed=5), np.arange(40) % 4
    assert fitted.score(new, truth) == metrics.accuracy(truth, fitted.predict(new))


def test_scan_finds_the_kinds(drawn):
    assert make(SCAN, random_state=1).fit(drawn()).score(drawn(40, seed=3), np.arange(40) % 4) > 0.7


@pytest.mark.parametrize("kind", list(TINY))
def test_true_labels_are_ignored(kind, drawn):
    rng = np.random.default_rng(0)
    results = [
        make(kind, settings=SHORT).fit(drawn(40), y).probabilities_ for y in (None, np.arange(40) % 4, rng.permutation(40), ["no label"])
    ]
    assert all(np.array_equal(results[0], other) for other in results[1:])
    assert np.array_equal(make(kind, settings=SHORT).fit_predict(drawn(40), y=np.zeros(40)), results[0].argmax(1))


@pytest.mark.parametrize("kind", list(TINY))
def test_random_state(kind, drawn):
    one, same, other = (make(kind, settings=SHORT, random_state=seed).fit(drawn(40)).probabilities_ for seed in (0, 0, 1))
    assert np.array_equal(one, same)
    assert kind is KMeans or not np.array_equal(one, other)


def test_images_opened_before_keep_their_size_and_their_name(drawn):
    """The example of the contract: open_images(..., size=...) first, then fit."""
    images = open_images(drawn(30, size=20), size=20)
    model = SCAN(4, settings={key: value for key, value in TINY[SCAN].items() if key != "image_size"}, threads=1)
    assert len(model.fit(images).labels_) == 30
    assert len(model.predict(images)) == 30
    from coterie import fitting

    assert fitting.plan(open_images("digits"), "scan")[1].preset == "digits"
    with pytest.raises(InputError, match="size"):
        make(SCAN).fit(images)  # asks for 16 px by name


def test_any_source_will_do(fitted, drawn, tmp_path):
    from PIL import Image

    pictures = drawn(80)[:6]
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
    want = fitted.predict(pictures)
    paths = [tmp_path / f"{i}.png" for i in range(6)]
    for source in (str(tmp_path), tmp_path, paths, [Image.fromarray(picture) for picture in pictures], torch.from_numpy(pictures)):
        assert np.array_equal(fitted.predict(source), want), type(source)


# ---- parameters, copies, files


@pytest.mark.parametrize("kind", list(TINY))
def test_parameters(kind):
    model = make(kind, random_state=3, time_budget=5.0)
    assert clone(model).get_params() == model.get_params()
    assert model.get_params()["settings"] == TINY[kind]
    model.set_params(n_clusters=7, encoder="small-32")
    assert (model.n_clusters, model.encoder) == (7, "small-32")
    with pytest.raises(ValueError, match="nonsense"):
        model.set_params(nonsense=1)
    assert not hasattr(clone(model), "labels_")


def test_a_clone_fits_alike(drawn):
    model = make(SCAN, settings=SHORT, random_state=2)
    settings = copy.deepcopy(model.settings)
    assert np.array_equal(model.fit(drawn(40)).probabilities_, clone(model).fit(drawn(40)).probabilities_)
    assert model.settings == settings, "fit changed a parameter"


@pytest.mark.parametrize("method", ["predict", "predict_proba", "transform", "novelty", "score", "save", "report", "features_"])
def test_not_fitted(method, tmp_path):
    model = make(KMeans)
    with pytest.raises(NotFittedError):
        getattr(model, method)(*{"score": (0, 0), "save": (tmp_path / "x",), "report": (tmp_path / "x.html",)}.get(method, (0,)))


@pytest.mark.parametrize("twin", [lambda m: pickle.loads(pickle.dumps(m)), copy.deepcopy], ids=["pickle", "deepcopy"])
def test_copies_of_a_fitted_model_stand_alone(drawn, twin):
    model = make(KMeans).fit(drawn(40))
    copied = twin(model)
    want = model.predict_proba(drawn(40)), model.features_, model.labels_
    del model  # its temporary folder goes with it
    assert np.array_equal(copied.predict_proba(drawn(40)), want[0])
    assert np.array_equal(copied.features_, want[1]) and np.array_equal(copied.labels_, want[2])
    assert copied.get_params() == make(KMeans).get_params()
    again = pickle.loads(pickle.dumps(make(KMeans)))
    assert not hasattr(again, "labels_")


def test_save_load_report(fitted, drawn, tmp_path):
    fitted.save(tmp_path / "kept")
    back = load_run(tmp_path / "kept")
    assert type(back) is type(fitted) and back.n_clusters == 4
    assert np.array_equal(back.labels_, fitted.labels_) and np.array_equal(back.probabilities_, fitted.probabilities_)
    assert np.array_equal(back.predict(drawn(20, seed=2)), fitted.predict(drawn(20, seed=2)))
    page = back.report(tmp_path / "x.html")
    assert page.read_text().count("data-image-id") >= 8
    with pytest.raises(InputError, match="kept"):
        fitted.save(tmp_path / "kept")
    with pytest.raises(InputError, match="nowhere"):
        load_run(tmp_path / "nowhere")


def test_a_loaded_model_can_be_fitted_again(drawn, tmp_path):
    model = make(KMeans, random_state=4).fit(drawn(40))
    model.save(tmp_path / "kept")
    assert np.array_equal(load_run(tmp_path / "kept").fit(drawn(40)).labels_, model.labels_)


def test_a_run_of_its_own_is_kept_and_continued(drawn, tmp_path):
    model = make(KMeans, run=str(tmp_path / "run")).fit(drawn(40))
    assert (tmp_path / "run" / "assignments.parquet").exists()
    stamp = (tmp_path / "run" / "assignments.parquet").stat().st_mtime_ns
    assert np.array_equal(make(KMeans, run=str(tmp_path / "run")).fit(drawn(40)).labels_, model.labels_)
    assert (tmp_path / "run" / "assignments.parquet").stat().st_mtime_ns == stamp
    with pytest.raises(InputError, match="n_clusters"):
        make(KMeans, 3, run=str(tmp_path / "run")).fit(drawn(40))


def test_in_a_pipeline(drawn):
    darker = FunctionTransformer(lambda x: x // 2)
    pipeline = make_pipeline(darker, make(KMeans))
    labels = pipeline.fit_predict(drawn(40))
    assert np.array_equal(labels, make(KMeans).fit_predict(drawn(40) // 2))
    assert np.array_equal(pipeline.predict(drawn(40)), labels)
    features = make_pipeline(make(KMeans), FunctionTransformer(lambda z: z.sum(1))).fit_transform(drawn(40))
    assert features.shape == (40,)


# ---- features in place of images


def blobs(n: int = 60, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.eye(3, 6)[np.arange(n) % 3] * 5 + rng.normal(size=(n, 6))


@pytest.mark.parametrize("kind", list(HEADS_ONLY))
def test_precomputed(kind, tmp_path):
    settings = {SCAN: {"cluster_epochs": 4, "n_heads": 2}, DeepCluster: {"epochs": 0}}.get(kind, {})
    model = kind(3, encoder="precomputed", settings=settings, threads=1).fit(blobs())
    assert metrics.accuracy(np.arange(60) % 3, model.labels_) > 0.95 and model.n_features_in_ == 6
    for rows in (blobs(), torch.tensor(blobs(), requires_grad=True), blobs().tolist()):
        assert np.array_equal(model.predict(rows), model.labels_)
    np.testing.assert_allclose(model.transform(blobs()), blobs(), rtol=1e-6)
    assert len(model.predict(blobs()[:1])) == 1
    model.save(tmp_path / "kept")
    for fitted in (model, load_run(tmp_path / "kept"), pickle.loads(pickle.dumps(model))):
        with pytest.raises(InputError, match="5 features.*6 features"):
            fitted.predict(blobs()[:, :5])
    model.report(tmp_path / "x.html")


@pytest.mark.parametrize(
    "X, says",
    [
        (np.full((9, 3), np.nan), "NaN"),
        (np.zeros((9, 0)), "0 feature"),
        (np.zeros(9), "1D"),
        (np.zeros((9, 2, 2)), "3"),
        (np.zeros((1, 3)), "minimum of 2"),
        ("photos", "photos|2D|convert"),
    ],
)
def test_features_that_cannot_be(X, says):
    with pytest.raises(InputError, match=says):
        SCAN(2, encoder="precomputed").fit(X)


@pytest.mark.parametrize(
    "change, says",
    [
        ({"n_clusters": 0}, "clusters"),
        ({"n_clusters": 41}, "41.*40"),
        ({"encoder": "no such net"}, "no such net"),
        ({"preset": "nope"}, "nope"),
        ({"device": "tpu"}, "tpu"),
        ({"precision": "fp8"}, "fp8"),
        ({"threads": 0}, "threads"),
        ({"settings": {"no_such": 1}}, "no_such"),
    ],
    ids=lambda one: str(one),
)
def test_mistakes_are_named(change, says, drawn):
    with pytest.raises(InputError, match=says):
        make(SCAN).set_params(**change).fit(drawn(40))
