"""Attacks and filters by name. Adding one: a file beside these, and a line here."""

PLUGINS = {
    "attack": {
        "fgsm": "iqarena_attacks.fgsm:Fgsm",
        "identity": "iqarena_attacks.identity:Identity",
        "mi_fgsm": "iqarena_attacks.mi_fgsm:MiFgsm",
        "nes": "iqarena_attacks.query.nes:Nes",
        "noise": "iqarena_attacks.noise:Noise",
        "pgd": "iqarena_attacks.pgd:Pgd",
        "random_search": "iqarena_attacks.query.random_search:RandomSearch",
        "score_boundary": "iqarena_attacks.query.score_boundary:ScoreBoundary",
        "sega": "iqarena_attacks.sega:Sega",
        "square": "iqarena_attacks.query.square:Square",
        "surfree": "iqarena_attacks.query.surfree:SurFree",
        "torchattacks": "iqarena_attacks.bridge:TorchAttacks",
        "warm_start": "iqarena_attacks.query.warm_start:WarmStart",
    },
    "filter": {
        "fourier_topk": "iqarena_attacks.filters.fourier_topk:FourierTopk",
        "jnd": "iqarena_attacks.filters.jnd:Jnd",
        "none": "iqarena_attacks.filters.none:NoFilter",
        "random": "iqarena_attacks.filters.random:Random",
    },
}
