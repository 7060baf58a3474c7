"""Image sets by name. Adding one: a file beside these, and a line here."""

PLUGINS = {
    "imageset": {
        "biq2021": "iqarena.images.sets.biq2021:Biq2021",
        "clive": "iqarena.images.sets.clive:Clive",
        "csiq": "iqarena.images.sets.csiq:Csiq",
        "folder": "iqarena.images.sets.folder:FolderImages",
        "kadid10k": "iqarena.images.sets.kadid10k:Kadid10k",
        "koniq10k": "iqarena.images.sets.koniq10k:Koniq10k",
        "pocket": "iqarena.images.sets.pocket:PocketImages",
        "spaq": "iqarena.images.sets.spaq:Spaq",
        "tid2013": "iqarena.images.sets.tid2013:Tid2013",
    },
}
