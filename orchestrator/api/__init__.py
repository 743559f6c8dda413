"""The Python API: studies and registered models as objects, for scripts and notebooks.

Offers what the commands do, with the same meaning: a study begun here is continued by
`archscout resume`, and one begun there is opened by `load_study`.
"""
