"""From a search's winner to a model in the registry that answers, and nothing unproved on the way.

Knows mlflow, beside tracking the only package that does. Nothing here is ever unpickled.
"""
