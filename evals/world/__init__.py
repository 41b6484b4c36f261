"""The simulated world: a Kubernetes API, controllers, traffic and metrics, on a clock of its own.

Law of this folder: nothing here decides or judges anything about a release. It only answers as the
outside world would, over the same protocols, and it says in every answer that it is simulated. It
imports nothing from the rest of the product, so that the product can never lean on its insides.
"""
