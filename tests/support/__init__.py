"""Doubles, servers and checkers that several test suites share."""
