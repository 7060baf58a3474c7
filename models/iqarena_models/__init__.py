"""Scorers by name. Adding one: a file in this package, and a line here; or a record in ``catalog.toml``."""

from iqarena_models.catalog import catalog

PLUGINS = {
    "model": {
        **{name: f"iqarena_models.published:{name}" for name in catalog()},
        "linearityiqa": "iqarena_models.published:LinearityIQA",
        "liqe_style": "iqarena_models.published:LiqeStyle",
        "bilinear": "iqarena_models.pocket.zoo:Bilinear",
        "cnn": "iqarena_models.pocket.zoo:Cnn",
        "hyper": "iqarena_models.pocket.zoo:Hyper",
        "linearity": "iqarena_models.pocket.zoo:Linearity",
        "vit": "iqarena_models.pocket.zoo:Vit",
    },
    "training": {
        "linearityiqa": "iqarena_models.training.linearityiqa:train_linearityiqa",
        "liqe_style": "iqarena_models.training.liqe_style:train_liqe_style",
        **dict.fromkeys(("hyperiqa", "dbcnn", "liqe"), "iqarena_models.training.pyiqa:train_pyiqa"),
        **dict.fromkeys(
            ("bilinear", "cnn", "hyper", "linearity", "vit"), "iqarena_models.training.pocket:train_pocket"
        ),
    },
}
