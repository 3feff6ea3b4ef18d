"""Checks, configuration, seeds and stage files: what every other room stands on."""
