"""A small Kubernetes API server. Law: objects go in and out only through `api.KubeApi`, whose
answers follow the real server's semantics; `store` alone holds state, `app` alone speaks HTTP, and
every refusal is an `errors.ApiError` that carries the real server's `Status` body.
"""
