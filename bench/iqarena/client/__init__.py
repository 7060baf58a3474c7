"""The Python API behind ``iqarena.scorer``, ``attack``, ``run`` and ``load``; the command line stands on it too."""
