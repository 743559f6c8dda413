"""Arithmetic of successive halving on trials alone: scores, rungs, promotions and their audit."""
