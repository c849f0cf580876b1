"""The verbs, one file each, and what all have in common: arguments, a request, a result. Pure.

A module of this package that defines ``VERB`` is a verb; `backend.verbs.catalog` finds it.
"""
