"""Renderings of a result: pure functions of the story and its findings."""
