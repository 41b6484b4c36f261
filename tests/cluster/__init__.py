"""A real Kubernetes control plane for tests, as plain processes: no containers, no root.

What may live here: Go modules that pin the versions, the builder, the code that starts and stops
the processes, and the tests of these. What may not: anything the product imports, and anything
outside the standard library (pytest in the tests excepted), so that `make cluster` works in a
bare checkout.
"""
