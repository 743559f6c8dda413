"""A study as its user describes it: study.yaml read, checked and explained."""
