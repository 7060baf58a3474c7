"""Image sets by name. Adding one: a file beside these, and a line here."""

PLUGINS = {
    "imageset": {
        "folder": "iqarena.imagesets.folder:FolderImages",
        "pocket": "iqarena.imagesets.pocket:PocketImages",
    },
}
