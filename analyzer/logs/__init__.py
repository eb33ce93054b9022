"""Log files to events, in three stages: envelope (how lines were exported), runtime (who printed them), recognisers."""
