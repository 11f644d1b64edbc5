"""The panel's session: the engine's `SessionState`, and the scene that shows it."""
