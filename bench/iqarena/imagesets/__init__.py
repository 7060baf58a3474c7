"""Image sets by name. Adding one: a file beside these, and a line here."""

PLUGINS = {
    "imageset": {
        "biq2021": "iqarena.imagesets.biq2021:Biq2021",
        "clive": "iqarena.imagesets.clive:Clive",
        "csiq": "iqarena.imagesets.csiq:Csiq",
        "folder": "iqarena.imagesets.folder:FolderImages",
        "kadid10k": "iqarena.imagesets.kadid10k:Kadid10k",
        "koniq10k": "iqarena.imagesets.koniq10k:Koniq10k",
        "pocket": "iqarena.imagesets.pocket:PocketImages",
        "spaq": "iqarena.imagesets.spaq:Spaq",
        "tid2013": "iqarena.imagesets.tid2013:Tid2013",
    },
}
