"""Tests of the simulated world. `kube_contract` also runs against a real API server."""
