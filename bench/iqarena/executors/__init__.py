"""Where cells run: in threads of the driver, in processes of this machine, on a Ray cluster.

An executor is a way to start workers; :mod:`~iqarena.executors.pool` hands tasks to them and takes cells back.
"""
