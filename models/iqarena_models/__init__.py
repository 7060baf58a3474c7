"""Scorers and defenses by name. Adding one: a file in this package and a line here; or a record in ``catalog.toml``."""

from iqarena_models.catalog import catalog

PLUGINS = {
    "model": {
        **{name: f"iqarena_models.published:{name}" for name in catalog()},
        "linearityiqa": "iqarena_models.published:LinearityIQA",
        "liqe_style": "iqarena_models.published:LiqeStyle",
        "bilinear": "iqarena_models.zoo.scorers:Bilinear",
        "cnn": "iqarena_models.zoo.scorers:Cnn",
        "hyper": "iqarena_models.zoo.scorers:Hyper",
        "linearity": "iqarena_models.zoo.scorers:Linearity",
        "vit": "iqarena_models.zoo.scorers:Vit",
    },
    "defense": {
        "adversarial": "iqarena_models.defenses.adversarial:Adversarial",
        "bit_depth": "iqarena_models.defenses.bit_depth:BitDepth",
        "color_quantization": "iqarena_models.defenses.color_quantization:ColorQuantization",
        "flip": "iqarena_models.defenses.flip:Flip",
        "gaussian": "iqarena_models.defenses.gaussian:Gaussian",
        "gradient_norm": "iqarena_models.defenses.gradient_norm:GradientNorm",
        "jpeg": "iqarena_models.defenses.jpeg:Jpeg",
        "median": "iqarena_models.defenses.median:Median",
        "median_smoothing": "iqarena_models.defenses.median_smoothing:MedianSmoothing",
        "random_crop": "iqarena_models.defenses.random_crop:RandomCrop",
        "resize": "iqarena_models.defenses.resize:Resize",
        "unsharp": "iqarena_models.defenses.unsharp:Unsharp",
    },
    "training": {
        **dict.fromkeys(("adversarial", "gradient_norm"), "iqarena_models.training.harden:train_hardened"),
        "linearityiqa": "iqarena_models.training.linearityiqa:train_linearityiqa",
        "liqe_style": "iqarena_models.training.liqe_style:train_liqe_style",
        **dict.fromkeys(("hyperiqa", "dbcnn", "liqe"), "iqarena_models.training.pyiqa:train_pyiqa"),
        **dict.fromkeys(("bilinear", "cnn", "hyper", "linearity", "vit"), "iqarena_models.training.recipes:train_zoo"),
    },
}
