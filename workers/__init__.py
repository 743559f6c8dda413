"""Training and measurement of one candidate; imports no ray, mlflow, optuna or sqlalchemy."""
