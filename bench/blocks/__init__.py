"""The blocks world: scenes, edits and renderings with exact truth."""
