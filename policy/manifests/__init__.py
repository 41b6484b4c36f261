"""Manifests: Kubernetes objects, from whatever text they come in, held to rules and constraints.

Pure: text in, findings out. What cannot be read is an error with its place; it never passes.
"""
