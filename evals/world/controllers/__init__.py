"""The control loops of the simulated cluster. Law: a controller reads and writes only through
`kube.api.KubeApi`, is woken by the store's change stream or by a due time on the world's clock, and
never polls.
"""
