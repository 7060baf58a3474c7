"""Files: hashes, atomic writes, cache folders, downloads, published weights."""
