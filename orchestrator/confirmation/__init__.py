"""Confirmation of a search: which candidates beat the default, and by how much."""
