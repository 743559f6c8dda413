"""A PyTorch project you already have becomes a study: `space` and `train` are all it needs.

In study.yaml: `space: existing_project.py:space` and `train: existing_project.py:train`.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn


def space(trial):
    trial.suggest_int("width", 16, 128, step=16)
    trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True)


def train(decisions, context):
    torch.manual_seed(context.seed)
    images, labels = (torch.tensor(array) for array in load_digits(return_X_y=True))
    images = images.float() / 16
    model = nn.Sequential(
        nn.Linear(64, decisions["width"]), nn.ReLU(), nn.Linear(decisions["width"], 10)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=decisions["learning_rate"])
    for _ in range(context.epochs):
        for batch in torch.randperm(1400).split(64):
            loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            right = model(images[1400:]).argmax(1) == labels[1400:]
        yield {"train_loss": loss.item(), "val_accuracy": right.float().mean().item()}
