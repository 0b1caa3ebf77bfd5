"""Telling people: who wants which alert, when, and how it reaches them."""
