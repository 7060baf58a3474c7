"""Attacks and filters by name. Adding one: a file beside these, and a line here."""

PLUGINS = {
    "attack": {
        "fgsm": "iqarena_attacks.fgsm:Fgsm",
        "identity": "iqarena_attacks.identity:Identity",
        "mi_fgsm": "iqarena_attacks.mi_fgsm:MiFgsm",
        "noise": "iqarena_attacks.noise:Noise",
        "pgd": "iqarena_attacks.pgd:Pgd",
        "sega": "iqarena_attacks.sega:Sega",
        "torchattacks": "iqarena_attacks.bridge:TorchAttacks",
    },
    "filter": {
        "fourier_topk": "iqarena_attacks.filters.fourier_topk:FourierTopk",
        "jnd": "iqarena_attacks.filters.jnd:Jnd",
        "none": "iqarena_attacks.filters.none:NoFilter",
        "random": "iqarena_attacks.filters.random:Random",
    },
}
