"""Promotion of a trial to the model registry, with verification at every step.

Only this package and `tracking` use mlflow. Nothing is ever unpickled.
"""
