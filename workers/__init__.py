"""How one candidate is trained and measured; knows no ray, mlflow, optuna or sqlalchemy."""
