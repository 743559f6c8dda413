"""Judges promotions by plain SQL on MLflow's store and the ledger; none of the product's code."""

from collections import Counter
from pathlib import Path

from support.checker import Place, rows


def of_promotions(store: Path, ledger: Place, model: str) -> list[str]:
    """What is not as promised of one model's versions and alias, at any moment."""
    found = []
    versions = dict(rows(store, "SELECT version, source FROM model_versions WHERE name = ?", model))
    operations = Counter(
        value
        for (value,) in rows(
            store,
            "SELECT value FROM model_version_tags WHERE name = ? AND key = 'archscout.operation'",
            model,
        )
    )
    found += [f"{model}: {num} versions of one operation" for num in operations.values() if num > 1]
    pointed = rows(store, "SELECT version FROM registered_model_aliases WHERE name = ?", model)
    promoted = rows(ledger, "SELECT version, state FROM promotion WHERE model = ?", model)
    for (version,) in pointed:
        if version not in versions:
            found.append(f"{model}: the alias points to version {version}, which is not there")
        elif not Path(versions[version].removeprefix("file://"), "MLmodel").exists():
            found.append(f"{model}: the files of version {version} are gone")
        if (version, "done") not in promoted and (version, "moving") not in promoted:
            found.append(f"{model}: version {version} is champion and was not proved: {promoted}")
    if not pointed and any(state == "done" for _, state in promoted):
        found.append(f"{model}: a promotion is done, and there is no alias")
    return found


def champion(store: Path, model: str) -> str | None:
    """The trial that a model's alias points to."""
    found = rows(
        store,
        "SELECT t.value FROM model_version_tags t JOIN registered_model_aliases a"
        " ON a.name = t.name AND a.version = t.version"
        " WHERE t.name = ? AND t.key = 'archscout.trial_uid'",
        model,
    )
    return str(found[0][0]) if len(found) == 1 else None


def num_versions(store: Path, model: str) -> int:
    """How many versions a model has."""
    return int(rows(store, "SELECT count(*) FROM model_versions WHERE name = ?", model)[0][0])
