"""The catalogue is complete, coherent, and says of pyiqa's metrics what pyiqa itself says."""

from __future__ import annotations

import re
from importlib.util import find_spec

import pytest

from iqarena.registry.tables import build_model, names, origin
from iqarena.tools.describe import model_table
from iqarena_models.catalog import Metric, catalog, pyiqa_version, weight_file

PUBLISHED = [name for name in names("model") if origin("model", name).startswith("iqarena_models.published:")]
LEFT_OUT = {  # each is explained in models/README.md
    "afine_nr", "brisque_matlab", "clipscore", "compare2score", "entropy", "fgresq", "fid", "fid_dinov2",
    "inception_score", "laion_aes", "maclip", "niqe_matlab", "qalign", "qalign_4bit", "qalign_8bit", "qrealign",
    "qrealign-lite", "qrealign-mini", "qrealign-pro", "sfid", "topiq_nr-face", "topiq_nr-face-v1",
    "topiq_nr_swin-face",
}  # fmt: skip
needs_pyiqa = pytest.mark.skipif(
    find_spec("pyiqa") is None, reason="pyiqa is not installed (pip install iqarena[pyiqa])"
)


def test_every_record_is_a_model_and_no_name_is_taken_twice() -> None:
    assert sorted(catalog()) == sorted(PUBLISHED)
    assert {"hyperiqa", "dbcnn", "liqe", "liqe_mix", "linearityiqa", "cnniqa_live"} <= set(PUBLISHED)
    assert not {"bilinear", "cnn", "hyper", "linearity", "vit"} & set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_record_is_coherent(name: str) -> None:
    metric, model = catalog()[name], build_model(name)
    assert metric.what.endswith(".")
    assert metric.range[0] < metric.range[1]
    assert metric.ends == (metric.range[::-1] if metric.lower_better else metric.range)
    assert metric.gradient in ("exact", "straight-through", "none")
    assert (metric.crops > 1) == bool(metric.crops_option)
    assert sum(map(bool, (metric.arch, metric.network, name in ("linearityiqa", "liqe_style")))) == 1
    assert model.name == name
    assert (model.differentiable, model.straight_through) == (
        metric.gradient != "none",
        metric.gradient == "straight-through",
    )
    assert model.min_size == metric.min_size
    assert repr(model) == name
    assert [file.name for file in model.files] == list(metric.files)
    assert all(file.url or file.page for file in model.files)


def test_files_carry_their_addresses_and_hashes() -> None:
    hyper = weight_file("HyperIQA-resnet50-koniq10k-c96c41b1.pth")
    assert hyper.url.startswith("https://huggingface.co/chaofengc/IQA-PyTorch-Weights/resolve/main/HyperIQA")
    assert hyper.expected == "c96c41b1"
    assert weight_file("QualiCLIP+_koniq.pth").url.endswith("/QualiCLIP%2B_koniq.pth")
    clip = weight_file("RN50.pt")
    assert len(clip.expected) == 64
    assert clip.expected in clip.url
    scnn = weight_file("DBCNN_scnn-7ea73d75.pth")
    assert len(scnn.expected) == 64, "the whole hash, not only the eight digits of the name"
    assert scnn.expected.startswith("7ea73d75")
    assert weight_file("p1q2.pth").url == "", "to be had by hand only"


def test_the_table_leaves_empty_what_is_not_known() -> None:
    rows = {row["model"]: row for row in model_table()}
    assert set(rows) == set(names("model"))
    assert len({tuple(row) for row in rows.values()}) == 1
    assert rows["hyperiqa"] | {"licence": ""} == {
        "model": "hyperiqa", "better": "higher", "range": "about 0 to 1", "trained on": "KonIQ-10k", "crops": "25",
        "input": "crops of 224×224 on a grid; a shorter side is enlarged to 225", "shortest side": "1",
        "gradient": "yes", "random": "no", "licence": "", "files": "HyperIQA-resnet50-koniq10k-c96c41b1.pth",
    }  # fmt: skip
    assert rows["clipiqa+"]["trained on"] == rows["liqe"]["licence"] == ""
    assert rows["piqe"]["gradient"] == "no: target only"
    assert rows["brisque"] | {"better": "lower", "gradient": "straight-through"} == rows["brisque"]
    assert rows["cnn"]["files"] == "shipped"
    assert rows["cnniqa_live"]["files"] == "cnniqa_live.pth 79cc404d…"


@needs_pyiqa
@pytest.mark.filterwarnings("ignore")
def test_it_covers_pyiqa_s_metrics() -> None:
    from pyiqa import __version__, list_models  # pyright: ignore[reportMissingImports]

    assert __version__ == pyiqa_version()
    ours = {name for name, metric in catalog().items() if metric.arch}
    assert ours | LEFT_OUT == set(list_models("NR"))
    assert not ours & LEFT_OUT


@needs_pyiqa
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("metric", [m for m in catalog().values() if m.arch], ids=lambda m: m.name)
def test_it_says_what_pyiqa_says(metric: Metric) -> None:
    from importlib import import_module

    config = import_module("pyiqa.default_model_configs").DEFAULT_CONFIGS[metric.name]
    assert metric.lower_better == config.get("lower_better", False)
    message = [re.sub("~", "", part).strip() for part in config["score_range"].split(",")]
    if metric.arch != "nima_arch" and metric.name != "pi":  # NIMA: an expected value of 1…10; PI has no upper end
        assert list(metric.range) == [float(part) for part in message]
        assert metric.exact_range == ("~" not in config["score_range"])
    module = import_module(f"pyiqa.archs.{metric.arch}")
    architecture = getattr(module, config["metric_opts"]["type"])
    if metric.crops_option:
        import inspect

        assert inspect.signature(architecture).parameters[metric.crops_option].default == metric.crops
    known = {url.rpartition("/")[2] for url in getattr(module, "default_model_urls", {}).values()}
    own = {
        weight_file(name).url.rpartition("/")[2]
        for name in metric.files
        if weight_file(name).url.startswith("https://hug")
    }
    assert own <= known | {"niqe_modelparameters.mat"}
