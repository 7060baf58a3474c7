"""Scorers by name. Adding one: a file in this package, and a line here."""

PLUGINS = {
    "model": {
        "bilinear": "iqarena_models.pocket.zoo:Bilinear",
        "cnn": "iqarena_models.pocket.zoo:Cnn",
        "hyper": "iqarena_models.pocket.zoo:Hyper",
        "linearity": "iqarena_models.pocket.zoo:Linearity",
        "vit": "iqarena_models.pocket.zoo:Vit",
    },
    "training": dict.fromkeys(
        ("bilinear", "cnn", "hyper", "linearity", "vit"), "iqarena_models.training.pocket:train_pocket"
    ),
}
